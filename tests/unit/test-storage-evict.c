/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The store keeps to its maxima: what goes for it, what never does, and what is refused instead. */

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "evict-harness.h"

static void get(struct shelf *shelf, const char *uri) {
        struct storage_object object = STORAGE_OBJECT_INIT;

        assert_ok(storage_get(shelf->storage, uri, strlen(uri), STORAGE_GET_OPEN, NULL, &object));
        storage_object_done(&object);
}

static void test_maxima(void) {
        for (unsigned policy = STORAGE_POLICY_S3FIFO; policy <= STORAGE_POLICY_LFU; policy++)
                for (unsigned i = 0; i < 2; i++) {
                        struct storage_stats stats;
                        struct shelf shelf;

                        full_init(&shelf, i == 0 ? CAPACITY : 0, i == 0 ? 0 : 20, true);
                        shelf.config.limits.policy = policy;
                        shelf_open(&shelf);
                        for (unsigned j = 0; j < 80; j++) {
                                assert_ok(put_number(&shelf, "u/", j, 5 * KB));
                                g_assert_true(is_number_there(&shelf, "u/", j));
                                if (j > 0) /* wanted all the time */
                                        get(&shelf, "u/0");
                                stats = shelf_stats(&shelf);
                                g_assert_cmpuint(stats.bytes, <=, CAPACITY);
                                g_assert_cmpuint(stats.objects, <=, 20);
                                g_assert_cmpuint(stats.objects, ==, MIN(j + 1, 20U));
                        }
                        g_assert_cmpuint(stats.evictions, ==, 60);
                        g_assert_cmpuint(stats.evicted_bytes, ==, 300 * KB);
                        g_assert_true(is_there(&shelf, "u/0"));
                        wait_until(shelf_count_blobs(&shelf) == 20);

                        /* It goes on where it was. */
                        shelf_close(&shelf);
                        shelf_open(&shelf);
                        get(&shelf, "u/0");
                        for (unsigned j = 80; j < 120; j++)
                                assert_ok(put_number(&shelf, "u/", j, 5 * KB));
                        g_assert_cmpuint(shelf_stats(&shelf).objects, ==, 20);
                        shelf_destroy(&shelf);
                }
}

/* What can't fit is refused, and nothing goes for it. */
static void test_too_large(void) {
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 20; i++)
                assert_ok(put_number(&shelf, "u/", i, 5 * KB));
        assert_errno(put_number(&shelf, "big/", 0, CAPACITY + 1), -ENOSPC);
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 0);
        assert_errno(put_number(&shelf, "u/", 0, CAPACITY + 1), -ENOSPC);
        assert_object(&shelf, "u/0", 3, 0, 5 * KB);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_WRITE_FAILED), ==, 0);
        assert_ok(put_number(&shelf, "big/", 0, CAPACITY));
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 20);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, CAPACITY);

        /* One that is larger than the whole does not hinder those beside it. */
        assert_ok(put_number(&shelf, "u/", 1, 5 * KB));
        shelf_destroy(&shelf);
}

static void test_evict_no(void) {
        struct shelf shelf;

        full_init(&shelf, FULL, 30, false);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 20; i++)
                assert_ok(put_number(&shelf, "u/", i, 5 * KB));
        assert_errno(put_number(&shelf, "u/", 20, 1), -ENOSPC);
        assert_errno(put_number(&shelf, "u/", 0, 5 * KB + 1), -ENOSPC);
        assert_object(&shelf, "u/0", 3, 0, 5 * KB);

        /* Replacements that fit. */
        assert_ok(put_number(&shelf, "u/", 0, 5 * KB));
        assert_ok(put_number(&shelf, "u/", 0, 1));
        assert_ok(put_number(&shelf, "u/", 0, 5 * KB));
        assert_ok(storage_remove(shelf.storage, "u/7", 3));
        assert_ok(put_number(&shelf, "u/", 20, 2500));
        assert_ok(put_number(&shelf, "u/", 20, 5 * KB));
        assert_errno(put_number(&shelf, "u/", 21, 0), 0);
        for (unsigned i = 22; i < 31; i++)
                assert_ok(put_number(&shelf, "u/", i, 0));
        assert_errno(put_number(&shelf, "u/", 31, 0), -ENOSPC);
        assert_ok(put_number(&shelf, "u/", 30, 0));
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 0);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        shelf_destroy(&shelf);
}

