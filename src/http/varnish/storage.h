/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A storage of Varnish's whose bodies live in objmapper. Stores of the same sockets share one, whichever VCL they are of,
 * and it stays as long as the process: objects outlive the VCL that they were fetched with. Varnish's headers come before
 * this. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "VSC_objmapper_storage.h"
#include "stevedore.h"
#include "turn.h"

#define STORAGE_MAGIC UINT32_C(0x0b3a9e75)

struct pool;
struct put;

struct storage {
        unsigned magic;
        char *name;
        char *reader, *publisher; /* paths of the sockets */
        struct stevedore stevedore;
        struct pool *pool;
        struct turn turn;
        struct VSC_objmapper_storage *counters;
        struct vsc_seg *segment;
        struct storage *next;

        /* What the VCL loaded last says. */
        atomic_uint_fast64_t timeout_usec, memory_max, mapped_max;
        uint64_t mappings_max;

        pthread_mutex_t mutex; /* over puts */
        struct put *puts;      /* that are under way */
};

/* Adds to a counter that other threads add to, too. */
#define STORAGE_COUNT(storage, counter, n) \
        ((void) __atomic_fetch_add(&(storage)->counters->counter, (uint64_t) (n), __ATOMIC_RELAXED))

struct storage_limits {
        uint64_t timeout_usec, memory_max, mapped_max;
};

/* The storage of these sockets, made when there is none, with these limits. Never freed. -EINVAL: a path does not fit
 * into a socket address; -ENOTSUP: varnishd is not laid out as this module knows it; -ENOMEM, -errno. */
int storage_get(struct storage **ret,
                const char *name,
                const char *reader,
                const char *publisher,
                const struct storage_limits *limits);

/* Makes room for size bytes of memory, at the cost of what was not used for longest, and accounts for them. Whoever frees
 * them counts them back. False: there is no room. Needs a worker with a log. */
bool storage_take_memory(struct worker *worker, struct storage *storage, uint64_t size);
/* The same for a mapping, which takes no memory: only the number of mappings is refused. Nothing is accounted for. */
bool storage_may_map(struct worker *worker, struct storage *storage, uint64_t size);
