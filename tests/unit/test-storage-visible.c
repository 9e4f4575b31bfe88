/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Visible puts: found before their commit, committed with what follows, gone when that fails. */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "clock.h"
#include "storage-harness.h"

#define NEVER   (3600 * USEC_PER_SEC)
#define INLINED 100
#define FILED   5000

/* A store that commits only when something waits for it. */
static void open_lazy(struct shelf *shelf) {
        shelf_init(shelf);
        shelf->hooks.gather_usec = NEVER;
        shelf_open(shelf);
}

/* Fills in what makes a visible put of change, and makes it. */
static int put_change(struct shelf *shelf,
                      const char *uri,
                      uint64_t seed,
                      size_t size,
                      struct storage_change *change) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = make_upload(shelf, seed, size);

        assert_ok(storage_upload_finish_unsynced(upload));
        change->kind = STORAGE_PUT;
        change->uri = uri;
        change->uri_size = strlen(uri);
        change->upload = upload;
        change->visible = true;
        return storage_change_wait(shelf->storage, change);
}

static int put_visible(struct shelf *shelf, const char *uri, uint64_t seed, size_t size) {
        return put_change(shelf, uri, seed, size, &(struct storage_change){});
}

static void assert_seed(struct shelf *shelf, const char *uri, uint64_t seed, size_t size) {
        assert_object(shelf, uri, strlen(uri), seed, size);
}

/* Has all that is gathered committed. */
static void flush(struct shelf *shelf) {
        assert_errno(storage_remove(shelf->storage, "flush", 5), -ENOENT);
}

static int count(_unused_ const void *uri,
                 _unused_ size_t uri_size,
                 _unused_ const struct storage_info *info,
                 void *userdata) {
        ++*(unsigned *) userdata;
        return 0;
}

static unsigned count_listed(struct shelf *shelf) {
        struct storage_cursor cursor = {};
        unsigned n = 0;

        assert_ok(storage_list(shelf->storage, NULL, 0, &cursor, 1000, count, &n));
        return n;
}

static void test_shown(void) {
        g_autofree char *long_uri = g_strnfill(2000, 'u');
        const struct {
                const char *uri;
                size_t size;
        } objects[] = { { "inline", INLINED }, { "file", FILED }, { "empty", 0 }, { long_uri, FILED } };
        struct shelf shelf;

        open_lazy(&shelf);
        for (unsigned i = 0; i < G_N_ELEMENTS(objects); i++)
                assert_ok(put_visible(&shelf, objects[i].uri, i, objects[i].size));

        g_assert_cmpuint(shelf_stats(&shelf).changes, ==, 0);
        g_assert_cmpuint(shelf_stats(&shelf).puts_visible, ==, G_N_ELEMENTS(objects));
        g_assert_cmpuint(count_listed(&shelf), ==, 0);
        for (unsigned i = 0; i < G_N_ELEMENTS(objects); i++)
                assert_seed(&shelf, objects[i].uri, i, objects[i].size);
        assert_absent(&shelf, "other");

        /* Closing commits, too. */
        shelf_close(&shelf);
        shelf_open(&shelf);
        g_assert_cmpuint(count_listed(&shelf), ==, G_N_ELEMENTS(objects));
        for (unsigned i = 0; i < G_N_ELEMENTS(objects); i++)
                assert_seed(&shelf, objects[i].uri, i, objects[i].size);
        shelf_destroy(&shelf);
}

static void test_commits_by_itself(void) {
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_visible(&shelf, "a", 1, FILED));
        wait_until(shelf_stats(&shelf).changes == 1);
        assert_seed(&shelf, "a", 1, FILED);
        g_assert_cmpuint(count_listed(&shelf), ==, 1);
        shelf_destroy(&shelf);
}

static void assert_same(const struct storage_info *a, const struct storage_info *b) {
        g_assert_cmpmem(&a->etag, sizeof(a->etag), &b->etag, sizeof(b->etag));
        g_assert_cmpuint(a->size, ==, b->size);
        g_assert_cmpuint(a->checksum, ==, b->checksum);
        g_assert_cmpuint(a->stored_usec, ==, b->stored_usec);
        g_assert_cmpuint(a->expires_usec, ==, b->expires_usec);
        g_assert_cmpuint(a->hits, ==, b->hits);
        g_assert_cmpuint(a->used_usec, ==, b->used_usec);
        g_assert_true(a->pinned == b->pinned);
}

