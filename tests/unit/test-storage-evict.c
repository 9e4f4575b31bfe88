/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The store keeps to its maxima: what goes for it, what never does, and what is refused instead. */

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "storage-harness.h"

#define KB 1000
/* A full store is emptied by a thousandth more than it must: so much more than what the tests fill it with. */
#define SLACK    128
#define FULL     (100 * KB)
#define CAPACITY (FULL + SLACK)
static void full_init(struct shelf *shelf, uint64_t bytes_max, uint64_t objects_max, bool evict) {
        shelf_init(shelf);
        shelf->config.limits = (struct storage_limits){
                .bytes_max = bytes_max,
                .objects_max = objects_max,
                .policy = STORAGE_POLICY_S3FIFO,
                .evict = evict,
        };
}

static int put_number(struct shelf *shelf, const char *prefix, unsigned number, size_t size) {
        char uri[64];

        (void) snprintf(uri, sizeof(uri), "%s%u", prefix, number);
        return put_seeded(shelf, uri, number, size, NULL);
}

/* Answered as soon as gets find it. */
static int put_visible(struct shelf *shelf, const char *prefix, unsigned number, size_t size) {
        g_autofree uint8_t *bytes = make_bytes(number, size);
        g_autofree char *uri = g_strdup_printf("%s%u", prefix, number);
        struct storage_change change = {
                .kind = STORAGE_PUT,
                .uri = uri,
                .uri_size = strlen(uri),
                .visible = true,
        };
        int r;

        assert_ok(storage_upload_new(shelf->storage, size, &change.upload));
        assert_ok(storage_upload_write(change.upload, bytes, size));
        assert_ok(storage_upload_finish(change.upload));
        r = storage_change_wait(shelf->storage, &change);
        storage_upload_free(change.upload);
        return r;
}

static void wait_for_all(struct shelf *shelf) {
        (void) storage_remove(shelf->storage, "other", 5); /* comes after all before it */
}

static bool is_there(struct shelf *shelf, const char *uri) {
        return storage_get_info(shelf->storage, uri, strlen(uri), NULL, NULL, NULL) >= 0;
}

static bool is_number_there(struct shelf *shelf, const char *prefix, unsigned number) {
        char uri[64];

        (void) snprintf(uri, sizeof(uri), "%s%u", prefix, number);
        return is_there(shelf, uri);
}

static int change(struct shelf *shelf,
                  enum storage_change_kind kind,
                  const char *uri,
                  struct storage_info *ret) {
        struct storage_change change = { .kind = kind, .uri = uri, .uri_size = strlen(uri) };
        int r = storage_change_wait(shelf->storage, &change);

        if (ret)
                *ret = change.info;
        return r;
}

static void get(struct shelf *shelf, const char *uri) {
        struct storage_object object = STORAGE_OBJECT_INIT;

        assert_ok(storage_get(shelf->storage, uri, strlen(uri), STORAGE_GET_OPEN, NULL, &object));
        storage_object_done(&object);
}

static void test_maxima(void) {
        for (unsigned policy = STORAGE_POLICY_S3FIFO; policy <= STORAGE_POLICY_LFU; policy++)
                for (unsigned i = 0; i < 2; i++) {
                        struct storage_stats stats;
                        struct shelf shelf;

                        full_init(&shelf, i == 0 ? CAPACITY : 0, i == 0 ? 0 : 20, true);
                        shelf.config.limits.policy = policy;
                        shelf_open(&shelf);
                        for (unsigned j = 0; j < 80; j++) {
                                assert_ok(put_number(&shelf, "u/", j, 5 * KB));
                                g_assert_true(is_number_there(&shelf, "u/", j));
                                if (j > 0) /* wanted all the time */
                                        get(&shelf, "u/0");
                                stats = shelf_stats(&shelf);
                                g_assert_cmpuint(stats.bytes, <=, CAPACITY);
                                g_assert_cmpuint(stats.objects, <=, 20);
                                g_assert_cmpuint(stats.objects, ==, MIN(j + 1, 20U));
                        }
                        g_assert_cmpuint(stats.evictions, ==, 60);
                        g_assert_cmpuint(stats.evicted_bytes, ==, 300 * KB);
                        g_assert_true(is_there(&shelf, "u/0"));
                        wait_until(shelf_count_blobs(&shelf) == 20);

                        /* It goes on where it was. */
                        shelf_close(&shelf);
                        shelf_open(&shelf);
                        get(&shelf, "u/0");
                        for (unsigned j = 80; j < 120; j++)
                                assert_ok(put_number(&shelf, "u/", j, 5 * KB));
                        g_assert_cmpuint(shelf_stats(&shelf).objects, ==, 20);
                        shelf_destroy(&shelf);
                }
}

/* What can't fit is refused, and nothing goes for it. */
static void test_too_large(void) {
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 20; i++)
                assert_ok(put_number(&shelf, "u/", i, 5 * KB));
        assert_errno(put_number(&shelf, "big/", 0, CAPACITY + 1), -ENOSPC);
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 0);
        assert_errno(put_number(&shelf, "u/", 0, CAPACITY + 1), -ENOSPC);
        assert_object(&shelf, "u/0", 3, 0, 5 * KB);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 0);
        assert_ok(put_number(&shelf, "big/", 0, CAPACITY));
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 20);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, CAPACITY);

        /* One that is larger than the whole does not hinder those beside it. */
        assert_ok(put_number(&shelf, "u/", 1, 5 * KB));
        shelf_destroy(&shelf);
}

