/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "trips.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cleanup.h"

static uint64_t now_nsec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * UINT64_C(1000000000) + (uint64_t) ts.tv_nsec;
}

static int compare(const void *a, const void *b) {
        const uint32_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

void measure_trips(unsigned n, void (*trip)(void *userdata), void *userdata) {
        _cleanup_free_ uint32_t *took = calloc(n, sizeof(*took));
        uint64_t begin, last;

        if (!took || n == 0)
                errx(1, "can't measure %u trips", n);
        for (unsigned i = 0; i < n / 10; i++)
                trip(userdata);

        begin = last = now_nsec();
        for (unsigned i = 0; i < n; i++) {
                uint64_t now;

                trip(userdata);
                now = now_nsec();
                took[i] = now - last;
                last = now;
        }

        qsort(took, n, sizeof(*took), compare);
        printf("{\"mean\": %.0f, \"p50\": %u, \"p99\": %u}\n", (double) (last - begin) / n, took[n / 2],
               took[(uint64_t) n * 99 / 100]);
}
