/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Stores of earlier versions are opened, whatever happens meanwhile, and newer ones refused. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "bytes.h"
#include "storage-harness.h"

/* A store that a program of that version made; what is in it assert_all() says. */
static void copy_file(const char *from, const char *to, const char *name) {
        g_autofree char *source = g_strdup_printf("%s/%s", from, name);
        g_autofree char *copy = g_strdup_printf("%s/%s", to, name);
        g_autofree char *folder = g_path_get_dirname(copy), *bytes = NULL;
        gsize size;

        g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
        g_assert_true(g_file_get_contents(source, &bytes, &size, NULL));
        g_assert_true(g_file_set_contents(copy, bytes, (gssize) size, NULL));
}

static char *path_of_store(unsigned version) {
        return g_strdup_printf("%s/tests/data/store-%u", g_getenv("OBJMAPPER_SOURCE"), version);
}

static void copy_store(struct shelf *shelf, unsigned version) {
        static const char *const names[] = { "1", "2", "3", "4", "5", "7", "9", "a" };
        g_autofree char *from = path_of_store(version);

        copy_file(from, shelf->path, "format");
        copy_file(from, shelf->path, "dictionary/data.mdb");
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *name = g_strdup_printf("blobs/0000000000000/000000000000000%s", names[i]);

                copy_file(from, shelf->path, name);
        }
}

static void old_init(struct shelf *shelf, unsigned version) {
        shelf_init(shelf);
        shelf->config.expired_keep_usec = UINT64_MAX;
        shelf->hooks.rebuild_step = 3;
        copy_store(shelf, version);
}

static void assert_metadata(struct shelf *shelf, const char *uri, size_t uri_size, const char *wanted) {
        char metadata[64];
        size_t size = sizeof(metadata);

        assert_ok(storage_get_info(shelf->storage, uri, uri_size, NULL, metadata, &size));
        g_assert_cmpmem(metadata, size, wanted, strlen(wanted));
}

static void assert_all(struct shelf *shelf) {
        struct storage_object object = STORAGE_OBJECT_INIT;
        struct storage_info info;
        char uri[16], longer[1000];

        for (unsigned i = 0; i < 4; i++) {
                (void) snprintf(uri, sizeof(uri), "inline/%u", i);
                assert_object(shelf, uri, strlen(uri), i, (size_t) i * 600);
                (void) snprintf(uri, sizeof(uri), "blob/%u", i);
                assert_object(shelf, uri, strlen(uri), 10 + i, 2500 + (size_t) i * 100);
        }
        memset(longer, 'x', sizeof(longer));
        assert_object(shelf, longer, 600, 20, 100);
        assert_object(shelf, longer, 1000, 21, 3000);
        assert_metadata(shelf, longer, 1000, "k=v");
        assert_object(shelf, "metadata", 8, 22, 50);
        assert_metadata(shelf, "metadata", 8, "name=value");
        assert_object(shelf, "replaced", 8, 24, 4100);
        assert_metadata(shelf, "replaced", 8, "twice");
        assert_absent(shelf, "removed");

        assert_errno(storage_get(shelf->storage, "ttl/short", 9, STORAGE_GET_OPEN, NULL, &object), -ESTALE);
        assert_ok(storage_get(shelf->storage, "ttl/short", 9, STORAGE_GET_OPEN | STORAGE_GET_STALE, NULL,
                              &object));
        storage_object_done(&object);
        assert_object(shelf, "ttl/long", 8, 27, 3000);
        assert_ok(storage_get_info(shelf->storage, "ttl/long", 8, &info, NULL, NULL));
        g_assert_cmpuint(info.expires_usec - info.stored_usec, ==, UINT64_C(3153600000) * G_USEC_PER_SEC);
        assert_ok(storage_get_info(shelf->storage, "blob/1", 6, &info, NULL, NULL));
        g_assert_cmpuint(info.hits, >=, 4);
        g_assert_cmpuint(shelf_stats(shelf).objects, ==, 14);
        g_assert_cmpuint(shelf_stats(shelf).objects_expiring, ==, 2);

        assert_consistent(shelf);
}

static bool is_there(struct shelf *shelf, const char *name) {
        g_autofree char *path = g_strdup_printf("%s/%s", shelf->path, name);

        return access(path, F_OK) == 0;
}