static void test_evict_no(void) {
        struct shelf shelf;

        full_init(&shelf, FULL, 30, false);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 20; i++)
                assert_ok(put_number(&shelf, "u/", i, 5 * KB));
        assert_errno(put_number(&shelf, "u/", 20, 1), -ENOSPC);
        assert_errno(put_number(&shelf, "u/", 0, 5 * KB + 1), -ENOSPC);
        assert_object(&shelf, "u/0", 3, 0, 5 * KB);

        /* Replacements that fit. */
        assert_ok(put_number(&shelf, "u/", 0, 5 * KB));
        assert_ok(put_number(&shelf, "u/", 0, 1));
        assert_ok(put_number(&shelf, "u/", 0, 5 * KB));
        assert_ok(storage_remove(shelf.storage, "u/7", 3));
        assert_ok(put_number(&shelf, "u/", 20, 2500));
        assert_ok(put_number(&shelf, "u/", 20, 5 * KB));
        assert_errno(put_number(&shelf, "u/", 21, 0), 0);
        for (unsigned i = 22; i < 31; i++)
                assert_ok(put_number(&shelf, "u/", i, 0));
        assert_errno(put_number(&shelf, "u/", 31, 0), -ENOSPC);
        assert_ok(put_number(&shelf, "u/", 30, 0));
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 0);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        shelf_destroy(&shelf);
}

static void test_replacements(void) {
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        shelf_open(&shelf);
        assert_ok(put_number(&shelf, "a/", 0, 60 * KB));
        assert_ok(put_number(&shelf, "b/", 0, 30 * KB));
        for (unsigned i = 0; i < 10; i++) {
                assert_ok(put_number(&shelf, "a/", 0, (60 + i) * KB));
                g_assert_true(is_there(&shelf, "b/0"));
        }
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 0);
        assert_ok(put_number(&shelf, "a/", 0, 80 * KB));
        g_assert_false(is_there(&shelf, "b/0"));
        for (unsigned i = 0; i < 10; i++)
                assert_ok(put_number(&shelf, "a/", 0, CAPACITY - i));
        shelf_destroy(&shelf);
}

static bool is_held; /* atomic: the writer waits before its next commit */

static int hold(_unused_ void *userdata) {
        while (__atomic_load_n(&is_held, __ATOMIC_ACQUIRE))
                g_usleep(100);
        return 0;
}

static void count_done(struct storage_change *done) {
        (void) __atomic_fetch_add((unsigned *) done->userdata, 1, __ATOMIC_RELEASE);
}

/* Changes that come at once, URIs more than once: what they come to is what they would come to one after another. */
static void test_batch(void) {
        static const struct {
                enum storage_change_kind kind;
                const char *uri;
                size_t size;
                int result;
        } cases[] = {
                { STORAGE_PUT, "x", 60 * KB, 0 },       { STORAGE_PUT, "x", 70 * KB, 0 },
                { STORAGE_PUT, "pinned", 10 * KB, 0 },  { STORAGE_PUT, "huge", FULL + 1, -ENOSPC },
                { STORAGE_PUT, "z", 20 * KB, 0 },       { STORAGE_REMOVE, "x", 0, 0 },
                { STORAGE_PUT, "y", 60 * KB, 0 },       { STORAGE_PUT, "pinned", 20 * KB, 0 },
                { STORAGE_PUT, "x", 81 * KB, -ENOSPC }, /* beside what is pinned */
        };
        struct storage_upload *uploads[G_N_ELEMENTS(cases)] = {};
        struct storage_change changes[G_N_ELEMENTS(cases)];
        unsigned n_done = 0;
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf.hooks.before_commit = hold;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 9; i++)
                assert_ok(put_number(&shelf, "old/", i, 10 * KB));
        assert_ok(put_seeded(&shelf, "pinned", 1, 10 * KB, NULL));
        assert_ok(change(&shelf, STORAGE_PIN, "pinned", NULL));

        __atomic_store_n(&is_held, true, __ATOMIC_RELEASE);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree uint8_t *bytes = make_bytes(i, cases[i].size);

                changes[i] = (struct storage_change){
                        .kind = cases[i].kind,
                        .uri = cases[i].uri,
                        .uri_size = strlen(cases[i].uri),
                        .done = count_done,
                        .userdata = &n_done,
                };
                if (cases[i].kind != STORAGE_PUT)
                        continue;
                if (cases[i].size > FULL) { /* told at once: so it is put by its bytes, unknown in number */
                        assert_errno(storage_upload_new(shelf.storage, cases[i].size, &uploads[i]), -ENOSPC);
                        assert_ok(storage_upload_new(shelf.storage, UINT64_MAX, &uploads[i]));
                } else
                        assert_ok(storage_upload_new(shelf.storage, cases[i].size, &uploads[i]));
                assert_ok(storage_upload_write(uploads[i], bytes, cases[i].size));
                assert_ok(storage_upload_finish(uploads[i]));
                changes[i].upload = uploads[i];
        }

        /* The first is taken alone, the others wait together for it. */
        {
                struct storage_change first = { .kind = STORAGE_SET_METADATA,
                                                .uri = "pinned",
                                                .uri_size = 6,
                                                .done = count_done,
                                                .userdata = &n_done };

                storage_submit(shelf.storage, &first);
                g_usleep(20000);
                for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                        storage_submit(shelf.storage, &changes[i]);
                __atomic_store_n(&is_held, false, __ATOMIC_RELEASE);
                wait_until(__atomic_load_n(&n_done, __ATOMIC_ACQUIRE) == G_N_ELEMENTS(cases) + 1);
        }

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                assert_errno(changes[i].result, cases[i].result);
                storage_upload_free(uploads[i]);
        }
        assert_object(&shelf, "y", 1, 6, 60 * KB);
        assert_object(&shelf, "pinned", 6, 7, 20 * KB);
        assert_object(&shelf, "z", 1, 4, 20 * KB);
        assert_absent(&shelf, "x");
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        shelf_destroy(&shelf);
}