static void test_replacements(void) {
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        shelf_open(&shelf);
        assert_ok(put_number(&shelf, "a/", 0, 60 * KB));
        assert_ok(put_number(&shelf, "b/", 0, 30 * KB));
        for (unsigned i = 0; i < 10; i++) {
                assert_ok(put_number(&shelf, "a/", 0, (60 + i) * KB));
                g_assert_true(is_there(&shelf, "b/0"));
        }
        g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, 0);
        assert_ok(put_number(&shelf, "a/", 0, 80 * KB));
        g_assert_false(is_there(&shelf, "b/0"));
        for (unsigned i = 0; i < 10; i++)
                assert_ok(put_number(&shelf, "a/", 0, CAPACITY - i));
        shelf_destroy(&shelf);
}

static void test_pinned(void) {
        struct storage_info info;
        struct storage_stats stats;
        struct shelf shelf;

        full_init(&shelf, FULL, 0, true);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 10; i++)
                assert_ok(put_number(&shelf, "keep/", i, 8 * KB));
        for (unsigned i = 0; i < 10; i++) {
                char uri[16];

                (void) snprintf(uri, sizeof(uri), "keep/%u", i);
                for (unsigned j = 0; j < 2; j++) {
                        assert_ok(change(&shelf, STORAGE_PIN, uri, &info));
                        g_assert_true(info.pinned);
                }
        }
        assert_errno(change(&shelf, STORAGE_PIN, "absent", NULL), -ENOENT);
        assert_errno(change(&shelf, STORAGE_UNPIN, "absent", NULL), -ENOENT);
        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.pinned_objects, ==, 10);
        g_assert_cmpuint(stats.pinned_bytes, ==, 80 * KB);

        for (unsigned round = 0; round < 2; round++) {
                for (unsigned i = 0; i < 50; i++)
                        assert_ok(put_number(&shelf, "u/", i, 5 * KB));
                for (unsigned i = 0; i < 10; i++)
                        g_assert_true(is_number_there(&shelf, "keep/", i));

                /* Not even when all else goes: so none of it does. */
                stats = shelf_stats(&shelf);
                assert_errno(put_number(&shelf, "u/", 100, 20 * KB + 1), -ENOSPC);
                g_assert_cmpuint(shelf_stats(&shelf).evictions, ==, stats.evictions);
                assert_ok(put_number(&shelf, "u/", 100, 20 * KB));

                shelf_close(&shelf);
                shelf_open(&shelf);
        }

        /* What takes its place is pinned too, and its bytes have to fit. */
        assert_ok(put_seeded(&shelf, "keep/0", 0, 9 * KB, &info));
        g_assert_true(info.pinned);
        assert_ok(storage_get_info(shelf.storage, "keep/0", 6, &info, NULL, NULL));
        g_assert_true(info.pinned);
        assert_errno(put_seeded(&shelf, "keep/0", 0, 28 * KB + 1, NULL), -ENOSPC);
        assert_ok(put_seeded(&shelf, "keep/0", 0, 28 * KB, NULL));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        assert_errno(put_number(&shelf, "u/", 100, 1), -ENOSPC);
        assert_ok(change(&shelf, STORAGE_SET_METADATA, "keep/0", &info));
        g_assert_true(info.pinned);

        for (unsigned i = 0; i < 2; i++) {
                assert_ok(change(&shelf, STORAGE_UNPIN, "keep/0", &info));
                g_assert_false(info.pinned);
        }
        assert_ok(put_number(&shelf, "u/", 100, 1));
        assert_absent(&shelf, "keep/0");
        assert_ok(storage_remove(shelf.storage, "keep/1", 6));
        g_assert_cmpuint(shelf_stats(&shelf).pinned_objects, ==, 8);
        g_assert_cmpuint(shelf_stats(&shelf).pinned_bytes, ==, 64 * KB);
        shelf_destroy(&shelf);
}

