/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "screen.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

#include "clock.h"
#include "macro.h"
#include "print.h"

#define CELL_MAX BYTES_TEXT_MAX

/* A number a second, NAN: not known. */
static const char *rate_text(double rate, char text[static CELL_MAX]) {
        if (isnan(rate))
                return "-";

        (void) snprintf(text, CELL_MAX, rate > 0 && rate < 10 ? "%.1f" : "%.0f", rate);
        return text;
}

static const char *byte_rate_text(double rate, char text[static CELL_MAX]) {
        return isnan(rate) ? "-" : bytes_text((uint64_t) rate, text);
}

static const char *duration_text(double usec, char text[static CELL_MAX]) {
        if (usec < 1000)
                (void) snprintf(text, CELL_MAX, "%.0f us", usec);
        else if (usec < 1e6)
                (void) snprintf(text, CELL_MAX, "%.1f ms", usec / 1e3);
        else
                (void) snprintf(text, CELL_MAX, "%.1f s", usec / 1e6);

        return text;
}

static const char *percent_text(double part, double all, char text[static CELL_MAX]) {
        if (isnan(all) || all <= 0)
                return "-";

        (void) snprintf(text, CELL_MAX, "%.1f%%", MIN(100 * part / all, 100.0));
        return text;
}

static void write_head(FILE *out, const struct snapshot *now) {
        uint64_t start = snapshot_get(now, "start_time_usec"), today = now->realtime_usec;
        uint64_t minutes = today > start ? (today - start) / (60 * USEC_PER_SEC) : 0;
        char time[TIME_TEXT_MAX], bytes[BYTES_TEXT_MAX];

        fprintf(out, "%s, up ", time_text(today, time));
        if (minutes >= 24 * 60)
                fprintf(out, "%" PRIu64 " d ", minutes / (24 * 60));
        fprintf(out, "%02" PRIu64 ":%02" PRIu64, minutes / 60 % 24, minutes % 60);
        fprintf(out, ", %" PRIu64 " sessions, %" PRIu64 " objects, %s\n", snapshot_get(now, "sessions"),
                snapshot_get(now, "store_objects"), bytes_text(snapshot_get(now, "store_bytes"), bytes));
}

static const char *const timing_titles[TIMING_MAX] = {
        [TIMING_GET_FDPASS] = "get, by descriptor",    [TIMING_GET_COPY] = "get, copied",
        [TIMING_GET_SPLICE] = "get, spliced",          [TIMING_GET_INLINE] = "get, inline",
        [TIMING_GET_BODILESS] = "get, without a body", [TIMING_PUT_DURABLE] = "put, durable",
        [TIMING_PUT_VISIBLE] = "put, visible",         [TIMING_REMOVE] = "remove",
        [TIMING_JOB_WAIT] = "wait for the disk",       [TIMING_BULK_JOB_WAIT] = "wait of listings",
        [TIMING_STORE_WAIT] = "wait of changes",       [TIMING_STORE_COMMIT] = "commit",
};

static void write_timing(FILE *out,
                         const struct snapshot *before,
                         const struct snapshot *now,
                         enum timing timing) {
        char rate[CELL_MAX], p50[CELL_MAX], p99[CELL_MAX];
        struct histogram histogram;
        uint64_t n;

        timings_get(&before->timings, &now->timings, timing, &histogram);
        n = before->usec != 0 ? histogram_count(&histogram) : 0;
        fprintf(out, "%-20s %9s %9s %9s", timing_titles[timing],
                before->usec == 0 ? "-"
                                  : rate_text((double) n * USEC_PER_SEC / (double) (now->usec - before->usec),
                                              rate),
                n > 0 ? duration_text(histogram_percentile(&histogram, 0.5), p50) : "-",
                n > 0 ? duration_text(histogram_percentile(&histogram, 0.99), p99) : "-");
}

/* Beside the times, one in each line. */
static const struct other {
        const char *title;
        const char *counter; /* NULL: all that begin with prefix */
        const char *prefix;
        bool is_bytes;
} others[TIMING_MAX] = {
        { "get", "requests_get" },
        { "stat", "requests_stat" },
        { "put", "requests_put" },
        { "set-metadata", "requests_set_metadata" },
        { "remove", "requests_remove" },
        { "purge", "requests_purge" },
        { "list", "requests_list" },
        { "new sessions", "sessions_total" },
        { "absent", "errors_absent" },
        { "all errors", NULL, "errors_" },
        { "received", "bytes_received", NULL, true },
        { "evicted", "evicted_bytes", NULL, true },
};

static void write_other(FILE *out,
                        const struct snapshot *before,
                        const struct snapshot *now,
                        const struct other *other) {
        double rate = other->counter ? snapshot_rate(before, now, other->counter)
                                     : snapshot_rate_sum(before, now, other->prefix);
        char text[CELL_MAX];

        fprintf(out, "    %-13s %11s\n", other->title,
                other->is_bytes ? byte_rate_text(rate, text) : rate_text(rate, text));
}

