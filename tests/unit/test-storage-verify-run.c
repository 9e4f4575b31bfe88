/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How a verification runs: alone, slowly, beside all else, until it is killed. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "verify-harness.h"
#include "writer.h"

/* ---- how it runs ---- */

static void test_one_at_a_time(void) {
        struct storage_verify *verify, *second;
        struct storage_verify_progress progress;
        struct report report = {};
        struct shelf shelf;

        shelf_fill(&shelf);
        verify = report_begin(&shelf, &report, false, 1);
        do
                storage_verify_get_progress(verify, &progress);
        while (progress.bytes == 0);
        assert_errno(storage_verify_begin(&second, shelf.storage, &(struct storage_verify_config){}), -EBUSY);

        /* At a byte a second it is at rest now. */
        storage_verify_cancel(verify);
        report_end(verify, &report);
        assert_errno(report.result, -ECANCELED);
        g_assert_cmpuint(report.progress.bytes, <, 8 * BIG);
        report_done(&report);

        verify = report_begin(&shelf, &report, true, 1);
        storage_verify_end(verify); /* ends it as well */
        g_assert_true(report.is_done);
        report_done(&report);
        assert_clean(&shelf);
        shelf_destroy(&shelf);
}

static void test_throttle(void) {
        enum { SIZE = 1 << 20, RATE = 8 << 20 };
        struct report report = {};
        struct shelf shelf;
        gint64 begun;

        shelf_init(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 2; i++)
                assert_ok(put_seeded(&shelf, i == 0 ? "a" : "b", i, SIZE, NULL));

        begun = g_get_monotonic_time();
        report_end(report_begin(&shelf, &report, false, RATE), &report);
        g_assert_cmpuint(report.progress.bytes, ==, 2 * SIZE);
        g_assert_cmpint(g_get_monotonic_time() - begun, >=,
                        (gint64) 2 * SIZE * G_USEC_PER_SEC / RATE * 9 / 10);
        report_done(&report);
        shelf_destroy(&shelf);
}

/* Bytes of a blob that are in the page cache. */
static size_t count_cached(struct shelf *shelf, uint64_t blob, size_t size) {
        g_autofree char *path = shelf_blob_path(shelf, blob);
        size_t n_pages = (size + 4095) / 4096, n = 0;
        g_autofree unsigned char *pages = g_malloc(n_pages);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

        g_assert_true(map != MAP_FAILED);
        g_assert_cmpint(mincore(map, size, pages), ==, 0);
        for (size_t i = 0; i < n_pages; i++)
                n += pages[i] & 1;
        g_assert_cmpint(munmap(map, size), ==, 0);
        return n * 4096;
}

static void test_page_cache(void) {
        enum { SIZE = 2 << 20 };
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 2; i++)
                assert_ok(put_seeded(&shelf, i == 0 ? "a" : "b", i, SIZE, NULL));
        {
                g_autofree char *path = shelf_blob_path(&shelf, 1);
                _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

                (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
                if (count_cached(&shelf, 1, SIZE) > 0) {
                        g_test_skip("this file system keeps its pages");
                        shelf_destroy(&shelf);
                        return;
                }
        }
        assert_object(&shelf, "b", 1, 1, SIZE);

        assert_clean(&shelf);
        g_assert_cmpuint(count_cached(&shelf, 1, SIZE), ==, 0);
        g_assert_cmpuint(count_cached(&shelf, 2, SIZE), ==, SIZE);
        shelf_destroy(&shelf);
}

/* ---- what changes meanwhile, at the worst moment ---- */

struct moment {
        struct shelf shelf;
        bool is_armed;
        int step; /* atomic */
};

static int step_of(struct moment *moment) {
        return __atomic_load_n(&moment->step, __ATOMIC_SEQ_CST);
}

static void go_to(struct moment *moment, int step) {
        __atomic_store_n(&moment->step, step, __ATOMIC_SEQ_CST);
}