static uint64_t fake_now; /* atomic */

static uint64_t get_fake_now(_unused_ void *userdata) {
        return __atomic_load_n(&fake_now, __ATOMIC_RELAXED);
}

static void test_pinned_expires(void) {
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        fake_now = UINT64_C(1700000000) * G_USEC_PER_SEC;
        shelf.hooks.now = get_fake_now;
        shelf.hooks.clock_look_usec = shelf.hooks.expiry_interval_usec = 1000;
        shelf.config.limits.namespaces = &(struct storage_namespace){
                .name = "short", .prefix = "s/", .prefix_size = 2, .ttl_msec = 1000, .evict = true
        };
        shelf.config.limits.n_namespaces = 1;
        shelf_open(&shelf);
        assert_ok(put_number(&shelf, "s/", 0, 5 * KB)); /* without a time of its own */
        assert_ok(put_number(&shelf, "t/", 0, 5 * KB));
        assert_ok(change(&shelf, STORAGE_PIN, "s/0", NULL));
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, 1);
        __atomic_fetch_add(&fake_now, 2 * G_USEC_PER_SEC, __ATOMIC_RELAXED);
        wait_until(shelf_stats(&shelf).expired == 1);
        assert_absent(&shelf, "s/0");
        g_assert_cmpuint(shelf_stats(&shelf).pinned_objects, ==, 0);
        g_assert_true(is_there(&shelf, "t/0"));
        shelf_destroy(&shelf);
}

struct heater {
        struct heat_table *heat;
        uint64_t hash;
        bool stop; /* atomic */
};

/* As many threads would by their gets. */
static void *keep_hot(void *userdata) {
        struct heater *heater = userdata;

        while (!__atomic_load_n(&heater->stop, __ATOMIC_RELAXED))
                heat_table_touch(heater->heat, heater->hash);
        return NULL;
}

/* Room is made, however often what is there is got meanwhile. */
static void test_always_hot(void) {
        for (unsigned policy = STORAGE_POLICY_S3FIFO; policy <= STORAGE_POLICY_LFU; policy++) {
                struct heater heater = {};
                struct shelf shelf;
                GThread *threads[2];
                uint64_t before;

                full_init(&shelf, CAPACITY, 0, true);
                shelf.config.limits.policy = policy;
                shelf_open(&shelf);
                assert_ok(put_number(&shelf, "u/", 0, 60 * KB));
                heater.heat = shelf.storage->accounts->heat;
                heater.hash = accounts_hash(shelf.storage->accounts, "u/0", 3);
                for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                        threads[i] = g_thread_new("heater", keep_hot, &heater);

                before = shelf_stats(&shelf).commits;
                assert_ok(put_number(&shelf, "u/", 1, 60 * KB));
                g_assert_cmpuint(shelf_stats(&shelf).commits - before, ==, 2);
                g_assert_false(is_number_there(&shelf, "u/", 0));

                __atomic_store_n(&heater.stop, true, __ATOMIC_RELAXED);
                for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                        (void) g_thread_join(threads[i]);
                shelf_destroy(&shelf);
        }
}

/* ---- namespaces ---- */

struct usages {
        unsigned n;
        struct storage_usage rest, a, ab;
        uint64_t a_max;
};

