/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hot table, and gets that don't wait. */

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"
#include "macro.h"
#include "storage-harness.h"

#define _cleanup_object_ _cleanup_(storage_object_done)

static int get(struct shelf *shelf, const char *uri, unsigned flags, struct storage_object *object) {
        return storage_get(shelf->storage, uri, strlen(uri), STORAGE_GET_OPEN | flags, NULL, object);
}

/* Gets it and checks what comes: in memory, or as a file. */
static void assert_got(struct shelf *shelf,
                       const char *uri,
                       uint64_t seed,
                       size_t size,
                       uint64_t body_max,
                       bool in_memory) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        g_autofree uint8_t *bytes = make_bytes(seed, size);

        object.body_max = body_max;
        assert_ok(get(shelf, uri, 0, &object));
        g_assert_cmpuint(object.info.size, ==, size);
        g_assert_true((object.body != NULL) == in_memory);
        g_assert_true((object.fd >= 0) != in_memory);
        if (in_memory)
                g_assert_cmpmem(object.body, object.info.size, bytes, size);
        else
                assert_fd_bytes(object.fd, bytes, size);
}

/* The counters' changes since the last call. */
static void assert_hits(struct shelf *shelf, uint64_t hits, uint64_t misses) {
        static uint64_t hits_before, misses_before;
        struct storage_stats stats = shelf_stats(shelf);

        if (hits != UINT64_MAX) {
                g_assert_cmpuint(stats.hot_hits - hits_before, ==, hits);
                g_assert_cmpuint(stats.hot_misses - misses_before, ==, misses);
        }
        hits_before = stats.hot_hits;
        misses_before = stats.hot_misses;
}

static void open_shelf(struct shelf *shelf) {
        shelf_init(shelf);
        shelf->config.cache_size = 16U << 20;
        shelf_open(shelf);
        assert_hits(shelf, UINT64_MAX, 0);
}

static bool view(struct shelf *shelf, const char *uri, uint64_t body_max, bool is_hit) {
        struct storage_viewer viewer;
        struct storage_view view;
        g_autofree uint8_t *bytes = make_bytes(1, 10000);
        bool seen;

        if (!storage_viewer_begin(shelf->storage, clock_usec(CLOCK_REALTIME), &viewer))
                return false;

        seen = storage_view(&viewer, uri, strlen(uri), body_max, &view);
        if (seen) {
                g_assert_cmpuint(view.metadata_size, ==, 0);
                g_assert_cmpmem(view.body, view.info->size, bytes, 10000);
                if (is_hit)
                        storage_view_count(&viewer, &view);
        }
        storage_viewer_end(&viewer);
        return seen;
}

/* What is hot is seen in its place, and counted as any get. */
static void test_view(void) {
        g_autofree char *uri = g_strnfill(STORAGE_URI_MAX, 'u');
        struct storage_info info;
        struct shelf shelf;

        open_shelf(&shelf);
        for (unsigned i = 0; i < 2; i++) {
                assert_ok(put_seeded(&shelf, uri, 1, 10000, NULL));
                g_assert_false(view(&shelf, uri, UINT64_MAX, true));
                assert_got(&shelf, uri, 1, 10000, UINT64_MAX, false);
                assert_got(&shelf, uri, 1, 10000, UINT64_MAX, true);
                g_assert_true(view(&shelf, uri, 10000, true));
                g_assert_true(view(&shelf, uri, UINT64_MAX, false));
                g_assert_false(view(&shelf, uri, 9999, true));
                g_assert_false(view(&shelf, "", UINT64_MAX, true));
                assert_hits(&shelf, 1, 2);
                assert_ok(storage_get_info(shelf.storage, uri, strlen(uri), &info, NULL, NULL));
                g_assert_cmpuint(info.hits, ==, 3);
                g_assert_cmpuint(info.used_usec, >=, info.stored_usec);

                strcpy(uri, "short");
        }
        assert_ok(storage_set_cache_size(shelf.storage, 0));
        g_assert_false(view(&shelf, uri, UINT64_MAX, true));
        shelf_destroy(&shelf);
}