static void assert_same_file(struct shelf *shelf, const char *name, unsigned version) {
        g_autofree char *from = path_of_store(version), *then = NULL, *now = NULL;
        g_autofree char *source = g_strdup_printf("%s/%s", from, name);
        g_autofree char *path = g_strdup_printf("%s/%s", shelf->path, name);
        gsize then_size, now_size;

        g_assert_true(g_file_get_contents(source, &then, &then_size, NULL));
        g_assert_true(g_file_get_contents(path, &now, &now_size, NULL));
        g_assert_cmpmem(now, now_size, then, then_size);
}

/* Back to what it was, by the copy. */
static void go_back(struct shelf *shelf, unsigned version) {
        g_autofree char *from = path_of_store(version);
        g_autofree char *copy = g_strdup_printf("%s/dictionary/data.mdb.%u", shelf->path, version);
        g_autofree char *data = g_strdup_printf("%s/dictionary/data.mdb", shelf->path);

        g_assert_cmpint(rename(copy, data), ==, 0);
        copy_file(from, shelf->path, "format");
}

static void test_upgrade(void) {
        for (unsigned version = 1; version <= 2; version++) {
                g_autofree char *copy = g_strdup_printf("dictionary/data.mdb.%u", version);
                g_autofree char *format = NULL, *path = NULL;
                struct shelf shelf;

                old_init(&shelf, version);
                path = g_strdup_printf("%s/format", shelf.path);
                for (unsigned i = 0; i < 2; i++) {
                        shelf_open(&shelf);
                        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_UPGRADED), ==, i + 1);
                        assert_all(&shelf);
                        shelf_close(&shelf);
                        g_assert_true(g_file_get_contents(path, &format, NULL, NULL));
                        g_assert_true(g_str_has_prefix(format, "objmapper-store 3\n"));
                        g_clear_pointer(&format, g_free);

                        shelf_open(&shelf);
                        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_UPGRADED), ==, i + 1);
                        assert_all(&shelf);
                        assert_ok(put_seeded(&shelf, "new", 1, 5000, NULL));
                        assert_ok(storage_remove(shelf.storage, "new", 3));
                        wait_until(shelf_count_blobs(&shelf) == 8);
                        shelf_close(&shelf);

                        g_assert_true(is_there(&shelf, copy));
                        go_back(&shelf, version);
                }
                shelf_destroy(&shelf);
        }
}

static struct {
        unsigned n; /* steps until it happens */
        bool dies;
        int error;
} fault;

static int break_off(_unused_ void *userdata) {
        if (fault.n == 0 || --fault.n > 0)
                return 0;
        if (fault.dies)
                (void) raise(SIGKILL);
        return fault.error;
}

/* Killed after n steps: the first is the copy, the second the beginning, then come the records. Returns false when
 * it came to its end before. */
static bool open_and_die(struct shelf *shelf, unsigned n) {
        int status;
        pid_t pid;

        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                fault.n = n;
                fault.dies = true;
                shelf_open(shelf);
                fault.n = 0; /* it came to its end */
                shelf_close(shelf);
                _exit(0);
        }

        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        if (WIFEXITED(status))
                g_assert_cmpint(WEXITSTATUS(status), ==, 0);
        return !WIFEXITED(status);
}

static void test_killed(void) {
        for (unsigned version = 1; version <= 2; version++) {
                bool is_killed = true;
                unsigned n;

                for (n = 1; is_killed; n++) {
                        struct shelf shelf;

                        old_init(&shelf, version);
                        shelf.hooks.before_commit = break_off;
                        is_killed = open_and_die(&shelf, n);
                        if (n == 1)
                                assert_same_file(&shelf, "dictionary/data.mdb", version);
                        if (is_killed)
                                assert_same_file(&shelf, "format", version);
                        for (unsigned again = 2; is_killed && open_and_die(&shelf, again); again++)
                                ;
                        shelf_open(&shelf);
                        assert_all(&shelf);
                        shelf_close(&shelf);
                        go_back(&shelf, version);
                        shelf_open(&shelf);
                        assert_all(&shelf);
                        shelf_destroy(&shelf);
                }
                g_assert_cmpuint(n, >, 6);
        }
}

