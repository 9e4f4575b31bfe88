/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage-harness.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void on_event(enum storage_event event,
                     _unused_ const void *uri,
                     _unused_ size_t uri_size,
                     int error,
                     _unused_ uint64_t count,
                     void *userdata) {
        struct shelf *shelf = userdata;

        __atomic_store_n(&shelf->last_error, error, __ATOMIC_RELAXED);
        __atomic_fetch_add(&shelf->n_events[event], 1, __ATOMIC_RELAXED);
}

unsigned shelf_events(struct shelf *shelf, enum storage_event event) {
        return __atomic_load_n(&shelf->n_events[event], __ATOMIC_RELAXED);
}

struct storage_stats shelf_stats(struct shelf *shelf) {
        struct storage_stats stats;

        storage_get_stats(shelf->storage, &stats);
        return stats;
}

void shelf_init(struct shelf *shelf) {
        char *path = harness_make_dir();

        *shelf = (struct shelf){
                .path = path,
                .config = {
                        .directory = path,
                        .dictionary_max = 64U << 20,
                        .cache_size = 16U << 20,
                        .inline_max = SIZE_MAX,
                        .on_event = on_event,
                        .userdata = shelf,
                },
        };
}

void shelf_open(struct shelf *shelf) {
        g_assert_null(shelf->storage);
        assert_ok(storage_init_with_hooks(&shelf->storage, &shelf->config, &shelf->hooks));
}

void assert_consistent(struct shelf *shelf) {
        struct storage_check check;

        assert_ok(storage_check(shelf->storage, &check));
        if (check.unreadable > 0 || check.sums > 0 || check.accounts > 0 || check.order > 0 ||
            check.live > 0 || check.due > 0)
                g_error("wrong beside %" PRIu64 " records: %" PRIu64 " unreadable, %" PRIu64 " sums, %" PRIu64
                        " accounts, %" PRIu64 " order, %" PRIu64 " live, %" PRIu64 " due",
                        check.records, check.unreadable, check.sums, check.accounts, check.order, check.live,
                        check.due);
}

void shelf_close(struct shelf *shelf) {
        if (shelf->storage && !shelf->is_damaged)
                assert_consistent(shelf);
        storage_cleanup(TAKE_PTR(shelf->storage));
}

void shelf_destroy(struct shelf *shelf) {
        shelf_close(shelf);
        harness_remove_dir(TAKE_PTR(shelf->path));
}

uint8_t *make_bytes(uint64_t seed, size_t size) {
        uint8_t *bytes = g_malloc(size + 1);
        uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

        for (size_t i = 0; i < size; i++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                bytes[i] = (uint8_t) (x >> 32);
        }

        return bytes;
}

int put(struct shelf *shelf, const char *uri, const void *data, size_t size) {
        return storage_put(shelf->storage, uri, strlen(uri), data, size, NULL, 0, NULL);
}

struct storage_upload *make_upload(struct shelf *shelf, uint64_t seed, size_t size) {
        g_autofree uint8_t *bytes = make_bytes(seed, size);
        struct storage_upload *upload;

        assert_ok(storage_upload_new(shelf->storage, size, &upload));
        assert_ok(storage_upload_write(upload, bytes, size));
        return upload;
}

int put_seeded(struct shelf *shelf, const char *uri, uint64_t seed, size_t size, struct storage_info *ret) {
        g_autofree uint8_t *bytes = make_bytes(seed, size);

        return storage_put(shelf->storage, uri, strlen(uri), bytes, size, NULL, 0, ret);
}

void assert_fd_bytes(int fd, const uint8_t *bytes, size_t size) {
        g_autofree uint8_t *read_bytes = g_malloc(size + 1);
        size_t n = 0;

        while (n <= size) {
                ssize_t k = pread(fd, read_bytes + n, size + 1 - n, (off_t) n);

                g_assert_cmpint(k, >=, 0);
                if (k == 0)
                        break;
                n += (size_t) k;
        }

        g_assert_cmpmem(read_bytes, n, bytes, size);
}

void assert_object(struct shelf *shelf, const void *uri, size_t uri_size, uint64_t seed, size_t size) {
        g_autofree uint8_t *bytes = make_bytes(seed, size);
        struct storage_info info;
        _cleanup_close_ int fd = -EBADF;

        assert_ok(storage_get_fd(shelf->storage, uri, uri_size, &fd, &info));
        g_assert_cmpuint(info.size, ==, size);
        assert_fd_bytes(fd, bytes, size);
}

void assert_absent(struct shelf *shelf, const char *uri) {
        assert_errno(storage_get_info(shelf->storage, uri, strlen(uri), NULL, NULL, NULL), -ENOENT);
}