/* What expires soon is left to who looks at the clock. */
static void test_view_expiry(void) {
        static const unsigned ttl_msec[] = { 500, 60000 };
        struct shelf shelf;

        open_shelf(&shelf);
        for (size_t i = 0; i < G_N_ELEMENTS(ttl_msec); i++) {
                _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
                g_autofree uint8_t *bytes = make_bytes(1, 10000);
                struct storage_change change = {
                        .kind = STORAGE_PUT, .uri = "soon", .uri_size = 4, .ttl_msec = ttl_msec[i]
                };

                assert_ok(storage_upload_new(shelf.storage, 10000, &upload));
                assert_ok(storage_upload_write(upload, bytes, 10000));
                assert_ok(storage_upload_finish(upload));
                change.upload = upload;
                assert_ok(storage_change_wait(shelf.storage, &change));
                for (unsigned n = 0; n < 2; n++) {
                        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;

                        object.body_max = UINT64_MAX;
                        (void) get(&shelf, "soon", 0, &object);
                }
                g_assert_true(view(&shelf, "soon", UINT64_MAX, true) == (ttl_msec[i] > 1000));
        }
        shelf_destroy(&shelf);
}

static void test_heat(void) {
        struct shelf shelf;

        open_shelf(&shelf);
        assert_ok(put_seeded(&shelf, "inline", 1, 1000, NULL));
        assert_ok(put_seeded(&shelf, "small", 2, 10000, NULL));
        assert_ok(put_seeded(&shelf, "large", 3, 100000, NULL));
        assert_ok(put_seeded(&shelf, "empty", 4, 0, NULL));

        /* Not by the first get, but by the second. */
        assert_got(&shelf, "inline", 1, 1000, 0, true);
        g_assert_cmpuint(shelf_stats(&shelf).hot_objects, ==, 0);
        assert_got(&shelf, "inline", 1, 1000, 0, true);
        g_assert_cmpuint(shelf_stats(&shelf).hot_objects, ==, 1);
        assert_hits(&shelf, 0, 2);
        assert_got(&shelf, "inline", 1, 1000, 0, true);
        assert_hits(&shelf, 1, 0);

        /* Files' bodies come in memory only when they are welcome there. */
        assert_got(&shelf, "small", 2, 10000, UINT64_MAX, false);
        assert_got(&shelf, "small", 2, 10000, UINT64_MAX, true);
        assert_got(&shelf, "small", 2, 10000, UINT64_MAX, true);
        assert_hits(&shelf, 1, 2);
        assert_got(&shelf, "small", 2, 10000, 0, false);
        assert_got(&shelf, "small", 2, 10000, 9999, false);
        assert_hits(&shelf, 2, 0);

        for (unsigned i = 0; i < 3; i++)
                assert_got(&shelf, "large", 3, 100000, UINT64_MAX, false);
        assert_hits(&shelf, 1, 2);
        for (unsigned i = 0; i < 3; i++)
                assert_got(&shelf, "empty", 4, 0, 0, true);
        assert_hits(&shelf, 1, 2);

        /* A body is added when somebody asks for it. */
        assert_ok(put_seeded(&shelf, "later", 5, 5000, NULL));
        for (unsigned i = 0; i < 3; i++)
                assert_got(&shelf, "later", 5, 5000, 0, false);
        assert_hits(&shelf, 1, 2);
        assert_got(&shelf, "later", 5, 5000, UINT64_MAX, true);
        assert_got(&shelf, "later", 5, 5000, UINT64_MAX, true);
        assert_hits(&shelf, 1, 1);
        g_assert_cmpuint(shelf_stats(&shelf).hot_objects, ==, 5);

        assert_ok(storage_set_cache_size(shelf.storage, 0));
        g_assert_cmpuint(shelf_stats(&shelf).hot_bytes + shelf_stats(&shelf).hot_objects, ==, 0);
        for (unsigned i = 0; i < 3; i++)
                assert_got(&shelf, "later", 5, 5000, UINT64_MAX, false);
        assert_hits(&shelf, 0, 3);
        shelf_destroy(&shelf);
}

