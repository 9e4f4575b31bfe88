/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The recorded requests of tests/data/traces, and what becomes of them in a cache. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage.h"

#define TRACE_OBJECTS_MAX 32768

struct trace {
        uint32_t *requests; /* numbers of objects */
        size_t n_requests;
        uint64_t sizes[TRACE_OBJECTS_MAX]; /* of the objects; 0: there is none of this number */
        uint64_t bytes;                    /* of all objects */
};

/* Reads web07 or web12, each size divided by shrink, at least 1. g_errors when it can't. Free with
 * trace_free(). */
struct trace *trace_load(const char *name, uint64_t shrink);
void trace_free(struct trace *trace);
DEFINE_CLEANUP(struct trace, trace_free)

/* Shares of the requests, and of the bytes asked for, that were there. */
struct trace_ratios {
        double objects, bytes;
};

/* Asks for what is in the trace, one after the other, and puts what is not there. */
struct trace_ratios trace_run(const struct trace *trace,
                              bool (*get)(uint32_t object, uint64_t size, void *userdata),
                              void (*put)(uint32_t object, uint64_t size, void *userdata),
                              void *userdata);

/* What a cache that holds a share of a trace's bytes should come to: the table of tests/data/traces. */
struct trace_figure {
        const char *trace;
        unsigned percent;
        struct trace_ratios lru, s3fifo;
};
#define TRACE_FIGURES 6
extern const struct trace_figure trace_figures[TRACE_FIGURES];

const char *trace_policy_name(enum storage_policy policy);

/* g_asserts that a policy did as it should: S3-FIFO at least 0.98 of the reference and more than LRU, LRU
 * within 0.01 of LRU, LFU within 0.01 of the textbook's (lfu). */
void trace_assert(const struct trace_figure *figure,
                  enum storage_policy policy,
                  const struct trace_ratios *ratios,
                  const struct trace_ratios *lfu);

/* LRU, or the LFU that forgets the count of what it evicts, the oldest access among equals going first; simply
 * made. */
struct trace_ratios trace_run_textbook(const struct trace *trace,
                                       enum storage_policy policy,
                                       uint64_t capacity);