static void note_usage(const struct storage_namespace *namespace,
                       const struct storage_usage *usage,
                       void *userdata) {
        struct usages *usages = userdata;

        usages->n++;
        if (strcmp(namespace->name, "") == 0)
                usages->rest = *usage;
        else if (strcmp(namespace->name, "a") == 0) {
                usages->a = *usage;
                usages->a_max = namespace->bytes_max;
        } else if (strcmp(namespace->name, "ab") == 0)
                usages->ab = *usage;
}

static struct usages get_usages(struct shelf *shelf) {
        struct usages usages = {};

        storage_visit_namespaces(shelf->storage, note_usage, &usages);
        return usages;
}

static struct storage_namespace two[] = {
        { .name = "a", .prefix = "a/", .prefix_size = 2, .bytes_max = 30 * KB + SLACK, .evict = true },
        { .name = "ab", .prefix = "a/b/", .prefix_size = 4, .evict = true },
};

static void test_namespaces(void) {
        struct storage_limits limits;
        struct usages usages;
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        limits = shelf.config.limits;
        limits.namespaces = two;
        limits.n_namespaces = 2;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 3; i++) {
                assert_ok(put_number(&shelf, "a/", i, 5 * KB));
                assert_ok(put_number(&shelf, "a/b/", i, 5 * KB));
                assert_ok(put_number(&shelf, "c/", i, 5 * KB));
        }
        assert_ok(change(&shelf, STORAGE_PIN, "a/b/1", NULL));
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.n, ==, 1);
        g_assert_cmpuint(usages.rest.bytes, ==, 45 * KB);
        g_assert_cmpuint(usages.rest.pinned_bytes, ==, 5 * KB);

        /* What is there is counted anew. */
        assert_ok(storage_set_limits(shelf.storage, &limits));
        wait_until(get_usages(&shelf).n == 3 && get_usages(&shelf).ab.objects == 3);
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.rest.bytes, ==, 15 * KB);
        g_assert_cmpuint(usages.a.bytes, ==, 15 * KB);
        g_assert_cmpuint(usages.a_max, ==, 30 * KB + SLACK);
        g_assert_cmpuint(usages.ab.bytes, ==, 15 * KB);
        g_assert_cmpuint(usages.ab.pinned_objects, ==, 1);
        g_assert_cmpuint(usages.ab.pinned_bytes, ==, 5 * KB);
        assert_consistent(&shelf);

        /* Its own quota takes from itself alone. */
        for (unsigned i = 10; i < 30; i++)
                assert_ok(put_number(&shelf, "a/", i, 5 * KB));
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.a.bytes, ==, 30 * KB);
        g_assert_cmpuint(usages.rest.objects, ==, 3);
        g_assert_cmpuint(usages.ab.objects, ==, 3);
        assert_errno(put_number(&shelf, "a/", 30, 30 * KB + SLACK + 1), -ENOSPC);
        g_assert_cmpuint(get_usages(&shelf).a.objects, ==, 6);

        /* The whole takes from who uses the most of what it may: a is at its quota. */
        for (unsigned i = 10; i < 20; i++)
                assert_ok(put_number(&shelf, "c/", i, 5 * KB));
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.rest.objects, ==, 13);
        g_assert_cmpuint(usages.ab.objects, ==, 3);
        g_assert_cmpuint(usages.a.objects, <, 6);
        g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, CAPACITY);

        /* Nothing of one that evicts nothing goes, for nobody. */
        two[0].evict = false;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        usages = get_usages(&shelf);
        for (unsigned i = 20; i < 60; i++)
                assert_ok(put_number(&shelf, "c/", i, 5 * KB));
        g_assert_cmpuint(get_usages(&shelf).a.objects, ==, usages.a.objects);
        for (unsigned i = (unsigned) usages.a.objects; i < 6; i++)
                assert_ok(put_number(&shelf, "a/x", i, 5 * KB));
        assert_errno(put_number(&shelf, "a/x", 7, 5 * KB), -ENOSPC);
        g_assert_cmpuint(get_usages(&shelf).a.objects, ==, 6);
        two[0].evict = true;

        /* The same namespaces in another order, and after another start. */
        shelf_close(&shelf);
        shelf.config.limits = limits;
        shelf.config.limits.namespaces = (struct storage_namespace[]){ two[1], two[0] };
        shelf_open(&shelf);
        usages = get_usages(&shelf);
        g_assert_cmpuint(usages.a.objects, ==, 6);
        g_assert_cmpuint(usages.ab.pinned_objects, ==, 1);
        shelf_close(&shelf);

        /* And back to none. */
        shelf.config.limits.n_namespaces = 0;
        shelf_open(&shelf);
        wait_until(get_usages(&shelf).rest.bytes == shelf_stats(&shelf).bytes);
        g_assert_cmpuint(get_usages(&shelf).n, ==, 1);
        g_assert_cmpuint(get_usages(&shelf).rest.pinned_objects, ==, 1);
        shelf_destroy(&shelf);
}