static void warm(struct shelf *shelf, const char *uri) {
        _cleanup_object_ struct storage_object object = { .body_max = UINT64_MAX, .fd = -EBADF };
        uint64_t before;

        for (unsigned i = 0; i < 2; i++)
                assert_ok(get(shelf, uri, 0, &object));
        before = shelf_stats(shelf).hot_hits;
        assert_ok(get(shelf, uri, 0, &object));
        g_assert_cmpuint(shelf_stats(shelf).hot_hits, ==, before + 1);
}

/* Whatever changes an object, the next get sees it. */
static void test_changes(void) {
        g_autofree char *long_uri = g_strnfill(1000, 'u');
        const char *uris[] = { "short", long_uri };
        struct shelf shelf;

        open_shelf(&shelf);
        for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
                _cleanup_object_ struct storage_object object = { .body_max = UINT64_MAX, .fd = -EBADF };
                const char *uri = uris[i];
                struct storage_change change = {
                        .kind = STORAGE_SET_METADATA,
                        .uri = uri,
                        .uri_size = strlen(uri),
                        .metadata = "new",
                        .metadata_size = 3,
                };

                assert_ok(put_seeded(&shelf, uri, 1, 1000, NULL));
                warm(&shelf, uri);
                assert_ok(put_seeded(&shelf, uri, 2, 5000, NULL));
                assert_got(&shelf, uri, 2, 5000, 0, false);

                warm(&shelf, uri);
                assert_ok(storage_change_wait(shelf.storage, &change));
                assert_ok(get(&shelf, uri, 0, &object));
                g_assert_cmpmem(object.metadata, object.metadata_size, "new", 3);
                g_assert_cmpuint(object.info.etag.metadata_version, ==, 2);
                warm(&shelf, uri);
                assert_ok(get(&shelf, uri, 0, &object));
                g_assert_cmpmem(object.metadata, object.metadata_size, "new", 3);
                g_assert_cmpuint(object.info.size, ==, 5000);
                g_assert_true(object.body);

                change.kind = STORAGE_PIN;
                assert_ok(storage_change_wait(shelf.storage, &change));
                assert_ok(get(&shelf, uri, 0, &object));
                g_assert_true(object.info.pinned);

                warm(&shelf, uri);
                assert_ok(storage_remove(shelf.storage, uri, strlen(uri)));
                assert_absent(&shelf, uri);

                assert_ok(put_seeded(&shelf, uri, 3, 100, NULL));
                warm(&shelf, uri);
                change.kind = STORAGE_PURGE;
                change.uri_size = 3;
                assert_ok(storage_change_wait(shelf.storage, &change));
                assert_absent(&shelf, uri);
        }
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_destroy(&shelf);
}

static uint64_t fake_now;

static uint64_t tell_fake_now(_unused_ void *userdata) {
        return __atomic_load_n(&fake_now, __ATOMIC_RELAXED);
}

/* While what has a hash is in a commit, it is not kept, whenever it was read. */
static void test_suspended(void) {
        static const struct hot_want want = {};
        struct storage_object object = STORAGE_OBJECT_INIT, got = STORAGE_OBJECT_INIT;
        const struct hot_found found = { .blob = 1 };
        _cleanup_(hot_freep) struct hot *hot = NULL;
        uint64_t hash, before, within;
        struct hot_found ret;

        assert_ok(hot_new(&hot, 32 << 20, 1, NULL));
        hash = hot_hash(hot, "a", 1);
        object.info.etag.generation = 1;

        for (unsigned i = 0; i < 2; i++) {
                const uint64_t *hashes = i == 0 ? &hash : NULL; /* any */

                before = hot_moment(hot, hash);
                hot_put(hot, hash, before, "a", 1, &object, &found);
                g_assert_cmpint(hot_get(hot, hash, "a", 1, &want, &got, &ret), ==, 1);

                hot_suspend(hot, hashes, 1);
                within = hot_moment(hot, hash);
                g_assert_cmpint(hot_get(hot, hash, "a", 1, &want, &got, &ret), ==, 0);
                hot_put(hot, hash, before, "a", 1, &object, &found);
                hot_put(hot, hash, within, "a", 1, &object, &found);
                g_assert_cmpint(hot_get(hot, hash, "a", 1, &want, &got, &ret), ==, 0);

                hot_resume(hot, hashes, 1);
                hot_put(hot, hash, before, "a", 1, &object, &found);
                hot_put(hot, hash, within, "a", 1, &object, &found);
                g_assert_cmpint(hot_get(hot, hash, "a", 1, &want, &got, &ret), ==, 0);
        }

        storage_object_done(&got);
        storage_object_done(&object);
}

