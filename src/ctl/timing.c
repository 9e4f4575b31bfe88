/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "timing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"

static const char *const names[TIMING_MAX] = {
        [TIMING_GET_FDPASS] = "get_fdpass",     [TIMING_GET_COPY] = "get_copy",
        [TIMING_GET_SPLICE] = "get_splice",     [TIMING_GET_INLINE] = "get_inline",
        [TIMING_GET_BODILESS] = "get_bodiless", [TIMING_PUT_DURABLE] = "put_durable",
        [TIMING_PUT_VISIBLE] = "put_visible",   [TIMING_REMOVE] = "remove",
        [TIMING_JOB_WAIT] = "job_wait",         [TIMING_BULK_JOB_WAIT] = "bulk_job_wait",
        [TIMING_STORE_WAIT] = "store_wait",     [TIMING_STORE_COMMIT] = "store_commit",
};

const char *timing_name(enum timing timing) {
        return names[timing];
}

/* Which one a counter belongs to; *ret: what follows "NAME_usec_". */
static int find(const char *counter, const char **ret) {
        for (int timing = 0; timing < TIMING_MAX; timing++) {
                size_t size = strlen(names[timing]);

                if (strncmp(counter, names[timing], size) == 0 && strncmp(counter + size, "_usec_", 6) == 0) {
                        *ret = counter + size + 6;
                        return timing;
                }
        }

        return -ENOENT;
}

bool timings_take(struct timings *timings, const char *counter, uint64_t value) {
        struct timing_counters *counters;
        const char *what;
        int timing = find(counter, &what);
        uint64_t bound;
        unsigned i;
        char *end;

        if (timing < 0)
                return false;

        counters = &timings->counters[timing];
        counters->is_there = true;
        if (strcmp(what, "count") == 0)
                counters->count = value;
        else if (strcmp(what, "sum") == 0)
                counters->sum_usec = value;
        if (strncmp(what, "le_", 3) != 0)
                return true;

        bound = strtoull(what + 3, &end, 10);
        i = histogram_bucket(bound);
        if (*end == '\0' && i < HISTOGRAM_BOUNDS && histogram_bound(i) == bound)
                counters->le[i] = value;
        return true; /* a bound of a newer daemon can be left out */
}

static uint64_t difference(uint64_t before, uint64_t now) {
        return now > before ? now - before : 0;
}

void timings_get(const struct timings *before,
                 const struct timings *now,
                 enum timing timing,
                 struct histogram *ret) {
        static const struct timings none;
        const struct timing_counters *a = &(before ?: &none)->counters[timing], *b = &now->counters[timing];
        uint64_t below = 0;

        *ret = (struct histogram){ .sum_usec = difference(a->sum_usec, b->sum_usec) };
        for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
                uint64_t le = difference(a->le[i], b->le[i]);

                ret->counts[i] = difference(below, le);
                below = MAX(below, le);
        }
        ret->counts[HISTOGRAM_BOUNDS] = difference(below, difference(a->count, b->count));
}
