/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is on the disk: it lasts, it is checked before it is believed, and it may be damaged. */

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "blob.h"
#include "bytes.h"
#include "clock.h"
#include "storage-harness.h"

#define BIG 100000

static int init_again(struct shelf *shelf, struct storage **ret) {
        return storage_init_with_hooks(ret, &shelf->config, &shelf->hooks);
}

static void test_reopen(void) {
        g_autofree char *below = NULL;
        struct storage_info info, again;
        struct shelf shelf;
        char metadata[8];
        size_t size = sizeof(metadata);
        uint64_t id;

        shelf_init(&shelf);
        below = g_strdup_printf("%s/made/when//missing/", shelf.path);
        shelf.config.directory = below;
        shelf.config.dictionary_max = 0; /* as it is used */
        shelf_open(&shelf);
        id = storage_get_id(shelf.storage);
        assert_ok(put_seeded(&shelf, "big", 1, BIG, &info));
        assert_ok(storage_put(shelf.storage, "small", 5, "abc", 3, "meta", 4, NULL));
        shelf_close(&shelf);

        shelf_open(&shelf);
        g_assert_true(storage_get_id(shelf.storage) == id);
        assert_object(&shelf, "big", 3, 1, BIG);
        assert_ok(storage_get_info(shelf.storage, "small", 5, NULL, metadata, &size));
        g_assert_cmpmem(metadata, size, "meta", 4);
        assert_ok(storage_get_info(shelf.storage, "big", 3, &again, NULL, NULL));
        g_assert_cmpmem(&again.etag, sizeof(again.etag), &info.etag, sizeof(info.etag));
        g_assert_cmpuint(again.stored_usec, ==, info.stored_usec);
        g_assert_true(again.checksum == info.checksum);

        /* Numbers go on. */
        assert_ok(put_seeded(&shelf, "big", 2, BIG, &again));
        g_assert_cmpuint(again.etag.generation, >, info.etag.generation + 1);
        shelf_destroy(&shelf);
}

/* Where less address space is to be had than the dictionary would like. */
static void test_little_address_space(void) {
        struct shelf shelf;
        int status;
        pid_t pid;

        shelf_init(&shelf);
        shelf.config.dictionary_max = 0;
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                g_autofree char *text = NULL;
                struct rlimit limit;
                rlim_t used;

                g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
                used = (rlim_t) strtoull(text, NULL, 10) * (rlim_t) sysconf(_SC_PAGESIZE);
                limit = (struct rlimit){ used + ((rlim_t) 100 << 30), RLIM_INFINITY };
                g_assert_cmpint(setrlimit(RLIMIT_AS, &limit), ==, 0);
                shelf_open(&shelf);
                assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
                shelf_close(&shelf);
                _exit(0);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);

        shelf_open(&shelf);
        assert_object(&shelf, "a", 1, 1, BIG);
        shelf_destroy(&shelf);
}

static GString *tree;

static int describe(const char *path, const struct stat *st, _unused_ int type, _unused_ struct FTW *ftw) {
        g_autofree char *text = NULL;
        gsize size = 0;

        if (S_ISREG(st->st_mode))
                g_assert_true(g_file_get_contents(path, &text, &size, NULL));
        g_string_append_printf(tree, "%s %o %llu %llu.%09lu %016llx\n", path, st->st_mode,
                               (unsigned long long) st->st_ino, (unsigned long long) st->st_mtim.tv_sec,
                               (unsigned long) st->st_mtim.tv_nsec,
                               (unsigned long long) XXH3_64bits(text, size));
        return 0;
}