static void test_expiry(void) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        struct storage_change change = {
                .kind = STORAGE_PUT, .uri = "soon", .uri_size = 4, .ttl_msec = 1000
        };
        struct shelf shelf;

        fake_now = UINT64_C(1800000000) * USEC_PER_SEC;
        shelf_init(&shelf);
        shelf.config.expired_keep_usec = UINT64_MAX;
        shelf.hooks.now = tell_fake_now;
        shelf_open(&shelf);
        assert_ok(storage_upload_new(shelf.storage, 0, &upload));
        assert_ok(storage_upload_finish(upload));
        change.upload = upload;
        assert_ok(storage_change_wait(shelf.storage, &change));
        storage_upload_free(TAKE_PTR(upload));

        warm(&shelf, "soon");
        __atomic_store_n(&fake_now, fake_now + 999 * USEC_PER_MSEC, __ATOMIC_RELAXED);
        assert_ok(get(&shelf, "soon", 0, &object));
        __atomic_store_n(&fake_now, fake_now + USEC_PER_MSEC, __ATOMIC_RELAXED);
        assert_errno(get(&shelf, "soon", 0, &object), -ESTALE);
        assert_ok(get(&shelf, "soon", STORAGE_GET_STALE, &object));
        shelf_destroy(&shelf);
}

/* Gets are counted for the object wherever they were answered, once. */
static void test_usage(void) {
        struct storage_info info;
        struct shelf shelf;
        uint64_t commits;

        shelf_init(&shelf);
        shelf.hooks.usage_interval_usec = 1;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, 100, NULL));
        warm(&shelf, "a");
        for (unsigned i = 3; i < 50; i++) {
                commits = shelf_stats(&shelf).commits;
                assert_got(&shelf, "a", 1, 100, 0, true);
                wait_until(shelf_stats(&shelf).commits >
                           commits); /* it is in the record, and no more beside it */
        }
        wait_until(storage_get_info(shelf.storage, "a", 1, &info, NULL, NULL) == 0 && info.hits == 50);
        g_assert_cmpuint(shelf_stats(&shelf).hot_hits, >=, 45);
        g_assert_cmpuint(info.used_usec, >=, info.stored_usec);
        shelf_destroy(&shelf);
}

static void test_known(void) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        struct storage_etag etag;
        struct shelf shelf;

        open_shelf(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, 10000, NULL));
        assert_ok(get(&shelf, "a", 0, &object));
        etag = object.info.etag;
        for (unsigned i = 0; i < 3; i++) {
                assert_errno(storage_get(shelf.storage, "a", 1, STORAGE_GET_OPEN, &etag, &object), 1);
                g_assert_cmpint(object.fd, <, 0);
        }
        assert_hits(&shelf, 2, 2);
        shelf_destroy(&shelf);
}

static uint64_t hash_all_alike(_unused_ const void *uri, _unused_ size_t uri_size) {
        return UINT64_C(0x123456789abcdef0);
}

static void test_collisions(void) {
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.hot_hash = hash_all_alike;
        shelf_open(&shelf);
        for (unsigned i = 0; i < 20; i++) {
                g_autofree char *uri = g_strdup_printf("%0*u", i % 2 ? 600 : 5, i);

                assert_ok(put_seeded(&shelf, uri, i, 1000 + i, NULL));
                warm(&shelf, uri);
        }
        for (unsigned i = 0; i < 20; i++) {
                g_autofree char *uri = g_strdup_printf("%0*u", i % 2 ? 600 : 5, i);

                assert_got(&shelf, uri, i, 1000 + i, 0, true);
        }
        g_assert_cmpuint(shelf_stats(&shelf).hot_objects, ==, 20);
        assert_ok(put_seeded(&shelf, "00004", 100, 3000, NULL));
        assert_got(&shelf, "00004", 100, 3000, 0, false);
        shelf_destroy(&shelf);
}

