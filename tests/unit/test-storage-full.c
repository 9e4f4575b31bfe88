/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes that fail: a full disk, a full dictionary, a transaction that can't be committed. */

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "storage-harness.h"

#define BIG 100000

static void mount_small(struct shelf *shelf, const char *options) {
        shelf_init(shelf);
        g_assert_cmpint(mount("tmpfs", shelf->path, "tmpfs", 0, options), ==, 0);
}

static void unmount_small(struct shelf *shelf) {
        shelf_close(shelf);
        g_assert_cmpint(umount(shelf->path), ==, 0);
        shelf_destroy(shelf);
}

static void fill_disk(void) {
        static uint8_t bytes[200000];
        g_autofree char *data = NULL;
        struct storage_stats stats;
        struct shelf shelf;
        struct stat st;
        unsigned n, last;
        char uri[16];
        int r = 0;

        mount_small(&shelf, "size=16m");
        shelf_open(&shelf);

        /* With bodies in files. */
        for (n = 0; r == 0; n++) {
                (void) snprintf(uri, sizeof(uri), "file/%u", n);
                r = put_seeded(&shelf, uri, n, sizeof(bytes), NULL);
        }
        assert_errno(r, -ENOSPC);
        g_assert_cmpuint(n, >, 10);
        for (unsigned i = 0; i < n - 1; i++) {
                (void) snprintf(uri, sizeof(uri), "file/%u", i);
                assert_object(&shelf, uri, strlen(uri), i, sizeof(bytes));
        }
        assert_ok(storage_remove(shelf.storage, "file/0", 6));
        assert_ok(put_seeded(&shelf, "file/0", 0, sizeof(bytes), NULL));

        /* With bodies in the dictionary, up to the last byte of the disk. */
        for (last = 0, r = 0; r == 0; last++) {
                (void) snprintf(uri, sizeof(uri), "%u", last);
                r = put_seeded(&shelf, uri, last, 1900, NULL);
        }
        assert_errno(r, -ENOSPC);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 1);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_RECOVERED), ==, 0);
        assert_errno(put_seeded(&shelf, uri, last, 1900, NULL), -ENOSPC);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 1);

        /* What removals need is set aside. */
        data = g_strdup_printf("%s/dictionary/data.mdb", shelf.path);
        g_assert_cmpint(stat(data, &st), ==, 0);
        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint((uint64_t) st.st_blocks * 512, >=, stats.dictionary_bytes + (4 << 20));

        /* It opens again full as it is, and removals are possible to the end. */
        shelf_close(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < last - 1; i++) {
                (void) snprintf(uri, sizeof(uri), "%u", i);
                assert_object(&shelf, uri, strlen(uri), i, 1900);
        }
        for (unsigned i = 0; i < last - 1; i++) {
                (void) snprintf(uri, sizeof(uri), "%u", i);
                assert_ok(storage_remove(shelf.storage, uri, strlen(uri)));
        }
        assert_ok(storage_change_wait(
                        shelf.storage,
                        &(struct storage_change){ .kind = STORAGE_PURGE, .uri = "f", .uri_size = 1 }));
        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.objects, ==, 0);

        assert_ok(put_seeded(&shelf, "a", 1, sizeof(bytes), NULL));
        assert_ok(put_seeded(&shelf, "b", 2, 1900, NULL));
        assert_object(&shelf, "a", 1, 1, sizeof(bytes));
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), <=, 2);
        unmount_small(&shelf);
}

static void test_full_disk(void) {
        if (!run_with_own_mounts(fill_disk))
                g_test_skip("no mounts of our own are to be had here");
}

static void test_full_map(void) {
        struct storage_stats stats;
        struct shelf shelf;
        unsigned last;
        char uri[16];
        int r = 0;

        shelf_init(&shelf);
        shelf.config.dictionary_max = 1U << 20;
        shelf_open(&shelf);
        for (last = 0; r == 0; last++) {
                (void) snprintf(uri, sizeof(uri), "%u", last);
                r = put_seeded(&shelf, uri, last, 1900, NULL);
        }
        assert_errno(r, -ENOSPC);
        g_assert_cmpuint(last, >, 200);
        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.dictionary_bytes, <=, shelf.config.dictionary_max / 4 * 3 + 32768);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 1);
        for (unsigned i = 0; i < last - 1; i++) {
                (void) snprintf(uri, sizeof(uri), "%u", i);
                assert_object(&shelf, uri, strlen(uri), i, 1900);
                assert_ok(storage_remove(shelf.storage, uri, strlen(uri)));
        }
        assert_ok(put_seeded(&shelf, "a", 1, 1900, NULL));
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_RECOVERED), ==, 1);
        shelf_destroy(&shelf);
}