/* Without room for the copy nothing is touched. */
static void test_no_room(void) {
        for (unsigned version = 1; version <= 2; version++) {
                struct storage *storage = NULL;
                struct shelf shelf;

                old_init(&shelf, version);
                shelf.hooks.before_commit = break_off;
                fault.n = 1;
                fault.dies = false;
                fault.error = -ENOSPC;
                assert_errno(storage_init_with_hooks(&storage, &shelf.config, &shelf.hooks), -ENOSPC);
                assert_same_file(&shelf, "dictionary/data.mdb", version);
                assert_same_file(&shelf, "format", version);
                g_assert_false(is_there(&shelf, "dictionary/data.mdb.1"));
                g_assert_false(is_there(&shelf, "dictionary/data.mdb.2"));
                g_assert_false(is_there(&shelf, "dictionary/data.mdb.1.new"));
                g_assert_false(is_there(&shelf, "dictionary/data.mdb.2.new"));

                /* Nor is a copy taken for one that is not whole. */
                fault.n = 2;
                assert_errno(storage_init_with_hooks(&storage, &shelf.config, &shelf.hooks), -ENOSPC);
                shelf_open(&shelf);
                assert_all(&shelf);
                shelf_destroy(&shelf);
        }
}

static void upgrade_on_full_disk(void) {
        struct storage *storage = NULL;
        struct shelf shelf;

        shelf_init(&shelf);
        g_assert_cmpint(mount("tmpfs", shelf.path, "tmpfs", 0, "size=240k"), ==, 0);
        copy_store(&shelf, 2);
        shelf.config.expired_keep_usec = UINT64_MAX;
        assert_errno(storage_init_with_hooks(&storage, &shelf.config, &shelf.hooks), -ENOSPC);
        assert_same_file(&shelf, "dictionary/data.mdb", 2);
        assert_same_file(&shelf, "format", 2);
        g_assert_false(is_there(&shelf, "dictionary/data.mdb.2"));
        g_assert_cmpint(mount(NULL, shelf.path, NULL, MS_REMOUNT, "size=32m"), ==, 0);
        shelf_open(&shelf);
        assert_all(&shelf);
        shelf_close(&shelf);
        g_assert_cmpint(umount(shelf.path), ==, 0);
        shelf_destroy(&shelf);
}

static void test_full_disk(void) {
        if (!run_with_own_mounts(upgrade_on_full_disk))
                g_test_skip("no mounts of our own are to be had here");
}

static void make_newer(uint8_t *value, size_t size) {
        store_le32(value + 8, DICTIONARY_VERSION + 1);
        store_le64(value, XXH3_64bits(value + 8, size - 8));
}

/* The dictionary is of a later version, the format file still of an earlier one. */
static void test_newer(void) {
        g_autofree char *data = NULL, *before = NULL, *after = NULL;
        struct storage *storage = NULL;
        gsize before_size, after_size;
        struct shelf shelf;

        old_init(&shelf, 2);
        shelf_alter_table(&shelf, "meta", make_newer);
        data = g_strdup_printf("%s/dictionary/data.mdb", shelf.path);
        g_assert_true(g_file_get_contents(data, &before, &before_size, NULL));
        assert_errno(storage_init_with_hooks(&storage, &shelf.config, &shelf.hooks), -EPROTONOSUPPORT);
        g_assert_true(g_file_get_contents(data, &after, &after_size, NULL));
        g_assert_cmpmem(before, before_size, after, after_size);
        assert_same_file(&shelf, "format", 2);
        shelf_destroy(&shelf);
}

static void flip_last(uint8_t *value, size_t size) {
        value[size - 1] ^= 1;
}

/* Sums that can't be read are made anew. */
static void test_damaged_sums(void) {
        struct shelf shelf;

        old_init(&shelf, 2);
        shelf_open(&shelf);
        shelf_close(&shelf);
        for (unsigned i = 0; i < 2; i++) {
                shelf_alter_table(&shelf, "accounts", flip_last);
                shelf_open(&shelf);
                assert_all(&shelf);
                shelf_close(&shelf);
        }
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_UPGRADED), ==, 1);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/upgrade/all", test_upgrade);
        harness_add("/storage/upgrade/killed", test_killed);
        harness_add("/storage/upgrade/no-room", test_no_room);
        harness_add("/storage/upgrade/full-disk", test_full_disk);
        harness_add("/storage/upgrade/newer", test_newer);
        harness_add("/storage/upgrade/damaged-sums", test_damaged_sums);
        return g_test_run();
}