/* More than a step's worth, while things are put and removed, and limits change again on the way. */
static void test_recount(void) {
        enum { N = 2400 };
        struct storage_limits limits;
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        limits = shelf.config.limits;
        limits.namespaces = two;
        shelf_open(&shelf);
        for (unsigned i = 0; i < N; i++)
                assert_ok(put_number(&shelf, i % 2 ? "a/b/" : "c/", i, 10));

        two[0].bytes_max = 0;
        for (unsigned round = 0; round < 4; round++) {
                limits.n_namespaces = round % 2 == 0 ? 2 : 0;
                assert_ok(storage_set_limits(shelf.storage, &limits));
                for (unsigned i = 0; i < 100; i++) {
                        assert_ok(put_number(&shelf, "a/b/", N + i, 20));
                        assert_ok(put_number(&shelf, "a/b/", 1 + 2 * i, 20));
                        if (round == 3)
                                (void) put_number(&shelf, "c/", i, 20);
                }
                if (round == 1)
                        continue; /* the next comes while it is under way */
                wait_until(limits.n_namespaces == 0
                                           ? get_usages(&shelf).rest.objects == shelf_stats(&shelf).objects
                                           : get_usages(&shelf).ab.objects == N / 2 + 100);
                assert_consistent(&shelf);
        }
        two[0].bytes_max = 30 * KB + SLACK;
        shelf_destroy(&shelf);
}

/* Lower limits: what is too much goes without being asked for. */
static void test_lowered(void) {
        struct storage_limits limits;
        struct shelf shelf;

        full_init(&shelf, 0, 0, true);
        limits = shelf.config.limits;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 100; i++)
                assert_ok(put_number(&shelf, "u/", i, i % 2 ? 5 * KB : 100));
        assert_ok(change(&shelf, STORAGE_PIN, "u/1", NULL));
        assert_ok(change(&shelf, STORAGE_PIN, "u/3", NULL));
        limits.objects_max = 50;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        wait_until(shelf_stats(&shelf).objects <= 50);
        limits.bytes_max = 6 * KB;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        wait_until(shelf_stats(&shelf).objects == 2); /* the pinned ones, which are too much */
        g_assert_true(is_there(&shelf, "u/1"));
        assert_errno(put_number(&shelf, "u/", 2, 100), -ENOSPC);
        assert_ok(put_number(&shelf, "u/", 1, 4 * KB)); /* smaller than what was there */
        limits.bytes_max = limits.objects_max = 0;
        assert_ok(storage_set_limits(shelf.storage, &limits));
        assert_ok(put_number(&shelf, "u/", 2, 100));

        /* A policy that comes later takes over what the one before it left. */
        for (unsigned policy = STORAGE_POLICY_LFU; policy-- > 0;) {
                limits.policy = policy;
                limits.bytes_max = CAPACITY;
                assert_ok(storage_set_limits(shelf.storage, &limits));
                for (unsigned i = 200; i < 300; i++)
                        assert_ok(put_number(&shelf, policy % 2 ? "v/" : "w/", i, 5 * KB));
                g_assert_cmpuint(shelf_stats(&shelf).bytes, <=, CAPACITY);
        }
        shelf_destroy(&shelf);
}

