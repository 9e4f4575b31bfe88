/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "storage-harness.h"

/* Copies of hot bodies in a folder of their own (CachePath=). */

#define BODY 50000

struct cache {
        struct shelf shelf;
        char *path;
};

static void cache_open_at(struct cache *cache, uint64_t bytes, const char *path) {
        shelf_init(&cache->shelf);
        cache->path = path ? g_strdup(path) : harness_make_dir();
        cache->shelf.config.cache_path = cache->path;
        cache->shelf.config.cache_path_max.bytes = bytes;
        shelf_open(&cache->shelf);
}

static void cache_open(struct cache *cache, uint64_t bytes) {
        cache_open_at(cache, bytes, NULL);
}

static void cache_close(struct cache *cache) {
        shelf_destroy(&cache->shelf);
        harness_remove_dir(cache->path);
}

/* Gets it, which must bring the bytes of seed and size. Returns the path of the file that was opened. */
static char *get_path(struct cache *cache, const char *uri, uint64_t seed, size_t size) {
        g_autofree uint8_t *bytes = make_bytes(seed, size);
        g_autofree char *link = NULL;
        _cleanup_close_ int fd = -EBADF;

        assert_ok(storage_get_fd(cache->shelf.storage, uri, strlen(uri), &fd, NULL));
        assert_fd_bytes(fd, bytes, size);
        if (size == BODY)
                g_assert_cmpint(fcntl(fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);

        link = g_strdup_printf("/proc/self/fd/%i", fd);
        return g_file_read_link(link, NULL);
}

/* The same; returns whether it was the copy that was opened. */
static bool get(struct cache *cache, const char *uri, uint64_t seed, size_t size) {
        g_autofree char *path = get_path(cache, uri, seed, size);

        return g_str_has_prefix(path, cache->path);
}

static uint64_t count_copies(struct cache *cache) {
        return shelf_stats(&cache->shelf).fast_objects;
}

/* Puts it and gets it until there is a copy. */
static void heat(struct cache *cache, const char *uri, uint64_t seed, size_t size) {
        assert_ok(put_seeded(&cache->shelf, uri, seed, size, NULL));
        g_assert_false(get(cache, uri, seed, size));
        wait_until(get(cache, uri, seed, size));
}

/* Files below the folder, and what they take. */
struct found {
        unsigned files;
        uint64_t bytes;
};

static struct found look(const char *path) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        struct found sum = {};

        for (const char *name; dir && (name = g_dir_read_name(dir));) {
                g_autofree char *child = g_build_filename(path, name, NULL);
                struct stat st;

                if (strcmp(name, "objmapper-cache") == 0 || lstat(child, &st) < 0)
                        continue;
                if (S_ISDIR(st.st_mode)) {
                        struct found below = look(child);

                        sum.files += below.files;
                        sum.bytes += below.bytes;
                } else {
                        sum.files++;
                        sum.bytes += (uint64_t) st.st_blocks * 512;
                }
        }

        return sum;
}

static void test_heat(void) {
        struct cache cache;
        struct stat st;
        _cleanup_close_ int fd = -EBADF;

        cache_open(&cache, 1 << 20);
        assert_ok(put_seeded(&cache.shelf, "hot", 1, BODY, NULL));
        assert_ok(put_seeded(&cache.shelf, "cold", 2, BODY, NULL));
        assert_ok(put_seeded(&cache.shelf, "small", 3, 1000, NULL));

        g_assert_false(get(&cache, "cold", 2, BODY));
        g_assert_false(get(&cache, "hot", 1, BODY));
        g_assert_false(get(&cache, "hot", 1, BODY)); /* it is wanted now */
        wait_until(get(&cache, "hot", 1, BODY));
        for (unsigned i = 0; i < 5; i++) {
                g_assert_true(get(&cache, "hot", 1, BODY));
                g_assert_false(get(&cache, "small", 3, 1000));
        }

        g_assert_cmpuint(count_copies(&cache), ==, 1);
        g_assert_cmpuint(look(cache.path).files, ==, 1);
        g_assert_cmpuint(shelf_stats(&cache.shelf).fast_bytes, ==, 53248);
        g_assert_cmpuint(shelf_stats(&cache.shelf).fast_hits, >=, 6);
        g_assert_cmpuint(shelf_stats(&cache.shelf).fast_misses, >=, 3);

        assert_ok(storage_get_fd(cache.shelf.storage, "hot", 3, &fd, NULL));
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, 0444);
        cache_close(&cache);
}

