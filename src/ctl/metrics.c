/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The daemon's counters as OpenMetrics text: what a monitoring system scrapes. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "ctl.h"
#include "macro.h"
#include "metrics.h"
#include "report.h"
#include "stand-in.h"
#include "timing.h"

#define COUNTERS_MAX 65536 /* more than any daemon has */

enum kind {
        COUNTER, /* only grows while the daemon runs */
        GAUGE,
};

struct family {
        const char *name, *unit; /* the name ends with the unit, when there is one;
                                    counters of times are in microseconds */
        enum kind kind;
        const char *help;
};

static const struct family families[] = {
        { "start_time_seconds", "seconds", GAUGE, "When the daemon began, since 1970." },
        { "sessions", NULL, GAUGE, "Sessions that are open." },
        { "sessions_opened", NULL, COUNTER, "Sessions that were opened." },
        { "sessions_refused", NULL, COUNTER, "Connections that were refused." },
        { "sessions_dropped", NULL, COUNTER, "Sessions that the daemon ended for a fault of the client." },
        { "requests", NULL, COUNTER, "Requests received, by verb." },
        { "replies", NULL, COUNTER, "Replies sent, by status." },
        { "bodies", NULL, COUNTER, "Bodies sent, by mode." },
        { "bodies_bytes", "bytes", COUNTER, "Bytes of the bodies sent, by mode." },
        { "received_bytes", "bytes", COUNTER, "Bytes of the bodies received." },
        { "puts_aborted", NULL, COUNTER, "Puts that were given up before they were whole." },
        { "puts_visible", NULL, COUNTER, "Puts that were acknowledged before they were durable." },
        { "puts_lost", NULL, COUNTER, "Those of them that could not be made durable." },
        { "jobs_waiting", NULL, GAUGE,
          "Pieces of work that may wait for the disk and wait for a thread, by pool." },
        { "windows_read", NULL, COUNTER,
          "Pieces of files that had to be read from the disk before they were sent." },
        { "lookups_submitted", NULL, COUNTER,
          "Requests whose object was looked up by another thread, for it may need the disk." },
        { "cache_hits", NULL, COUNTER, "Gets served from a cache, by tier." },
        { "cache_misses", NULL, COUNTER, "Gets for which a cache had nothing, by tier." },
        { "cache_objects", NULL, GAUGE, "Objects in a cache, by tier." },
        { "cache_bytes", "bytes", GAUGE, "Bytes in a cache, by tier." },
        { "store_objects", NULL, GAUGE, "Objects in the store." },
        { "store_bytes", "bytes", GAUGE, "Bytes of their bodies." },
        { "store_inline_objects", NULL, GAUGE, "Objects whose bodies are in the dictionary." },
        { "store_expiring_objects", NULL, GAUGE, "Objects that have a time to live." },
        { "store_pinned_objects", NULL, GAUGE, "Objects that are pinned." },
        { "store_pinned_bytes", "bytes", GAUGE, "Bytes of their bodies." },
        { "store_dictionary_bytes", "bytes", GAUGE, "Bytes of the dictionary that are in use." },
        { "store_generation", NULL, GAUGE, "The newest generation." },
        { "store_gets", NULL, COUNTER, "Lookups of objects to be served." },
        { "store_hits", NULL, COUNTER, "Those that found one." },
        { "store_puts", NULL, COUNTER, "Objects that were put." },
        { "store_removed", NULL, COUNTER, "Objects that were removed or purged." },
        { "store_expired", NULL, COUNTER, "Objects that were cleared because their time was over." },
        { "store_evicted", NULL, COUNTER, "Objects that were evicted to make room." },
        { "store_evicted_bytes", "bytes", COUNTER, "Bytes of their bodies." },
        { "store_changes_waiting", NULL, GAUGE, "Changes that wait for those before them." },
        { "store_commits", NULL, COUNTER, "Transactions." },
        { "store_changes", NULL, COUNTER, "Changes made in them." },
        { "store_put_bytes", "bytes", COUNTER, "Bytes of the bodies that were put." },
        { "store_sweeps", NULL, COUNTER, "Searches for files that an earlier process left over, complete." },
        { "store_swept", NULL, COUNTER, "Files that they removed." },
        { "store_foreign", NULL, GAUGE, "Files that are not the store's, when it was looked last." },
        { "store_damaged", NULL, COUNTER, "Objects that were found damaged, and are absent since." },
        { "namespace_objects", NULL, GAUGE, "Objects of a namespace." },
        { "namespace_bytes", "bytes", GAUGE, "Bytes of their bodies." },
        { "namespace_max_objects", NULL, GAUGE, "Objects that a namespace may hold, where that is limited." },
        { "namespace_max_bytes", "bytes", GAUGE, "Bytes of bodies likewise." },
        { "namespace_pinned_objects", NULL, GAUGE, "Pinned objects of a namespace." },
        { "namespace_pinned_bytes", "bytes", GAUGE, "Bytes of their bodies." },
        { "other", NULL, GAUGE, "Counters that this version of objmapperctl does not know." },
};