static void test_info(void) {
        struct storage_change change = { .metadata = "hello", .metadata_size = 5, .ttl_msec = 3600000 };
        struct storage_info shown, committed;
        char metadata[8];
        size_t metadata_size = sizeof(metadata);
        struct shelf shelf;

        open_lazy(&shelf);
        assert_ok(put_change(&shelf, "a", 1, INLINED, &change));
        assert_ok(storage_get_info(shelf.storage, "a", 1, &shown, metadata, &metadata_size));
        g_assert_cmpmem(metadata, metadata_size, "hello", 5);
        assert_same(&shown, &change.info);
        g_assert_cmpuint(shown.etag.store_id, ==, storage_get_id(shelf.storage));

        flush(&shelf);
        assert_ok(storage_get_info(shelf.storage, "a", 1, &committed, NULL, NULL));
        assert_same(&shown, &committed);
        shelf_destroy(&shelf);
}

static void test_replaced(void) {
        struct shelf shelf;

        open_lazy(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, FILED, NULL));
        assert_ok(put_visible(&shelf, "a", 2, FILED));
        assert_seed(&shelf, "a", 2, FILED);
        assert_ok(put_visible(&shelf, "a", 3, INLINED));
        assert_seed(&shelf, "a", 3, INLINED);
        assert_ok(put_visible(&shelf, "a", 4, FILED));
        assert_seed(&shelf, "a", 4, FILED);
        g_assert_cmpuint(shelf_stats(&shelf).commits, ==, 2); /* numbers, and the first put */

        assert_ok(put_seeded(&shelf, "a", 5, FILED, NULL));
        assert_seed(&shelf, "a", 5, FILED);
        g_assert_cmpuint(shelf_stats(&shelf).commits, ==, 3);
        g_assert_cmpuint(shelf_stats(&shelf).changes, ==, 5);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
        g_assert_cmpuint(shelf_stats(&shelf).objects, ==, 1);

        /* The other changes come after it. */
        assert_ok(put_visible(&shelf, "a", 6, FILED));
        assert_ok(storage_remove(shelf.storage, "a", 1));
        assert_absent(&shelf, "a");
        assert_ok(put_visible(&shelf, "a", 7, FILED));
        assert_ok(storage_change_wait(shelf.storage, &(struct storage_change){ .kind = STORAGE_PURGE }));
        assert_absent(&shelf, "a");
        assert_ok(put_visible(&shelf, "a", 8, FILED));
        assert_ok(storage_change_wait(shelf.storage, &(struct storage_change){ .kind = STORAGE_SET_METADATA,
                                                                               .uri = "a",
                                                                               .uri_size = 1,
                                                                               .metadata = "m",
                                                                               .metadata_size = 1 }));
        assert_seed(&shelf, "a", 8, FILED);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
        g_assert_cmpuint(shelf_stats(&shelf).puts_lost, ==, 0);
        shelf_destroy(&shelf);
}

static void test_conditions(void) {
        struct storage_change change = { .if_absent = true };
        uint64_t generation;
        struct shelf shelf;

        open_lazy(&shelf);
        assert_ok(put_change(&shelf, "a", 1, INLINED, &change));
        g_assert_cmpuint(shelf_stats(&shelf).changes, ==, 0);
        generation = change.info.etag.generation;

        change = (struct storage_change){ .if_generation = generation };
        assert_ok(put_change(&shelf, "a", 2, INLINED, &change));
        g_assert_cmpuint(shelf_stats(&shelf).changes, ==, 0); /* the overlay knew */

        change = (struct storage_change){ .if_generation = generation };
        assert_errno(put_change(&shelf, "a", 3, INLINED, &change), -ECANCELED);
        change = (struct storage_change){ .if_generation = generation };
        assert_errno(put_change(&shelf, "b", 3, INLINED, &change), -ENOENT);
        change = (struct storage_change){ .if_absent = true };
        assert_errno(put_change(&shelf, "a", 3, INLINED, &change), -EEXIST);
        assert_seed(&shelf, "a", 2, INLINED);
        g_assert_cmpuint(shelf_stats(&shelf).puts_visible, ==, 2);

        assert_errno(put_visible(&shelf, "", 1, INLINED), -EINVAL);
        shelf_destroy(&shelf);
}

static uint64_t now_usec = 1000 * USEC_PER_SEC; /* atomic */

static uint64_t get_now(_unused_ void *userdata) {
        return __atomic_load_n(&now_usec, __ATOMIC_RELAXED);
}