static int compare_lines(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Every file with its mode, time and content. */
static char *describe_tree(const char *path) {
        g_auto(GStrv) lines = NULL;

        tree = g_string_new(NULL);
        g_assert_cmpint(nftw(path, describe, 16, FTW_PHYS), ==, 0);
        lines = g_strsplit(tree->str, "\n", -1);
        (void) g_string_free(tree, TRUE);
        qsort(lines, g_strv_length(lines), sizeof(*lines), compare_lines);
        return g_strjoinv("\n", lines);
}

static void test_formats(void) {
        static const struct {
                const char *text;
                int result;
        } cases[] = {
                { "objmapper-store 4\nsomething else\n", -EPROTONOSUPPORT },
                { "objmapper-store 4294967295\n", -EPROTONOSUPPORT },
                { "objmapper-store 0\n", -EUCLEAN },
                { "objmapper-store 1\n", -EUCLEAN },
                { "objmapper-store one\n", -EUCLEAN },
                { "objmapper-store 1\nid 12\nseed 12\n", -EUCLEAN },
                { "", -EUCLEAN },
                { "\177ELF", -EUCLEAN },
        };
        g_autofree char *format = NULL, *hidden = NULL, *good = NULL;
        struct storage *storage = NULL;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        shelf_close(&shelf);

        format = g_strdup_printf("%s/format", shelf.path);
        hidden = g_strdup_printf("%s/format.hidden", shelf.path);
        g_assert_true(g_file_get_contents(format, &good, NULL, NULL));

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *before = NULL, *after = NULL;

                g_assert_true(g_file_set_contents(format, cases[i].text, -1, NULL));
                before = describe_tree(shelf.path);
                assert_errno(init_again(&shelf, &storage), cases[i].result);
                after = describe_tree(shelf.path);
                g_assert_cmpstr(before, ==, after);
        }

        /* Another store's. */
        g_assert_true(g_file_set_contents(
                        format, "objmapper-store 1\nid 0000000000000001\nseed 0000000000000002\n", -1, NULL));
        assert_errno(init_again(&shelf, &storage), -EUCLEAN);

        /* Gone, beside a dictionary. */
        g_assert_cmpint(rename(format, hidden), ==, 0);
        assert_errno(init_again(&shelf, &storage), -EUCLEAN);

        g_assert_cmpint(rename(hidden, format), ==, 0);
        g_assert_true(g_file_set_contents(format, good, -1, NULL));
        shelf_open(&shelf);
        assert_object(&shelf, "a", 1, 1, BIG);
        shelf_destroy(&shelf);
}

/* Nothing is made beside a newer store's format file. */
static void test_newer_alone(void) {
        g_autofree char *format = NULL, *before = NULL, *after = NULL;
        struct storage *storage = NULL;
        struct shelf shelf;

        shelf_init(&shelf);
        format = g_strdup_printf("%s/format", shelf.path);
        g_assert_true(g_file_set_contents(format, "objmapper-store 4\n", -1, NULL));
        before = describe_tree(shelf.path);
        assert_errno(init_again(&shelf, &storage), -EPROTONOSUPPORT);
        after = describe_tree(shelf.path);
        g_assert_cmpstr(before, ==, after);
        shelf_destroy(&shelf);
}

/* A part of the store that is missing beside the others is not made anew: numbers would be used twice. */
static void test_missing_parts(void) {
        static const char *const parts[] = { "dictionary", "dictionary/data.mdb", "blobs" };

        for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
                g_autofree char *part = NULL, *hidden = NULL;
                struct storage *storage = NULL;
                struct shelf shelf;

                shelf_init(&shelf);
                shelf_open(&shelf);
                assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
                shelf_close(&shelf);

                part = g_strdup_printf("%s/%s", shelf.path, parts[i]);
                hidden = g_strdup_printf("%s/hidden", shelf.path);
                g_assert_cmpint(rename(part, hidden), ==, 0);
                assert_errno(init_again(&shelf, &storage), -EUCLEAN);
                g_assert_cmpint(rename(hidden, part), ==, 0);
                shelf_open(&shelf);
                assert_object(&shelf, "a", 1, 1, BIG);
                shelf_destroy(&shelf);
        }
}

/* The making of a store breaks off anywhere: the next start makes it. */
static void test_interrupted_making(void) {
        g_autofree char *making = NULL, *format = NULL, *data = NULL, *blobs = NULL;
        struct shelf shelf;

        shelf_init(&shelf);
        making = g_strdup_printf("%s/format.new", shelf.path);
        format = g_strdup_printf("%s/format", shelf.path);
        data = g_strdup_printf("%s/dictionary/data.mdb", shelf.path);
        blobs = g_strdup_printf("%s/blobs", shelf.path);

        g_assert_cmpint(mkdir(blobs, 0700), ==, 0); /* made by the unit, for the view */
        shelf_open(&shelf);
        shelf_close(&shelf);

        g_assert_cmpint(rename(format, making), ==, 0);
        shelf_open(&shelf);
        shelf_close(&shelf);

        g_assert_cmpint(rename(format, making), ==, 0);
        g_assert_true(g_file_set_contents(making, "obj", -1, NULL));
        g_assert_true(g_file_set_contents(data, "half a page", -1, NULL));
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        assert_object(&shelf, "a", 1, 1, BIG);
        shelf_destroy(&shelf);
}

