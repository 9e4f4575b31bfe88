/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "print.h"
#include "report.h"
#include "stand-in.h"
#include "timing.h"

/* stat is for people and has a structure of lines, which no value may break: it escapes always. */
int verb_stat(struct ctl *ctl) {
        _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
        const char *uri = ctl->arguments.operands[0], *key, *value;
        char text[TIME_TEXT_MAX];
        size_t position = 0, value_size;
        uint64_t expires, used;
        int r;

        r = objmapper_stat(ctl->client, uri, &object);
        if (r < 0)
                return report(ctl, r);

        expires = objmapper_object_get_expires(object);
        used = objmapper_object_get_used(object);

        printf("URI:        ");
        print_escaped(stdout, uri, strlen(uri));
        printf("\nSize:       %" PRIu64 "\n", objmapper_object_get_size(object));
        printf("ETag:       %s\n", objmapper_object_get_etag(object));
        printf("Generation: %" PRIu64 "\n", objmapper_object_get_generation(object));
        printf("XXH3-64:    %016" PRIx64 "\n", objmapper_object_get_checksum(object));
        printf("Stored:     %s\n", time_text(objmapper_object_get_stored(object), text));
        printf("Expires:    %s\n", expires ? time_text(expires, text) : "never");
        printf("Hits:       %" PRIu64 "\n", objmapper_object_get_hits(object));
        printf("Last used:  %s\n", used ? time_text(used, text) : "never");

        while (objmapper_object_next_metadata(object, &position, &key, &value, &value_size) > 0) {
                printf("Metadata:   ");
                print_escaped(stdout, key, strlen(key));
                putchar('=');
                print_escaped(stdout, value, value_size);
                putchar('\n');
        }

        return EXIT_DONE;
}

struct listing {
        bool long_form, null_ends, escape;
};

static int show_entry(objmapper_object *object, void *userdata) {
        const struct listing *listing = userdata;
        char text[TIME_TEXT_MAX];
        const char *uri;
        size_t size;

        uri = objmapper_object_get_uri(object, &size);

        if (listing->long_form)
                printf("%12" PRIu64 "  %s  %s  ", objmapper_object_get_size(object),
                       time_text(objmapper_object_get_stored(object), text),
                       objmapper_object_get_etag(object));

        if (listing->escape)
                print_escaped(stdout, uri, size);
        else
                fwrite(uri, 1, size, stdout);

        putchar(listing->null_ends ? '\0' : '\n');

        /* A full disk or a reader who has gone ends a listing of millions at once. */
        return ferror(stdout) ? -EPIPE : 0;
}

int verb_ls(struct ctl *ctl) {
        const struct arguments *a = &ctl->arguments;
        const char *prefix = a->n_operands > 0 ? a->operands[0] : "";
        struct listing listing = {
                .long_form = a->long_form,
                .null_ends = a->null_ends,
                .escape = !a->null_ends && isatty(STDOUT_FILENO),
        };
        int r;

        r = objmapper_list(ctl->client, prefix, show_entry, &listing);
        if (ferror(stdout))
                return EXIT_FAILED; /* told by finish_output() */
        if (r < 0)
                return report(ctl, r);

        return EXIT_DONE;
}

struct counters {
        bool all, json;
        size_t n;
        struct timings timings;
};

static int show_counter(const char *name, uint64_t value, void *userdata) {
        struct counters *counters = userdata;

        if (!counters->all && timings_take(&counters->timings, name, value))
                return 0;

        if (counters->json) {
                printf(counters->n == 0 ? "{\n  " : ",\n  ");
                print_json_string(stdout, name, strlen(name));
                printf(": %" PRIu64, value);
        } else {
                print_escaped(stdout, name, strlen(name));
                printf(" %" PRIu64 "\n", value);
        }

        counters->n++;
        return 0;
}

static void show_timing(struct counters *counters, enum timing timing, const char *what, uint64_t value) {
        char name[64];

        (void) snprintf(name, sizeof(name), "%s_usec_%s", timing_name(timing), what);
        (void) show_counter(name, value, counters);
}

/* What of a histogram people want to know. */
static void show_timings(struct counters *counters) {
        counters->all = true;
        for (enum timing timing = 0; timing < TIMING_MAX; timing++) {
                struct histogram histogram;

                if (!counters->timings.counters[timing].is_there)
                        continue;

                timings_get(NULL, &counters->timings, timing, &histogram);
                show_timing(counters, timing, "count", histogram_count(&histogram));
                show_timing(counters, timing, "sum", histogram.sum_usec);
                show_timing(counters, timing, "p50", (uint64_t) histogram_percentile(&histogram, 0.5));
                show_timing(counters, timing, "p99", (uint64_t) histogram_percentile(&histogram, 0.99));
        }
}

int verb_stats(struct ctl *ctl) {
        struct counters counters = { .json = ctl->arguments.json, .all = ctl->arguments.all };
        int r;

        r = get_stats(ctl, show_counter, &counters);
        if (r < 0)
                return report(ctl, r);

        show_timings(&counters);
        if (counters.json)
                printf(counters.n == 0 ? "{}\n" : "\n}\n");

        return EXIT_DONE;
}