/* Puts that come at once and are too much together: what came first goes for what comes later, as ever. */
static void test_too_much_at_once(void) {
        enum { N = 12 };
        struct storage_change changes[N], first = { .kind = STORAGE_REMOVE, .uri = "other", .uri_size = 5 };
        struct storage_upload *uploads[N];
        char uris[N][8];
        unsigned n_done = 0;
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf.hooks.before_commit = hold;
        shelf.config.limits.namespaces = &(struct storage_namespace){
                .name = "one", .prefix = "one/", .prefix_size = 4, .objects_max = 1, .evict = true
        };
        shelf.config.limits.n_namespaces = 1;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "other", 1, 10 * KB, NULL));

        __atomic_store_n(&is_held, true, __ATOMIC_RELEASE);
        first.done = count_done;
        first.userdata = &n_done;
        storage_submit(shelf.storage, &first);
        g_usleep(20000); /* it is taken alone, the others wait together for it */
        for (unsigned i = 0; i < N; i++) {
                size_t size = i % 2 ? 1 * KB : 40 * KB;
                g_autofree uint8_t *bytes = make_bytes(i, size);

                (void) snprintf(uris[i], sizeof(uris[i]), i % 2 ? "one/%u" : "%u", i);
                assert_ok(storage_upload_new(shelf.storage, size, &uploads[i]));
                assert_ok(storage_upload_write(uploads[i], bytes, size));
                assert_ok(storage_upload_finish(uploads[i]));
                changes[i] = (struct storage_change){
                        .kind = STORAGE_PUT,
                        .uri = uris[i],
                        .uri_size = strlen(uris[i]),
                        .upload = uploads[i],
                        .done = count_done,
                        .userdata = &n_done,
                };
                storage_submit(shelf.storage, &changes[i]);
        }
        __atomic_store_n(&is_held, false, __ATOMIC_RELEASE);
        wait_until(__atomic_load_n(&n_done, __ATOMIC_ACQUIRE) == N + 1);

        for (unsigned i = 0; i < N; i++) {
                assert_ok(changes[i].result);
                if (i > 0)
                        g_assert_cmpuint(changes[i].info.etag.generation, >,
                                         changes[i - 1].info.etag.generation);
                storage_upload_free(uploads[i]);
        }
        assert_object(&shelf, uris[N - 2], strlen(uris[N - 2]), N - 2, 40 * KB);
        assert_object(&shelf, uris[N - 1], strlen(uris[N - 1]), N - 1, 1 * KB);
        g_assert_false(is_number_there(&shelf, "one/", N - 3));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, FULL);
        g_assert_cmpuint(shelf_stats(&shelf).changes_waiting, ==, 0);
        shelf_destroy(&shelf);
}

static void test_pinned(void) {
        struct storage_info info;
        struct storage_stats stats;
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 10; i++)
                assert_ok(put_number(&shelf, "keep/", i, 8 * KB));
        for (unsigned i = 0; i < 10; i++) {
                char uri[16];

                (void) snprintf(uri, sizeof(uri), "keep/%u", i);
                for (unsigned j = 0; j < 2; j++) {
                        assert_ok(change(&shelf, STORAGE_PIN, uri, &info));
                        g_assert_true(info.pinned);
                }
        }
        assert_errno(change(&shelf, STORAGE_PIN, "absent", NULL), -ENOENT);
        assert_errno(change(&shelf, STORAGE_UNPIN, "absent", NULL), -ENOENT);
        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.pinned_objects, ==, 10);
        g_assert_cmpuint(stats.pinned_bytes, ==, 80 * KB);

        for (unsigned round = 0; round < 2; round++) {
                for (unsigned i = 0; i < 50; i++)
                        assert_ok(put_number(&shelf, "u/", i, 5 * KB));
                for (unsigned i = 0; i < 10; i++)
                        g_assert_true(is_number_there(&shelf, "keep/", i));

                /* Not even when all else goes: so none of it does. */
                stats = shelf_stats(&shelf);
                assert_errno(put_number(&shelf, "u/", 100, 20 * KB + 1), -ENOSPC);
                g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, stats.evictions);
                assert_ok(put_number(&shelf, "u/", 100, 20 * KB));

                shelf_close(&shelf);
                shelf_open(&shelf);
        }

        /* What takes its place is pinned too, and its bytes have to fit. */
        assert_ok(put_seeded(&shelf, "keep/0", 0, 9 * KB, &info));
        g_assert_true(info.pinned);
        assert_ok(storage_get_info(shelf.storage, "keep/0", 6, &info, NULL, NULL));
        g_assert_true(info.pinned);
        assert_errno(put_seeded(&shelf, "keep/0", 0, 28 * KB + 1, NULL), -ENOSPC);
        assert_ok(put_seeded(&shelf, "keep/0", 0, 28 * KB, NULL));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        assert_errno(put_number(&shelf, "u/", 100, 1), -ENOSPC);
        assert_ok(change(&shelf, STORAGE_SET_METADATA, "keep/0", &info));
        g_assert_true(info.pinned);

        for (unsigned i = 0; i < 2; i++) {
                assert_ok(change(&shelf, STORAGE_UNPIN, "keep/0", &info));
                g_assert_false(info.pinned);
        }
        assert_ok(put_number(&shelf, "u/", 100, 1));
        assert_absent(&shelf, "keep/0");
        assert_ok(storage_remove(shelf.storage, "keep/1", 6));
        g_assert_cmpuint(shelf_stats(&shelf).pinned_objects, ==, 8);
        g_assert_cmpuint(shelf_stats(&shelf).pinned_bytes, ==, 64 * KB);
        shelf_destroy(&shelf);
}