static void test_one_process(void) {
        struct storage *storage = NULL;
        struct shelf shelf;
        int status;
        pid_t pid;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_errno(init_again(&shelf, &storage), -EBUSY);
        shelf_close(&shelf);

        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                shelf_open(&shelf);
                (void) raise(SIGSTOP);
                _exit(0);
        }

        g_assert_cmpint(waitpid(pid, &status, WUNTRACED), ==, pid);
        g_assert_true(WIFSTOPPED(status));
        assert_errno(init_again(&shelf, &storage), -EBUSY);
        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        shelf_open(&shelf);
        shelf_destroy(&shelf);
}

static void test_refused_folders(void) {
        struct storage *storage = NULL;
        g_autofree char *file = NULL;
        struct shelf shelf;

        shelf_init(&shelf);
        file = g_strdup_printf("%s/file", shelf.path);
        g_assert_true(g_file_set_contents(file, "x", -1, NULL));

        shelf.config.directory = NULL;
        assert_errno(init_again(&shelf, &storage), -EINVAL);
        shelf.config.directory = "";
        assert_errno(init_again(&shelf, &storage), -EINVAL);
        shelf.config.directory = file;
        assert_errno(init_again(&shelf, &storage), -ENOTDIR);
        shelf.config.directory = "/proc/objmapper";
        assert_errno(init_again(&shelf, &storage), -ENOENT);
        shelf.config.directory = shelf.path;
        shelf.config.inline_max = SIZE_MAX - 1;
        assert_errno(init_again(&shelf, &storage), -EINVAL);
        shelf_destroy(&shelf);
}

/* Missing, too short, too long: absent, told once, and gone for good; the others are served. */
static void test_damaged_blobs(void) {
        struct shelf shelf;

        for (unsigned kind = 0; kind < 4; kind++) {
                struct storage_object object = STORAGE_OBJECT_INIT;
                g_autofree char *blob = NULL;
                struct storage_stats stats;

                shelf_init(&shelf);
                shelf_open(&shelf);
                assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
                blob = shelf_only_blob(&shelf);
                g_assert_cmpint(chmod(blob, 0600), ==, 0);
                assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));

                switch (kind) {
                case 0:
                        g_assert_cmpint(unlink(blob), ==, 0);
                        break;
                case 1:
                        g_assert_cmpint(truncate(blob, BIG - 1), ==, 0);
                        break;
                case 2:
                        g_assert_cmpint(truncate(blob, BIG + 1), ==, 0);
                        break;
                default:
                        g_assert_cmpint(unlink(blob), ==, 0);
                        g_assert_cmpint(symlink("/etc/passwd", blob), ==, 0);
                        assert_errno(storage_get(shelf.storage, "a", 1, STORAGE_GET_OPEN, NULL, &object),
                                     -EIO);
                        shelf_destroy(&shelf);
                        continue;
                }

                for (unsigned i = 0; i < 3; i++) {
                        assert_errno(storage_get(shelf.storage, "a", 1, STORAGE_GET_OPEN, NULL, &object),
                                     -ENOENT);
                        g_assert_cmpint(object.fd, ==, -EBADF);
                }
                g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 1);
                g_assert_cmpint(shelf.last_error, ==, kind == 0 ? -ENOENT : -EMSGSIZE);
                assert_object(&shelf, "b", 1, 2, BIG);

                assert_ok(put_seeded(&shelf, "c", 3, 10, NULL)); /* comes after the removal */
                storage_get_stats(shelf.storage, &stats);
                g_assert_cmpuint(stats.objects, ==, 2);
                assert_absent(&shelf, "a");
                assert_ok(put_seeded(&shelf, "a", 4, BIG, NULL));
                assert_object(&shelf, "a", 1, 4, BIG);
                shelf_destroy(&shelf);
        }
}

