/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Part of the file system stays free, on a small one, whatever is put, held open or on its way. */

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "storage-harness.h"

#define MB (UINT64_C(1) << 20)

static uint64_t free_bytes(struct shelf *shelf) {
        struct statvfs fs;

        g_assert_cmpint(statvfs(shelf->path, &fs), ==, 0);
        return fs.f_bavail * fs.f_frsize;
}

static void small_init(struct shelf *shelf, uint64_t keep_free) {
        shelf_init(shelf);
        g_assert_cmpint(mount("tmpfs", shelf->path, "tmpfs", 0, "size=64m"), ==, 0);
        shelf->config.limits = (struct storage_limits){ .keep_free = keep_free, .evict = true };
        shelf_open(shelf);
}

static void small_done(struct shelf *shelf) {
        shelf_close(shelf);
        g_assert_cmpint(umount(shelf->path), ==, 0);
        shelf_destroy(shelf);
}

static int put_number(struct shelf *shelf, unsigned number, size_t size) {
        char uri[16];

        (void) snprintf(uri, sizeof(uri), "u/%u", number);
        return put_seeded(shelf, uri, number, size, NULL);
}

/* Files, bodies in the dictionary, and both: the disk is filled up to what is to be kept, and older ones go. */
static void fill(void) {
        static const size_t sizes[] = { 300000, 1500, 0 };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                uint64_t sum = 0, n_refused = 0;
                struct storage_stats stats;
                struct shelf shelf;

                small_init(&shelf, 16 * MB);
                for (unsigned j = 0; sum < 150 * MB; j++) {
                        size_t size = sizes[i] ?: j % 8 == 0 ? 200000 : 1000;

                        if (sizes[i] == 1500 && j > 50000)
                                break;
                        n_refused += put_number(&shelf, j, size) < 0;
                        sum += size;
                        if (j % 16 == 0)
                                g_assert_cmpuint(free_bytes(&shelf), >=, 16 * MB);
                }
                stats = shelf_stats(&shelf);
                g_assert_cmpuint(n_refused, ==, 0);
                g_assert_cmpuint(stats.evictions, >, 0);
                g_assert_cmpuint(stats.bytes, >, sizes[i] == 1500 ? 10 * MB : 25 * MB);
                small_done(&shelf);
        }
}

/* What clients have open is not free when it is evicted: the store is not emptied for it. */
static void held_by_clients(void) {
        enum { N = 1000, SIZE = 40000 };
        struct storage_stats stats;
        struct rlimit limit;
        struct shelf shelf;
        unsigned n_refused = 0;
        int fds[N];
        char uri[16];

        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
        limit.rlim_cur = MIN(limit.rlim_max, (rlim_t) N + 200);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);

        small_init(&shelf, 8 * MB);
        for (unsigned i = 0; i < N; i++)
                assert_ok(put_number(&shelf, i, SIZE));
        for (unsigned i = 0; i < N; i++) {
                (void) snprintf(uri, sizeof(uri), "u/%u", i);
                assert_ok(storage_get_fd(shelf.storage, uri, strlen(uri), &fds[i], NULL));
        }

        for (unsigned i = N; i < 2 * N; i++) {
                n_refused += put_number(&shelf, i, SIZE) < 0;
                g_assert_cmpuint(free_bytes(&shelf), >=, 8 * MB);
        }
        stats = shelf_stats(&shelf);
        g_assert_cmpuint(n_refused, >, N / 4);
        g_assert_cmpuint(stats.evictions, >, 0);
        g_assert_cmpuint(stats.objects, >, N / 2);

        /* All bytes are right, whether they have a name or not. */
        for (unsigned i = 0; i < N; i++) {
                g_autofree uint8_t *bytes = make_bytes(i, SIZE);

                assert_fd_bytes(fds[i], bytes, SIZE);
                close_fdp(&fds[i]);
        }
        for (unsigned i = 2 * N; i < 3 * N; i++) {
                assert_ok(put_number(&shelf, i, SIZE));
                g_assert_cmpuint(free_bytes(&shelf), >=, 8 * MB);
        }
        small_done(&shelf);
}

/* A thousand evicted blobs are held open, a round of descriptors after the other, and what is kept free stays so. */
static void thousand_evicted(void) {
        enum { N = 1000, SIZE = 20000 };
        struct storage_limits limits = { .keep_free = 8 * MB, .evict = true, .bytes_max = N * SIZE };
        struct rlimit limit;
        struct shelf shelf;
        int fds[N];
        char uri[16];

        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
        limit.rlim_cur = MIN(limit.rlim_max, (rlim_t) N + 200);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);

        small_init(&shelf, 8 * MB);
        for (unsigned i = 0; i < N; i++) {
                assert_ok(put_number(&shelf, i, SIZE));
                (void) snprintf(uri, sizeof(uri), "u/%u", i);
                assert_ok(storage_get_fd(shelf.storage, uri, strlen(uri), &fds[i], NULL));
        }
        limits.bytes_max = SIZE;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        wait_until(shelf_stats(&shelf).evictions >= N - 1);
        limits.bytes_max = 0;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        for (unsigned i = N; i < 5 * N; i++) {
                (void) put_number(&shelf, i, SIZE);
                g_assert_cmpuint(free_bytes(&shelf), >=, 8 * MB);
        }
        g_assert_cmpuint(shelf_stats(&shelf).objects, >, N / 4);
        for (unsigned i = 0; i < N; i++)
                close_fdp(&fds[i]);
        for (unsigned i = 5 * N; i < 7 * N; i++)
                assert_ok(put_number(&shelf, i, SIZE));
        g_assert_cmpuint(free_bytes(&shelf), >=, 8 * MB);
        small_done(&shelf);
}