static uint64_t fake_now; /* atomic */

static uint64_t get_fake_now(_unused_ void *userdata) {
        return __atomic_load_n(&fake_now, __ATOMIC_RELAXED);
}

/* What is put after a purge was submitted is not pinned, wherever the purge has come to. */
static void test_pinned_purged(void) {
        enum { N = 1500 }; /* more than a purge removes at once */
        struct storage_change purge = {
                .kind = STORAGE_PURGE, .uri = "p/", .uri_size = 2, .done = count_done
        };
        struct storage_change last = {
                .kind = STORAGE_PUT, .uri = "p/last", .uri_size = 6, .done = count_done
        };
        struct storage_info info;
        unsigned n_done = 0;
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        shelf.hooks.before_commit = hold;
        shelf_open(&shelf);
        for (unsigned i = 0; i < N; i++)
                assert_ok(put_visible(&shelf, "p/", i, 0));
        assert_ok(put_seeded(&shelf, "p/last", 1, 100, NULL));
        assert_ok(change(&shelf, STORAGE_PIN, "p/last", NULL));

        __atomic_store_n(&is_held, true, __ATOMIC_RELEASE);
        purge.userdata = last.userdata = &n_done;
        storage_submit(shelf.storage, &purge);
        assert_ok(storage_upload_new(shelf.storage, 0, &last.upload));
        assert_ok(storage_upload_finish(last.upload));
        storage_submit(shelf.storage, &last);
        __atomic_store_n(&is_held, false, __ATOMIC_RELEASE);
        wait_until(__atomic_load_n(&n_done, __ATOMIC_ACQUIRE) == 2);
        storage_upload_free(last.upload);

        assert_ok(last.result);
        g_assert_false(last.info.pinned);
        g_assert_cmpuint(purge.count, ==, N + 1);
        assert_ok(storage_get_info(shelf.storage, "p/last", 6, &info, NULL, NULL));
        g_assert_false(info.pinned);
        g_assert_cmpuint(shelf_stats(&shelf).pinned_objects, ==, 0);
        shelf_destroy(&shelf);
}

/* What is put while a purge is under way is planned as if that was done. */
static void test_planned_purged(void) {
        enum { N = 1500, PUTS = 2 }; /* more than a purge removes at once */
        static const char *const names[PUTS] = { "q/new", "p/last" };
        struct storage_change purge = {
                .kind = STORAGE_PURGE, .uri = "p/", .uri_size = 2, .done = count_done
        };
        struct storage_change puts[PUTS];
        unsigned n_done = 0;
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        shelf.hooks.before_commit = hold;
        shelf.config.limits.namespaces = &(struct storage_namespace){
                .name = "full", .prefix = "q/", .prefix_size = 2, .objects_max = 1, .evict = true
        };
        shelf.config.limits.n_namespaces = 1;
        shelf_open(&shelf);
        for (unsigned i = 0; i < N; i++)
                assert_ok(put_visible(&shelf, "p/", i, 0));
        assert_ok(put_number(&shelf, "q/", 0, 1));
        assert_ok(put_seeded(&shelf, "p/last", 1, 100, NULL));

        __atomic_store_n(&is_held, true, __ATOMIC_RELEASE);
        purge.userdata = &n_done;
        storage_submit(shelf.storage, &purge);
        for (unsigned i = 0; i < PUTS; i++) {
                puts[i] = (struct storage_change){ .kind = STORAGE_PUT,
                                                   .uri = names[i],
                                                   .uri_size = strlen(names[i]),
                                                   .if_absent = true,
                                                   .done = count_done,
                                                   .userdata = &n_done };
                assert_ok(storage_upload_new(shelf.storage, 0, &puts[i].upload));
                assert_ok(storage_upload_finish(puts[i].upload));
                storage_submit(shelf.storage, &puts[i]);
        }
        __atomic_store_n(&is_held, false, __ATOMIC_RELEASE);
        wait_until(__atomic_load_n(&n_done, __ATOMIC_ACQUIRE) == 1 + PUTS);

        for (unsigned i = 0; i < PUTS; i++) {
                assert_ok(puts[i].result);
                g_assert_true(is_there(&shelf, names[i]));
                storage_upload_free(puts[i].upload);
        }
        g_assert_false(is_number_there(&shelf, "q/", 0));
        g_assert_cmpuint(purge.count, ==, N + 1);
        shelf_destroy(&shelf);
}