static void write_times(FILE *out, const struct snapshot *before, const struct snapshot *now) {
        fprintf(out, "%-20s %9s %9s %9s    %-13s %11s\n", "TIMES", "/s", "p50", "p99", "COUNTS", "/s");
        for (enum timing timing = 0; timing < TIMING_MAX; timing++) {
                write_timing(out, before, now, timing);
                write_other(out, before, now, &others[timing]);
        }
}

static const struct tier {
        const char *title;
        const char *hits, *misses, *asked; /* one of the latter two */
        const char *objects, *bytes;
} tiers[] = {
        { "memory", "hot_hits", "hot_misses", NULL, "hot_objects", "hot_bytes" },
        { "cached files", "fast_hits", "fast_misses", NULL, "fast_objects", "fast_bytes" },
        { "store", "store_hits", NULL, "store_gets", "store_objects", "store_bytes" },
};

static void write_tiers(FILE *out, const struct snapshot *before, const struct snapshot *now) {
        static const char *const modes[ARRAY_SIZE(tiers)][2] = {
                { "by descriptor", "bytes_fdpass" },
                { "copied", "bytes_copy" },
                { "spliced", "bytes_splice" },
        };

        fprintf(out, "%-14s %9s %7s %9s %10s   %-13s %10s\n", "TIER", "hits/s", "hits", "objects", "bytes",
                "BODIES", "bytes/s");
        for (size_t i = 0; i < ARRAY_SIZE(tiers); i++) {
                const struct tier *tier = &tiers[i];
                double hits = snapshot_rate(before, now, tier->hits);
                double all = tier->asked ? snapshot_rate(before, now, tier->asked)
                                         : hits + snapshot_rate(before, now, tier->misses);
                char rate[CELL_MAX], part[CELL_MAX], bytes[CELL_MAX], sent[CELL_MAX];

                fprintf(out, "%-14s %9s %7s %9" PRIu64 " %10s   %-13s %10s\n", tier->title,
                        rate_text(hits, rate), percent_text(hits, all, part),
                        snapshot_get(now, tier->objects), bytes_text(snapshot_get(now, tier->bytes), bytes),
                        modes[i][0], byte_rate_text(snapshot_rate(before, now, modes[i][1]), sent));
        }
}

static void write_rest(FILE *out, const struct snapshot *before, const struct snapshot *now) {
        char evicted[CELL_MAX], expired[CELL_MAX];

        fprintf(out, "Evicted %s/s, expired %s/s. ",
                rate_text(snapshot_rate(before, now, "evictions"), evicted),
                rate_text(snapshot_rate(before, now, "store_expired"), expired));
        fprintf(out, "Waiting: %" PRIu64 " for the disk, %" PRIu64 " listings, %" PRIu64 " changes\n",
                snapshot_get(now, "jobs_waiting"), snapshot_get(now, "bulk_jobs_waiting"),
                snapshot_get(now, "store_changes_waiting"));
}

static const char *cell(const struct namespace_row *row,
                        enum namespace_column column,
                        bool is_bytes,
                        char text[static CELL_MAX]) {
        if (!row->has[column])
                return "-";
        if (is_bytes)
                return bytes_text(row->values[column], text);

        (void) snprintf(text, CELL_MAX, "%" PRIu64, row->values[column]);
        return text;
}

static void write_namespaces(FILE *out, const struct namespaces *namespaces) {
        if (namespaces->n_rows == 0)
                return;

        fprintf(out, "\n%-28s %12s %12s %12s %12s\n", "NAMESPACE", "objects", "at most", "bytes", "at most");
        for (size_t i = 0; i < namespaces->n_rows; i++) {
                const struct namespace_row *row = &namespaces->rows[i];
                char objects[CELL_MAX], objects_max[CELL_MAX], bytes[CELL_MAX], bytes_max[CELL_MAX];

                fprintf(out, "%-28s %12s %12s %12s %12s\n", row->name,
                        cell(row, NAMESPACE_OBJECTS, false, objects),
                        cell(row, NAMESPACE_OBJECTS_MAX, false, objects_max),
                        cell(row, NAMESPACE_BYTES, true, bytes),
                        cell(row, NAMESPACE_BYTES_MAX, true, bytes_max));
        }
}

void screen_write(FILE *out, const struct snapshot *before, const struct snapshot *now) {
        write_head(out, now);
        fputc('\n', out);
        write_times(out, before, now);
        fputc('\n', out);
        write_tiers(out, before, now);
        write_rest(out, before, now);
        write_namespaces(out, &now->namespaces);
}
