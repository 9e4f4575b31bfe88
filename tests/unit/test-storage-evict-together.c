/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Changes that come together in a full store: what goes for them, and which of them are refused. */

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "evict-harness.h"

static bool is_held; /* atomic: the writer waits before its next commit */

static int hold(_unused_ void *userdata) {
        while (__atomic_load_n(&is_held, __ATOMIC_ACQUIRE))
                g_usleep(100);
        return 0;
}

static void count_done(struct storage_change *done) {
        (void) __atomic_fetch_add((unsigned *) done->userdata, 1, __ATOMIC_RELEASE);
}

/* Finishes the changes' uploads, has them gathered together, waits for all and frees the uploads. The store's before_commit is hold(), or calls
 * it. */
static void change_at_once(struct shelf *shelf, struct storage_change *changes, size_t n) {
        struct storage_change first = { .kind = STORAGE_REMOVE, .uri = "first", .uri_size = 5 };
        unsigned n_done = 0;

        assert_ok(put_seeded(shelf, "first", 1, 0, NULL));
        for (size_t i = 0; i < n; i++)
                if (changes[i].upload)
                        assert_ok(storage_upload_finish(changes[i].upload));

        first.done = count_done;
        first.userdata = &n_done;
        __atomic_store_n(&is_held, true, __ATOMIC_RELEASE);
        storage_submit(shelf->storage, &first);
        g_usleep(20000); /* it is taken alone, the others wait together for it */
        for (size_t i = 0; i < n; i++) {
                changes[i].done = count_done;
                changes[i].userdata = &n_done;
                storage_submit(shelf->storage, &changes[i]);
        }
        __atomic_store_n(&is_held, false, __ATOMIC_RELEASE);
        wait_until(__atomic_load_n(&n_done, __ATOMIC_ACQUIRE) == n + 1);
        for (size_t i = 0; i < n; i++)
                storage_upload_free(changes[i].upload);
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
        struct storage_change changes[G_N_ELEMENTS(cases)];
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf.hooks.before_commit = hold;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 9; i++)
                assert_ok(put_number(&shelf, "old/", i, 10 * KB));
        assert_ok(put_seeded(&shelf, "pinned", 1, 10 * KB, NULL));
        assert_ok(change(&shelf, STORAGE_PIN, "pinned", NULL));

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                changes[i] = (struct storage_change){
                        .kind = cases[i].kind,
                        .uri = cases[i].uri,
                        .uri_size = strlen(cases[i].uri),
                };
                if (cases[i].size > FULL) { /* told at once: so it is put by its bytes, unknown in number */
                        g_autofree uint8_t *bytes = make_bytes(i, cases[i].size);

                        assert_errno(storage_upload_new(shelf.storage, cases[i].size, &changes[i].upload),
                                     -ENOSPC);
                        assert_ok(storage_upload_new(shelf.storage, UINT64_MAX, &changes[i].upload));
                        assert_ok(storage_upload_write(changes[i].upload, bytes, cases[i].size));
                } else if (cases[i].kind == STORAGE_PUT)
                        changes[i].upload = make_upload(&shelf, i, cases[i].size);
        }
        change_at_once(&shelf, changes, G_N_ELEMENTS(cases));

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                assert_errno(changes[i].result, cases[i].result);
        assert_object(&shelf, "y", 1, 6, 60 * KB);
        assert_object(&shelf, "pinned", 6, 7, 20 * KB);
        assert_object(&shelf, "z", 1, 4, 20 * KB);
        assert_absent(&shelf, "x");
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        shelf_destroy(&shelf);
}

static struct storage_namespace only_one = {
        .name = "one", .prefix = "one/", .prefix_size = 4, .objects_max = 1, .evict = true
};

static void with_one_init(struct shelf *shelf) {
        full_init(shelf, FULL, 0, true);
        shelf->hooks.before_commit = hold;
        shelf->config.limits.namespaces = &only_one;
        shelf->config.limits.n_namespaces = 1;
}

/* n puts, each second one into the namespace with room for one object. */
static void make_puts(struct shelf *shelf,
                      struct storage_change *changes,
                      char (*uris)[8],
                      unsigned n,
                      size_t size) {
        for (unsigned i = 0; i < n; i++) {
                (void) snprintf(uris[i], sizeof(uris[i]), i % 2 ? "one/%u" : "%u", i);
                changes[i] = (struct storage_change){
                        .kind = STORAGE_PUT,
                        .uri = uris[i],
                        .uri_size = strlen(uris[i]),
                        .upload = make_upload(shelf, i, i % 2 ? 1 * KB : size),
                };
        }
}

