/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* evict [SHRINK]: hit ratios of the whole store with the traces of tests/data/traces, sizes divided by SHRINK (1),
 * as a table. Fails when they are not what they should be. OBJMAPPER_SOURCE= the source tree. */

#include <glib.h>
#include <stdio.h>

#include "harness.h"
#include "macro.h"
#include "trace-store.h"

static void print_row(const struct trace_figure *figure,
                      enum storage_policy policy,
                      const struct trace_ratios *ratios,
                      const struct trace_ratios *reference) {
        printf("%-7s %-6s %4u %%  %.3f/%.3f  %.3f/%.3f  %.3f/%.3f\n", trace_policy_name(policy),
               figure->trace, figure->percent, ratios->objects, ratios->bytes, reference->objects,
               reference->bytes, ratios->objects / reference->objects, ratios->bytes / reference->bytes);
        (void) fflush(stdout);
}

int main(int argc, char **argv) {
        static const enum storage_policy policies[] = { STORAGE_POLICY_S3FIFO, STORAGE_POLICY_LRU,
                                                        STORAGE_POLICY_LFU };
        uint64_t shrink = argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : 1;

        harness_use_memory();
        if (shrink == 0) {
                (void) fprintf(stderr, "usage: evict [SHRINK]\n");
                return 2;
        }

        printf("Object/byte hit ratio of a store that holds a share of the bytes asked for\n\n");
        printf("%-7s %-6s %6s  %-11s  %-11s  %s\n", "policy", "trace", "share", "store", "reference",
               "ratio");
        for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
                for (size_t j = 0; j < TRACE_FIGURES; j++) {
                        const struct trace_figure *figure = &trace_figures[j];
                        _cleanup_(trace_freep) struct trace *trace = trace_load(figure->trace, shrink);
                        uint64_t bytes_max = trace->bytes / 100 * figure->percent;
                        struct trace_ratios lfu = trace_run_textbook(trace, STORAGE_POLICY_LFU, bytes_max),
                                            ratios;

                        ratios = trace_run_store(trace, policies[i], bytes_max);
                        print_row(figure, policies[i], &ratios,
                                  policies[i] == STORAGE_POLICY_S3FIFO ? &figure->s3fifo
                                  : policies[i] == STORAGE_POLICY_LRU  ? &figure->lru
                                                                       : &lfu);
                        trace_assert(figure, policies[i], &ratios, &lfu);
                }

        return 0;
}