static void test_gone(void) {
        struct cache cache;
        _cleanup_close_ int fd = -EBADF;
        g_autofree uint8_t *bytes = make_bytes(1, BODY);

        cache_open(&cache, 1 << 20);
        heat(&cache, "a", 1, BODY);
        heat(&cache, "b", 2, BODY);
        assert_ok(storage_get_fd(cache.shelf.storage, "a", 1, &fd, NULL));

        /* Nothing but the new body from then on. */
        assert_ok(put_seeded(&cache.shelf, "a", 3, BODY, NULL));
        g_assert_false(get(&cache, "a", 3, BODY));
        wait_until(get(&cache, "a", 3, BODY));
        wait_until(count_copies(&cache) == 2);
        assert_fd_bytes(fd, bytes, BODY);

        assert_ok(storage_remove(cache.shelf.storage, "a", 1));
        assert_absent(&cache.shelf, "a");
        assert_ok(storage_remove(cache.shelf.storage, "b", 1));
        wait_until(count_copies(&cache) == 0);
        g_assert_cmpuint(look(cache.path).files, ==, 0);
        g_assert_cmpuint(shelf_stats(&cache.shelf).fast_bytes, ==, 0);
        cache_close(&cache);
}

/* Gets it, and waits until it has a copy in folder, without getting that: the blob's number names both files. */
static void pass_by(struct cache *cache, const char *uri, uint64_t seed, const char *folder) {
        g_autofree char *path = get_path(cache, uri, seed, BODY);
        g_autofree char *name = g_path_get_basename(path);
        g_autofree char *copy = g_build_filename(folder, name, NULL);

        if (!g_str_has_prefix(path, cache->path))
                wait_until(g_file_test(copy, G_FILE_TEST_EXISTS));
}

static void test_budget(void) {
        const uint64_t max = 16 * 53248;
        g_autofree char *hottest = NULL, *folder = NULL;
        struct cache cache;

        cache_open(&cache, max);
        for (unsigned i = 0; i < 64; i++) {
                g_autofree char *uri = g_strdup_printf("%u", i);

                assert_ok(put_seeded(&cache.shelf, uri, i, BODY, NULL));
        }

        heat(&cache, "hottest", 100, BODY);
        for (unsigned i = 0; i < 64; i++) {
                g_autofree char *uri = g_strdup_printf("%u", i);

                g_assert_false(get(&cache, uri, i, BODY)); /* noted: the next time it is wanted */
        }

        /* Those that come by don't sweep out what is got between any two of them. (Where copies are made late, many
         * come in between.) */
        hottest = get_path(&cache, "hottest", 100, BODY);
        folder = g_path_get_dirname(hottest);
        for (unsigned round = 0; round < 2; round++)
                for (unsigned i = 0; i < 64; i++) {
                        g_autofree char *uri = g_strdup_printf("%u", i);

                        pass_by(&cache, uri, i, folder);
                        g_assert_true(get(&cache, "hottest", 100, BODY));
                }

        /* However late, they keep within the limit. */
        for (unsigned round = 0; round < 4; round++)
                for (unsigned i = 0; i < 64; i++) {
                        g_autofree char *uri = g_strdup_printf("%u", i);
                        uint64_t before = shelf_stats(&cache.shelf).fast_bytes;

                        (void) get(&cache, uri, i, BODY);
                        (void) get(&cache, "hottest", 100, BODY);
                        g_assert_cmpuint(before, <=, max);
                        g_assert_cmpuint(look(cache.path).bytes, <=, max);
                }
        wait_until(count_copies(&cache) >= 15);

        /* Too large for it. */
        assert_ok(put_seeded(&cache.shelf, "large", 7, max / 2, NULL));
        for (unsigned i = 0; i < 10; i++)
                g_assert_false(get(&cache, "large", 7, max / 2));

        /* Another limit. */
        storage_set_cache_path_max(cache.shelf.storage, &(struct storage_amount){ .bytes = 4 * 53248 });
        wait_until(count_copies(&cache) <= 4);
        g_assert_cmpuint(look(cache.path).bytes, <=, 4 * 53248);
        storage_set_cache_path_max(cache.shelf.storage, &(struct storage_amount){});
        wait_until(count_copies(&cache) == 0);
        g_assert_cmpuint(look(cache.path).files, ==, 0);
        cache_close(&cache);
}