/* Which counters make a family: one by its name, or all that begin and end with what is around a '*', which
 * is the label's value. Of two that fit the first counts. */
static const struct rule {
        const char *counter, *family;
        const char *label, *value;
} rules[] = {
        { "start_time_usec", "start_time_seconds", NULL, NULL },
        { "sessions", "sessions", NULL, NULL },
        { "sessions_total", "sessions_opened", NULL, NULL },
        { "sessions_refused", "sessions_refused", NULL, NULL },
        { "sessions_dropped", "sessions_dropped", NULL, NULL },
        { "requests_*", "requests", "verb", NULL },
        { "replies_fdpass", "bodies", "mode", "fdpass" },
        { "replies_copy", "bodies", "mode", "copy" },
        { "replies_splice", "bodies", "mode", "splice" },
        { "replies_*", "replies", "status", NULL },
        { "errors_*", "replies", "status", NULL },
        { "bytes_received", "received_bytes", NULL, NULL },
        { "bytes_*", "bodies_bytes", "mode", NULL },
        { "puts_aborted", "puts_aborted", NULL, NULL },
        { "puts_visible", "puts_visible", NULL, NULL },
        { "puts_lost", "puts_lost", NULL, NULL },
        { "store_puts", "store_puts", NULL, NULL },
        { "jobs_waiting", "jobs_waiting", "pool", "request" },
        { "bulk_jobs_waiting", "jobs_waiting", "pool", "bulk" },
        { "windows_read", "windows_read", NULL, NULL },
        { "lookups_submitted", "lookups_submitted", NULL, NULL },
        { "hot_hits", "cache_hits", "tier", "memory" },
        { "hot_misses", "cache_misses", "tier", "memory" },
        { "hot_objects", "cache_objects", "tier", "memory" },
        { "hot_bytes", "cache_bytes", "tier", "memory" },
        { "fast_hits", "cache_hits", "tier", "files" },
        { "fast_misses", "cache_misses", "tier", "files" },
        { "fast_objects", "cache_objects", "tier", "files" },
        { "fast_bytes", "cache_bytes", "tier", "files" },
        { "evictions", "store_evicted", NULL, NULL },
        { "evicted_bytes", "store_evicted_bytes", NULL, NULL },
        { "pinned_objects", "store_pinned_objects", NULL, NULL },
        { "pinned_bytes", "store_pinned_bytes", NULL, NULL },
        { "store_objects", "store_objects", NULL, NULL },
        { "store_bytes", "store_bytes", NULL, NULL },
        { "store_objects_inline", "store_inline_objects", NULL, NULL },
        { "store_objects_expiring", "store_expiring_objects", NULL, NULL },
        { "store_dictionary_bytes", "store_dictionary_bytes", NULL, NULL },
        { "store_generation", "store_generation", NULL, NULL },
        { "store_gets", "store_gets", NULL, NULL },
        { "store_hits", "store_hits", NULL, NULL },
        { "store_removes", "store_removed", NULL, NULL },
        { "store_expired", "store_expired", NULL, NULL },
        { "store_changes_waiting", "store_changes_waiting", NULL, NULL },
        { "store_commits", "store_commits", NULL, NULL },
        { "store_changes", "store_changes", NULL, NULL },
        { "store_bytes_put", "store_put_bytes", NULL, NULL },
        { "store_sweeps", "store_sweeps", NULL, NULL },
        { "store_swept", "store_swept", NULL, NULL },
        { "store_foreign", "store_foreign", NULL, NULL },
        { "store_damaged", "store_damaged", NULL, NULL },
        { "namespace_*_objects_pinned", "namespace_pinned_objects", "namespace", NULL },
        { "namespace_*_bytes_pinned", "namespace_pinned_bytes", "namespace", NULL },
        { "namespace_*_objects_max", "namespace_max_objects", "namespace", NULL },
        { "namespace_*_bytes_max", "namespace_max_bytes", "namespace", NULL },
        { "namespace_*_objects", "namespace_objects", "namespace", NULL },
        { "namespace_*_bytes", "namespace_bytes", "namespace", NULL },
        { "*", "other", "name", NULL },
};

