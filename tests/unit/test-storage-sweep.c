/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a crash leaves over goes, and nothing else. */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "bytes.h"
#include "storage-harness.h"

#define BIG  5000
#define HOUR (UINT64_C(3600) * G_USEC_PER_SEC)

/* Below it are the numbers that the first process to put something reserves. */
#define MARK UINT64_C(65537)

static bool is_there(const char *path) {
        return access(path, F_OK) == 0;
}

static bool has_blob(struct shelf *shelf, uint64_t blob) {
        g_autofree char *path = shelf_blob_path(shelf, blob);

        return is_there(path);
}

static bool has_folder(struct shelf *shelf, uint64_t folder) {
        g_autofree char *path = shelf_folder_path(shelf, folder);

        return is_there(path);
}

static void open_and_sweep(struct shelf *shelf) {
        shelf_open(shelf);
        wait_until(shelf_stats(shelf).sweeps == 1);
}

static void test_orphans(void) {
        static const uint64_t dead[] = { 100, 4095, 0x1005, 0x1006, 0xffff, MARK - 1 };
        static const uint64_t kept[] = { MARK, 0x100005, UINT64_MAX };
        static const char *const foreign[] = { "README",
                                               "000000000000g",
                                               "00000000000001",
                                               "0000000000000/x.txt",
                                               "0000000000000/0000000000001001",
                                               "0000000000000/000000000000010",
                                               "0000000000000/00000000000000AB",
                                               "0000000000002/.hidden",
                                               "0000000000003" };
        struct storage_stats stats;
        struct shelf shelf;
        g_autofree char *odd = NULL;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
        assert_ok(put_seeded(&shelf, "small", 3, 10, NULL));
        shelf_close(&shelf);

        for (size_t i = 0; i < G_N_ELEMENTS(dead); i++)
                shelf_plant(&shelf, dead[i]);
        for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
                shelf_plant(&shelf, kept[i]);
        shelf_plant(&shelf, 0x2001); /* beside a foreign one */
        shelf_plant(&shelf, 0x4001);
        {
                g_autofree char *path = shelf_blob_path(&shelf, 0x4001);

                g_assert_cmpint(unlink(path), ==, 0); /* an empty folder */
        }
        odd = shelf_blob_path(&shelf, 50); /* a folder where a blob would be */
        g_assert_cmpint(mkdir(odd, 0700), ==, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(foreign); i++) {
                g_autofree char *path = g_strdup_printf("%s/blobs/%s", shelf.path, foreign[i]);

                g_assert_true(g_file_set_contents(path, "x", 1, NULL));
        }

        open_and_sweep(&shelf);
        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.swept, ==, G_N_ELEMENTS(dead) + 1);
        g_assert_cmpuint(stats.foreign, ==, G_N_ELEMENTS(foreign) + 1);
        wait_until(shelf_events(&shelf, STORAGE_EVENT_SWEPT) == 1);
        g_assert_cmpint(shelf.last_error, ==, 0);

        for (size_t i = 0; i < G_N_ELEMENTS(dead); i++)
                g_assert_false(has_blob(&shelf, dead[i]));
        for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
                g_assert_true(has_blob(&shelf, kept[i]));
        for (size_t i = 0; i < G_N_ELEMENTS(foreign); i++) {
                g_autofree char *path = g_strdup_printf("%s/blobs/%s", shelf.path, foreign[i]);

                g_assert_true(is_there(path));
        }
        g_assert_true(is_there(odd));
        g_assert_true(has_folder(&shelf, 0));
        g_assert_false(has_folder(&shelf, 1));
        g_assert_true(has_folder(&shelf, 2));
        g_assert_false(has_folder(&shelf, 4));
        g_assert_true(has_folder(&shelf, MARK >> BLOB_FOLDER_BITS));
        assert_object(&shelf, "a", 1, 1, BIG);
        assert_object(&shelf, "b", 1, 2, BIG);

        /* Once it is clean nothing is told. */
        shelf_close(&shelf);
        open_and_sweep(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).swept, ==, 0);
        shelf_close(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_SWEPT), ==, 1);
        shelf_destroy(&shelf);
}

/* A file has the next number already: of a link that was made though it failed, or the dictionary is an older one than
 * the files. Nothing is put in its place, and puts go on. */
