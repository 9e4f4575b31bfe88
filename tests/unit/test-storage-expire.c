/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Objects with a time to live are served, kept for who takes stale ones, and cleared, each in its time. */

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "storage-harness.h"

#define BIG   5000
#define START (UINT64_C(1700000000) * G_USEC_PER_SEC)
#define SEC   ((uint64_t) G_USEC_PER_SEC)

static uint64_t fake_now; /* atomic */

static uint64_t get_fake_now(_unused_ void *userdata) {
        return __atomic_load_n(&fake_now, __ATOMIC_RELAXED);
}

static void set_now(uint64_t usec) {
        __atomic_store_n(&fake_now, usec, __ATOMIC_RELAXED);
}

static void expiring_init(struct shelf *shelf) {
        shelf_init(shelf);
        set_now(START);
        shelf->hooks.now = get_fake_now;
        shelf->hooks.clock_look_usec = 2000;
        shelf->hooks.expiry_interval_usec = 1000;
}

static int put_ttl(struct storage *storage, const char *uri, size_t size, uint64_t ttl_msec) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        g_autofree uint8_t *bytes = make_bytes(ttl_msec, size);

        assert_ok(storage_upload_new(storage, size, &upload));
        assert_ok(storage_upload_write(upload, bytes, size));
        assert_ok(storage_upload_finish(upload));
        return storage_change_wait(storage, &(struct storage_change){
                                                            .kind = STORAGE_PUT,
                                                            .uri = uri,
                                                            .uri_size = strlen(uri),
                                                            .upload = upload,
                                                            .ttl_msec = ttl_msec,
                                            });
}

static int get(struct shelf *shelf, const char *uri, unsigned flags) {
        struct storage_object object = STORAGE_OBJECT_INIT;
        int r = storage_get(shelf->storage, uri, strlen(uri), STORAGE_GET_OPEN | flags, NULL, &object);

        storage_object_done(&object);
        return r;
}

/* Lets the store's thread come by some times. */
static void let_run(struct shelf *shelf) {
        for (unsigned i = 0; i < 10; i++) {
                assert_ok(put_seeded(shelf, "other", i, 10, NULL));
                g_usleep(1000);
        }
}

static void test_times(void) {
        struct shelf shelf;

        expiring_init(&shelf);
        shelf.config.expired_keep_usec = 5 * SEC;
        shelf_open(&shelf);
        assert_ok(put_ttl(shelf.storage, "soon", BIG, 1000));
        assert_ok(put_ttl(shelf.storage, "later", BIG, 3600000));
        assert_ok(put_ttl(shelf.storage, "never", BIG, 0));
        assert_ok(put_ttl(shelf.storage, "overflow", 10, UINT64_MAX));
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, 3);
        assert_ok(get(&shelf, "soon", 0));

        set_now(START + SEC);
        assert_errno(get(&shelf, "soon", 0), -ESTALE);
        assert_ok(get(&shelf, "soon", STORAGE_GET_STALE));

        set_now(START + 6 * SEC - 1);
        let_run(&shelf);
        assert_ok(get(&shelf, "soon", STORAGE_GET_STALE));
        g_assert_cmpuint(shelf_stats(&shelf).expired, ==, 0);

        /* Set back, and forward. */
        set_now(START - 1000 * SEC);
        let_run(&shelf);
        assert_ok(get(&shelf, "soon", 0));

        set_now(START + 6 * SEC);
        wait_until(shelf_stats(&shelf).expired == 1);
        assert_errno(get(&shelf, "soon", 0), -ENOENT);
        assert_errno(get(&shelf, "soon", STORAGE_GET_STALE), -ENOENT);
        assert_ok(get(&shelf, "later", 0));

        set_now(START + 3605 * SEC);
        wait_until(shelf_stats(&shelf).expired == 2);
        assert_absent(&shelf, "later");
        assert_ok(get(&shelf, "never", 0));
        assert_ok(get(&shelf, "overflow", 0));
        g_assert_cmpuint(shelf_stats(&shelf).removes, ==, 0);
        g_assert_cmpuint(shelf_stats(&shelf).objects, ==, 3);
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, 1);
        wait_until(shelf_count_blobs(&shelf) == 1);
        shelf_destroy(&shelf);
}

