/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "trace-store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "storage-harness.h"

struct run {
        struct shelf shelf;
        struct storage_object object;
        uint64_t bytes_max;
        uint8_t *bytes; /* what bodies are made of */
};

static void check_bytes(struct run *run) {
        g_assert_cmpuint(shelf_stats(&run->shelf).bytes, <=, run->bytes_max);
}

static bool get(uint32_t object, uint64_t size, void *userdata) {
        struct run *run = userdata;
        char uri[16];
        int r;

        (void) snprintf(uri, sizeof(uri), "%" PRIu32, object);
        r = storage_get(run->shelf.storage, uri, strlen(uri), STORAGE_GET_OPEN, NULL, &run->object);
        g_assert_true(r == 0 || r == -ENOENT);
        if (r == 0)
                g_assert_cmpuint(run->object.info.size, ==, size);
        return r == 0;
}

static void put_one(uint32_t object, uint64_t size, void *userdata) {
        struct run *run = userdata;
        char uri[16];

        if (size > run->bytes_max)
                return;

        (void) snprintf(uri, sizeof(uri), "%" PRIu32, object);
        assert_ok(put(&run->shelf, uri, run->bytes, size));
        check_bytes(run);
}

struct trace_ratios trace_run_store(const struct trace *trace,
                                    enum storage_policy policy,
                                    uint64_t bytes_max) {
        struct run run = { .object = STORAGE_OBJECT_INIT, .bytes_max = bytes_max };
        struct trace_ratios ratios;
        uint64_t size_max = 0;

        for (size_t i = 0; i < TRACE_OBJECTS_MAX; i++)
                size_max = MAX(size_max, trace->sizes[i]);
        run.bytes = make_bytes(1, size_max);

        shelf_init(&run.shelf);
        run.shelf.config.limits = (struct storage_limits){ .bytes_max = bytes_max,
                                                           .policy = policy,
                                                           .evict = true };
        shelf_open(&run.shelf);
        ratios = trace_run(trace, get, put_one, &run);

        storage_object_done(&run.object);
        shelf_destroy(&run.shelf);
        g_free(run.bytes);
        return ratios;
}