/* ---- what happens in between ---- */

struct between {
        struct shelf shelf;
        unsigned n; /* times it is still to happen */
        size_t size;
        bool remove;
};

static void change_it(void *userdata) {
        struct between *between = userdata;

        if (between->n == 0)
                return;
        between->n--;
        if (between->remove)
                (void) storage_remove(between->shelf.storage, "a", 1);
        else
                assert_ok(put_seeded(&between->shelf, "a", 100 + between->n, between->size, NULL));
}

/* A body that is replaced or removed between lookup and open is no damage, however often that happens, and whoever
 * knew of it. */
static void test_replaced_before_open(void) {
        for (unsigned from_hot = 0; from_hot < 2; from_hot++)
                for (unsigned n = 1; n < 5; n++) {
                        struct between between = { .size = 5000 };
                        struct shelf *shelf = &between.shelf;
                        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;

                        shelf_init(shelf);
                        shelf->hooks.before_open = change_it;
                        shelf->hooks.userdata = &between;
                        shelf_open(shelf);
                        assert_ok(put_seeded(shelf, "a", 1, 5000, NULL));
                        for (unsigned i = 0; i < 3 * from_hot; i++)
                                assert_got(shelf, "a", 1, 5000, 0, false);

                        between.n = n;
                        assert_got(shelf, "a", 100, 5000, 0, false);
                        assert_got(shelf, "a", 100, 5000, 0, false);

                        between.n = 1;
                        between.remove = true;
                        assert_errno(get(shelf, "a", 0, &object), -ENOENT);
                        g_assert_cmpuint(shelf_events(shelf, STORAGE_EVENT_DAMAGED), ==, 0);
                        shelf_destroy(shelf);
                }
}

/* What was looked up before a change does not stay in the table after it. */
static void test_replaced_before_put(void) {
        static const size_t sizes[] = { 100, 5000, 100000 };

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                struct between between = { .size = sizes[i] };
                struct shelf *shelf = &between.shelf;
                bool in_memory = sizes[i] < 2000;

                shelf_init(shelf);
                shelf->hooks.before_put = change_it;
                shelf->hooks.userdata = &between;
                shelf_open(shelf);
                assert_ok(put_seeded(shelf, "a", 1, sizes[i], NULL));
                assert_got(shelf, "a", 1, sizes[i], 0, in_memory);
                between.n = 1;
                assert_got(shelf, "a", 1, sizes[i], 0, in_memory); /* what it was when it was looked up */
                g_assert_cmpuint(between.n, ==, 0);
                g_assert_cmpuint(shelf_stats(shelf).hot_objects, ==, 0);
                assert_got(shelf, "a", 100, sizes[i], 0, in_memory);
                shelf_destroy(shelf);
        }
}

/* ---- gets that don't wait ---- */

