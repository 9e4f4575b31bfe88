/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A store as the VCL names it, and what a task (one fetch) knows of it. Varnish's headers, in their order, come
 * before this. */

#include <pthread.h>

#include "VSC_objmapper.h"
#include "clock.h"
#include "http-object.h"
#include "pool.h"
#include "turn.h"

#define STORE_MAGIC UINT32_C(0x0b3a9e70)
#define TASK_MAGIC  UINT32_C(0x0b3a9e71)
#define FRONT_MAGIC UINT32_C(0x0b3a9e72)

struct front;
struct storage;

struct vmod_objmapper_store {
        unsigned magic;
        char *name; /* in the VCL */
        struct pool *pool;
        VCL_BACKEND director; /* answers from objmapper alone */
        struct VSC_objmapper *counters;
        struct vsc_seg *segment;

        pthread_mutex_t mutex; /* over fronts */
        struct front *fronts;  /* one for each origin */

        uint64_t timeout_usec;
        struct turn turn;

        struct storage *storage; /* shared with the stores of the same sockets in other VCLs, and outlives them */
};

/* A director that asks objmapper first and an origin otherwise. */
struct front {
        unsigned magic;
        struct vmod_objmapper_store *store;
        VCL_BACKEND origin, director;
        struct front *next;
};

/* What was found for a fetch. */
struct task {
        unsigned magic;
        char *uri; /* instead of that of the request; NULL: none was set */
        objmapper_object *object;
        struct http_object http; /* of the object */
};

/* Adds to a counter that other threads add to, too. */
#define STORE_COUNT(store, counter, n) \
        ((void) __atomic_fetch_add(&(store)->counters->counter, (uint64_t) (n), __ATOMIC_RELAXED))

/* The fetch's task, made when there is none. NULL: no memory, or no workspace; the task then fails. */
struct task *task_get(VRT_CTX, const struct vmod_objmapper_store *store);
void task_release_object(struct task *task);

/* Looks up what the fetch asks for: task->object, with what is known of it in task->http, also when it is stale.
 * -ENOENT: there is none that may be served, or the request has no URI; otherwise a negative errno, logged and
 * counted. Any thread. */
int lookup(VRT_CTX, struct vmod_objmapper_store *store, struct task *task);

extern const struct vdi_methods director_methods[1], front_methods[1];