static void test_taken(void) {
        const unsigned block = 1024;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.numbers_block = block;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        shelf_plant(&shelf, 2);
        shelf_plant(&shelf, 3);
        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
        assert_ok(put_seeded(&shelf, "c", 3, BIG, NULL));
        assert_object(&shelf, "b", 1, 2, BIG);
        g_assert_true(has_blob(&shelf, 2));
        g_assert_true(has_blob(&shelf, 5));

        /* So many that there is no number for it in this transaction, but in the next. */
        for (uint64_t blob = 6; blob < 6 + block; blob++)
                shelf_plant(&shelf, blob);
        assert_errno(put_seeded(&shelf, "d", 4, BIG, NULL), -EAGAIN);
        assert_ok(put_seeded(&shelf, "d", 4, BIG, NULL));
        g_assert_true(has_blob(&shelf, 6 + block));
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_close(&shelf);

        open_and_sweep(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).swept, ==, 2 + block);
        assert_object(&shelf, "a", 1, 1, BIG);
        assert_object(&shelf, "b", 1, 2, BIG);
        assert_object(&shelf, "d", 1, 4, BIG);
        shelf_destroy(&shelf);
}

static int die(_unused_ void *userdata) {
        (void) raise(SIGKILL);
        return 0;
}

/* The process dies when the blob has its name and no record names it. */
static void test_killed_before_commit(void) {
        struct shelf shelf;
        int status;
        pid_t pid;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        shelf_close(&shelf);

        for (unsigned i = 0; i < 3; i++) {
                pid = fork();
                g_assert_cmpint(pid, >=, 0);
                if (pid == 0) {
                        shelf_open(&shelf);
                        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
                        __atomic_store_n(&shelf.storage->hooks.before_commit, die, __ATOMIC_RELAXED);
                        (void) put_seeded(&shelf, "a", 3, BIG, NULL);
                        _exit(0);
                }
                g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
                g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
                g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 3);

                open_and_sweep(&shelf);
                g_assert_cmpuint(shelf_stats(&shelf).swept, ==, 1);
                g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 2);
                assert_object(&shelf, "a", 1, 1, BIG);
                assert_object(&shelf, "b", 1, 2, BIG);
                shelf_close(&shelf);
        }
        shelf_destroy(&shelf);
}

/* The process dies when the record is gone, and the blob not yet. */
static void test_lost_unlink(void) {
        g_autofree char *blob = NULL, *aside = NULL;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        blob = shelf_only_blob(&shelf);
        aside = g_strdup_printf("%s/aside", shelf.path);
        g_assert_cmpint(link(blob, aside), ==, 0);
        assert_ok(put_seeded(&shelf, "a", 2, BIG, NULL));
        shelf_close(&shelf);
        g_assert_cmpint(rename(aside, blob), ==, 0);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 2);

        open_and_sweep(&shelf);
        g_assert_false(is_there(blob));
        assert_object(&shelf, "a", 1, 2, BIG);
        shelf_destroy(&shelf);
}

static void test_stop(void) {
        enum { N = 1000 };
        struct shelf shelf;
        uint64_t n_swept;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        shelf_close(&shelf);
        for (unsigned i = 0; i < N; i++)
                shelf_plant(&shelf, 1000 + i);

        shelf.hooks.sweep_rest_usec = HOUR;
        shelf_open(&shelf);
        wait_until(shelf_stats(&shelf).swept > 0);
        shelf_close(&shelf); /* and is back within the test's time */
        n_swept = N + 1 - shelf_count_blobs(&shelf);
        g_assert_cmpuint(n_swept, >, 0);
        g_assert_cmpuint(n_swept, <, N);

        shelf.hooks.sweep_rest_usec = 0;
        open_and_sweep(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).swept, ==, N - n_swept);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
        assert_object(&shelf, "a", 1, 1, BIG);
        shelf_destroy(&shelf);
}

/* A folder that gets no more blobs goes with its last one. */
static void test_emptied_folder(void) {
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
        assert_ok(storage_remove(shelf.storage, "a", 1));
        assert_ok(storage_remove(shelf.storage, "b", 1));
        g_assert_true(has_folder(&shelf, 0)); /* the next one comes there */
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
        shelf_close(&shelf);

        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "b", 3, BIG, NULL)); /* in another folder */
        g_assert_true(has_folder(&shelf, 0));
        assert_ok(storage_remove(shelf.storage, "a", 1));
        g_assert_false(has_folder(&shelf, 0));
        assert_object(&shelf, "b", 1, 3, BIG);
        assert_ok(put_seeded(&shelf, "a", 4, BIG, NULL));
        assert_object(&shelf, "a", 1, 4, BIG);
        shelf_destroy(&shelf);
}

static void flip_middle(uint8_t *value, size_t size) {
        value[size / 2] ^= 1;
}