static void test_pinned_expires(void) {
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        fake_now = UINT64_C(1700000000) * G_USEC_PER_SEC;
        shelf.hooks.now = get_fake_now;
        shelf.hooks.clock_look_usec = shelf.hooks.expiry_interval_usec = 1000;
        shelf.config.limits.namespaces = &(struct storage_namespace){
                .name = "short", .prefix = "s/", .prefix_size = 2, .ttl_msec = 1000, .evict = true
        };
        shelf.config.limits.n_namespaces = 1;
        shelf_open(&shelf);
        assert_ok(put_number(&shelf, "s/", 0, 5 * KB)); /* without a time of its own */
        assert_ok(put_number(&shelf, "t/", 0, 5 * KB));
        assert_ok(change(&shelf, STORAGE_PIN, "s/0", NULL));
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, 1);
        __atomic_fetch_add(&fake_now, 2 * G_USEC_PER_SEC, __ATOMIC_RELAXED);
        wait_until(shelf_stats(&shelf).expired == 1);
        assert_absent(&shelf, "s/0");
        g_assert_cmpuint(shelf_stats(&shelf).pinned_objects, ==, 0);
        g_assert_true(is_there(&shelf, "t/0"));
        shelf_destroy(&shelf);
}

/* A visible put is refused before it is seen, or has its room. */
static void test_visible(void) {
        struct shelf shelf;

        for (unsigned i = 0; i < 4; i++) {
                bool evict = i % 2 == 1;

                full_init(&shelf, FULL, 0, evict);
                if (i >= 2) /* nothing is committed until it has to be */
                        shelf.hooks.gather_usec = 3600 * USEC_PER_SEC;
                shelf_open(&shelf);
                for (unsigned j = 0; j < 40; j++) {
                        bool has_room = j < 20 || evict;

                        assert_errno(put_visible(&shelf, "u/", j, 5 * KB), has_room ? 0 : -ENOSPC);
                        g_assert_true(is_number_there(&shelf, "u/", j) == has_room);
                        g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, FULL);
                }
                wait_for_all(&shelf);
                g_assert_cmpuint(shelf_stats(&shelf).puts_lost, ==, 0);
                g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, FULL);
                shelf_destroy(&shelf);
        }
}

/* Fails commits: the next n. */
static unsigned n_failing;

static int fail_commit(_unused_ void *userdata) {
        return n_failing > 0 && n_failing-- > 0 ? -ENOSPC : 0;
}

/* Where room can't be made, or was made in vain, a visible put is not shown. */
static void test_visible_fails(void) {
        struct storage_namespace a = {
                .name = "a", .prefix = "a/", .prefix_size = 2, .bytes_max = 20 * KB, .evict = false
        };
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf.config.limits.namespaces = &a;
        shelf.config.limits.n_namespaces = 1;
        shelf.hooks.before_commit = fail_commit;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 4; i++)
                assert_ok(put_number(&shelf, "a/", i, 5 * KB));
        for (unsigned i = 0; i < 16; i++)
                assert_ok(put_number(&shelf, "u/", i, 5 * KB));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);

        n_failing = 1; /* what was to go stays */
        assert_errno(put_visible(&shelf, "u/", 20, 5 * KB), -ENOSPC);
        wait_for_all(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        g_assert_cmpuint(shelf_stats(&shelf).puts_visible, ==, 0);

        assert_ok(put_number(&shelf, "u/", 16, 4 * KB)); /* in the whole there is room now */
        assert_ok(change(&shelf, STORAGE_REMOVE, "u/16", NULL));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, FULL - 5 * KB);
        n_failing = 1; /* what was to be removed stays */
        assert_errno(change(&shelf, STORAGE_REMOVE, "a/0", NULL), -ENOSPC);
        assert_errno(put_visible(&shelf, "a/", 20, 5 * KB), -ENOSPC);
        wait_for_all(&shelf);
        g_assert_true(is_there(&shelf, "a/0"));
        g_assert_cmpuint(shelf_stats(&shelf).puts_visible, ==, 0);

        assert_ok(put_visible(&shelf, "u/", 20, 5 * KB));
        wait_for_all(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).puts_visible, ==, 1);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, FULL);
        shelf_destroy(&shelf);
}

struct heater {
        struct heat_table *heat;
        uint64_t hash;
        bool stop; /* atomic */
};

/* As many threads would by their gets. */
static void *keep_hot(void *userdata) {
        struct heater *heater = userdata;

        while (!__atomic_load_n(&heater->stop, __ATOMIC_RELAXED))
                heat_table_touch(heater->heat, heater->hash);
        return NULL;
}

/* Room is made, however often what is there is got meanwhile. */
static void test_always_hot(void) {
        for (unsigned policy = STORAGE_POLICY_S3FIFO; policy <= STORAGE_POLICY_LFU; policy++) {
                struct heater heater = {};
                struct shelf shelf;
                GThread *threads[2];
                uint64_t before;

                full_init(&shelf, CAPACITY, 0, true);
                shelf.config.limits.policy = policy;
                shelf_open(&shelf);
                assert_ok(put_number(&shelf, "u/", 0, 60 * KB));
                heater.heat = shelf.storage->accounts->heat;
                heater.hash = accounts_hash(shelf.storage->accounts, "u/0", 3);
                for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                        threads[i] = g_thread_new("heater", keep_hot, &heater);

                before = shelf_stats(&shelf).commits;
                assert_ok(put_number(&shelf, "u/", 1, 60 * KB));
                g_assert_cmpuint(shelf_stats(&shelf).commits - before, ==, 2);
                g_assert_false(is_number_there(&shelf, "u/", 0));

                __atomic_store_n(&heater.stop, true, __ATOMIC_RELAXED);
                for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                        (void) g_thread_join(threads[i]);
                shelf_destroy(&shelf);
        }
}

