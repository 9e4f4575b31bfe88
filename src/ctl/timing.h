/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How long things take in the daemon: its histograms, which come as counters "NAME_usec_le_BOUND" (as many took no
 * longer), "NAME_usec_count" and "NAME_usec_sum". */

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"

enum timing {
        TIMING_GET_FDPASS,
        TIMING_GET_COPY,
        TIMING_GET_SPLICE,
        TIMING_GET_INLINE,
        TIMING_GET_BODILESS,
        TIMING_PUT_DURABLE,
        TIMING_PUT_VISIBLE,
        TIMING_REMOVE,
        TIMING_JOB_WAIT,
        TIMING_BULK_JOB_WAIT,
        TIMING_STORE_WAIT,
        TIMING_STORE_COMMIT,
        TIMING_MAX,
};

struct timings {
        struct timing_counters {
                uint64_t le[HISTOGRAM_BOUNDS];
                uint64_t count, sum_usec;
                bool is_there; /* the daemon has it */
        } counters[TIMING_MAX];
};

/* NAME, as counters begin with it. */
const char *timing_name(enum timing timing);

/* Takes a counter. False: it is none of a histogram's. */
bool timings_take(struct timings *timings, const char *counter, uint64_t value);

/* What was counted between two times; before: NULL, or all 0, since the daemon started. */
void timings_get(const struct timings *before,
                 const struct timings *now,
                 enum timing timing,
                 struct histogram *ret);