/* Puts that come at once and are too much together: what came first goes for what comes later, as ever. */
static void test_too_much_at_once(void) {
        enum { N = 12 };
        struct storage_change changes[N];
        char uris[N][8];
        struct shelf shelf;

        with_one_init(&shelf);
        shelf_open(&shelf);
        make_puts(&shelf, changes, uris, N, 40 * KB);
        change_at_once(&shelf, changes, N);

        for (unsigned i = 0; i < N; i++) {
                assert_ok(changes[i].result);
                if (i > 0)
                        g_assert_cmpuint(changes[i].info.etag.generation, >,
                                         changes[i - 1].info.etag.generation);
        }
        assert_object(&shelf, uris[N - 2], strlen(uris[N - 2]), N - 2, 40 * KB);
        assert_object(&shelf, uris[N - 1], strlen(uris[N - 1]), N - 1, 1 * KB);
        g_assert_false(is_number_there(&shelf, "one/", N - 3));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, FULL);
        g_assert_cmpuint(shelf_stats(&shelf).changes_waiting, ==, 0);
        shelf_destroy(&shelf);
}

/* Those that nothing can go for are refused, and the others don't wait for it. */
static void test_hopeless_at_once(void) {
        enum { N = 100 };
        struct storage_change changes[N];
        char uris[N][8];
        uint64_t commits;
        struct shelf shelf;

        with_one_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "one/pinned", 1, 1, NULL));
        assert_ok(change(&shelf, STORAGE_PIN, "one/pinned", NULL));
        make_puts(&shelf, changes, uris, N, 100);
        commits = shelf_stats(&shelf).commits;
        change_at_once(&shelf, changes, N);

        for (unsigned i = 0; i < N; i++)
                assert_errno(changes[i].result, i % 2 ? -ENOSPC : 0);
        g_assert_cmpuint(shelf_stats(&shelf).commits, ==, commits + 3); /* two are of what is first */
        shelf_destroy(&shelf);
}

/* What may go for a put is what is pinned when it is its turn. */
static void test_pinned_at_once(void) {
        for (unsigned i = 0; i < 2; i++) {
                bool was_pinned = i == 1;
                struct storage_change changes[2];
                struct shelf shelf;

                full_init(&shelf, FULL, 0, true);
                shelf.hooks.before_commit = hold;
                shelf_open(&shelf);
                assert_ok(put_seeded(&shelf, "x", 1, 60 * KB, NULL));
                if (was_pinned)
                        assert_ok(change(&shelf, STORAGE_PIN, "x", NULL));
                changes[0] = (struct storage_change){ .kind = was_pinned ? STORAGE_UNPIN : STORAGE_PIN,
                                                      .uri = "x",
                                                      .uri_size = 1 };
                changes[1] = (struct storage_change){
                        .kind = STORAGE_PUT,
                        .uri = "y",
                        .uri_size = 1,
                        .upload = make_upload(&shelf, 2, 60 * KB),
                };
                change_at_once(&shelf, changes, 2);
                assert_ok(changes[0].result);
                assert_errno(changes[1].result, was_pinned ? 0 : -ENOSPC);
                g_assert_true(is_there(&shelf, "x") == !was_pinned);
                shelf_destroy(&shelf);
        }
}

/* What depends on a put before it may not be made: it takes no room from those behind it. */
static void test_conditional_at_once(void) {
        static const char *const uris[] = { "p", "p", "b" };
        static const size_t sizes[] = { 20 * KB, 80 * KB, 30 * KB };
        struct storage_change changes[G_N_ELEMENTS(uris)];
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf.hooks.before_commit = hold;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "p", 1, 10 * KB, NULL));
        assert_ok(change(&shelf, STORAGE_PIN, "p", NULL));
        for (unsigned i = 0; i < 8; i++)
                assert_ok(put_number(&shelf, "old/", i, 10 * KB));
        for (size_t i = 0; i < G_N_ELEMENTS(uris); i++)
                changes[i] = (struct storage_change){
                        .kind = STORAGE_PUT,
                        .uri = uris[i],
                        .uri_size = 1,
                        .upload = make_upload(&shelf, i, sizes[i]),
                        .if_absent = i == 1,
                };
        change_at_once(&shelf, changes, G_N_ELEMENTS(uris));
        assert_ok(changes[0].result);
        assert_errno(changes[1].result, -EEXIST);
        assert_ok(changes[2].result);
        shelf_destroy(&shelf);
}