/* Those of one family follow each other. */
static const struct timing_family {
        const char *name; /* ends with the unit: seconds */
        const char *label, *value;
        const char *help;
} timing_families[TIMING_MAX] = {
        [TIMING_GET_FDPASS] = { "get_duration_seconds", "mode", "fdpass",
                                "Time that gets took the daemon, from reading the request to sending the "
                                "last "
                                "byte, by mode." },
        [TIMING_GET_COPY] = { "get_duration_seconds", "mode", "copy" },
        [TIMING_GET_SPLICE] = { "get_duration_seconds", "mode", "splice" },
        [TIMING_GET_INLINE] = { "get_duration_seconds", "mode", "inline" },
        [TIMING_GET_BODILESS] = { "get_duration_seconds", "mode", "bodiless" },
        [TIMING_PUT_DURABLE] = { "put_duration_seconds", "acknowledged", "durable",
                                 "Time that puts took the daemon, from having all of it to its answer." },
        [TIMING_PUT_VISIBLE] = { "put_duration_seconds", "acknowledged", "visible" },
        [TIMING_REMOVE] = { "remove_duration_seconds", NULL, NULL,
                            "Time that removes took the daemon, from reading the request to its answer." },
        [TIMING_JOB_WAIT] = { "job_wait_seconds", "pool", "request",
                              "Time that what may wait for the disk waited for a thread." },
        [TIMING_BULK_JOB_WAIT] = { "job_wait_seconds", "pool", "bulk" },
        [TIMING_STORE_WAIT] = { "store_wait_seconds", NULL, NULL,
                                "Time that changes waited for those before them." },
        [TIMING_STORE_COMMIT] = { "store_commit_duration_seconds", NULL, NULL,
                                  "Time that transactions took to be on the disk." },
};

struct sample {
        const struct rule *rule;
        char *counter;
        const char *label; /* the label's value, in counter */
        int label_size;
        uint64_t value;
};

struct samples {
        struct sample *samples;
        size_t n;
        struct timings timings;
};

static void samples_done(struct samples *samples) {
        for (size_t i = 0; i < samples->n; i++)
                free(samples->samples[i].counter);
        free(samples->samples);
}

/* Whether the counter is the rule's; the label's value is what its '*' stands for. */
static bool rule_fits(const struct rule *rule, struct sample *sample) {
        const char *star = strchr(rule->counter, '*');
        size_t size = strlen(sample->counter), before, after;

        if (!star)
                return strcmp(sample->counter, rule->counter) == 0;

        before = (size_t) (star - rule->counter);
        after = strlen(star + 1);
        if (size <= before + after || memcmp(sample->counter, rule->counter, before) != 0 ||
            strcmp(sample->counter + size - after, star + 1) != 0)
                return false;

        sample->label = sample->counter + before;
        sample->label_size = (int) (size - before - after);
        return true;
}

static int add_counter(const char *name, uint64_t value, void *userdata) {
        struct samples *all = userdata;
        struct sample *samples, *sample;

        if (timings_take(&all->timings, name, value))
                return 0;

        if (all->n >= COUNTERS_MAX)
                return -E2BIG;

        samples = reallocarray(all->samples, all->n + 1, sizeof(*samples));
        if (!samples)
                return -ENOMEM;
        all->samples = samples;

        sample = &samples[all->n];
        *sample = (struct sample){ .counter = strdup(name), .value = value };
        if (!sample->counter)
                return -ENOMEM;
        all->n++;

        sample->rule = rules;
        while (!rule_fits(sample->rule, sample)) /* the last one fits all */
                sample->rule++;
        return 0;
}