static void test_damage(void) {
        struct cache cache;
        g_autofree char *blob = NULL;
        _cleanup_close_ int fd = -EBADF;

        cache_open(&cache, 1 << 20);
        assert_ok(put_seeded(&cache.shelf, "a", 1, BODY, NULL));

        blob = shelf_only_blob(&cache.shelf);
        g_assert_cmpint(chmod(blob, 0600), ==, 0);
        fd = open(blob, O_WRONLY | O_CLOEXEC);
        g_assert_cmpint(pwrite(fd, "?", 1, 40000), ==, 1);

        /* Nothing is copied that is not what was put. */
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_close_ int body = -EBADF;

                assert_ok(storage_get_fd(cache.shelf.storage, "a", 1, &body, NULL));
        }
        wait_until(shelf_events(&cache.shelf, STORAGE_EVENT_DAMAGED) == 1);
        assert_errno(__atomic_load_n(&cache.shelf.last_error, __ATOMIC_RELAXED), -EILSEQ);
        wait_until(storage_get_info(cache.shelf.storage, "a", 1, NULL, NULL, NULL) == -ENOENT);
        g_assert_cmpuint(look(cache.path).files, ==, 0);
        g_assert_cmpuint(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_FAILED), ==, 0);
        cache_close(&cache);
}

static void write_file(const char *folder, const char *name) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        g_assert_true(g_file_set_contents(path, "mine", -1, NULL));
}

static bool has_file(const char *folder, const char *name) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void test_foreign(void) {
        g_autofree char *path = harness_make_dir();
        g_autofree char *inner = g_build_filename(path, "0123456789abcdef", NULL);
        struct cache cache, other;

        g_assert_cmpint(mkdir(inner, 0700), ==, 0);
        write_file(inner, "0123456789abcdef");
        cache_open_at(&cache, 1 << 20, path);
        g_assert_cmpuint(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_UNUSABLE), ==, 1);
        g_assert_cmpint(cache.shelf.last_error, ==, -ENOTEMPTY);
        assert_ok(put_seeded(&cache.shelf, "a", 1, BODY, NULL));
        for (unsigned i = 0; i < 5; i++)
                g_assert_false(get(&cache, "a", 1, BODY));
        g_assert_true(has_file(inner, "0123456789abcdef"));
        g_assert_false(has_file(path, "objmapper-cache"));
        cache_close(&cache);

        /* The folder of another process. */
        cache_open(&cache, 1 << 20);
        heat(&cache, "a", 1, BODY);
        cache_open_at(&other, 1 << 20, cache.path);
        g_assert_cmpuint(shelf_events(&other.shelf, STORAGE_EVENT_CACHE_UNUSABLE), ==, 1);
        g_assert_cmpint(other.shelf.last_error, ==, -EBUSY);
        g_assert_true(get(&cache, "a", 1, BODY));
        shelf_destroy(&other.shelf);
        g_free(other.path);
        cache_close(&cache);
}

