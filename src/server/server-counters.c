/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "macro.h"
#include "server-internal.h"

static void add_up(struct counters *sum, const struct counters *counters) {
        uint64_t *to = (uint64_t *) sum;
        const uint64_t *from = (const uint64_t *) counters;

        for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
                to[i] += count_get(&from[i]);
}

static const char *const request_names[] = {
        [PROTO_HELLO] = "requests_hello",   [PROTO_GET] = "requests_get",
        [PROTO_STAT] = "requests_stat",     [PROTO_PUT] = "requests_put",
        [PROTO_DATA] = "requests_data",     [PROTO_END] = "requests_end",
        [PROTO_ABORT] = "requests_abort",   [PROTO_SET_METADATA] = "requests_set_metadata",
        [PROTO_REMOVE] = "requests_remove", [PROTO_PURGE] = "requests_purge",
        [PROTO_LIST] = "requests_list",     [PROTO_STATS] = "requests_stats",
};

static const char *const reply_names[] = {
        [OP_FDPASS] = "replies_fdpass",
        [OP_COPY] = "replies_copy",
        [OP_SPLICE] = "replies_splice",
};

static const char *const byte_names[] = {
        [OP_FDPASS] = "bytes_fdpass",
        [OP_COPY] = "bytes_copy",
        [OP_SPLICE] = "bytes_splice",
};

static const char *const status_names[] = {
        [PROTO_OK] = "replies_ok",
        [PROTO_NOT_MODIFIED] = "replies_not_modified",
        [PROTO_ABSENT] = "errors_absent",
        [PROTO_EXISTS] = "errors_exists",
        [PROTO_EXPIRED] = "errors_expired",
        [PROTO_TOO_LARGE] = "errors_too_large",
        [PROTO_NO_SPACE] = "errors_no_space",
        [PROTO_BUSY] = "errors_busy",
        [PROTO_NOT_PERMITTED] = "errors_not_permitted",
        [PROTO_BAD_REQUEST] = "errors_bad_request",
        [PROTO_UNSUPPORTED] = "errors_unsupported",
        [PROTO_INTERNAL] = "errors_internal",
        [PROTO_CONFLICT] = "errors_conflict",
        [PROTO_BAD_RANGE] = "errors_bad_range",
        [PROTO_BAD_CHECKSUM] = "errors_bad_checksum",
        [PROTO_ABORTED] = "errors_aborted",
        [PROTO_READ_ONLY] = "errors_read_only",
};

static const char *const timed_names[TIMED_MAX] = {
        [TIMED_GET_FDPASS] = "get_fdpass",     [TIMED_GET_COPY] = "get_copy",
        [TIMED_GET_SPLICE] = "get_splice",     [TIMED_GET_INLINE] = "get_inline",
        [TIMED_GET_BODILESS] = "get_bodiless", [TIMED_PUT_DURABLE] = "put_durable",
        [TIMED_PUT_VISIBLE] = "put_visible",   [TIMED_REMOVE] = "remove",
};

typedef void (*visit_fn)(const char *name, uint64_t value, void *userdata);

static void visit_array(
                const char *const *names, size_t n, const uint64_t *values, visit_fn visit, void *userdata) {
        for (size_t i = 0; i < n; i++)
                if (names[i])
                        visit(names[i], values[i], userdata);
}

static void visit_histogram(const char *what,
                            const struct histogram *histogram,
                            visit_fn visit,
                            void *userdata) {
        char name[PROTO_COUNTER_NAME_MAX + 1];
        uint64_t n = 0;

        for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
                n += histogram->counts[i];
                (void) snprintf(name, sizeof(name), "%s_usec_le_%" PRIu64, what, histogram_bound(i));
                visit(name, n, userdata);
        }

        (void) snprintf(name, sizeof(name), "%s_usec_count", what);
        visit(name, n + histogram->counts[HISTOGRAM_BOUNDS], userdata);
        (void) snprintf(name, sizeof(name), "%s_usec_sum", what);
        visit(name, histogram->sum_usec, userdata);
}

static void visit_waits(const char *what, struct job_pool *pool, visit_fn visit, void *userdata) {
        struct histogram waits;

        job_pool_get_waits(pool, &waits);
        visit_histogram(what, &waits, visit, userdata);
}

struct visitor {
        visit_fn visit;
        void *userdata;
};

static void visit_of_namespace(const struct visitor *visitor,
                               const char *namespace,
                               const char *what,
                               uint64_t value) {
        char name[PROTO_COUNTER_NAME_MAX + 1];

        (void) snprintf(name, sizeof(name), "namespace_%s_%s", namespace, what);
        visitor->visit(name, value, visitor->userdata);
}

