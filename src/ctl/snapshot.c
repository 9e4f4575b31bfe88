/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "macro.h"

void snapshot_done(struct snapshot *snapshot) {
        for (size_t i = 0; i < snapshot->n_counters; i++)
                free(snapshot->counters[i].name);
        free(snapshot->counters);
        namespaces_done(&snapshot->namespaces);
        *snapshot = (struct snapshot){};
}

static int add(struct snapshot *snapshot, const char *name, uint64_t value) {
        struct counter *counters;
        int r;

        if (timings_take(&snapshot->timings, name, value))
                return 0;

        r = namespaces_take(&snapshot->namespaces, name, value);
        if (r != 0)
                return r < 0 ? r : 0;

        counters = reallocarray(snapshot->counters, snapshot->n_counters + 1, sizeof(*counters));
        if (!counters)
                return -ENOMEM;
        snapshot->counters = counters;

        counters[snapshot->n_counters] = (struct counter){ strdup(name), value };
        if (!counters[snapshot->n_counters].name)
                return -ENOMEM;

        snapshot->n_counters++;
        return 0;
}

int snapshot_take(struct snapshot *ret, objmapper_object *stats) {
        size_t position = 0;
        const char *name;
        uint64_t value;
        int r;

        *ret = (struct snapshot){ .usec = clock_usec(CLOCK_MONOTONIC),
                                  .realtime_usec = clock_usec(CLOCK_REALTIME) };
        for (;;) {
                r = objmapper_object_next_counter(stats, &position, &name, &value);
                if (r > 0)
                        r = add(ret, name, value);
                else if (r == 0)
                        return 0;
                if (r < 0) {
                        snapshot_done(ret);
                        return r;
                }
        }
}

uint64_t snapshot_get(const struct snapshot *snapshot, const char *name) {
        for (size_t i = 0; i < snapshot->n_counters; i++)
                if (strcmp(snapshot->counters[i].name, name) == 0)
                        return snapshot->counters[i].value;

        return 0;
}

uint64_t snapshot_sum(const struct snapshot *snapshot, const char *prefix) {
        uint64_t sum = 0;

        for (size_t i = 0; i < snapshot->n_counters; i++)
                if (strncmp(snapshot->counters[i].name, prefix, strlen(prefix)) == 0)
                        sum += snapshot->counters[i].value;

        return sum;
}

static double rate(const struct snapshot *before, const struct snapshot *now, uint64_t from, uint64_t to) {
        if (before->usec == 0 || now->usec <= before->usec)
                return NAN;

        return (double) (MAX(from, to) - from) * USEC_PER_SEC / (double) (now->usec - before->usec);
}

double snapshot_rate(const struct snapshot *before, const struct snapshot *now, const char *name) {
        return rate(before, now, snapshot_get(before, name), snapshot_get(now, name));
}

double snapshot_rate_sum(const struct snapshot *before, const struct snapshot *now, const char *prefix) {
        return rate(before, now, snapshot_sum(before, prefix), snapshot_sum(now, prefix));
}