static void use_read_only(void) {
        struct storage *storage = NULL;
        struct shelf shelf;

        mount_small(&shelf, "size=32m");
        g_assert_cmpint(mount(NULL, shelf.path, NULL, MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
        assert_errno(storage_init(&storage, &shelf.config), -EROFS);
        g_assert_cmpint(mount(NULL, shelf.path, NULL, MS_REMOUNT, NULL), ==, 0);
        shelf_open(&shelf);
        unmount_small(&shelf);
}

static void test_read_only(void) {
        if (!run_with_own_mounts(use_read_only))
                g_test_skip("no mounts of our own are to be had here");
}

/* Transactions that fail at their end. */
static struct {
        unsigned n_failing;
        int error;
        bool is_held; /* atomic: the writer waits */
} fault;

static int fail_commit(_unused_ void *userdata) {
        while (__atomic_load_n(&fault.is_held, __ATOMIC_ACQUIRE))
                g_usleep(100);

        if (fault.n_failing == 0)
                return 0;
        fault.n_failing--;
        return fault.error;
}

static void count_done(struct storage_change *change) {
        (void) __atomic_fetch_add((unsigned *) change->userdata, 1, __ATOMIC_RELEASE);
}

static void test_failing_commits(void) {
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.before_commit = fail_commit;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));

        fault.n_failing = 1;
        fault.error = -EIO;
        assert_errno(put_seeded(&shelf, "a", 2, BIG + 1, NULL), -EIO);
        assert_object(&shelf, "a", 1, 1, BIG);
        fault.n_failing = 1;
        fault.error = -ENOSPC;
        assert_errno(put_seeded(&shelf, "a", 2, BIG + 1, NULL), -ENOSPC);
        assert_object(&shelf, "a", 1, 1, BIG);
        fault.n_failing = 1;
        assert_errno(storage_remove(shelf.storage, "a", 1), -ENOSPC);
        assert_object(&shelf, "a", 1, 1, BIG);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 1);
        assert_ok(put_seeded(&shelf, "a", 3, BIG, NULL));
        assert_object(&shelf, "a", 1, 3, BIG);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_RECOVERED), ==, 1);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 2); /* after EIO a blob stays: maybe it is needed */

        shelf_destroy(&shelf);
}

/* A transaction of many changes is tried again in smaller lots: none is lost or made twice, and one that can't
 * be made fails alone. */
static void make_many(unsigned n_failing, unsigned n_failed_wanted) {
        enum { N = 64 };
        struct storage_upload *uploads[N];
        struct storage_change changes[N];
        char uris[N][8];
        unsigned done = 0, n_failed = 0;
        struct storage_stats stats;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.config.inline_max = 0;
        shelf.hooks.before_commit = fail_commit;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "first", 1, 10, NULL));

        __atomic_store_n(&fault.is_held, true, __ATOMIC_RELEASE);
        for (unsigned i = 0; i < N; i++) {
                (void) snprintf(uris[i], sizeof(uris[i]), "n/%u", i);
                assert_ok(storage_upload_new(shelf.storage, sizeof(i), &uploads[i]));
                assert_ok(storage_upload_write(uploads[i], &i, sizeof(i)));
                assert_ok(storage_upload_finish(uploads[i]));
                changes[i] = (struct storage_change){
                        .kind = STORAGE_PUT,
                        .uri = uris[i],
                        .uri_size = strlen(uris[i]),
                        .upload = uploads[i],
                        .done = count_done,
                        .userdata = &done,
                };
        }
        storage_submit(shelf.storage, &changes[0]);
        while (shelf_count_blobs(&shelf) < 2) /* it has been taken, and waits */
                g_usleep(100);
        for (unsigned i = 1; i < N; i++)
                storage_submit(shelf.storage, &changes[i]);
        fault.error = -ENOSPC;
        fault.n_failing = n_failing;
        __atomic_store_n(&fault.is_held, false, __ATOMIC_RELEASE);

        while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < N)
                g_usleep(200);
        for (unsigned i = 0; i < N; i++) {
                if (changes[i].result < 0) {
                        assert_errno(changes[i].result, -ENOSPC);
                        assert_absent(&shelf, uris[i]);
                        n_failed++;
                } else {
                        g_autofree uint8_t *value = g_memdup2(&i, sizeof(i));
                        int fd;

                        assert_ok(storage_get_fd(shelf.storage, uris[i], strlen(uris[i]), &fd, NULL));
                        assert_fd_bytes(fd, value, sizeof(i));
                        (void) close_fd(fd);
                }
                storage_upload_free(uploads[i]);
        }
        g_assert_cmpuint(n_failed, ==, n_failed_wanted);
        g_assert_cmpuint(fault.n_failing, ==, 0);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1 + N - n_failed);
        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.objects, ==, 1 + N - n_failed);
        g_assert_cmpuint(stats.puts, ==, 1 + N - n_failed);

        shelf_destroy(&shelf);
}

static void test_smaller_lots(void) {
        make_many(0, 0);
        make_many(1, 1); /* the first, which is alone */
        make_many(4, 1); /* ... then 63, 31 and 15 at once */
        make_many(7, 2); /* ... down to one */
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/full-disk", test_full_disk);
        harness_add("/storage/full-map", test_full_map);
        harness_add("/storage/read-only", test_read_only);
        harness_add("/storage/failing-commits", test_failing_commits);
        harness_add("/storage/smaller-lots", test_smaller_lots);
        return g_test_run();
}
