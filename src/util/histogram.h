/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How long things took: counts by duration, two bounds to an octave, from 2 µs to 17 s. One thread adds (or
 * several under a lock), any reads: nothing is shared while counting. */

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS  47U
#define HISTOGRAM_BUCKETS (HISTOGRAM_BOUNDS + 1) /* the last is for what took longer than the last bound */

struct histogram {
        uint64_t counts[HISTOGRAM_BUCKETS]; /* of what took longer than the bound before and no longer than this */
        uint64_t sum_usec;
};

/* The bounds: 2, 3, 4, 6, 8, 12, 16, ... 16777216 µs. i: below HISTOGRAM_BOUNDS. */
static inline uint64_t histogram_bound(unsigned i) {
        return (uint64_t) (i % 2 == 0 ? 2 : 3) << i / 2;
}

/* Where a duration is counted. */
static inline unsigned histogram_bucket(uint64_t usec) {
        unsigned octave, i;

        if (usec <= 2)
                return 0;

        usec--;
        octave = 63U - (unsigned) __builtin_clzll(usec);
        i = 2 * octave - 1 + (unsigned) (usec >> (octave - 1) & 1);
        return i < HISTOGRAM_BOUNDS ? i : HISTOGRAM_BOUNDS;
}

/* n things took so long each. */
static inline void histogram_add(struct histogram *histogram, uint64_t usec, uint64_t n) {
        uint64_t *count = &histogram->counts[histogram_bucket(usec)];

        __atomic_store_n(count, *count + n, __ATOMIC_RELAXED);
        __atomic_store_n(&histogram->sum_usec, histogram->sum_usec + n * usec, __ATOMIC_RELAXED);
}

/* Adds what another one has by now. */
void histogram_merge(struct histogram *to, const struct histogram *from);

uint64_t histogram_count(const struct histogram *histogram);

/* The duration that a part of them (0 to 1) did not exceed, as far as buckets tell: within one they are taken to be
 * spread evenly; what is past the last bound counts as that. In microseconds; 0 when there are none. */
double histogram_percentile(const struct histogram *histogram, double part);
