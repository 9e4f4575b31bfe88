/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "trace.h"

#include <glib.h>
#include <math.h>
#include <stdio.h>

const struct trace_figure trace_figures[TRACE_FIGURES] = {
        { "web07", 1, { .398, .375 }, { .464, .405 } },  { "web07", 5, { .508, .472 }, { .559, .505 } },
        { "web07", 10, { .557, .521 }, { .601, .551 } }, { "web12", 1, { .398, .416 }, { .444, .442 } },
        { "web12", 5, { .603, .619 }, { .662, .662 } },  { "web12", 10, { .687, .698 }, { .733, .729 } },
};

struct trace *trace_load(const char *name, uint64_t shrink) {
        const char *source = g_getenv("OBJMAPPER_SOURCE") ?: ".";
        g_autofree char *file = g_strdup_printf("%s/tests/data/traces/%s.csv.xz", source, name);
        const char *command[] = { "xz", "--decompress", "--stdout", file, NULL };
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;
        struct trace *trace = g_new0(struct trace, 1);
        int status;

        if (!g_spawn_sync(NULL, (char **) command, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &text, NULL,
                          &status, &error) ||
            !g_spawn_check_wait_status(status, &error))
                g_error("%s: %s", file, error->message);

        trace->requests = g_new(uint32_t, strlen(text) / 4 + 1); /* a line has 4 bytes at least */
        for (char *p = text; *p;) {
                uint64_t object = g_ascii_strtoull(p, &p, 10), size;

                g_assert_cmpint(*p++, ==, ',');
                size = g_ascii_strtoull(p, &p, 10) / shrink ?: 1;
                g_assert_cmpint(*p++, ==, '\n');
                g_assert_cmpuint(object, <, TRACE_OBJECTS_MAX);

                if (trace->sizes[object] == 0) {
                        trace->sizes[object] = size;
                        trace->bytes += size;
                }
                g_assert_cmpuint(trace->sizes[object], ==, size);
                trace->requests[trace->n_requests++] = (uint32_t) object;
        }

        return trace;
}

void trace_free(struct trace *trace) {
        g_free(trace->requests);
        g_free(trace);
}

struct trace_ratios trace_run(const struct trace *trace,
                              bool (*get)(uint32_t object, uint64_t size, void *userdata),
                              void (*put)(uint32_t object, uint64_t size, void *userdata),
                              void *userdata) {
        uint64_t hits = 0, hit_bytes = 0, bytes = 0;

        for (size_t i = 0; i < trace->n_requests; i++) {
                uint32_t object = trace->requests[i];
                uint64_t size = trace->sizes[object];

                bytes += size;
                if (get(object, size, userdata)) {
                        hits++;
                        hit_bytes += size;
                } else
                        put(object, size, userdata);
        }

        return (struct trace_ratios){ (double) hits / (double) trace->n_requests,
                                      (double) hit_bytes / (double) bytes };
}

const char *trace_policy_name(enum storage_policy policy) {
        static const char *const names[] = { "s3fifo", "lru", "lfu" };

        return names[policy];
}

static void assert_near(const char *what, const struct trace_figure *figure, double is, double wanted) {
        if (fabs(is - wanted) > 0.01)
                g_error("%s, %u %%: %s is %.3f, not %.3f", figure->trace, figure->percent, what, is, wanted);
}

static void assert_better(const char *what,
                          const struct trace_figure *figure,
                          double is,
                          double reference,
                          double lru) {
        if (is < 0.98 * reference || is <= lru)
                g_error("%s, %u %%: %s of s3fifo is %.3f, with %.3f as reference and %.3f by lru",
                        figure->trace, figure->percent, what, is, reference, lru);
}

void trace_assert(const struct trace_figure *figure,
                  enum storage_policy policy,
                  const struct trace_ratios *ratios,
                  const struct trace_ratios *lfu) {
        switch (policy) {
        case STORAGE_POLICY_S3FIFO:
                assert_better("object hit ratio", figure, ratios->objects, figure->s3fifo.objects,
                              figure->lru.objects);
                assert_better("byte hit ratio", figure, ratios->bytes, figure->s3fifo.bytes,
                              figure->lru.bytes);
                break;
        case STORAGE_POLICY_LRU:
                assert_near("object hit ratio of lru", figure, ratios->objects, figure->lru.objects);
                assert_near("byte hit ratio of lru", figure, ratios->bytes, figure->lru.bytes);
                break;
        case STORAGE_POLICY_LFU:
                assert_near("object hit ratio of lfu", figure, ratios->objects, lfu->objects);
                assert_near("byte hit ratio of lfu", figure, ratios->bytes, lfu->bytes);
                break;
        }
}

struct textbook {
        uint64_t capacity, used, clock;
        bool counts; /* LFU */
        struct {
                uint32_t object;
                uint64_t size, count, last;
        } entries[TRACE_OBJECTS_MAX];
        size_t n;
};

static bool textbook_get(uint32_t object, _unused_ uint64_t size, void *userdata) {
        struct textbook *textbook = userdata;

        textbook->clock++;
        for (size_t i = 0; i < textbook->n; i++)
                if (textbook->entries[i].object == object) {
                        textbook->entries[i].count += textbook->counts;
                        textbook->entries[i].last = textbook->clock;
                        return true;
                }

        return false;
}

static void textbook_evict(struct textbook *textbook) {
        size_t least = 0;

        for (size_t i = 1; i < textbook->n; i++)
                if (textbook->entries[i].count < textbook->entries[least].count ||
                    (textbook->entries[i].count == textbook->entries[least].count &&
                     textbook->entries[i].last < textbook->entries[least].last))
                        least = i;

        textbook->used -= textbook->entries[least].size;
        textbook->entries[least] = textbook->entries[--textbook->n];
}

static void textbook_put(uint32_t object, uint64_t size, void *userdata) {
        struct textbook *textbook = userdata;

        if (size > textbook->capacity)
                return;
        while (textbook->used + size > textbook->capacity)
                textbook_evict(textbook);

        textbook->entries[textbook->n].object = object;
        textbook->entries[textbook->n].size = size;
        textbook->entries[textbook->n].count = 1;
        textbook->entries[textbook->n].last = textbook->clock;
        textbook->n++;
        textbook->used += size;
}

struct trace_ratios trace_run_textbook(const struct trace *trace,
                                       enum storage_policy policy,
                                       uint64_t capacity) {
        g_autofree struct textbook *textbook = g_new0(struct textbook, 1);

        g_assert_cmpint(policy, !=, STORAGE_POLICY_S3FIFO);
        textbook->capacity = capacity;
        textbook->counts = policy == STORAGE_POLICY_LFU;
        return trace_run(trace, textbook_get, textbook_put, textbook);
}