/* Opens the dictionary of a closed store and lets change alter every record's bytes. */
static void alter_records(struct shelf *shelf, void (*change)(uint8_t *value, size_t size, unsigned n)) {
        g_autofree char *path = g_strdup_printf("%s/dictionary", shelf->path);
        MDB_cursor *cursor;
        MDB_env *env;
        MDB_txn *txn;
        MDB_dbi dbi;
        MDB_val k, v;
        unsigned n = 0;

        shelf->is_damaged = true;
        g_assert_cmpint(mdb_env_create(&env), ==, 0);
        g_assert_cmpint(mdb_env_set_maxdbs(env, 8), ==, 0);
        g_assert_cmpint(mdb_env_set_mapsize(env, shelf->config.dictionary_max), ==, 0);
        g_assert_cmpint(mdb_env_open(env, path, 0, 0600), ==, 0);
        g_assert_cmpint(mdb_txn_begin(env, NULL, 0, &txn), ==, 0);
        g_assert_cmpint(mdb_dbi_open(txn, "objects", 0, &dbi), ==, 0);
        g_assert_cmpint(mdb_cursor_open(txn, dbi, &cursor), ==, 0);
        while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
                g_autofree uint8_t *value = g_memdup2(v.mv_data, v.mv_size);

                change(value, v.mv_size, n++);
                v.mv_data = value;
                g_assert_cmpint(mdb_cursor_put(cursor, &k, &v, MDB_CURRENT), ==, 0);
        }
        mdb_cursor_close(cursor);
        g_assert_cmpint(mdb_txn_commit(txn), ==, 0);
        mdb_env_close(env);
}

static void flip_one(uint8_t *value, size_t size, unsigned n) {
        value[n * 37 % size] ^= (uint8_t) (1U << n % 8);
}

static int never(_unused_ const void *uri,
                 _unused_ size_t uri_size,
                 _unused_ const struct storage_info *info,
                 _unused_ void *userdata) {
        g_assert_not_reached();
}

static void test_damaged_records(void) {
        struct storage_cursor cursor = {};
        struct storage_stats stats;
        struct shelf shelf;
        char uri[600];

        shelf_init(&shelf);
        shelf_open(&shelf);
        memset(uri, 'u', sizeof(uri));
        for (unsigned i = 0; i < 200; i++) {
                (void) snprintf(uri, 10, "%09u", i);
                uri[9] = 'u';
                assert_ok(storage_put(shelf.storage, uri, i % 2 ? 9 : 600, uri, i * 3, uri, i, NULL));
        }
        shelf_close(&shelf);

        alter_records(&shelf, flip_one);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 200; i++) {
                (void) snprintf(uri, 10, "%09u", i);
                uri[9] = 'u';
                assert_errno(storage_get_info(shelf.storage, uri, i % 2 ? 9 : 600, NULL, NULL, NULL),
                             -ENOENT);
                assert_errno(storage_get_info(shelf.storage, uri, i % 2 ? 9 : 600, NULL, NULL, NULL),
                             -ENOENT);
        }
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==,
                         100); /* in a chain it is nobody's */
        assert_ok(storage_list(shelf.storage, "", 0, &cursor, 1000, never, NULL));

        /* Each place can be used again, and cleared. */
        uri[9] = 0;
        (void) snprintf(uri, 10, "%09u", 1);
        assert_ok(put_seeded(&shelf, uri, 1, BIG, NULL));
        assert_object(&shelf, uri, 9, 1, BIG);
        (void) snprintf(uri, 10, "%09u", 3);
        assert_errno(storage_remove(shelf.storage, uri, 9), -ENOENT);
        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.objects, ==, 199);
        assert_ok(storage_change_wait(shelf.storage,
                                      &(struct storage_change){ .kind = STORAGE_PURGE, .uri = "" }));
        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.objects, ==, 0);
        shelf_destroy(&shelf);
}

/* A record whose check is right but whose lengths lie never leads outside of it. */
static void test_lying_records(void) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(1);
        unsigned n_right = 0;

        for (unsigned i = 0; i < 50000; i++) {
                bool is_long = i % 2;
                struct key key = { .size = is_long ? KEY_MAX : 5 };
                g_autofree uint8_t *value = NULL;
                char uri[600];
                struct record record = {
                        .info.size = (uint64_t) g_rand_int_range(rand, 0, 50),
                        .blob = i % 3 == 0,
                        .uri = (uint8_t *) uri,
                        .uri_size = is_long ? 600 : 5,
                        .metadata = (uint8_t *) uri,
                        .metadata_size = (size_t) g_rand_int_range(rand, 0, 50),
                        .body = (uint8_t *) uri,
                };
                size_t size, at;
                struct record got;

                memset(uri, 'u', sizeof(uri));
                memset(key.data, 'u', sizeof(key.data));
                if (is_long)
                        key.data[KEY_HEAD] = 0;

                size = record_size(&key, &record);
                value = g_malloc(size);
                record_encode(&key, &record, value);
                assert_ok(record_decode(key.data, key.size, value, size, &got));

                at = (size_t) g_rand_int_range(rand, 8, i % 4 ? 16 : 88);
                value[at] ^= (uint8_t) g_rand_int_range(rand, 1, 256);
                if (i % 5 == 0)
                        size = (size_t) g_rand_int_range(rand, 0, (int) size);
                assert_errno(record_decode(key.data, key.size, value, size, &got), -EBADMSG);
                if (size >= 8)
                        store_le64(value, XXH3_64bits_withSeed(value + 8, size - 8,
                                                               XXH3_64bits(key.data, key.size)));
                if (record_decode(key.data, key.size, value, size, &got) < 0)
                        continue;

                n_right++;
                g_assert_true(got.metadata >= value && got.metadata + got.metadata_size <= value + size);
                if (got.blob == 0)
                        g_assert_true(got.body >= value && got.info.size <= size &&
                                      got.body + got.info.size <= value + size);
                if (is_long)
                        g_assert_true(got.uri >= value && got.uri + got.uri_size <= value + size);
        }
        g_assert_cmpuint(n_right, >, 0);
}

