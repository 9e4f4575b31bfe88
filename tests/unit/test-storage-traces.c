/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A part of what tests/bench/evict does: hit ratios of the whole store. */

#include "harness.h"
#include "macro.h"
#include "trace-store.h"

#define SHRINK 64 /* the ratios are those of the whole sizes */

static void check(const struct trace_figure *figure, enum storage_policy policy) {
        _cleanup_(trace_freep) struct trace *trace = trace_load(figure->trace, SHRINK);
        uint64_t bytes_max = trace->bytes / 100 * figure->percent;
        struct trace_ratios lfu = trace_run_lfu(trace, bytes_max),
                            ratios = trace_run_store(trace, policy, bytes_max);

        g_test_message("%s %u %%, %s: %.3f/%.3f", figure->trace, figure->percent, trace_policy_name(policy),
                       ratios.objects, ratios.bytes);
        trace_assert(figure, policy, &ratios, &lfu);
}

static void test_s3fifo(void) {
        check(&trace_figures[0], STORAGE_POLICY_S3FIFO);
        check(&trace_figures[1], STORAGE_POLICY_S3FIFO);
}

static void test_lru(void) {
        check(&trace_figures[1], STORAGE_POLICY_LRU);
}

static void test_lfu(void) {
        check(&trace_figures[4], STORAGE_POLICY_LFU);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        harness_use_memory();
        harness_add("/storage/traces/s3fifo", test_s3fifo);
        harness_add("/storage/traces/lru", test_lru);
        harness_add("/storage/traces/lfu", test_lfu);
        return g_test_run();
}
