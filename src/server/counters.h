/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a worker counts: written by its thread alone, read by any, so that nothing is shared while counting.
 */

#include <stdint.h>

#include "histogram.h"
#include "protocol.h"

#define COUNTERS_STATUS_MAX (PROTO_DRAINED + 1)

/* What is timed. A get: from when it was taken from the socket until the last byte of its answer was given to it. A
 * put: from when the daemon had all of it; a remove: from when it was taken; both until the answer is known, and
 * those that failed are left out. */
enum timed {
        TIMED_NOT,
        TIMED_GET_FDPASS,
        TIMED_GET_COPY, /* from its file, piece by piece */
        TIMED_GET_SPLICE,
        TIMED_GET_INLINE,   /* the body with the head, in one piece */
        TIMED_GET_BODILESS, /* not modified, absent, refused */
        TIMED_PUT_DURABLE,
        TIMED_PUT_VISIBLE,
        TIMED_REMOVE,
        TIMED_MAX,
};

struct counters {
        uint64_t sessions_total;
        uint64_t sessions_dropped;
        uint64_t requests[PROTO_NOTICE]; /* by verb */
        uint64_t replies[OP_MODE_MAX];   /* to get, by the mode in which the body came */
        uint64_t bytes[OP_MODE_MAX];     /* of the bodies of those */
        uint64_t bytes_received;
        uint64_t puts_aborted;
        uint64_t windows_read;                  /* of files that were not in memory, by jobs */
        uint64_t lookups_submitted;             /* gets and stats that might have had to wait, to jobs */
        uint64_t statuses[COUNTERS_STATUS_MAX]; /* of replies */
        struct histogram timed[TIMED_MAX];
} __attribute__((aligned(64)));

static inline void count_add(uint64_t *counter, uint64_t n) {
        __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t count_get(const uint64_t *counter) {
        return __atomic_load_n(counter, __ATOMIC_RELAXED);
}