/* What an earlier process left is not used, and cleared; other files stay. */
static void test_leftovers(void) {
        struct cache cache;
        g_autofree char *foreign = NULL;

        cache_open(&cache, 1 << 20);
        heat(&cache, "a", 1, BODY);
        heat(&cache, "b", 2, BODY);
        shelf_close(&cache.shelf);
        g_assert_cmpuint(look(cache.path).files, ==, 2);

        foreign = g_build_filename(cache.path, "fedcba9876543210", NULL);
        g_assert_cmpint(mkdir(foreign, 0700), ==, 0);
        write_file(foreign, "mine");
        write_file(cache.path, "0123456789abcdef");

        shelf_open(&cache.shelf);
        g_assert_false(get(&cache, "a", 1, BODY));
        wait_until(look(cache.path).files <= 3 && get(&cache, "a", 1, BODY));
        g_assert_cmpuint(look(cache.path).files, ==, 3);
        g_assert_true(has_file(foreign, "mine"));
        g_assert_true(has_file(cache.path, "0123456789abcdef"));
        g_assert_cmpuint(count_copies(&cache), ==, 1);
        cache_close(&cache);
}

static void remove_copies(const char *path) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

        for (const char *name; (name = g_dir_read_name(dir));)
                if (strcmp(name, "objmapper-cache") != 0)
                        harness_remove_dir(g_build_filename(path, name, NULL));
}

/* Whatever becomes of the copies, the store has the bodies. */
static void test_vanished(void) {
        struct cache cache;

        cache_open(&cache, 1 << 20);
        cache.shelf.hooks.fast_pause_usec = 1;
        heat(&cache, "a", 1, BODY);
        remove_copies(cache.path);
        for (unsigned i = 0; i < 10; i++)
                g_assert_false(get(&cache, "a", 1, BODY));
        wait_until(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_FAILED) == 1);
        g_assert_cmpuint(count_copies(&cache), ==, 0);
        cache_close(&cache);
}

static void test_without_tmpfile(void) {
        struct cache cache;

        shelf_init(&cache.shelf);
        cache.path = harness_make_dir();
        cache.shelf.config.cache_path = cache.path;
        cache.shelf.config.cache_path_max.percent = 50;
        cache.shelf.hooks.no_tmpfile = true;
        shelf_open(&cache.shelf);
        heat(&cache, "a", 1, BODY);
        wait_until(look(cache.path).files == 1);
        shelf_close(&cache.shelf);
        shelf_open(&cache.shelf);
        wait_until(look(cache.path).files == 0);
        cache_close(&cache);
}

/* Writes to the file until nothing is free. */
static void fill(const char *path) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        static const uint8_t bytes[4096];

        g_assert_cmpint(fd, >=, 0);
        while (write(fd, bytes, sizeof(bytes)) > 0)
                ;
        g_assert_cmpint(errno, ==, ENOSPC);
}

/* Gets from the store until it was told for the nth time that there can be no copies. */
static void get_until_failed(struct cache *cache, const char *uri, uint64_t seed, unsigned n) {
        do
                g_assert_false(get(cache, uri, seed, BODY));
        while (shelf_events(&cache->shelf, STORAGE_EVENT_CACHE_FAILED) < n);
}