/* How long expired objects are kept changes while the store is open. */
static void test_kept_otherwise(void) {
        struct shelf shelf;

        expiring_init(&shelf);
        /* It is not found out by looking again. */
        shelf.hooks.clock_look_usec = shelf.hooks.usage_interval_usec = 3600 * SEC;
        shelf.config.expired_keep_usec = UINT64_MAX;
        shelf_open(&shelf);
        assert_ok(put_ttl(shelf.storage, "first", BIG, 1000));
        assert_ok(put_ttl(shelf.storage, "second", BIG, 5000));
        set_now(START + 4 * SEC);
        let_run(&shelf);
        assert_ok(get(&shelf, "first", STORAGE_GET_STALE));

        storage_set_expired_keep(shelf.storage, 2 * SEC);
        wait_until(shelf_stats(&shelf).expired == 1);
        assert_ok(get(&shelf, "second", 0));

        storage_set_expired_keep(shelf.storage, UINT64_MAX);
        set_now(START + 400 * SEC);
        let_run(&shelf);
        assert_ok(get(&shelf, "second", STORAGE_GET_STALE));
        storage_set_expired_keep(shelf.storage, 0);
        wait_until(shelf_stats(&shelf).expired == 2);
        shelf_destroy(&shelf);
}

/* What is put in the place of an object does not inherit its end. */
static void test_changed_before(void) {
        char longer[701];
        struct shelf shelf;

        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = 0;

        expiring_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_ttl(shelf.storage, "replaced", BIG, 1000));
        assert_ok(put_ttl(shelf.storage, "replaced", BIG, 0));
        assert_ok(put_ttl(shelf.storage, "prolonged", BIG, 1000));
        assert_ok(put_ttl(shelf.storage, "prolonged", BIG, 9000));
        assert_ok(put_ttl(shelf.storage, "shortened", BIG, 9000));
        assert_ok(put_ttl(shelf.storage, "shortened", BIG, 1000));
        assert_ok(put_ttl(shelf.storage, "again", BIG, 1000));
        assert_ok(storage_remove(shelf.storage, "again", 5));
        assert_ok(put_ttl(shelf.storage, "again", BIG, 0));
        assert_ok(put_ttl(shelf.storage, "purged", BIG, 1000));
        assert_ok(storage_change_wait(
                        shelf.storage,
                        &(struct storage_change){ .kind = STORAGE_PURGE, .uri = "purged", .uri_size = 6 }));
        assert_ok(put_ttl(shelf.storage, "purged", BIG, 0));
        assert_ok(put_ttl(shelf.storage, "described", BIG, 1000));
        assert_ok(storage_change_wait(shelf.storage, &(struct storage_change){
                                                                     .kind = STORAGE_SET_METADATA,
                                                                     .uri = "described",
                                                                     .uri_size = 9,
                                                                     .metadata = "m",
                                                                     .metadata_size = 1,
                                                     }));
        assert_ok(put_ttl(shelf.storage, longer, BIG, 1000));
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, 4);

        set_now(START + SEC);
        wait_until(shelf_stats(&shelf).expired == 3);
        let_run(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).expired, ==, 3);
        assert_ok(get(&shelf, "replaced", 0));
        assert_ok(get(&shelf, "prolonged", 0));
        assert_ok(get(&shelf, "again", 0));
        assert_ok(get(&shelf, "purged", 0));
        assert_absent(&shelf, "shortened");
        assert_absent(&shelf, "described");
        assert_absent(&shelf, longer);
        shelf_destroy(&shelf);
}

/* More than fit a transaction, due when the store is opened; the others are not even looked at. */
static void test_many(void) {
        enum { N = 600, N_LASTING = 400 };
        struct storage_stats stats;
        struct shelf shelf;
        char uri[32];

        expiring_init(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < N_LASTING; i++) {
                (void) snprintf(uri, sizeof(uri), "lasting/%u", i);
                assert_ok(put_ttl(shelf.storage, uri, 10, 0));
        }
        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.objects_expiring, ==, 0);
        set_now(START + 1000000 * SEC);
        for (unsigned i = 0; i < 10; i++)
                g_usleep(1000);
        g_assert_cmpuint(shelf_stats(&shelf).commits, ==, stats.commits);

        for (unsigned i = 0; i < N; i++) {
                (void) snprintf(uri, sizeof(uri), "expiring/%u", i);
                assert_ok(put_ttl(shelf.storage, uri, i % 4 == 0 ? BIG : 10, 1000 + i));
        }
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, N);
        shelf_close(&shelf);

        set_now(START + 1000002 * SEC);
        shelf_open(&shelf);
        wait_until(shelf_stats(&shelf).expired == N);
        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.objects, ==, N_LASTING);
        g_assert_cmpuint(stats.objects_expiring, ==, 0);
        g_assert_cmpuint(stats.commits, ==, 3);
        wait_until(shelf_count_blobs(&shelf) == 0);
        shelf_destroy(&shelf);
}

static void test_never_cleared(void) {
        struct shelf shelf;

        expiring_init(&shelf);
        shelf.config.expired_keep_usec = UINT64_MAX;
        shelf_open(&shelf);
        assert_ok(put_ttl(shelf.storage, "a", BIG, 1));
        set_now(START * 2);
        let_run(&shelf);
        assert_errno(get(&shelf, "a", 0), -ESTALE);
        assert_ok(get(&shelf, "a", STORAGE_GET_STALE));
        shelf_destroy(&shelf);
}

