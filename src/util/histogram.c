/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "histogram.h"

void histogram_merge(struct histogram *to, const struct histogram *from) {
        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
                to->counts[i] += __atomic_load_n(&from->counts[i], __ATOMIC_RELAXED);
        to->sum_usec += __atomic_load_n(&from->sum_usec, __ATOMIC_RELAXED);
}

uint64_t histogram_count(const struct histogram *histogram) {
        uint64_t n = 0;

        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
                n += histogram->counts[i];

        return n;
}

double histogram_percentile(const struct histogram *histogram, double part) {
        uint64_t n = histogram_count(histogram);
        double wanted = part * (double) n, below = 0;

        if (n == 0)
                return 0;

        for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
                double here = (double) histogram->counts[i];

                if (here > 0 && below + here >= wanted) {
                        double from = i > 0 ? (double) histogram_bound(i - 1) : 0;

                        return from + ((double) histogram_bound(i) - from) * (wanted - below) / here;
                }
                below += here;
        }

        return (double) histogram_bound(HISTOGRAM_BOUNDS - 1);
}