/* ---- namespaces ---- */

struct usages {
        unsigned n;
        struct storage_usage rest, a, ab;
        uint64_t a_max;
};

static void note_usage(const struct storage_namespace *namespace,
                       const struct storage_usage *usage,
                       void *userdata) {
        struct usages *usages = userdata;

        usages->n++;
        if (strcmp(namespace->name, "") == 0)
                usages->rest = *usage;
        else if (strcmp(namespace->name, "a") == 0) {
                usages->a = *usage;
                usages->a_max = namespace->bytes_max;
        } else if (strcmp(namespace->name, "ab") == 0)
                usages->ab = *usage;
}

static struct usages get_usages(struct shelf *shelf) {
        struct usages usages = {};

        storage_visit_namespaces(shelf->storage, note_usage, &usages);
        return usages;
}

static struct storage_namespace two[] = {
        { .name = "a", .prefix = "a/", .prefix_size = 2, .bytes_max = 30 * KB + SLACK, .evict = true },
        { .name = "ab", .prefix = "a/b/", .prefix_size = 4, .evict = true },
};

static void test_namespaces(void) {
        struct storage_limits limits;
        struct usages usages;
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        limits = shelf.config.limits;
        limits.namespaces = two;
        limits.n_namespaces = 2;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 3; i++) {
                assert_ok(put_number(&shelf, "a/", i, 5 * KB));
                assert_ok(put_number(&shelf, "a/b/", i, 5 * KB));
                assert_ok(put_number(&shelf, "c/", i, 5 * KB));
        }
        assert_ok(change(&shelf, STORAGE_PIN, "a/b/1", NULL));
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.n, ==, 1);
        g_assert_cmpuint(usages.rest.bytes, ==, 45 * KB);
        g_assert_cmpuint(usages.rest.pinned_bytes, ==, 5 * KB);

        /* What is there is counted anew. */
        assert_ok(storage_set_limits(shelf.storage, &limits));
        wait_until(get_usages(&shelf).n == 3 && get_usages(&shelf).ab.objects == 3);
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.rest.bytes, ==, 15 * KB);
        g_assert_cmpuint(usages.a.bytes, ==, 15 * KB);
        g_assert_cmpuint(usages.a_max, ==, 30 * KB + SLACK);
        g_assert_cmpuint(usages.ab.bytes, ==, 15 * KB);
        g_assert_cmpuint(usages.ab.pinned_objects, ==, 1);
        g_assert_cmpuint(usages.ab.pinned_bytes, ==, 5 * KB);
        assert_consistent(&shelf);

        /* Its own quota takes from itself alone. */
        for (unsigned i = 10; i < 30; i++)
                assert_ok(put_number(&shelf, "a/", i, 5 * KB));
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.a.bytes, ==, 30 * KB);
        g_assert_cmpuint(usages.rest.objects, ==, 3);
        g_assert_cmpuint(usages.ab.objects, ==, 3);
        assert_errno(put_number(&shelf, "a/", 30, 30 * KB + SLACK + 1), -ENOSPC);
        g_assert_cmpuint(get_usages(&shelf).a.objects, ==, 6);

        /* The whole takes from who uses the most of what it may: a is at its quota. */
        for (unsigned i = 10; i < 20; i++)
                assert_ok(put_number(&shelf, "c/", i, 5 * KB));
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.rest.objects, ==, 13);
        g_assert_cmpuint(usages.ab.objects, ==, 3);
        g_assert_cmpuint(usages.a.objects, <, 6);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, CAPACITY);

        /* Nothing of one that evicts nothing goes, for nobody. */
        two[0].evict = false;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        usages = get_usages(&shelf);
        for (unsigned i = 20; i < 60; i++)
                assert_ok(put_number(&shelf, "c/", i, 5 * KB));
        g_assert_cmpuint(get_usages(&shelf).a.objects, ==, usages.a.objects);
        for (unsigned i = (unsigned) usages.a.objects; i < 6; i++)
                assert_ok(put_number(&shelf, "a/x", i, 5 * KB));
        assert_errno(put_number(&shelf, "a/x", 7, 5 * KB), -ENOSPC);
        g_assert_cmpuint(get_usages(&shelf).a.objects, ==, 6);
        two[0].evict = true;

        /* The same namespaces in another order, and after another start. */
        shelf_close(&shelf);
        shelf.config.limits = limits;
        shelf.config.limits.namespaces = (struct storage_namespace[]){ two[1], two[0] };
        shelf_open(&shelf);
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.a.objects, ==, 6);
        g_assert_cmpuint(usages.ab.pinned_objects, ==, 1);
        shelf_close(&shelf);

        /* And back to none. */
        shelf.config.limits.n_namespaces = 0;
        shelf_open(&shelf);
        wait_until(get_usages(&shelf).rest.bytes == shelf_stats(&shelf).bytes);
        g_assert_cmpuint(get_usages(&shelf).n, ==, 1);
        g_assert_cmpuint(get_usages(&shelf).rest.pinned_objects, ==, 1);
        shelf_destroy(&shelf);
}