static unsigned n_failures; /* atomic; how many commits are to fail */

static int fail_some(_unused_ void *userdata) {
        unsigned n = __atomic_load_n(&n_failures, __ATOMIC_RELAXED);

        if (n == 0)
                return 0;
        __atomic_store_n(&n_failures, n - 1, __ATOMIC_RELAXED);
        return -ENOSPC;
}

/* What can't be cleared now is cleared later. */
static void test_failing(void) {
        struct shelf shelf;

        expiring_init(&shelf);
        shelf.hooks.before_commit = fail_some;
        shelf_open(&shelf);
        assert_ok(put_ttl(shelf.storage, "a", BIG, 1000));
        __atomic_store_n(&n_failures, 3, __ATOMIC_RELAXED);
        set_now(START + SEC);
        wait_until(shelf_stats(&shelf).expired == 1);
        wait_until(shelf_count_blobs(&shelf) == 0);
        g_assert_cmpuint(__atomic_load_n(&n_failures, __ATOMIC_RELAXED), ==, 0);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 1);
        wait_until(shelf_events(&shelf, STORAGE_EVENT_WRITE_RECOVERED) == 1);
        shelf_destroy(&shelf);
}

static void flip_last(uint8_t *value, size_t size) {
        value[size - 1] ^= 1;
}

/* When its record can't be read nobody knows that an object was to expire; what takes its place is not to. */
static void test_damaged_record(void) {
        struct shelf shelf;

        expiring_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_ttl(shelf.storage, "a", 10, 1000));
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "objects", flip_last);

        shelf_open(&shelf);
        assert_errno(get(&shelf, "a", 0), -ENOENT);
        assert_ok(put_ttl(shelf.storage, "a", 10, 0));
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, 1);
        set_now(START + SEC);
        wait_until(shelf_stats(&shelf).objects_expiring == 0);
        assert_ok(get(&shelf, "a", 0));
        g_assert_cmpuint(shelf_stats(&shelf).expired, ==, 0);
        shelf_destroy(&shelf);
}

#define STRESS_THREADS 4
#define STRESS_ROUNDS  300

static void *run_stress(void *userdata) {
        struct shelf *shelf = userdata;
        g_autoptr(GRand) rand = g_rand_new();
        int r;

        for (unsigned i = 0; i < STRESS_ROUNDS; i++) {
                char uri[16];

                (void) snprintf(uri, sizeof(uri), "u/%d", g_rand_int_range(rand, 0, 30));
                switch (g_rand_int_range(rand, 0, 8)) {
                case 0 ... 3:
                        assert_ok(put_ttl(shelf->storage, uri, i % 2 ? BIG : 10,
                                          (uint64_t) g_rand_int_range(rand, 0, 20)));
                        break;
                case 4:
                        r = storage_remove(shelf->storage, uri, strlen(uri));
                        g_assert_true(r == 0 || r == -ENOENT);
                        break;
                case 5:
                        r = storage_change_wait(shelf->storage,
                                                &(struct storage_change){ .kind = STORAGE_PURGE,
                                                                          .uri = "u/1",
                                                                          .uri_size = 3 });
                        assert_ok(r);
                        break;
                default:
                        r = get(shelf, uri, i % 2 ? STORAGE_GET_STALE : 0);
                        g_assert_true(r == 0 || r == -ENOENT || r == -ESTALE);
                }
        }

        return NULL;
}

/* With the real clock. */
static void test_stress(void) {
        pthread_t threads[STRESS_THREADS];
        struct storage_stats stats;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.expiry_interval_usec = 1000;
        shelf_open(&shelf);
        for (unsigned i = 0; i < STRESS_THREADS; i++)
                assert_ok(pthread_create(&threads[i], NULL, run_stress, &shelf));
        for (unsigned i = 0; i < STRESS_THREADS; i++)
                assert_ok(pthread_join(threads[i], NULL));

        wait_until(shelf_stats(&shelf).objects_expiring == 0);
        assert_ok(put_seeded(&shelf, "last", 1, 10, NULL)); /* after the unlinks */
        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.expired, >, 0);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, stats.objects - stats.objects_inline);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/expire/times", test_times);
        harness_add("/storage/expire/kept-otherwise", test_kept_otherwise);
        harness_add("/storage/expire/changed-before", test_changed_before);
        harness_add("/storage/expire/many", test_many);
        harness_add("/storage/expire/never-cleared", test_never_cleared);
        harness_add("/storage/expire/failing", test_failing);
        harness_add("/storage/expire/damaged-record", test_damaged_record);
        harness_add("/storage/expire/stress", test_stress);
        return g_test_run();
}