static void test_expired(void) {
        struct storage_change change = { .ttl_msec = 1000 };
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.gather_usec = NEVER;
        shelf.hooks.now = get_now;
        shelf.config.expired_keep_usec = NEVER;
        shelf_open(&shelf);
        assert_ok(put_change(&shelf, "a", 1, INLINED, &change));
        assert_seed(&shelf, "a", 1, INLINED);
        __atomic_add_fetch(&now_usec, USEC_PER_SEC, __ATOMIC_RELAXED);
        assert_errno(storage_get_info(shelf.storage, "a", 1, NULL, NULL, NULL), -ESTALE);
        change = (struct storage_change){ .if_absent = true };
        assert_ok(put_change(&shelf, "a", 2, INLINED, &change));
        assert_seed(&shelf, "a", 2, INLINED);
        shelf_destroy(&shelf);
}

/* Fails commits: 0: none; n: the next n. */
static unsigned n_failing;

static int fail_commit(_unused_ void *userdata) {
        return n_failing > 0 && n_failing-- > 0 ? -ENOSPC : 0;
}

static void test_lost(void) {
        struct shelf shelf;

        open_lazy(&shelf);
        shelf_close(&shelf);
        shelf.hooks.before_commit = fail_commit;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, FILED, NULL));
        assert_ok(put_visible(&shelf, "a", 2, FILED));
        assert_ok(put_visible(&shelf, "b", 3, INLINED));
        assert_seed(&shelf, "a", 2, FILED);

        n_failing = UINT_MAX;
        assert_errno(storage_remove(shelf.storage, "a", 1), -ENOSPC);
        n_failing = 0;
        assert_seed(&shelf, "a", 1, FILED);
        assert_absent(&shelf, "b");
        g_assert_cmpuint(shelf_stats(&shelf).puts_lost, ==, 2);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 1);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);

        assert_ok(put_visible(&shelf, "a", 4, FILED));
        flush(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_RECOVERED), ==, 1);
        assert_seed(&shelf, "a", 4, FILED);
        shelf_destroy(&shelf);
}

/* A transaction that fails is tried again in parts: nothing is told twice, and what was told holds. */
static void test_split(void) {
        struct storage_change a = {}, b = {};
        struct storage_info info;
        struct shelf shelf;

        open_lazy(&shelf);
        shelf_close(&shelf);
        shelf.hooks.before_commit = fail_commit;
        shelf_open(&shelf);
        assert_ok(put_change(&shelf, "a", 1, FILED, &a));
        assert_ok(put_change(&shelf, "b", 2, INLINED, &b));
        b = (struct storage_change){ .if_generation = b.info.etag.generation };
        assert_ok(put_change(&shelf, "b", 3, FILED, &b));

        n_failing = 1;
        flush(&shelf);
        g_assert_cmpuint(n_failing, ==, 0);
        g_assert_cmpuint(shelf_stats(&shelf).puts_lost, ==, 0);
        g_assert_cmpuint(shelf_stats(&shelf).puts, ==, 3);
        assert_ok(storage_get_info(shelf.storage, "a", 1, &info, NULL, NULL));
        assert_same(&info, &a.info);
        assert_ok(storage_get_info(shelf.storage, "b", 1, &info, NULL, NULL));
        assert_same(&info, &b.info);
        assert_seed(&shelf, "b", 3, FILED);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 2);
        shelf_destroy(&shelf);
}

/* What is not committed is bounded, by number and by bytes: more of it starts a commit. */
static void test_bounded(void) {
        enum { N = 3000, SIZE = 10 << 20, N_LARGE = 8 };
        struct shelf shelf;

        open_lazy(&shelf);
        for (unsigned i = 0; i < N; i++) {
                g_autofree char *uri = g_strdup_printf("%u", i);

                assert_ok(put_visible(&shelf, uri, i, INLINED));
                g_assert_cmpuint(shelf_stats(&shelf).changes + 1024, >, i);
        }
        flush(&shelf);
        for (unsigned i = 0; i < N; i++) {
                g_autofree char *uri = g_strdup_printf("%u", i);

                assert_seed(&shelf, uri, i, INLINED);
        }

        g_assert_cmpuint(shelf_stats(&shelf).changes, ==, N);
        for (unsigned i = 0; i < N_LARGE; i++)
                assert_ok(put_visible(&shelf, "large", i, SIZE));
        g_assert_cmpuint(shelf_stats(&shelf).changes, >, N);
        g_assert_cmpuint(shelf_stats(&shelf).changes, <, N + N_LARGE);
        shelf_destroy(&shelf);
}