static void print_label(FILE *out, const struct sample *sample) {
        const char *p = sample->rule->value ?: sample->label;
        size_t size = sample->rule->value ? strlen(p) : (size_t) sample->label_size;

        fprintf(out, "{%s=\"", sample->rule->label);
        for (size_t i = 0; i < size; i++)
                if (p[i] == '"' || p[i] == '\\')
                        fprintf(out, "\\%c", p[i]);
                else
                        putc(p[i] == '\n' ? ' ' : p[i], out);
        fprintf(out, "\"}");
}

static void print_seconds(FILE *out, uint64_t usec) {
        fprintf(out, "%" PRIu64 ".%06" PRIu64, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
}

static void print_family(FILE *out, const struct family *family, const struct samples *samples) {
        bool is_begun = false;

        for (size_t i = 0; i < samples->n; i++) {
                const struct sample *sample = &samples->samples[i];

                if (strcmp(sample->rule->family, family->name) != 0)
                        continue;

                if (!is_begun) {
                        fprintf(out, "# TYPE objmapper_%s %s\n", family->name,
                                family->kind == COUNTER ? "counter" : "gauge");
                        if (family->unit)
                                fprintf(out, "# UNIT objmapper_%s %s\n", family->name, family->unit);
                        fprintf(out, "# HELP objmapper_%s %s\n", family->name, family->help);
                        is_begun = true;
                }

                fprintf(out, "objmapper_%s%s", family->name, family->kind == COUNTER ? "_total" : "");
                if (sample->rule->label)
                        print_label(out, sample);
                fputc(' ', out);
                if (family->unit && strcmp(family->unit, "seconds") == 0)
                        print_seconds(out, sample->value);
                else
                        fprintf(out, "%" PRIu64, sample->value);
                fputc('\n', out);
        }
}

static void print_timing(FILE *out, const struct timing_family *family, const struct histogram *histogram) {
        char label[64] = "", alone[80] = "";
        uint64_t n = 0;

        if (family->label) {
                (void) snprintf(label, sizeof(label), "%s=\"%s\",", family->label, family->value);
                (void) snprintf(alone, sizeof(alone), "{%s=\"%s\"}", family->label, family->value);
        }

        for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
                n += histogram->counts[i];
                fprintf(out, "objmapper_%s_bucket{%sle=\"%.10g\"} %" PRIu64 "\n", family->name, label,
                        (double) histogram_bound(i) / USEC_PER_SEC, n);
        }
        n += histogram->counts[HISTOGRAM_BOUNDS];
        fprintf(out, "objmapper_%s_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", family->name, label, n);
        fprintf(out, "objmapper_%s_count%s %" PRIu64 "\n", family->name, alone, n);
        fprintf(out, "objmapper_%s_sum%s ", family->name, alone);
        print_seconds(out, histogram->sum_usec);
        fputc('\n', out);
}

static void print_timings(FILE *out, const struct timings *timings) {
        for (enum timing timing = 0; timing < TIMING_MAX; timing++) {
                const struct timing_family *family = &timing_families[timing];
                struct histogram histogram;

                if (family->help && timings->counters[timing].is_there)
                        fprintf(out,
                                "# TYPE objmapper_%s histogram\n# UNIT objmapper_%s seconds\n"
                                "# HELP objmapper_%s %s\n",
                                family->name, family->name, family->name, family->help);
                timings_get(NULL, timings, timing, &histogram);
                if (timings->counters[timing].is_there)
                        print_timing(out, family, &histogram);
        }
}

int metrics_print(struct ctl *ctl, FILE *out) {
        _cleanup_(samples_done) struct samples samples = {};
        int r;

        r = get_stats(ctl, add_counter, &samples);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ARRAY_SIZE(families); i++)
                print_family(out, &families[i], &samples);
        print_timings(out, &samples.timings);
        fprintf(out, "# EOF\n");
        return 0;
}

int verb_metrics(struct ctl *ctl) {
        int r;

        if (ctl->arguments.http)
                return serve_metrics(ctl);

        r = metrics_print(ctl, stdout);
        return r < 0 ? report(ctl, r) : EXIT_DONE;
}