static void write_text(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd >= 0)
                (void) !write(fd, text, strlen(text));
}

#define NOT_ALLOWED 77

bool run_with_own_mounts(void (*function)(void)) {
        char map[64];
        int status;
        pid_t pid;

        (void) fflush(NULL);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                if (geteuid() == 0) {
                        if (unshare(CLONE_NEWNS) < 0)
                                _exit(NOT_ALLOWED);
                } else {
                        (void) snprintf(map, sizeof(map), "0 %u 1", (unsigned) geteuid());
                        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                                _exit(NOT_ALLOWED);
                        write_text("/proc/self/setgroups", "deny");
                        write_text("/proc/self/uid_map", map);
                        write_text("/proc/self/gid_map", map);
                }
                if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                        _exit(NOT_ALLOWED);

                function();
                _exit(0);
        }

        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_ALLOWED)
                return false;

        g_assert_cmpint(status, ==, 0);
        return true;
}

static unsigned n_blobs;
static char *a_blob;

static int visit_blob(const char *path, const struct stat *st, _unused_ int type, _unused_ struct FTW *ftw) {
        if (S_ISREG(st->st_mode)) {
                n_blobs++;
                g_free(a_blob);
                a_blob = g_strdup(path);
        }

        return 0;
}

unsigned shelf_count_blobs(struct shelf *shelf) {
        g_autofree char *path = g_strdup_printf("%s/blobs", shelf->path);

        n_blobs = 0;
        g_clear_pointer(&a_blob, g_free);
        g_assert_cmpint(nftw(path, visit_blob, 16, FTW_PHYS), ==, 0);
        return n_blobs;
}

char *shelf_only_blob(struct shelf *shelf) {
        g_assert_cmpuint(shelf_count_blobs(shelf), ==, 1);
        return g_steal_pointer(&a_blob);
}

char *shelf_folder_path(struct shelf *shelf, uint64_t folder) {
        return g_strdup_printf("%s/blobs/%013" G_GINT64_MODIFIER "x", shelf->path, folder);
}

char *shelf_blob_path(struct shelf *shelf, uint64_t blob) {
        g_autofree char *folder = shelf_folder_path(shelf, blob >> BLOB_FOLDER_BITS);

        return g_strdup_printf("%s/%016" G_GINT64_MODIFIER "x", folder, blob);
}

void shelf_plant(struct shelf *shelf, uint64_t blob) {
        g_autofree char *folder = shelf_folder_path(shelf, blob >> BLOB_FOLDER_BITS);
        g_autofree char *path = shelf_blob_path(shelf, blob);
        int fd;

        g_assert_true(mkdir(folder, 0700) == 0 || errno == EEXIST);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
        g_assert_cmpint(fd, >=, 0);
        (void) close_fd(fd);
}

void shelf_alter_table(struct shelf *shelf, const char *name, void (*change)(uint8_t *value, size_t size)) {
        g_autofree char *path = g_strdup_printf("%s/dictionary", shelf->path);
        MDB_cursor *cursor;
        MDB_env *env;
        MDB_txn *txn;
        MDB_dbi dbi;
        MDB_val k, v;

        shelf->is_damaged = true;
        g_assert_cmpint(mdb_env_create(&env), ==, 0);
        g_assert_cmpint(mdb_env_set_maxdbs(env, 8), ==, 0);
        g_assert_cmpint(mdb_env_set_mapsize(env, shelf->config.dictionary_max), ==, 0);
        g_assert_cmpint(mdb_env_open(env, path, 0, 0600), ==, 0);
        g_assert_cmpint(mdb_txn_begin(env, NULL, 0, &txn), ==, 0);
        g_assert_cmpint(mdb_dbi_open(txn, name, 0, &dbi), ==, 0);
        if (!change)
                g_assert_cmpint(mdb_drop(txn, dbi, 1), ==, 0);
        else {
                g_autofree uint8_t *value = NULL;

                g_assert_cmpint(mdb_cursor_open(txn, dbi, &cursor), ==, 0);
                g_assert_cmpint(mdb_cursor_get(cursor, &k, &v, MDB_LAST), ==, 0);
                value = g_memdup2(v.mv_data, v.mv_size);
                change(value, v.mv_size);
                v.mv_data = value;
                g_assert_cmpint(mdb_cursor_put(cursor, &k, &v, MDB_CURRENT), ==, 0);
                mdb_cursor_close(cursor);
        }
        g_assert_cmpint(mdb_txn_commit(txn), ==, 0);
        mdb_env_close(env);
}