#define N_UPLOADS 4

struct sender {
        pthread_t thread;
        struct shelf *shelf;
        uint64_t bytes;
        int result;
};

static void *send_much(void *userdata) {
        struct sender *sender = userdata;
        struct storage_upload *upload;
        static const uint8_t bytes[100000];

        sender->result = storage_upload_new(sender->shelf->storage, UINT64_MAX, &upload);
        while (sender->result >= 0 && sender->bytes < 100 * MB) {
                sender->result = storage_upload_write(upload, bytes, sizeof(bytes));
                sender->bytes += sizeof(bytes);
                g_assert_cmpuint(free_bytes(sender->shelf), >=, 8 * MB);
        }
        storage_upload_free(upload);
        return NULL;
}

/* Uploads that say nothing of their size: objects go for them, until there are none, and then they are refused. */
static void uploads(void) {
        struct sender senders[N_UPLOADS] = {};
        struct storage_upload *upload;
        uint64_t sum = 0;
        struct shelf shelf;

        small_init(&shelf, 8 * MB);
        for (unsigned i = 0; i < 100; i++)
                assert_ok(put_number(&shelf, i, 300000));
        assert_errno(storage_upload_new(shelf.storage, 100 * MB, &upload), -ENOSPC);
        for (unsigned i = 0; i < N_UPLOADS; i++) {
                senders[i].shelf = &shelf;
                assert_ok(pthread_create(&senders[i].thread, NULL, send_much, &senders[i]));
        }
        for (unsigned i = 0; i < N_UPLOADS; i++) {
                assert_ok(pthread_join(senders[i].thread, NULL));
                assert_errno(senders[i].result, -ENOSPC);
                sum += senders[i].bytes;
        }
        g_assert_cmpuint(sum, >, 30 * MB);
        g_assert_cmpuint(shelf_stats(&shelf).objects, <, 10);
        g_assert_cmpuint(__atomic_load_n(&shelf.storage->granted, __ATOMIC_RELAXED), ==, 0);
        assert_ok(put_number(&shelf, 1000, 40 * MB));
        assert_object(&shelf, "u/1000", 6, 1000, 40 * MB);
        small_done(&shelf);
}

/* The store's own copy of a visible put's upload has nothing to give back that the other has. */
static void visible(void) {
        static const uint8_t bytes[10000];
        struct shelf shelf;

        small_init(&shelf, 8 * MB);
        for (unsigned i = 0; i < 100; i++) {
                struct storage_change change = {
                        .kind = STORAGE_PUT, .uri = "a", .uri_size = 1, .visible = true
                };

                assert_ok(storage_upload_new(shelf.storage, UINT64_MAX, &change.upload));
                assert_ok(storage_upload_write(change.upload, bytes, sizeof(bytes)));
                assert_ok(storage_upload_finish(change.upload));
                assert_ok(storage_change_wait(shelf.storage, &change));
                storage_upload_free(change.upload);
                g_assert_cmpuint(__atomic_load_n(&shelf.storage->granted, __ATOMIC_RELAXED), ==, 0);
        }
        small_done(&shelf);
}

/* Nothing is to go: puts are refused, the rest goes on. */
static void evict_no(void) {
        struct storage_limits limits = { .keep_free = 16 * MB };
        unsigned n;
        struct shelf shelf;

        small_init(&shelf, 16 * MB);
        assert_ok(storage_set_limits(shelf.storage, &limits));
        for (n = 0; put_number(&shelf, n, 300000) >= 0; n++)
                g_assert_cmpuint(free_bytes(&shelf), >=, 16 * MB);
        g_assert_cmpuint(n, >, 100);
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 0);
        for (unsigned i = 0; i < n; i++) {
                char uri[16];

                (void) snprintf(uri, sizeof(uri), "u/%u", i);
                assert_object(&shelf, uri, strlen(uri), i, 300000);
        }
        assert_ok(storage_remove(shelf.storage, "u/3", 3));
        assert_ok(storage_remove(shelf.storage, "u/4", 3));
        wait_until(free_bytes(&shelf) >= 16 * MB + 300000);
        assert_ok(put_number(&shelf, 3, 200000));
        small_done(&shelf);
}

static void run(void (*function)(void)) {
        if (!run_with_own_mounts(function))
                g_test_skip("no mounts of our own are to be had here");
}

static void test_fill(void) {
        run(fill);
}

static void test_held_by_clients(void) {
        run(held_by_clients);
}

static void test_thousand_evicted(void) {
        run(thousand_evicted);
}

static void test_uploads(void) {
        run(uploads);
}

static void test_visible(void) {
        run(visible);
}

static void test_evict_no(void) {
        run(evict_no);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/keep-free/fill", test_fill);
        harness_add("/storage/keep-free/held-by-clients", test_held_by_clients);
        harness_add("/storage/keep-free/thousand-evicted", test_thousand_evicted);
        harness_add("/storage/keep-free/uploads", test_uploads);
        harness_add("/storage/keep-free/visible", test_visible);
        harness_add("/storage/keep-free/evict-no", test_evict_no);
        return g_test_run();
}