static void test_nowait(void) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.is_resident = -1;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, 100, NULL));
        assert_ok(put_seeded(&shelf, "b", 2, 5000, NULL));
        assert_hits(&shelf, UINT64_MAX, 0);

        for (unsigned i = 0; i < 3; i++)
                assert_errno(get(&shelf, "a", STORAGE_GET_NOWAIT, &object), -EINPROGRESS);
        assert_errno(get(&shelf, "absent", STORAGE_GET_NOWAIT, &object), -EINPROGRESS);
        assert_hits(&shelf, 0, 0); /* it is counted when it is answered */
        g_assert_cmpuint(shelf_stats(&shelf).gets, ==, 0);

        /* Asked for twice, it is there; its file is the kernel's to know. */
        assert_got(&shelf, "a", 1, 100, 0, true);
        assert_got(&shelf, "a", 1, 100, 0, true);
        assert_ok(get(&shelf, "a", STORAGE_GET_NOWAIT, &object));
        assert_got(&shelf, "b", 2, 5000, 0, false);
        assert_got(&shelf, "b", 2, 5000, 0, false);
        assert_ok(get(&shelf, "b", STORAGE_GET_NOWAIT, &object));
        g_assert_cmpint(object.fd, >=, 0);
        assert_hits(&shelf, 2, 4);

        /* Without the file's name in memory it would have to wait. */
        storage_object_done(&object);
        {
                int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

                if (fd >= 0 && write(fd, "2", 1) == 1) {
                        int r = get(&shelf, "b", STORAGE_GET_NOWAIT, &object);

                        g_assert_true(r == 0 || r == -EINPROGRESS);
                        assert_got(&shelf, "b", 2, 5000, 0, false);
                }
                (void) close_fd(fd);
        }
        shelf_close(&shelf);

        shelf.hooks.is_resident = 1;
        shelf_open(&shelf);
        assert_ok(get(&shelf, "a", STORAGE_GET_NOWAIT, &object));
        assert_errno(get(&shelf, "absent", STORAGE_GET_NOWAIT, &object), -ENOENT);
        shelf_close(&shelf);

        /* One that was just written is in memory, as can be measured. */
        shelf.hooks.is_resident = 0;
        shelf_open(&shelf);
        wait_until(get(&shelf, "absent", STORAGE_GET_NOWAIT, &object) == -ENOENT);
        assert_ok(get(&shelf, "a", STORAGE_GET_NOWAIT, &object));
        shelf_destroy(&shelf);
}

/* ---- the check ---- */

static void flip_byte(struct shelf *shelf, off_t offset) {
        g_autofree char *path = shelf_only_blob(shelf);
        _cleanup_close_ int fd = -EBADF;
        uint8_t byte;

        g_assert_no_errno(chmod(path, 0600));
        fd = open(path, O_RDWR | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
        byte ^= 1;
        g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
}

static void test_check(void) {
        static const size_t sizes[] = { 5000, 16384, 16385, 3 << 20 };

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                for (unsigned cached = 0; cached < 2; cached++) {
                        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
                        struct shelf shelf;

                        shelf_init(&shelf);
                        shelf.config.check_on_fill = true;
                        shelf.config.cache_size = cached ? 16U << 20 : 0;
                        shelf_open(&shelf);
                        assert_ok(put_seeded(&shelf, "a", 1, sizes[i], NULL));

                        /* Read once, and remembered; what does not wait reads no more than little. */
                        if (sizes[i] > 16384)
                                assert_errno(get(&shelf, "a", STORAGE_GET_NOWAIT, &object), -EINPROGRESS);
                        assert_got(&shelf, "a", 1, sizes[i], 0, false);
                        g_assert_cmpuint(shelf_stats(&shelf).hot_objects, ==, cached);
                        if (cached)
                                assert_ok(get(&shelf, "a", STORAGE_GET_NOWAIT, &object));

                        /* The entry gone, it is read again. */
                        assert_ok(storage_set_cache_size(shelf.storage, cached ? 8U << 20 : 0));
                        storage_object_done(&object);
                        flip_byte(&shelf, (off_t) sizes[i] - 1);
                        assert_errno(get(&shelf, "a", 0, &object), -ENOENT);
                        g_assert_null(object.body);
                        g_assert_cmpint(object.fd, <, 0);
                        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 1);
                        g_assert_cmpint(shelf.last_error, ==, -EILSEQ);
                        wait_until(shelf_stats(&shelf).objects == 0);
                        assert_errno(get(&shelf, "a", 0, &object), -ENOENT);
                        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 1);
                        shelf_destroy(&shelf);
                }
}

