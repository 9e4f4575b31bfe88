/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A store as the VCL names it, and what a task (one fetch) knows of it. Varnish's headers, in their order, come
 * before this. */

#include <pthread.h>
#include <stdatomic.h>

#include "VSC_objmapper.h"
#include "http-object.h"
#include "pool.h"

#define STORE_MAGIC UINT32_C(0x0b3a9e70)
#define TASK_MAGIC  UINT32_C(0x0b3a9e71)
#define FRONT_MAGIC UINT32_C(0x0b3a9e72)

struct front;

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
        atomic_uint timeouts_in_a_row;
        atomic_uint_fast64_t asked_again_usec; /* CLOCK_MONOTONIC: until then nobody is asked; 0: all ask */
        atomic_int_fast64_t changed_usec;      /* CLOCK_REALTIME: when that last became or ceased to be 0 */
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
/* Whether the daemon answers, as far as is known. */
bool lookup_may_ask(const struct vmod_objmapper_store *store);

/* Makes the backend's response of the object, which it takes from the task. 0; -1: logged. */
int response_begin(VRT_CTX, struct vmod_objmapper_store *store, struct task *task);
/* The same for a request that has no object (404) or a method that reads nothing (405). */
int response_begin_without_object(VRT_CTX, unsigned status, const char *reason);
void response_finish(VRT_CTX);

extern const struct vdi_methods director_methods[1], front_methods[1];

static inline int64_t clock_usec(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