/* Two lengths that lie so that their sum is right. */
static void test_lying_sum(void) {
        static const uint64_t sizes[] = { 100000, 1, UINT32_MAX };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                struct key key = { .size = 3, .data = "uri" };
                struct record got, record = { .info.size = 10,
                                              .uri = key.data,
                                              .uri_size = 3,
                                              .body = (const uint8_t *) "0123456789" };
                size_t size = record_size(&key, &record);
                g_autofree uint8_t *value = g_malloc(size);

                record_encode(&key, &record, value);
                store_le32(value + 12, (uint32_t) sizes[i]);
                store_le64(value + 32, 10 - sizes[i]);
                store_le64(value, XXH3_64bits_withSeed(value + 8, size - 8, XXH3_64bits(key.data, key.size)));
                assert_errno(record_decode(key.data, key.size, value, size, &got), i == 1 ? 0 : -EBADMSG);
        }
}

/* Where no file can be made without a name. */
static void test_no_tmpfile(void) {
        g_autofree char *stray = NULL, *staging = NULL;
        struct storage_upload *upload;
        struct shelf shelf;
        GDir *dir;

        shelf_init(&shelf);
        shelf.hooks.no_tmpfile = true;
        shelf_open(&shelf);
        staging = g_strdup_printf("%s/staging", shelf.path);
        stray = g_strdup_printf("%s/0000000000000001", staging);
        for (unsigned i = 0; i < 10; i++)
                assert_ok(put_seeded(&shelf, "a", i, BIG, NULL));
        assert_object(&shelf, "a", 1, 9, BIG);
        assert_ok(storage_upload_new(shelf.storage, BIG, &upload));
        storage_upload_free(upload);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
        dir = g_dir_open(staging, 0, NULL);
        g_assert_null(g_dir_read_name(dir));
        g_dir_close(dir);
        shelf_close(&shelf);

        g_assert_true(g_file_set_contents(stray, "left by a crash", -1, NULL));
        shelf_open(&shelf);
        g_assert_cmpint(access(stray, F_OK), ==, -1);
        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
        assert_object(&shelf, "a", 1, 9, BIG);
        assert_object(&shelf, "b", 1, 2, BIG);
        shelf_close(&shelf);

        /* Nor does anything stay where they can be made after all. */
        g_assert_true(g_file_set_contents(stray, "left by a crash", -1, NULL));
        shelf.hooks.no_tmpfile = false;
        shelf_open(&shelf);
        g_assert_cmpint(access(stray, F_OK), ==, -1);
        assert_object(&shelf, "a", 1, 9, BIG);
        shelf_destroy(&shelf);
}