/* Without the check the bytes go out as they are, but they don't get into memory. */
static void test_no_check(void) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        struct shelf shelf;

        open_shelf(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, 5000, NULL));
        flip_byte(&shelf, 0);
        for (unsigned i = 0; i < 3; i++) {
                assert_ok(get(&shelf, "a", 0, &object));
                g_assert_cmpint(object.fd, >=, 0);
        }
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);

        object.body_max = UINT64_MAX;
        assert_errno(get(&shelf, "a", 0, &object), -ENOENT);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 1);
        wait_until(shelf_stats(&shelf).objects == 0);

        /* As soon as it is asked for. */
        assert_ok(put_seeded(&shelf, "b", 1, 100000, NULL));
        flip_byte(&shelf, 50000);
        object.body_max = 0;
        for (unsigned i = 0; i < 3; i++)
                assert_ok(get(&shelf, "b", 0, &object));
        storage_set_check_on_fill(shelf.storage, true);
        assert_errno(get(&shelf, "b", 0, &object), -ENOENT);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 2);
        shelf_destroy(&shelf);
}

/* ---- the budget ---- */

/* A sanitizer's own memory grows with what is touched. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_IS_OWN false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MEMORY_IS_OWN false
#endif
#endif
#ifndef MEMORY_IS_OWN
#define MEMORY_IS_OWN true
#endif

static uint64_t resident_bytes(void) {
        g_autofree char *text = NULL;
        const char *line;

        g_assert_true(g_file_get_contents("/proc/self/smaps_rollup", &text, NULL, NULL));
        line = strstr(text, "Anonymous:");
        g_assert_nonnull(line);
        return g_ascii_strtoull(line + strlen("Anonymous:"), NULL, 10) << 10;
}

static void fill(struct shelf *shelf, unsigned n) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;

        for (unsigned i = 0; i < n; i++) {
                g_autofree char *uri = g_strdup_printf("object %u", i);

                for (unsigned j = 0; j < 2; j++)
                        assert_ok(get(shelf, uri, 0, &object));
        }
}

static void count_done(struct storage_change *change) {
        assert_ok(change->result);
        (void) __atomic_sub_fetch((unsigned *) change->userdata, 1, __ATOMIC_RELEASE);
}

static void put_many(struct shelf *shelf, unsigned n, size_t size) {
        g_autofree struct storage_change *changes = g_new0(struct storage_change, n);
        g_autofree uint8_t *bytes = make_bytes(1, size);
        unsigned left = n;

        for (unsigned i = 0; i < n; i++) {
                struct storage_change *change = &changes[i];
                size_t body_size = size - i % (size / 2);

                change->kind = STORAGE_PUT;
                change->uri = g_strdup_printf("object %u", i);
                change->uri_size = strlen(change->uri);
                change->done = count_done;
                change->userdata = &left;
                assert_ok(storage_upload_new(shelf->storage, body_size, &change->upload));
                assert_ok(storage_upload_write(change->upload, bytes, body_size));
                assert_ok(storage_upload_finish_unsynced(change->upload));
                storage_submit(shelf->storage, change);
                wait_until(__atomic_load_n(&left, __ATOMIC_ACQUIRE) + i + 1 - n < 500); /* open files */
        }
        wait_until(__atomic_load_n(&left, __ATOMIC_ACQUIRE) == 0);
        for (unsigned i = 0; i < n; i++) {
                storage_upload_free(changes[i].upload);
                g_free((char *) changes[i].uri);
        }
}

#define MANY 6000

