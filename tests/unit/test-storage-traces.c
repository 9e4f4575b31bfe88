/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A part of what tests/bench/evict does: hit ratios of the whole store; and those of the hot table. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "hot.h"
#include "macro.h"
#include "trace-store.h"

#define SHRINK 64 /* the ratios are those of the whole sizes */

static void check(const struct trace_figure *figure, enum storage_policy policy) {
        _cleanup_(trace_freep) struct trace *trace = trace_load(figure->trace, SHRINK);
        uint64_t bytes_max = trace->bytes / 100 * figure->percent;
        struct trace_ratios lfu = trace_run_textbook(trace, STORAGE_POLICY_LFU, bytes_max),
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

/* Bytes that the hot table needs for an object besides the body, about. */
#define ENTRY_SIZE 208

struct hot_run {
        struct hot *hot;
        struct storage_object got;
        uint8_t body[HOT_BODY_MAX];
};

static bool get_hot(uint32_t object, _unused_ uint64_t size, void *userdata) {
        const struct hot_want want = { .body_max = UINT64_MAX, .is_counted = true };
        struct hot_run *run = userdata;
        struct hot_found found;
        char uri[16];

        (void) snprintf(uri, sizeof(uri), "%" PRIu32, object);
        return hot_get(run->hot, hot_hash(run->hot, uri, strlen(uri)), uri, strlen(uri), &want, &run->got,
                       &found) > 0;
}

static void put_hot(uint32_t object, uint64_t size, void *userdata) {
        const struct hot_found found = {};
        struct hot_run *run = userdata;
        struct storage_object put = STORAGE_OBJECT_INIT;
        uint64_t hash;
        char uri[16];

        (void) snprintf(uri, sizeof(uri), "%" PRIu32, object);
        hash = hot_hash(run->hot, uri, strlen(uri));
        put.info.etag.generation = 1;
        put.info.size = size - ENTRY_SIZE;
        put.body = run->body;
        hot_put(run->hot, hash, hot_moment(run->hot, hash), uri, strlen(uri), &put, &found);
}

/* Leaves out the requests of what the hot table takes no bodies of; the others need an entry each. */
static void fit_to_hot(struct trace *trace) {
        size_t n = 0;

        for (size_t i = 0; i < trace->n_requests; i++)
                if (trace->sizes[trace->requests[i]] <= HOT_BODY_MAX)
                        trace->requests[n++] = trace->requests[i];
        trace->n_requests = n;
        for (size_t i = 0; i < TRACE_OBJECTS_MAX; i++)
                trace->sizes[i] += ENTRY_SIZE;
}

/* The hot table, asked to keep whatever it lacks, finds as much as an LRU of as many bytes would, though a part of
 * its own is always garbage. */
static void check_hot(const char *name) {
        _cleanup_(trace_freep) struct trace *trace = trace_load(name, 4);
        g_autofree struct hot_run *run = g_new0(struct hot_run, 1);
        struct trace_ratios ratios, lru;
        uint64_t bytes, objects;

        fit_to_hot(trace);
        run->got = STORAGE_OBJECT_INIT;
        assert_ok(hot_new(&run->hot, 12 << 20, 1, NULL));
        ratios = trace_run(trace, get_hot, put_hot, run);
        hot_count(run->hot, &bytes, &objects);
        lru = trace_run_textbook(trace, STORAGE_POLICY_LRU, bytes);

        g_test_message("%s, hot table: %.3f/%.3f; lru of its %" PRIu64 " bytes: %.3f/%.3f", name,
                       ratios.objects, ratios.bytes, bytes, lru.objects, lru.bytes);
        g_assert_cmpfloat(ratios.objects, >=, 0.99 * lru.objects);
        g_assert_cmpfloat(ratios.bytes, >=, 0.97 * lru.bytes);

        storage_object_done(&run->got);
        hot_free(run->hot);
}

static void test_hot(void) {
        check_hot("web07");
        check_hot("web12");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        harness_use_memory();
        harness_add("/storage/traces/s3fifo", test_s3fifo);
        harness_add("/storage/traces/lru", test_lru);
        harness_add("/storage/traces/lfu", test_lfu);
        harness_add("/storage/traces/hot", test_hot);
        return g_test_run();
}