static void in_full_file_system(void) {
        struct cache cache;
        g_autofree char *path = harness_make_dir(), *filler = g_build_filename(path, "filler", NULL);
        struct statvfs fs;

        g_assert_cmpint(mount("fast", path, "tmpfs", 0, "size=2M,mode=0700"), ==, 0);
        shelf_init(&cache.shelf);
        cache.path = path;
        cache.shelf.config.cache_path = path;
        cache.shelf.config.cache_path_max.percent = 100;
        cache.shelf.hooks.fast_pause_usec = 1;
        shelf_open(&cache.shelf);

        /* A part stays free whatever the limit is. */
        for (unsigned i = 0; i < 64; i++) {
                g_autofree char *uri = g_strdup_printf("%u", i);

                heat(&cache, uri, i, BODY);
                g_assert_cmpint(statvfs(path, &fs), ==, 0);
                g_assert_cmpuint(fs.f_bavail * fs.f_frsize, >=, (2 << 20) / 20);
        }
        g_assert_cmpuint(count_copies(&cache), >, 30);
        g_assert_cmpuint(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_FAILED), ==, 0);

        /* Somebody else fills it: others go. */
        fill(filler);
        heat(&cache, "a", 100, BODY);

        /* All of it. */
        storage_set_cache_path_max(cache.shelf.storage, &(struct storage_amount){});
        wait_until(count_copies(&cache) == 0);
        storage_set_cache_path_max(cache.shelf.storage, &(struct storage_amount){ .percent = 100 });
        fill(filler);
        get_until_failed(&cache, "a", 100, 1);
        g_assert_cmpint(cache.shelf.last_error, ==, -ENOSPC);
        for (unsigned i = 0; i < 20; i++)
                g_assert_false(get(&cache, "1", 1, BODY));
        g_assert_cmpuint(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_FAILED), ==, 1);

        /* And it goes on when there is room. */
        g_assert_cmpint(unlink(filler), ==, 0);
        wait_until(get(&cache, "a", 100, BODY));
        g_assert_cmpuint(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_RECOVERED), ==, 1);

        /* Read-only: what there is is served, and nothing fails. */
        wait_until(mount("fast", path, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=2M,mode=0700") == 0);
        g_assert_true(get(&cache, "a", 100, BODY));
        get_until_failed(&cache, "2", 2, 2);
        g_assert_cmpint(mount("fast", path, "tmpfs", MS_REMOUNT, "size=2M,mode=0700"), ==, 0);
        wait_until(get(&cache, "2", 2, BODY));

        shelf_destroy(&cache.shelf);
        g_assert_cmpint(umount2(path, MNT_DETACH), ==, 0);
        harness_remove_dir(g_steal_pointer(&path));
}

static void test_full(void) {
        if (!run_with_own_mounts(in_full_file_system))
                g_test_skip("mounting is not allowed here");
}

static void in_view(void) {
        struct cache cache;
        g_autofree char *path = harness_make_dir(), *view = harness_make_dir();
        g_autofree char *link = NULL;
        int fd;

        g_assert_cmpint(mount(path, view, NULL, MS_BIND, NULL), ==, 0);
        g_assert_cmpint(mount("none", view, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
        shelf_init(&cache.shelf);
        cache.path = view;
        cache.shelf.config.cache_path = path;
        cache.shelf.config.cache_view = view;
        cache.shelf.config.cache_path_max.bytes = 1 << 20;
        shelf_open(&cache.shelf);
        g_assert_cmpuint(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_VIEW_UNUSABLE), ==, 0);
        heat(&cache, "a", 1, BODY);

        /* Not even the owner can make it writable again. */
        assert_ok(storage_get_fd(cache.shelf.storage, "a", 1, &fd, NULL));
        link = g_strdup_printf("/proc/self/fd/%i", fd);
        g_assert_cmpint(open(link, O_RDWR | O_CLOEXEC), <, 0);
        g_assert_cmpint(errno, ==, EROFS);
        (void) close(fd);
        shelf_close(&cache.shelf);

        /* One that can be written is no view. */
        g_assert_cmpint(mount("none", view, NULL, MS_BIND | MS_REMOUNT, NULL), ==, 0);
        shelf_open(&cache.shelf);
        g_assert_cmpuint(shelf_events(&cache.shelf, STORAGE_EVENT_CACHE_VIEW_UNUSABLE), ==, 1);
        g_assert_cmpint(cache.shelf.last_error, ==, -EPERM);
        g_assert_false(get(&cache, "a", 1, BODY));
        shelf_destroy(&cache.shelf);
        g_assert_cmpint(umount2(view, MNT_DETACH), ==, 0);
        harness_remove_dir(g_steal_pointer(&path));
        harness_remove_dir(g_steal_pointer(&view));
}

static void test_view(void) {
        if (!run_with_own_mounts(in_view))
                g_test_skip("mounting is not allowed here");
}

/* Everything at once, with hardly any room. */
struct stress {
        struct cache cache;
        bool stop; /* atomic */
};

#define STRESS_OBJECTS 24
#define STRESS_SIZE    20480

static uint8_t *stress_bytes(unsigned i, uint8_t version) {
        uint8_t *bytes = g_malloc(STRESS_SIZE);

        memset(bytes, version, STRESS_SIZE);
        bytes[0] = (uint8_t) i;
        return bytes;
}

static void *stress_get(void *userdata) {
        struct stress *stress = userdata;
        uint8_t bytes[STRESS_SIZE];

        for (unsigned n = 0; !__atomic_load_n(&stress->stop, __ATOMIC_RELAXED); n++) {
                unsigned i = n % 3 == 0 ? n % STRESS_OBJECTS : n % 5;
                g_autofree char *uri = g_strdup_printf("%u", i);
                _cleanup_close_ int fd = -EBADF;
                int r = storage_get_fd(stress->cache.shelf.storage, uri, strlen(uri), &fd, NULL);

                if (r == -ENOENT)
                        continue;
                assert_ok(r);
                g_assert_cmpint(pread(fd, bytes, sizeof(bytes), 0), ==, STRESS_SIZE);
                g_assert_cmpuint(bytes[0], ==, i);
                for (unsigned k = 2; k < STRESS_SIZE; k += 511)
                        g_assert_cmpuint(bytes[k], ==, bytes[1]);
        }

        return NULL;
}

static void test_stress(void) {
        struct stress stress = {};
        GThread *threads[4];
        unsigned n = 0;
        gint64 end;

        cache_open(&stress.cache, 8 * STRESS_SIZE);
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                threads[i] = g_thread_new("get", stress_get, &stress);

        end = g_get_monotonic_time() + G_USEC_PER_SEC;
        while (g_get_monotonic_time() < end || n < 100) {
                unsigned i = n++ % STRESS_OBJECTS;
                g_autofree char *uri = g_strdup_printf("%u", i);
                g_autofree uint8_t *bytes = stress_bytes(i, (uint8_t) (n / STRESS_OBJECTS));

                assert_ok(put(&stress.cache.shelf, uri, bytes, STRESS_SIZE));
                if (n % 7 == 0)
                        assert_ok(storage_remove(stress.cache.shelf.storage, uri, strlen(uri)));
                if (n % 50 == 0)
                        storage_set_cache_path_max(stress.cache.shelf.storage,
                                                   &(struct storage_amount){ .bytes = (n / 50 % 3 + 1) * 4 *
                                                                                      STRESS_SIZE });
        }

        /* A loaded machine may have made no copy that was not replaced before it was got. */
        wait_until(shelf_stats(&stress.cache.shelf).fast_hits > 0);
        __atomic_store_n(&stress.stop, true, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                (void) g_thread_join(threads[i]);

        g_assert_cmpuint(shelf_events(&stress.cache.shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        g_assert_cmpuint(shelf_events(&stress.cache.shelf, STORAGE_EVENT_CACHE_FAILED), ==, 0);
        storage_set_cache_path_max(stress.cache.shelf.storage, &(struct storage_amount){});
        wait_until(count_copies(&stress.cache) == 0);
        wait_until(look(stress.cache.path).files == 0); /* a file is there a moment before it counts */
        cache_close(&stress.cache);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);

        harness_add("/storage/fast/heat", test_heat);
        harness_add("/storage/fast/gone", test_gone);
        harness_add("/storage/fast/budget", test_budget);
        harness_add("/storage/fast/damage", test_damage);
        harness_add("/storage/fast/foreign", test_foreign);
        harness_add("/storage/fast/leftovers", test_leftovers);
        harness_add("/storage/fast/vanished", test_vanished);
        harness_add("/storage/fast/without-tmpfile", test_without_tmpfile);
        harness_add("/storage/fast/full", test_full);
        harness_add("/storage/fast/view", test_view);
        harness_add("/storage/fast/stress", test_stress);

        return g_test_run();
}