/* Records were seen: now each is of the past. */
static void change_all(enum verify_point point, void *userdata) {
        struct moment *moment = userdata;
        struct shelf *shelf = &moment->shelf;

        if (point != VERIFY_SEEN || !moment->is_armed)
                return;

        moment->is_armed = false;
        assert_ok(put_seeded(shelf, "a", 70, BIG, NULL));
        assert_ok(put_seeded(shelf, "b", 71, SMALL, NULL));
        assert_ok(storage_remove(shelf->storage, "c", 1));
        assert_ok(storage_remove(shelf->storage, "d", 1));
        assert_ok(put_seeded(shelf, "d", 72, BIG, NULL));
}

static void test_changed_meanwhile(void) {
        struct moment moment = { .is_armed = true };
        struct shelf *shelf = &moment.shelf;

        shelf_init(shelf);
        shelf->hooks.verify_pause = change_all;
        shelf->hooks.userdata = &moment;
        shelf_open(shelf);
        verify_fill(shelf);

        assert_verify(shelf, true, NULL);
        g_assert_false(moment.is_armed);
        assert_object(shelf, "a", 1, 70, BIG);
        assert_object(shelf, "d", 1, 72, BIG);
        assert_clean(shelf);
        g_assert_cmpuint(shelf_count_quarantined(shelf), ==, 0);
        shelf_destroy(shelf);
}

static void *remove_a(void *userdata) {
        struct moment *moment = userdata;

        assert_ok(storage_remove(moment->shelf.storage, "a", 1));
        return NULL;
}

/* Before a folder is looked at: a removal is committed, and its file still there. */
static void begin_removal(enum verify_point point, void *userdata) {
        struct moment *moment = userdata;

        if (point != VERIFY_FOLDER || !moment->is_armed)
                return;

        moment->is_armed = false;
        go_to(moment, 1);
        wait_until(step_of(moment) == 2);
}

static void hold_removal(void *userdata) {
        struct moment *moment = userdata;

        if (step_of(moment) != 1)
                return;
        go_to(moment, 2);
        g_usleep(100 * 1000); /* time to be wrong in: who is right waits for it */
}

static void test_removed_meanwhile(void) {
        struct moment moment = { .is_armed = true };
        struct shelf *shelf = &moment.shelf;
        struct storage_verify *verify;
        struct report report = {};
        pthread_t thread;

        shelf_init(shelf);
        shelf->hooks.verify_pause = begin_removal;
        shelf->hooks.after_commit = hold_removal;
        shelf->hooks.userdata = &moment;
        shelf_open(shelf);
        verify_fill(shelf);

        verify = report_begin(shelf, &report, false, UINT64_MAX);
        wait_until(step_of(&moment) == 1);
        assert_ok(pthread_create(&thread, NULL, remove_a, &moment));
        report_end(verify, &report);
        assert_ok(pthread_join(thread, NULL));
        assert_ok(report.result);
        g_assert_cmpuint(report.lines->len, ==, 0);
        report_done(&report);
        assert_clean(shelf);
        shelf_destroy(shelf);
}

static void hold_files(enum verify_point point, void *userdata) {
        struct moment *moment = userdata;

        if (point == VERIFY_FILES && moment->is_armed) {
                go_to(moment, 1);
                wait_until(step_of(moment) == 2);
        }
}

/* Holds up the writer, then fails the transaction of all that came meanwhile, so that it is tried in parts, of which
 * the last is held up too. */
static int hold_commit(void *userdata) {
        struct moment *moment = userdata;

        switch (step_of(moment)) {
        case 3:
                go_to(moment, 4);
                wait_until(step_of(moment) == 5);
                return 0;
        case 5:
                go_to(moment, 6);
                return -ENOSPC;
        case 6:
                g_usleep(100 * 1000);
                return 0;
        default:
                return 0;
        }
}

static size_t count_submitted(struct writer *writer) {
        size_t n = 0;

        (void) pthread_mutex_lock(&writer->mutex);
        for (struct storage_change *change = writer->first; change; change = change->next)
                n++;
        (void) pthread_mutex_unlock(&writer->mutex);
        return n;
}