static void test_bad_limits(void) {
        static char long_text[1000];
        const struct storage_namespace good = { .name = "a", .prefix = "a", .prefix_size = 1 };
        const struct storage_namespace bad[][2] = {
                { good, { .name = "a", .prefix = "b", .prefix_size = 1 } },
                { good, { .name = "b", .prefix = "a", .prefix_size = 1 } },
                { good, { .name = "", .prefix = "b", .prefix_size = 1 } },
                { good, { .name = NULL, .prefix = "b", .prefix_size = 1 } },
                { good,
                  { .name = "b", .prefix = long_text, .prefix_size = STORAGE_NAMESPACE_PREFIX_MAX + 1 } },
                { good, { .name = long_text, .prefix = "b", .prefix_size = 1 } },
                { good, { .name = "b", .prefix = "b", .prefix_size = 1, .policy = STORAGE_POLICY_LFU + 1 } },
        };
        struct shelf shelf;

        memset(long_text, 'x', sizeof(long_text) - 1);
        shelf_init(&shelf);
        shelf_open(&shelf);
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                assert_errno(storage_set_limits(shelf.storage, &(struct storage_limits){ .namespaces = bad[i],
                                                                                         .n_namespaces = 2 }),
                             -EINVAL);
        shelf_destroy(&shelf);
}

/* ---- many at once ---- */

#define STRESS_MAX     (2000 * KB)
#define STRESS_OBJECTS 620
#define STRESS_THREADS 4
#define STRESS_ROUNDS  1000

static uint64_t bytes_on_disk;
static unsigned n_commits, n_broken;
static struct shelf *stressed;

static int add_size(_unused_ const char *path,
                    const struct stat *st,
                    _unused_ int type,
                    _unused_ struct FTW *ftw) {
        if (S_ISREG(st->st_mode))
                bytes_on_disk += (uint64_t) st->st_size;
        return 0;
}

/* At the worst moment: what is put has its name, what is replaced still has it. When a transaction has failed that
 * was to make room for both, there is room for what will be left of them. */
static int sample(_unused_ void *userdata) {
        g_autofree char *path = g_strdup_printf("%s/blobs", stressed->path);

        if (n_commits++ % 4 == 0 && n_commits % 50 > 4) {
                bytes_on_disk = 0;
                g_assert_cmpint(nftw(path, add_size, 16, FTW_PHYS), ==, 0);
                g_assert_cmpuint(bytes_on_disk, <=, STRESS_MAX);
        }
        if (n_commits % 50 == 0 && n_commits > 100) {
                n_broken++;
                return -ENOSPC;
        }
        return 0;
}

static void *run_stress(void *userdata) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(*(unsigned *) userdata);
        struct shelf *shelf = stressed;

        for (unsigned i = 0; i < STRESS_ROUNDS; i++) {
                unsigned number = (unsigned) g_rand_int_range(rand, 0, 2000);
                const char *prefix = number % 3 ? "u/" : "a/";
                struct storage_object object = STORAGE_OBJECT_INIT;
                struct storage_stats stats;
                char uri[16];
                int r;

                (void) snprintf(uri, sizeof(uri), "%s%u", prefix, number);
                switch (g_rand_int_range(rand, 0, 16)) {
                case 0 ... 9:
                        r = put_number(shelf, prefix, number, (size_t) g_rand_int_range(rand, 0, 7000));
                        g_assert_true(r == 0 || r == -ENOSPC);
                        break;
                case 10:
                        r = storage_remove(shelf->storage, uri, strlen(uri));
                        g_assert_true(r == 0 || r == -ENOENT || r == -ENOSPC);
                        break;
                case 11:
                        r = change(shelf, STORAGE_PIN, uri, NULL);
                        g_assert_true(r == 0 || r == -ENOENT || r == -ENOSPC);
                        break;
                case 12:
                        r = change(shelf, STORAGE_UNPIN, uri, NULL);
                        g_assert_true(r == 0 || r == -ENOENT || r == -ENOSPC);
                        break;
                case 13:
                        if (i % 20 == 0)
                                (void) change(shelf, STORAGE_PURGE, "u/1", NULL);
                        break;
                default:
                        r = storage_get(shelf->storage, uri, strlen(uri), STORAGE_GET_OPEN, NULL, &object);
                        g_assert_true(r == 0 || r == -ENOENT);
                        storage_object_done(&object);
                }

                stats = shelf_stats(shelf);
                g_assert_cmpuint(stats.bytes, <=, STRESS_MAX);
                g_assert_cmpuint(stats.objects, <=, STRESS_OBJECTS);
        }

        return NULL;
}

