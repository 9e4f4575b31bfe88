/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a worker counts: written by its thread alone, read by any, so that nothing is shared while counting.
 */

#include <stdint.h>

#include "protocol.h"

#define COUNTERS_STATUS_MAX (PROTO_DRAINED + 1)

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
} __attribute__((aligned(64)));

static inline void count_add(uint64_t *counter, uint64_t n) {
        __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t count_get(const uint64_t *counter) {
        return __atomic_load_n(counter, __ATOMIC_RELAXED);
}