static void *put_new(void *userdata) {
        struct moment *moment = userdata;

        assert_ok(put_seeded(&moment->shelf, step_of(moment) == 3 ? "first" : "second", 80, BIG, NULL));
        return NULL;
}

/* A body has its name already, and is in no record yet: its transaction is tried once more. */
static void test_put_meanwhile(void) {
        struct moment moment = { .is_armed = true };
        struct shelf *shelf = &moment.shelf;
        struct storage_verify *verify;
        struct report report = {};
        pthread_t first, second;

        shelf_init(shelf);
        shelf->hooks.verify_pause = hold_files;
        shelf->hooks.before_commit = hold_commit;
        shelf->hooks.userdata = &moment;
        shelf_open(shelf);
        verify_fill(shelf);

        verify = report_begin(shelf, &report, true, UINT64_MAX);
        wait_until(step_of(&moment) == 1);
        go_to(&moment, 3);
        assert_ok(pthread_create(&first, NULL, put_new, &moment));
        wait_until(step_of(&moment) == 4);

        /* Now the writer is held up: what is submitted comes into one transaction. */
        moment.is_armed = false;
        __atomic_store_n(&moment.step, 2, __ATOMIC_SEQ_CST);
        wait_until(count_submitted(shelf->storage->writer) == 1);
        assert_ok(pthread_create(&second, NULL, put_new, &moment));
        wait_until(count_submitted(shelf->storage->writer) == 2);
        go_to(&moment, 5);

        report_end(verify, &report);
        assert_ok(pthread_join(first, NULL));
        assert_ok(pthread_join(second, NULL));
        assert_ok(report.result);
        g_assert_cmpint(step_of(&moment), ==, 6);
        g_assert_cmpuint(report.lines->len, ==, 0);
        report_done(&report);
        assert_object(shelf, "first", 5, 80, BIG);
        assert_object(shelf, "second", 6, 80, BIG);
        assert_clean(shelf);
        shelf_destroy(shelf);
}

#define RACE_THREADS 4
#define RACE_URIS    150

struct race {
        struct shelf *shelf;
        unsigned thread;
        bool *stop; /* atomic */
};

static void race_uri(char uri[static 32], unsigned thread, unsigned i) {
        (void) snprintf(uri, 32, "race/%u/%u", thread, i);
}

/* Each thread has URIs of its own, and knows what they hold. */
static void *run_race(void *userdata) {
        struct race *race = userdata;
        struct shelf *shelf = race->shelf;
        g_autoptr(GRand) rand = g_rand_new_with_seed(race->thread);
        unsigned seeds[RACE_URIS] = {};
        char uri[32];

        for (unsigned round = 1; !__atomic_load_n(race->stop, __ATOMIC_RELAXED); round++) {
                unsigned i = (unsigned) g_rand_int_range(rand, 0, RACE_URIS);
                size_t size = round % 3 == 0 ? SMALL : BIG;
                size_t last_size = seeds[i] % 3 == 0 ? SMALL : BIG;

                race_uri(uri, race->thread, i);
                switch (g_rand_int_range(rand, 0, 5)) {
                case 0 ... 2:
                        assert_ok(put_seeded(shelf, uri, round, size, NULL));
                        seeds[i] = round;
                        break;
                case 3:
                        assert_errno(storage_remove(shelf->storage, uri, strlen(uri)),
                                     seeds[i] ? 0 : -ENOENT);
                        seeds[i] = 0;
                        break;
                default:
                        if (seeds[i])
                                assert_object(shelf, uri, strlen(uri), seeds[i], last_size);
                        else
                                assert_absent(shelf, uri);
                }
        }

        for (unsigned i = 0; i < RACE_URIS; i++) {
                race_uri(uri, race->thread, i);
                if (seeds[i])
                        assert_object(shelf, uri, strlen(uri), seeds[i], seeds[i] % 3 == 0 ? SMALL : BIG);
                else
                        assert_absent(shelf, uri);
        }

        return NULL;
}