static void use_view(void) {
        g_autofree char *view = NULL, *blobs = NULL, *name = NULL, *folder = NULL;
        struct storage_object object = STORAGE_OBJECT_INIT;
        struct shelf shelf;

        shelf_init(&shelf);
        view = g_strdup_printf("%s/view", shelf.path);
        blobs = g_strdup_printf("%s/blobs", shelf.path);
        folder = g_strdup_printf("%s/0000000000000", view);
        g_assert_cmpint(mkdir(view, 0700), ==, 0);
        shelf_open(&shelf);
        shelf_close(&shelf);
        shelf.config.view = view;

        /* Not it, then writable, then missing: each said, and done without. */
        shelf_open(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_VIEW_UNUSABLE), ==, 1);
        g_assert_cmpint(shelf.last_error, ==, -EXDEV);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        assert_object(&shelf, "a", 1, 1, BIG);
        shelf_close(&shelf);

        g_assert_cmpint(mount(blobs, view, NULL, MS_BIND, NULL), ==, 0);
        shelf_open(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_VIEW_UNUSABLE), ==, 2);
        g_assert_cmpint(shelf.last_error, ==, -EPERM);
        assert_object(&shelf, "a", 1, 1, BIG);
        shelf_close(&shelf);

        g_assert_cmpint(mount(NULL, view, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), ==, 0);
        shelf_open(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_VIEW_UNUSABLE), ==, 2);
        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
        assert_object(&shelf, "a", 1, 1, BIG);
        assert_object(&shelf, "b", 1, 2, BIG);

        /* Not even the owner, not even root. */
        assert_ok(storage_get(shelf.storage, "b", 1, STORAGE_GET_OPEN, NULL, &object));
        name = g_strdup_printf("/proc/self/fd/%i", object.fd);
        errno = 0;
        g_assert_cmpint(open(name, O_WRONLY | O_CLOEXEC), ==, -1);
        g_assert_cmpint(errno, ==, EROFS);
        g_assert_cmpint(fchmod(object.fd, 0666), ==, -1);
        g_assert_cmpint(errno, ==, EROFS);
        g_assert_cmpint(truncate(name, 0), ==, -1);
        storage_object_done(&object);

        /* A view that comes to hide what is there makes no damage. */
        for (unsigned i = 0; i < 2; i++) {
                g_assert_cmpint(mount("tmpfs", folder, "tmpfs", 0, "size=1m"), ==, 0);
                assert_object(&shelf, "a", 1, 1, BIG);
                g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_VIEW_UNUSABLE), ==, 3);
                g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
                g_assert_cmpint(umount(folder), ==, 0);
        }
        shelf_close(&shelf);

        g_assert_cmpint(umount(view), ==, 0);
        g_assert_cmpint(rmdir(view), ==, 0);
        shelf_open(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_VIEW_UNUSABLE), ==, 4);
        g_assert_cmpint(shelf.last_error, ==, -ENOENT);
        assert_object(&shelf, "b", 1, 2, BIG);
        shelf_destroy(&shelf);
}

static void test_view(void) {
        if (!run_with_own_mounts(use_view))
                g_test_skip("no mounts of our own are to be had here");
}

static void test_blob_names(void) {
        for (uint64_t blob = 1, i = 0; i < 4096; blob = blob * UINT64_C(6364136223846793005) + 1, i++) {
                uint64_t number = blob >> i % 64, parsed;
                g_autofree char *folder = g_strdup_printf("%013" G_GINT64_MODIFIER "x",
                                                          number >> BLOB_FOLDER_BITS);
                g_autofree char *path = g_strdup_printf("%s/%016" G_GINT64_MODIFIER "x", folder, number);
                char found[BLOB_PATH_MAX];

                blob_path(number, found);
                g_assert_cmpstr(found, ==, path);
                g_assert_true(blob_parse(found + strlen(folder) + 1, &parsed));
                g_assert_cmpuint(parsed, ==, number);

                blob_folder_path(number >> BLOB_FOLDER_BITS, found);
                g_assert_cmpstr(found, ==, folder);
                g_assert_true(blob_parse_folder(found, &parsed));
                g_assert_cmpuint(parsed, ==, number >> BLOB_FOLDER_BITS);
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/reopen", test_reopen);
        harness_add("/storage/little-address-space", test_little_address_space);
        harness_add("/storage/formats", test_formats);
        harness_add("/storage/missing-parts", test_missing_parts);
        harness_add("/storage/interrupted-making", test_interrupted_making);
        harness_add("/storage/one-process", test_one_process);
        harness_add("/storage/refused-folders", test_refused_folders);
        harness_add("/storage/damaged-blobs", test_damaged_blobs);
        harness_add("/storage/damaged-records", test_damaged_records);
        harness_add("/storage/lying-records", test_lying_records);
        harness_add("/storage/lying-sum", test_lying_sum);
        harness_add("/storage/newer-format-alone", test_newer_alone);
        harness_add("/storage/no-tmpfile", test_no_tmpfile);
        harness_add("/storage/view", test_view);
        harness_add("/storage/blob-names", test_blob_names);
        return g_test_run();
}