/* Nothing is evicted for what a change that is refused would have made room for. */
static void test_refused_removal_at_once(void) {
        struct storage_info info;
        struct storage_change changes[3];
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf.hooks.before_commit = hold;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "p", 1, 60 * KB, &info));
        assert_ok(change(&shelf, STORAGE_PIN, "p", NULL));
        for (unsigned i = 0; i < 3; i++)
                assert_ok(put_number(&shelf, "old/", i, 10 * KB));
        changes[0] = (struct storage_change){
                .kind = STORAGE_PUT, .uri = "p", .uri_size = 1, .upload = make_upload(&shelf, 2, 60 * KB)
        };
        changes[1] = (struct storage_change){
                .kind = STORAGE_REMOVE, .uri = "p", .uri_size = 1, .if_generation = info.etag.generation
        };
        changes[2] = (struct storage_change){
                .kind = STORAGE_PUT, .uri = "b", .uri_size = 1, .upload = make_upload(&shelf, 3, 90 * KB)
        };
        change_at_once(&shelf, changes, G_N_ELEMENTS(changes));
        assert_ok(changes[0].result);
        assert_errno(changes[1].result, -ECANCELED);
        assert_errno(changes[2].result, -ENOSPC);
        for (unsigned i = 0; i < 3; i++)
                g_assert_true(is_number_there(&shelf, "old/", i));
        shelf_destroy(&shelf);
}

static unsigned n_full_commits; /* atomic: how often the disk is full yet */

/* The disk is full between the first commit and the second. */
static int hold_and_fill(void *userdata) {
        bool was_held = __atomic_load_n(&is_held, __ATOMIC_ACQUIRE);

        (void) hold(userdata);
        __atomic_store_n(&n_full_commits, was_held ? 1 : 0, __ATOMIC_RELAXED);
        return 0;
}

static uint64_t get_little_free(_unused_ void *userdata) {
        return __atomic_load_n(&n_full_commits, __ATOMIC_RELAXED) > 0 ? 0 : UINT64_C(1) << 40;
}

/* What waits for others has not failed. */
static void test_full_meanwhile(void) {
        static const char *const uris[] = { "one/1", "one/2", "file" };
        struct storage_change changes[G_N_ELEMENTS(uris)];
        struct shelf shelf;

        with_one_init(&shelf);
        shelf.hooks.before_commit = hold_and_fill;
        shelf.hooks.get_free = get_little_free;
        shelf.config.limits.keep_free = 1 << 20;
        shelf_open(&shelf);
        for (size_t i = 0; i < G_N_ELEMENTS(uris); i++)
                changes[i] = (struct storage_change){
                        .kind = STORAGE_PUT,
                        .uri = uris[i],
                        .uri_size = strlen(uris[i]),
                        .upload = make_upload(&shelf, i, i == 2 ? 40 * KB : 10),
                };
        change_at_once(&shelf, changes, G_N_ELEMENTS(uris));
        for (size_t i = 0; i < G_N_ELEMENTS(uris); i++)
                assert_ok(changes[i].result);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 0);
        shelf_destroy(&shelf);
}

/* Answered as soon as gets find it. */
static int put_visible(struct shelf *shelf, const char *prefix, unsigned number, size_t size) {
        g_autofree char *uri = g_strdup_printf("%s%u", prefix, number);
        struct storage_change change = {
                .kind = STORAGE_PUT,
                .uri = uri,
                .uri_size = strlen(uri),
                .visible = true,
        };
        int r;

        change.upload = make_upload(shelf, number, size);
        assert_ok(storage_upload_finish(change.upload));
        r = storage_change_wait(shelf->storage, &change);
        storage_upload_free(change.upload);
        return r;
}

static void wait_for_all(struct shelf *shelf) {
        (void) storage_remove(shelf->storage, "other", 5); /* comes after all before it */
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

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);

        harness_add("/storage/evict-together/batch", test_batch);
        harness_add("/storage/evict-together/too-much-at-once", test_too_much_at_once);
        harness_add("/storage/evict-together/hopeless-at-once", test_hopeless_at_once);
        harness_add("/storage/evict-together/pinned-at-once", test_pinned_at_once);
        harness_add("/storage/evict-together/conditional-at-once", test_conditional_at_once);
        harness_add("/storage/evict-together/refused-removal-at-once", test_refused_removal_at_once);
        harness_add("/storage/evict-together/full-meanwhile", test_full_meanwhile);
        harness_add("/storage/evict-together/pinned-purged", test_pinned_purged);
        harness_add("/storage/evict-together/planned-purged", test_planned_purged);
        harness_add("/storage/evict-together/visible", test_visible);
        harness_add("/storage/evict-together/visible-fails", test_visible_fails);

        return g_test_run();
}