/* More than a step's worth, while things are put and removed, and limits change again on the way. */
static void test_recount(void) {
        enum { N = 2400 };
        struct storage_limits limits;
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        limits = shelf.config.limits;
        limits.namespaces = two;
        shelf_open(&shelf);
        for (unsigned i = 0; i < N; i++)
                assert_ok(put_number(&shelf, i % 2 ? "a/b/" : "c/", i, 10));

        two[0].bytes_max = 0;
        for (unsigned round = 0; round < 4; round++) {
                limits.n_namespaces = round % 2 == 0 ? 2 : 0;
                assert_ok(storage_set_limits(shelf.storage, &limits));
                for (unsigned i = 0; i < 100; i++) {
                        assert_ok(put_number(&shelf, "a/b/", N + i, 20));
                        assert_ok(put_number(&shelf, "a/b/", 1 + 2 * i, 20));
                        if (round == 3)
                                (void) put_number(&shelf, "c/", i, 20);
                }
                if (round == 1)
                        continue; /* the next comes while it is under way */
                wait_until(limits.n_namespaces == 0
                                           ? get_usages(&shelf).rest.objects == shelf_stats(&shelf).objects
                                           : get_usages(&shelf).ab.objects == N / 2 + 100);
                assert_consistent(&shelf);
        }
        two[0].bytes_max = 30 * KB + SLACK;
        shelf_destroy(&shelf);
}

/* Lower limits: what is too much goes without being asked for. */
static void test_lowered(void) {
        struct storage_limits limits;
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        limits = shelf.config.limits;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 100; i++)
                assert_ok(put_number(&shelf, "u/", i, i % 2 ? 5 * KB : 100));
        assert_ok(change(&shelf, STORAGE_PIN, "u/1", NULL));
        assert_ok(change(&shelf, STORAGE_PIN, "u/3", NULL));
        limits.objects_max = 50;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        wait_until(shelf_stats(&shelf).objects <= 50);
        limits.bytes_max = 6 * KB;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        wait_until(shelf_stats(&shelf).objects == 2); /* the pinned ones, which are too much */
        g_assert_true(is_there(&shelf, "u/1"));
        assert_errno(put_number(&shelf, "u/", 2, 100), -ENOSPC);
        assert_ok(put_number(&shelf, "u/", 1, 4 * KB)); /* smaller than what was there */
        limits.bytes_max = limits.objects_max = 0;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        assert_ok(put_number(&shelf, "u/", 2, 100));

        /* A policy that comes later takes over what the one before it left. */
        for (unsigned policy = STORAGE_POLICY_LFU; policy-- > 0;) {
                limits.policy = policy;
                limits.bytes_max = CAPACITY;
                assert_ok(storage_set_limits(shelf.storage, &limits));
                for (unsigned i = 200; i < 300; i++)
                        assert_ok(put_number(&shelf, policy % 2 ? "v/" : "w/", i, 5 * KB));
                g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, CAPACITY);
        }
        shelf_destroy(&shelf);
}

static void test_bad_limits(void) {
        static char long_text[1000];
        const struct storage_namespace good = { .name = "a", .prefix = "a", .prefix_size = 1 };
        const struct storage_namespace bad[][2] = {
                { good, { .name = "a", .prefix = "b", .prefix_size = 1 } },
                { good, { .name = "b", .prefix = "a", .prefix_size = 1 } },
                { good, { .name = "", .prefix = "b", .prefix_size = 1 } },
                { good, { .name = NULL, .prefix = "b", .prefix_size = 1 } },
                { good,
                  { .name = "b", .prefix = long_text, .prefix_size = STORAGE_NAMESPACE_PREFIX_MAX + 1 } },
                { good, { .name = long_text, .prefix = "b", .prefix_size = 1 } },
                { good, { .name = "b", .prefix = "b", .prefix_size = 1, .policy = STORAGE_POLICY_LFU + 1 } },
        };
        struct shelf shelf;

        memset(long_text, 'x', sizeof(long_text) - 1);
        shelf_init(&shelf);
        shelf_open(&shelf);
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                assert_errno(storage_set_limits(shelf.storage, &(struct storage_limits){ .namespaces = bad[i],
                                                                                         .n_namespaces = 2 }),
                             -EINVAL);
        shelf_destroy(&shelf);
}

/* ---- many at once ---- */

#define STRESS_MAX     (2000 * KB)
#define STRESS_OBJECTS 620
#define STRESS_THREADS 4
#define STRESS_ROUNDS  1000

static uint64_t bytes_on_disk;
static unsigned n_commits, n_broken;
static struct shelf *stressed;

static int add_size(_unused_ const char *path,
                    const struct stat *st,
                    _unused_ int type,
                    _unused_ struct FTW *ftw) {
        if (S_ISREG(st->st_mode))
                bytes_on_disk += (uint64_t) st->st_size;
        return 0;
}

/* At the worst moment: what is put has its name, what is replaced still has it. When a transaction has failed that
 * was to make room for both, there is room for what will be left of them. */
static int sample(_unused_ void *userdata) {
        g_autofree char *path = g_strdup_printf("%s/blobs", stressed->path);

        if (n_commits++ % 4 == 0 && n_commits % 50 > 4) {
                bytes_on_disk = 0;
                g_assert_cmpint(nftw(path, add_size, 16, FTW_PHYS), ==, 0);
                g_assert_cmpuint(bytes_on_disk, <=, STRESS_MAX);
        }
        if (n_commits % 50 == 0 && n_commits > 100) {
                n_broken++;
                return -ENOSPC;
        }
        return 0;
}