struct watch {
        struct shelf *shelf;
        bool stop; /* atomic */
};

/* The generations that one reader sees only grow, committed or not. */
static void *watch(void *userdata) {
        struct watch *watch = userdata;
        uint64_t last = 0;

        while (!__atomic_load_n(&watch->stop, __ATOMIC_RELAXED)) {
                struct storage_info info;
                _cleanup_close_ int fd = -EBADF;

                assert_ok(storage_get_fd(watch->shelf->storage, "a", 1, &fd, &info));
                g_assert_cmpuint(info.etag.generation, >=, last);
                last = info.etag.generation;
        }

        return NULL;
}

static void test_watched(void) {
        pthread_t threads[3];
        struct shelf shelf;
        struct watch watched = { .shelf = &shelf };

        shelf_init(&shelf);
        shelf.hooks.gather_usec = 200;
        shelf_open(&shelf);
        assert_ok(put_visible(&shelf, "a", 0, FILED));
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                g_assert_cmpint(pthread_create(&threads[i], NULL, watch, &watched), ==, 0);

        for (unsigned i = 0; i < 2000; i++) {
                struct storage_change change = {};
                struct storage_info info;

                assert_ok(put_change(&shelf, "a", i, i % 3 ? INLINED : FILED, &change));
                if (i % 50 == 0)
                        assert_ok(put_seeded(&shelf, "a", i, INLINED, &change.info));
                assert_ok(storage_get_info(shelf.storage, "a", 1, &info, NULL, NULL));
                g_assert_cmpuint(info.etag.generation, ==, change.info.etag.generation);
        }

        __atomic_store_n(&watched.stop, true, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                g_assert_cmpint(pthread_join(threads[i], NULL), ==, 0);
        shelf_destroy(&shelf);
}

/* A reader that is overtaken by a visible put, and by a durable one after it. */
struct overtaken {
        struct shelf *shelf;
        struct storage_upload *upload;
        struct storage_change durable;
        bool is_begun, is_committed, may_go, is_over; /* atomic */
};

static void note_done(struct storage_change *change) {
        struct overtaken *overtaken = change->userdata;

        __atomic_store_n(&overtaken->is_over, true, __ATOMIC_RELEASE);
}

static void overtake(void *userdata) {
        struct overtaken *overtaken = userdata;

        if (__atomic_exchange_n(&overtaken->is_begun, true, __ATOMIC_ACQ_REL))
                return;

        assert_ok(put_visible(overtaken->shelf, "a", 2, INLINED));
        storage_submit(overtaken->shelf->storage, &overtaken->durable);
        wait_until(__atomic_load_n(&overtaken->is_committed, __ATOMIC_ACQUIRE));
}

/* Both are in the dictionary, and the first is still shown. */
static void stay_committed(void *userdata) {
        struct overtaken *overtaken = userdata;

        if (!__atomic_load_n(&overtaken->is_begun, __ATOMIC_ACQUIRE))
                return;

        __atomic_store_n(&overtaken->is_committed, true, __ATOMIC_RELEASE);
        wait_until(__atomic_load_n(&overtaken->may_go, __ATOMIC_ACQUIRE));
}

/* Whoever was shown the later of two puts is never shown the earlier one after that. */
static void test_overtaken(void) {
        struct storage_info first, second, third;
        struct shelf shelf;
        struct overtaken overtaken = {
                .shelf = &shelf,
                .durable = { .kind = STORAGE_PUT, .uri = "a", .uri_size = 1, .done = note_done },
        };

        shelf_init(&shelf);
        shelf.hooks.gather_usec = NEVER;
        shelf.hooks.before_find = overtake;
        shelf.hooks.after_commit = stay_committed;
        shelf.hooks.userdata = &overtaken;
        overtaken.is_begun = true; /* not yet */
        overtaken.may_go = true;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, INLINED, NULL));
        overtaken.durable.upload = overtaken.upload = make_upload(&shelf, 3, INLINED);
        assert_ok(storage_upload_finish(overtaken.upload));
        overtaken.durable.userdata = &overtaken;
        __atomic_store_n(&overtaken.is_committed, false, __ATOMIC_RELAXED);
        __atomic_store_n(&overtaken.may_go, false, __ATOMIC_RELAXED);
        __atomic_store_n(&overtaken.is_begun, false, __ATOMIC_RELEASE);

        assert_ok(storage_get_info(shelf.storage, "a", 1, &first, NULL, NULL));
        assert_ok(storage_get_info(shelf.storage, "a", 1, &second, NULL, NULL));
        g_assert_cmpuint(second.etag.generation, >=, first.etag.generation);

        __atomic_store_n(&overtaken.may_go, true, __ATOMIC_RELEASE);
        wait_until(__atomic_load_n(&overtaken.is_over, __ATOMIC_ACQUIRE));
        assert_ok(overtaken.durable.result);
        assert_ok(storage_get_info(shelf.storage, "a", 1, &third, NULL, NULL));
        g_assert_cmpuint(third.etag.generation, ==, overtaken.durable.info.etag.generation);
        g_assert_cmpuint(third.etag.generation, >, second.etag.generation);
        storage_upload_free(overtaken.upload);
        shelf_destroy(&shelf);
}