static void test_budget(void) {
        struct storage_stats stats;
        struct shelf shelf;
        uint64_t bytes, before, rest;

        shelf_init(&shelf);
        shelf.config.cache_size = 4U << 20;
        shelf.hooks.grow_usec = 1;
        shelf_open(&shelf);
        put_many(&shelf, MANY, 2000);
        before = resident_bytes();
        fill(&shelf, MANY);
        stats = shelf_stats(&shelf);
        g_test_message("%" G_GUINT64_FORMAT " objects in %" G_GUINT64_FORMAT " bytes", stats.hot_objects,
                       stats.hot_bytes);
        g_assert_cmpuint(stats.hot_bytes, <=, 4U << 20);
        g_assert_cmpuint(stats.hot_bytes, >, 3U << 20);
        g_assert_cmpuint(stats.hot_objects, >, 1500); /* of about 1,700 bytes each */
        bytes = resident_bytes();
        if (MEMORY_IS_OWN)
                g_assert_cmpuint(bytes, <, before + (6U << 20));

        /* The system is short of memory. */
        storage_shrink(shelf.storage);
        rest = shelf_stats(&shelf).hot_bytes;
        g_assert_cmpuint(rest, <=, stats.hot_bytes * 6 / 10);
        g_assert_cmpuint(shelf_stats(&shelf).hot_objects, >, stats.hot_objects / 4);
        storage_shrink(shelf.storage);
        g_assert_cmpuint(shelf_stats(&shelf).hot_bytes, <, rest);
        g_assert_cmpuint(shelf_stats(&shelf).hot_objects, >, 0);

        /* It grows again when it is used. */
        wait_until((fill(&shelf, MANY), shelf_stats(&shelf).hot_bytes > 3U << 20));
        g_assert_cmpuint(shelf_stats(&shelf).hot_bytes, <=, 4U << 20);
        shelf_destroy(&shelf);
}

/* What it gives back is the system's again, whatever was evicted in which order. */
static void test_give_back(void) {
        struct shelf shelf;
        uint64_t full;

        shelf_init(&shelf);
        shelf.config.dictionary_max = 256U << 20;
        shelf.config.cache_size = 64U << 20;
        shelf_open(&shelf);
        put_many(&shelf, 3000, 15000);
        {
                _cleanup_object_ struct storage_object object = { .body_max = UINT64_MAX, .fd = -EBADF };

                for (unsigned i = 0; i < 9000; i++) {
                        g_autofree char *uri = g_strdup_printf("object %u", i % 3000);
                        assert_ok(get(&shelf, uri, 0, &object));
                }
        }
        g_assert_cmpuint(shelf_stats(&shelf).hot_bytes, >, 24U << 20);
        full = resident_bytes();
        storage_shrink(shelf.storage);
        if (MEMORY_IS_OWN)
                g_assert_cmpuint(resident_bytes(), <, full - (10U << 20));
        shelf_destroy(&shelf);
}

/* Objects that are got again and again stay while others are read through once or twice. */
static void test_scan(void) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        uint64_t hits;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.config.cache_size = 4U << 20;
        shelf_open(&shelf);
        put_many(&shelf, MANY, 2000);
        for (unsigned i = 0; i < MANY; i++) {
                g_autofree char *scanned = g_strdup_printf("object %u", i),
                                *hot = g_strdup_printf("object %u", i % 100);

                assert_ok(get(&shelf, scanned, 0, &object));
                assert_ok(get(&shelf, scanned, 0, &object));
                assert_ok(get(&shelf, hot, 0, &object));
        }

        hits = shelf_stats(&shelf).hot_hits;
        for (unsigned i = 0; i < 100; i++) {
                g_autofree char *hot = g_strdup_printf("object %u", i);
                assert_ok(get(&shelf, hot, 0, &object));
        }
        g_assert_cmpuint(shelf_stats(&shelf).hot_hits - hits, >=, 95);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/hot/heat", test_heat);
        harness_add("/storage/hot/view", test_view);
        harness_add("/storage/hot/view-expiry", test_view_expiry);
        harness_add("/storage/hot/changes", test_changes);
        harness_add("/storage/hot/suspended", test_suspended);
        harness_add("/storage/hot/expiry", test_expiry);
        harness_add("/storage/hot/usage", test_usage);
        harness_add("/storage/hot/known", test_known);
        harness_add("/storage/hot/collisions", test_collisions);
        harness_add("/storage/hot/replaced-before-open", test_replaced_before_open);
        harness_add("/storage/hot/replaced-before-put", test_replaced_before_put);
        harness_add("/storage/hot/nowait", test_nowait);
        harness_add("/storage/hot/check", test_check);
        harness_add("/storage/hot/no-check", test_no_check);
        harness_add("/storage/hot/budget", test_budget);
        harness_add("/storage/hot/give-back", test_give_back);
        harness_add("/storage/hot/scan", test_scan);
        return g_test_run();
}