/* When it can't be told which blobs are named, they stay. */
static void test_damaged_map(void) {
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, NULL));
        assert_ok(put_seeded(&shelf, "b", 2, BIG, NULL));
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "live", flip_middle);
        shelf_plant(&shelf, 100);
        shelf_plant(&shelf, 0x1005);

        open_and_sweep(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).swept, ==, 1); /* of the other folder */
        assert_ok(storage_remove(shelf.storage, "a", 1));
        shelf_close(&shelf);

        open_and_sweep(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).swept, ==, 0);
        g_assert_true(has_blob(&shelf, 100));
        assert_object(&shelf, "b", 1, 2, BIG);
        shelf_destroy(&shelf);
}

#define RACE_THREADS 4
#define RACE_URIS    200

struct race {
        struct shelf *shelf;
        unsigned thread;
};

/* Changes what an earlier process put, while it is swept. */
static void *run_race(void *userdata) {
        struct race *race = userdata;
        struct storage *storage = race->shelf->storage;
        struct storage_object object = STORAGE_OBJECT_INIT;
        g_autoptr(GRand) rand = g_rand_new_with_seed(race->thread);
        g_autofree uint8_t *bytes = make_bytes(race->thread, BIG);

        for (unsigned i = 0; i < RACE_URIS; i++) {
                char uri[16];
                size_t size;
                int r;

                size = (size_t) snprintf(uri, sizeof(uri), "r/%d", g_rand_int_range(rand, 0, RACE_URIS));
                switch (g_rand_int_range(rand, 0, 6)) {
                case 0 ... 1:
                        assert_ok(storage_put(storage, uri, size, bytes, BIG, NULL, 0, NULL));
                        break;
                case 2:
                        r = storage_remove(storage, uri, size);
                        g_assert_true(r == 0 || r == -ENOENT);
                        break;
                case 3:
                        r = storage_change_wait(storage, &(struct storage_change){
                                                                         .kind = STORAGE_SET_METADATA,
                                                                         .uri = uri,
                                                                         .uri_size = size,
                                                                         .metadata = "m",
                                                                         .metadata_size = 1,
                                                         });
                        g_assert_true(r == 0 || r == -ENOENT);
                        break;
                case 4:
                        if (i % 16 == 0)
                                assert_ok(storage_change_wait(storage,
                                                              &(struct storage_change){ .kind = STORAGE_PURGE,
                                                                                        .uri = "r/1",
                                                                                        .uri_size = 3 }));
                        break;
                default:
                        r = storage_get(storage, uri, size, STORAGE_GET_OPEN, NULL, &object);
                        g_assert_true(r == 0 || r == -ENOENT);
                }
        }

        storage_object_done(&object);
        return NULL;
}

static void test_race(void) {
        struct race races[RACE_THREADS];
        pthread_t threads[RACE_THREADS];
        struct storage_stats stats;
        unsigned n_planted = 0;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < RACE_URIS; i++) {
                char uri[16];

                (void) snprintf(uri, sizeof(uri), "r/%u", i);
                assert_ok(put_seeded(&shelf, uri, i, BIG, NULL));
        }
        shelf_close(&shelf);
        for (uint64_t blob = RACE_URIS + 1; blob < MARK; blob += 40, n_planted++)
                shelf_plant(&shelf, blob);

        shelf_open(&shelf);
        for (unsigned i = 0; i < RACE_THREADS; i++) {
                races[i] = (struct race){ &shelf, i };
                assert_ok(pthread_create(&threads[i], NULL, run_race, &races[i]));
        }
        for (unsigned i = 0; i < RACE_THREADS; i++)
                assert_ok(pthread_join(threads[i], NULL));
        wait_until(shelf_stats(&shelf).sweeps == 1);

        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.swept, ==, n_planted);
        g_assert_cmpuint(stats.objects, >, 0);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, stats.objects);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_close(&shelf);

        open_and_sweep(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).swept, ==, 0);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/sweep/orphans", test_orphans);
        harness_add("/storage/sweep/taken", test_taken);
        harness_add("/storage/sweep/killed-before-commit", test_killed_before_commit);
        harness_add("/storage/sweep/lost-unlink", test_lost_unlink);
        harness_add("/storage/sweep/stop", test_stop);
        harness_add("/storage/sweep/emptied-folder", test_emptied_folder);
        harness_add("/storage/sweep/damaged-map", test_damaged_map);
        harness_add("/storage/sweep/race", test_race);
        return g_test_run();
}