/* Nor is it by whoever looks into the memory of what is hot, and began to before them. */
static void test_overtaken_view(void) {
        struct storage_viewer viewer;
        struct storage_view view;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.gather_usec = NEVER;
        shelf.config.cache_size = 16U << 20;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, INLINED, NULL));
        for (unsigned i = 0; i < 2; i++)
                assert_seed(&shelf, "a", 1, INLINED);

        g_assert_true(storage_viewer_begin(shelf.storage, clock_usec(CLOCK_REALTIME), &viewer));
        g_assert_true(storage_view(&viewer, "a", 1, UINT64_MAX, &view));
        assert_ok(put_visible(&shelf, "a", 2, INLINED));
        g_assert_false(storage_view(&viewer, "a", 1, UINT64_MAX, &view));
        storage_viewer_end(&viewer);
        shelf_destroy(&shelf);
}

/* At the second commit: the first reserves the numbers. */
static int kill_self(void *userdata) {
        unsigned *n_commits = userdata;

        return ++*n_commits == 2 ? raise(SIGKILL) : 0;
}

static void run_killed(struct shelf *shelf, int pipe_fd) {
        unsigned n_commits = 0;
        struct storage_change change = {};
        struct storage_info info;

        shelf->hooks.before_commit = kill_self;
        shelf->hooks.userdata = &n_commits;
        shelf->hooks.gather_usec = USEC_PER_SEC / 2;
        shelf_open(shelf);
        assert_ok(put_change(shelf, "a", 2, FILED, &change));
        assert_ok(storage_get_info(shelf->storage, "a", 1, &info, NULL, NULL));
        g_assert_cmpuint(info.etag.generation, ==, change.info.etag.generation);
        g_assert_cmpint(write(pipe_fd, &info, sizeof(info)), ==, sizeof(info));
        (void) alarm(60);
        for (;;)
                (void) pause();
}

/* The process ends between the acknowledgement and the commit. */
static void test_killed(void) {
        struct storage_info seen, info;
        int status, fds[2];
        struct shelf shelf;
        pid_t pid;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, FILED, NULL));
        shelf_close(&shelf);

        g_assert_cmpint(pipe(fds), ==, 0);
        (void) fflush(NULL);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0)
                run_killed(&shelf, fds[1]);
        (void) close(fds[1]);
        g_assert_cmpint(read(fds[0], &seen, sizeof(seen)), ==, sizeof(seen));
        (void) close(fds[0]);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

        shelf_open(&shelf);
        assert_seed(&shelf, "a", 1, FILED);
        assert_ok(put_seeded(&shelf, "a", 3, FILED, &info));
        g_assert_cmpuint(info.etag.generation, >, seen.etag.generation);
        wait_until(shelf_stats(&shelf).sweeps == 1);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);

        harness_add("/storage/visible/shown", test_shown);
        harness_add("/storage/visible/commits-by-itself", test_commits_by_itself);
        harness_add("/storage/visible/info", test_info);
        harness_add("/storage/visible/replaced", test_replaced);
        harness_add("/storage/visible/conditions", test_conditions);
        harness_add("/storage/visible/expired", test_expired);
        harness_add("/storage/visible/lost", test_lost);
        harness_add("/storage/visible/split", test_split);
        harness_add("/storage/visible/bounded", test_bounded);
        harness_add("/storage/visible/watched", test_watched);
        harness_add("/storage/visible/overtaken", test_overtaken);
        harness_add("/storage/visible/overtaken-view", test_overtaken_view);
        harness_add("/storage/visible/killed", test_killed);

        return g_test_run();
}
