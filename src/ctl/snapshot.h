/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The daemon's counters at one moment. */

#include <objmapper.h>
#include <stddef.h>
#include <stdint.h>

#include "namespaces.h"
#include "timing.h"

struct snapshot {
        uint64_t usec;          /* CLOCK_MONOTONIC: when they came; 0: there are none */
        uint64_t realtime_usec; /* the same by CLOCK_REALTIME */
        struct counter {
                char *name;
                uint64_t value;
        } * counters; /* all but those of times */
        size_t n_counters;
        struct timings timings;
        struct namespaces namespaces;
};

void snapshot_done(struct snapshot *snapshot);

/* Takes the answer to stats; *ret is the caller's, empty after an error. -EBADMSG: it is malformed; -ENOMEM. */
int snapshot_take(struct snapshot *ret, objmapper_object *stats);

/* 0: there is no such counter. */
uint64_t snapshot_get(const struct snapshot *snapshot, const char *name);
/* Of all whose names begin so. */
uint64_t snapshot_sum(const struct snapshot *snapshot, const char *prefix);

/* How many a second were counted between two of them; NAN when there is no before. */
double snapshot_rate(const struct snapshot *before, const struct snapshot *now, const char *name);
double snapshot_rate_sum(const struct snapshot *before, const struct snapshot *now, const char *prefix);