static void visit_namespace(const struct storage_namespace *namespace,
                            const struct storage_usage *usage,
                            void *userdata) {
        const struct visitor *visitor = userdata;

        if (!namespace->name[0]) /* what is in none */
                return;

        visit_of_namespace(visitor, namespace->name, "objects", usage->objects);
        if (namespace->objects_max != UINT64_MAX)
                visit_of_namespace(visitor, namespace->name, "objects_max", namespace->objects_max);
        visit_of_namespace(visitor, namespace->name, "bytes", usage->bytes);
        if (namespace->bytes_max != UINT64_MAX)
                visit_of_namespace(visitor, namespace->name, "bytes_max", namespace->bytes_max);
        visit_of_namespace(visitor, namespace->name, "objects_pinned", usage->pinned_objects);
        visit_of_namespace(visitor, namespace->name, "bytes_pinned", usage->pinned_bytes);
}

void server_count(struct server *server, visit_fn visit, void *userdata) {
        struct counters sum = {};
        struct storage_stats stats;

        for (unsigned i = 0; i < server->n_workers; i++)
                add_up(&sum, &server->workers[i]->counters);

        visit("start_time_usec", server->start_usec, userdata);
        visit("sessions", server_get_sessions(server), userdata);
        visit("sessions_total", sum.sessions_total, userdata);
        visit("sessions_refused", __atomic_load_n(&server->n_refused, __ATOMIC_RELAXED), userdata);
        visit("sessions_dropped", sum.sessions_dropped, userdata);
        visit_array(request_names, ARRAY_SIZE(request_names), sum.requests, visit, userdata);
        visit_array(reply_names, ARRAY_SIZE(reply_names), sum.replies, visit, userdata);
        visit_array(byte_names, ARRAY_SIZE(byte_names), sum.bytes, visit, userdata);
        visit("bytes_received", sum.bytes_received, userdata);
        visit("puts_aborted", sum.puts_aborted, userdata);
        visit("windows_read", sum.windows_read, userdata);
        visit("lookups_submitted", sum.lookups_submitted, userdata);
        visit_array(status_names, ARRAY_SIZE(status_names), sum.statuses, visit, userdata);

        storage_get_stats(server->storage, &stats);
        visit("store_objects", stats.objects, userdata);
        visit("store_bytes", stats.bytes, userdata);
        visit("store_objects_inline", stats.objects_inline, userdata);
        visit("store_objects_expiring", stats.objects_expiring, userdata);
        visit("pinned_objects", stats.pinned_objects, userdata);
        visit("pinned_bytes", stats.pinned_bytes, userdata);
        visit("store_dictionary_bytes", stats.dictionary_bytes, userdata);
        visit("store_gets", stats.gets, userdata);
        visit("store_hits", stats.hits, userdata);
        visit("store_puts", stats.puts, userdata);
        visit("puts_visible", stats.puts_visible, userdata);
        visit("puts_lost", stats.puts_lost, userdata);
        visit("store_removes", stats.removes, userdata);
        visit("store_expired", stats.expired, userdata);
        visit("evictions", stats.evictions, userdata);
        visit("evicted_bytes", stats.evicted_bytes, userdata);
        visit("store_commits", stats.commits, userdata);
        visit("store_changes", stats.changes, userdata);
        visit("store_bytes_put", stats.bytes_put, userdata);
        visit("store_generation", stats.generation, userdata);
        visit("store_sweeps", stats.sweeps, userdata);
        visit("store_swept", stats.swept, userdata);
        visit("store_foreign", stats.foreign, userdata);
        visit("store_damaged", stats.damaged, userdata);
        visit("hot_hits", stats.hot_hits, userdata);
        visit("hot_misses", stats.hot_misses, userdata);
        visit("hot_bytes", stats.hot_bytes, userdata);
        visit("hot_objects", stats.hot_objects, userdata);
        visit("fast_hits", stats.fast_hits, userdata);
        visit("fast_misses", stats.fast_misses, userdata);
        visit("fast_bytes", stats.fast_bytes, userdata);
        visit("fast_objects", stats.fast_objects, userdata);

        for (unsigned i = 0; i < TIMED_MAX; i++)
                if (timed_names[i])
                        visit_histogram(timed_names[i], &sum.timed[i], visit, userdata);
        visit("jobs_waiting", job_pool_get_waiting(server->jobs), userdata);
        visit("bulk_jobs_waiting", job_pool_get_waiting(server->bulk), userdata);
        visit("store_changes_waiting", stats.changes_waiting, userdata);
        visit_waits("job_wait", server->jobs, visit, userdata);
        visit_waits("bulk_job_wait", server->bulk, visit, userdata);
        visit_histogram("store_wait", &stats.waits, visit, userdata);
        visit_histogram("store_commit", &stats.commit_times, visit, userdata);

        storage_visit_namespaces(server->storage, visit_namespace, &(struct visitor){ visit, userdata });
}

void server_visit_counters(struct server *server, visit_fn visit, void *userdata) {
        server_count(server, visit, userdata);
}
