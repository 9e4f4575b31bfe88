/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What load's clients have in common: what is to be done, and what it took. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NSEC_PER_SEC UINT64_C(1000000000)

enum receiver {
        RECEIVE_MEMORY,  /* bytes, into memory of the caller's that is used again */
        RECEIVE_NOWHERE, /* moved on by the kernel, to /dev/null */
};

struct load {
        const char *protocol, *socket, *name; /* of the objects: NAME0000, NAME0001, … */
        unsigned n_names, depth, n_connections;
        uint64_t size;        /* of the body of each */
        uint64_t nsec, n_max; /* when it is over, whatever comes first */
        enum receiver receiver;
        bool reads;  /* what comes as a descriptor is read */
        bool puts;   /* instead of gets */
        bool single; /* each by a call of its own, and no memory is used again */
        int mode;    /* of objmapper */
        bool patient; /* looks for an answer some times before it falls asleep, as the library; not of objmapper */

        uint64_t begun, n_done;
        bool over;
        uint32_t *took; /* nanoseconds, of the last so many */
        uint64_t n_took, took_max;
        uint32_t *batch_took; /* likewise, until all of a batch were answered */
        uint64_t n_batches;
};

uint64_t now_nsec(void);

/* n requests that were sent at begun are answered. */
void load_done(struct load *load, uint64_t begun, unsigned n);

/* All that were sent at begun are. */
void load_batch_done(struct load *load, uint64_t begun);

/* Descriptors and bodies: read to the end and closed, or closed only. */
void load_take_fd(struct load *load, int fd);

/* Memory for a body. */
uint8_t *load_buffer(struct load *load, size_t size);

/* The protocols; each returns when it is over. */
void load_bytes(struct load *load);     /* raw, memcached, redis, nginx: bytes-client.c */
void load_objmapper(struct load *load); /* objmapper-client.c */