static void *run_stress(void *userdata) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(*(unsigned *) userdata);
        struct shelf *shelf = stressed;

        for (unsigned i = 0; i < STRESS_ROUNDS; i++) {
                unsigned number = (unsigned) g_rand_int_range(rand, 0, 2000);
                const char *prefix = number % 3 ? "u/" : "a/";
                struct storage_object object = STORAGE_OBJECT_INIT;
                struct storage_stats stats;
                char uri[16];
                int r;

                (void) snprintf(uri, sizeof(uri), "%s%u", prefix, number);
                switch (g_rand_int_range(rand, 0, 16)) {
                case 0 ... 9:
                        r = put_number(shelf, prefix, number, (size_t) g_rand_int_range(rand, 0, 7000));
                        g_assert_true(r == 0 || r == -ENOSPC);
                        break;
                case 10:
                        r = storage_remove(shelf->storage, uri, strlen(uri));
                        g_assert_true(r == 0 || r == -ENOENT || r == -ENOSPC);
                        break;
                case 11:
                        r = change(shelf, STORAGE_PIN, uri, NULL);
                        g_assert_true(r == 0 || r == -ENOENT || r == -ENOSPC);
                        break;
                case 12:
                        r = change(shelf, STORAGE_UNPIN, uri, NULL);
                        g_assert_true(r == 0 || r == -ENOENT || r == -ENOSPC);
                        break;
                case 13:
                        if (i % 20 == 0)
                                (void) change(shelf, STORAGE_PURGE, "u/1", NULL);
                        break;
                default:
                        r = storage_get(shelf->storage, uri, strlen(uri), STORAGE_GET_OPEN, NULL, &object);
                        g_assert_true(r == 0 || r == -ENOENT);
                        storage_object_done(&object);
                }

                stats = shelf_stats(shelf);
                g_assert_cmpuint(stats.bytes, <=, STRESS_MAX);
                g_assert_cmpuint(stats.objects, <=, STRESS_OBJECTS);
        }

        return NULL;
}

static void test_stress(void) {
        pthread_t threads[STRESS_THREADS];
        unsigned seeds[STRESS_THREADS];
        struct storage_namespace namespaces[] = {
                { .name = "a", .prefix = "a/", .prefix_size = 2, .bytes_max = STRESS_MAX / 3, .evict = true },
        };
        struct storage_stats stats;
        struct shelf shelf;

        full_init(&shelf, STRESS_MAX, STRESS_OBJECTS, true);
        shelf.config.limits.namespaces = namespaces;
        shelf.config.limits.n_namespaces = 1;
        shelf.config.inline_max = 0; /* so that all bytes are on the disk */
        shelf.hooks.before_commit = sample;
        stressed = &shelf;
        n_commits = n_broken = 0;
        shelf_open(&shelf);
        for (unsigned i = 0; i < STRESS_THREADS; i++) {
                seeds[i] = i;
                assert_ok(pthread_create(&threads[i], NULL, run_stress, &seeds[i]));
        }
        for (unsigned i = 0; i < STRESS_THREADS; i++)
                assert_ok(pthread_join(threads[i], NULL));

        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.evictions, >, 100);
        g_assert_cmpuint(n_broken, >, 10);
        g_assert_cmpuint(get_usages(&shelf).a.bytes, <=, STRESS_MAX / 3);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_destroy(&shelf);
}

static void flip_last(uint8_t *value, size_t size) {
        value[size - 1] ^= 1;
}

/* Who stands in a queue without a record does not stop others from going. */
static void test_damaged_record(void) {
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        shelf_open(&shelf);
        assert_ok(put_number(&shelf, "u/", 0, 5 * KB));
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "objects", flip_last);
        shelf_open(&shelf);
        assert_absent(&shelf, "u/0");
        for (unsigned i = 1; i < 100; i++)
                assert_ok(put_number(&shelf, "u/", i, 5 * KB));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/evict/maxima", test_maxima);
        harness_add("/storage/evict/too-large", test_too_large);
        harness_add("/storage/evict/evict-no", test_evict_no);
        harness_add("/storage/evict/replacements", test_replacements);
        harness_add("/storage/evict/batch", test_batch);
        harness_add("/storage/evict/too-much-at-once", test_too_much_at_once);
        harness_add("/storage/evict/pinned", test_pinned);
        harness_add("/storage/evict/pinned-purged", test_pinned_purged);
        harness_add("/storage/evict/planned-purged", test_planned_purged);
        harness_add("/storage/evict/pinned-expires", test_pinned_expires);
        harness_add("/storage/evict/visible", test_visible);
        harness_add("/storage/evict/visible-fails", test_visible_fails);
        harness_add("/storage/evict/always-hot", test_always_hot);
        harness_add("/storage/evict/namespaces", test_namespaces);
        harness_add("/storage/evict/recount", test_recount);
        harness_add("/storage/evict/lowered", test_lowered);
        harness_add("/storage/evict/bad-limits", test_bad_limits);
        harness_add("/storage/evict/stress", test_stress);
        harness_add("/storage/evict/damaged-record", test_damaged_record);
        return g_test_run();
}