static void test_race(void) {
        struct race races[RACE_THREADS];
        pthread_t threads[RACE_THREADS];
        struct shelf shelf;
        bool stop = false;

        shelf_fill(&shelf);
        for (unsigned i = 0; i < RACE_THREADS; i++) {
                races[i] = (struct race){ &shelf, i, &stop };
                assert_ok(pthread_create(&threads[i], NULL, run_race, &races[i]));
        }

        for (unsigned round = 0; round < 60; round++)
                assert_verify(&shelf, round % 2 == 1, NULL);

        /* ... and with something to repair. */
        for (unsigned round = 0; round < 10; round++) {
                make_stray(&shelf, "stray");
                if (round == 0) {
                        flip_byte(&shelf, 1);
                        assert_verify(&shelf, true,
                                      FOUND("checksum a blobs/0000000000000/0000000000000001 moved",
                                            "stray - blobs/stray moved"));
                } else
                        assert_verify(&shelf, true, FOUND("stray - blobs/stray moved"));
        }

        __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < RACE_THREADS; i++)
                assert_ok(pthread_join(threads[i], NULL));
        assert_intact(&shelf, "a");
        assert_clean(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_destroy(&shelf);
}

/* ---- killed ---- */

enum kill_place { KILL_FOUND, KILL_BEFORE_COMMIT, KILL_AFTER_COMMIT };

struct killer {
        enum kill_place place;
        unsigned countdown;
};

static int kill_before_commit(void *userdata) {
        struct killer *killer = userdata;

        if (killer->place == KILL_BEFORE_COMMIT && --killer->countdown == 0)
                (void) raise(SIGKILL);
        return 0;
}

static void kill_after_commit(void *userdata) {
        struct killer *killer = userdata;

        if (killer->place == KILL_AFTER_COMMIT && --killer->countdown == 0)
                (void) raise(SIGKILL);
}

/* Returns whether it was killed. */
static bool kill_repair(enum kill_place place, unsigned n) {
        struct killer killer = { place, n };
        struct report report = {};
        struct shelf shelf;
        int status;
        pid_t pid;

        shelf_fill(&shelf);
        assert_ok(put_seeded(&shelf, "zz", 60, BIG, NULL));
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "objects", flip_middle);
        shelf_alter_table(&shelf, "due", NULL);
        flip_byte(&shelf, 1);
        make_stray(&shelf, "stray");

        (void) fflush(NULL);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                report.kill_at = place == KILL_FOUND ? n : 0;
                shelf.hooks.before_commit = kill_before_commit;
                shelf.hooks.after_commit = kill_after_commit;
                shelf.hooks.userdata = &killer;
                shelf_open(&shelf);
                report_end(report_begin(&shelf, &report, true, UINT64_MAX), &report);
                shelf_close(&shelf);
                _exit(0);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);

        shelf_open(&shelf);
        report_end(report_begin(&shelf, &report, true, UINT64_MAX), &report);
        assert_ok(report.result);
        g_assert_cmpuint(report.progress.problems, ==, report.progress.repaired);
        report_done(&report);
        assert_clean(&shelf);
        assert_intact(&shelf, "a");
        g_assert_cmpuint(shelf_stats(&shelf).objects, ==, 12);
        shelf_destroy(&shelf);
        return WIFSIGNALED(status);
}

/* Wherever a repair is killed, the next one ends with the same. */
static void test_killed(void) {
        for (enum kill_place place = KILL_FOUND; place <= KILL_AFTER_COMMIT; place++) {
                unsigned n = 1;

                while (kill_repair(place, n))
                        n++;
                g_assert_cmpuint(n, >, 5);
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/verify/one-at-a-time", test_one_at_a_time);
        harness_add("/storage/verify/throttle", test_throttle);
        harness_add("/storage/verify/page-cache", test_page_cache);
        harness_add("/storage/verify/changed-meanwhile", test_changed_meanwhile);
        harness_add("/storage/verify/removed-meanwhile", test_removed_meanwhile);
        harness_add("/storage/verify/put-meanwhile", test_put_meanwhile);
        harness_add("/storage/verify/race", test_race);
        harness_add("/storage/verify/killed", test_killed);
        return g_test_run();
}