static void test_stress(void) {
        pthread_t threads[STRESS_THREADS];
        unsigned seeds[STRESS_THREADS];
        struct storage_namespace namespaces[] = {
                { .name = "a", .prefix = "a/", .prefix_size = 2, .bytes_max = STRESS_MAX / 3, .evict = true },
        };
        struct storage_stats stats;
        struct shelf shelf;

        full_init(&shelf, STRESS_MAX, STRESS_OBJECTS, true);
        shelf.config.limits.namespaces = namespaces;
        shelf.config.limits.n_namespaces = 1;
        shelf.config.inline_max = 0; /* so that all bytes are on the disk */
        shelf.hooks.before_commit = sample;
        stressed = &shelf;
        n_commits = n_broken = 0;
        shelf_open(&shelf);
        for (unsigned i = 0; i < STRESS_THREADS; i++) {
                seeds[i] = i;
                assert_ok(pthread_create(&threads[i], NULL, run_stress, &seeds[i]));
        }
        for (unsigned i = 0; i < STRESS_THREADS; i++)
                assert_ok(pthread_join(threads[i], NULL));

        stats = shelf_stats(&shelf);
        g_assert_cmpuint(stats.evictions, >, 100);
        g_assert_cmpuint(n_broken, >, 10);
        g_assert_cmpuint(get_usages(&shelf).a.bytes, <=, STRESS_MAX / 3);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_destroy(&shelf);
}

static void flip_last(uint8_t *value, size_t size) {
        value[size - 1] ^= 1;
}

/* Who stands in a queue without a record does not stop others from going. */
static void test_damaged_record(void) {
        struct shelf shelf;

        full_init(&shelf, CAPACITY, 0, true);
        shelf_open(&shelf);
        assert_ok(put_number(&shelf, "u/", 0, 5 * KB));
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "objects", flip_last);
        shelf_open(&shelf);
        assert_absent(&shelf, "u/0");
        for (unsigned i = 1; i < 100; i++)
                assert_ok(put_number(&shelf, "u/", i, 5 * KB));
        g_assert_cmpuint(shelf_stats(&shelf).bytes, ==, FULL);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/evict/maxima", test_maxima);
        harness_add("/storage/evict/too-large", test_too_large);
        harness_add("/storage/evict/evict-no", test_evict_no);
        harness_add("/storage/evict/replacements", test_replacements);
        harness_add("/storage/evict/pinned", test_pinned);
        harness_add("/storage/evict/pinned-expires", test_pinned_expires);
        harness_add("/storage/evict/always-hot", test_always_hot);
        harness_add("/storage/evict/namespaces", test_namespaces);
        harness_add("/storage/evict/recount", test_recount);
        harness_add("/storage/evict/lowered", test_lowered);
        harness_add("/storage/evict/bad-limits", test_bad_limits);
        harness_add("/storage/evict/stress", test_stress);
        harness_add("/storage/evict/damaged-record", test_damaged_record);
        return g_test_run();
}
