/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every call of storage.h from eight threads at once, with everything on that the store does by itself. What is
 * got must be what was put, and never older than what the caller knew before. STRESS_SECONDS= says how long. */

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "macro.h"
#include "storage-harness.h"

#define THREADS         8
#define URIS            200
#define IN_FLIGHT       16
#define CACHE_PATH_MAX  500000
#define PINNED          5
#define BYTES_MAX       600000 /* less than the objects would take */
#define OBJECTS_MAX     180    /* likewise */
#define SECONDS_DEFAULT 6
#define SECONDS_FULL    300   /* from here on ... */
#define CALLS_FULL      10000 /* ... each function is called so often */

/* All functions of storage.h: compared with the header. */
#define FUNCTIONS(X)                      \
        X(storage_init)                   \
        X(storage_cleanup)                \
        X(storage_get_id)                 \
        X(storage_is_mapped)              \
        X(storage_set_cache_path_max)     \
        X(storage_set_limits)             \
        X(storage_visit_namespaces)       \
        X(storage_object_done)            \
        X(storage_get)                    \
        X(storage_viewer_begin)           \
        X(storage_viewer_end)             \
        X(storage_view)                   \
        X(storage_view_count)             \
        X(storage_note_body_read)         \
        X(storage_open_original)          \
        X(storage_get_fd)                 \
        X(storage_get_mmap)               \
        X(storage_munmap)                 \
        X(storage_get_info)               \
        X(storage_upload_new)             \
        X(storage_upload_write)           \
        X(storage_upload_finish)          \
        X(storage_upload_finish_unsynced) \
        X(storage_upload_size)            \
        X(storage_upload_checksum)        \
        X(storage_upload_free)            \
        X(storage_submit)                 \
        X(storage_change_wait)            \
        X(storage_put)                    \
        X(storage_remove)                 \
        X(storage_list)                   \
        X(storage_list_except)            \
        X(storage_problem_name)           \
        X(storage_problem_text)           \
        X(storage_verify_begin)           \
        X(storage_verify_get_progress)    \
        X(storage_verify_cancel)          \
        X(storage_verify_end)             \
        X(storage_get_stats)              \
        X(storage_set_cache_size)         \
        X(storage_set_check_on_fill)      \
        X(storage_set_object_max)         \
        X(storage_set_expired_keep)       \
        X(storage_get_write_error)        \
        X(storage_watch_writes)           \
        X(storage_drop_cache)             \
        X(storage_shrink)

#define AS_NUMBER(function) CALL_##function,
#define AS_TEXT(function)   #function,
enum { FUNCTIONS(AS_NUMBER) CALLS };
static const char *const call_names[CALLS] = { FUNCTIONS(AS_TEXT) };
static uint64_t calls[CALLS]; /* atomic */

#define CALL(function, ...)                                                              \
        ({                                                                               \
                (void) __atomic_fetch_add(&calls[CALL_##function], 1, __ATOMIC_RELAXED); \
                function(__VA_ARGS__);                                                   \
        })

struct stress {
        struct shelf shelf;
        unsigned n_write_states; /* atomic */
        uint64_t end_usec;
        uint64_t calls_wanted; /* of each function */
        char *uris[URIS];
        char *pinned[PINNED]; /* other objects, which stay */
        uint64_t pinned_generations[PINNED];
        char *cache_path;
        /* The newest state of each object that somebody knows of; nothing older may come. Atomic. */
        uint64_t known[URIS];
        uint64_t durable[URIS]; /* the newest that was: listings show no other */
};

/* A change on its way. */
struct flight {
        struct storage_change change;
        struct stress *stress;
        unsigned uri;
        bool is_busy; /* atomic */
};

struct worker {
        struct stress *stress;
        struct storage *storage;
        GRand *rand;
        uint64_t next_stamp;
        char *own_path; /* of a store of its own */
        struct storage_object object;
        struct flight flights[IN_FLIGHT];
};

static unsigned seconds_wanted(void) {
        const char *text = g_getenv("STRESS_SECONDS");

        return text ? (unsigned) g_ascii_strtoull(text, NULL, 10) : SECONDS_DEFAULT;
}

/* ---- what is known ---- */

/* States of an object in the order in which they come. */
static uint64_t state_of(const struct storage_etag *etag) {
        g_assert_cmpuint(etag->generation, <, UINT64_C(1) << 40);
        g_assert_cmpuint(etag->metadata_version, <, UINT64_C(1) << 24);
        return etag->generation << 24 | etag->metadata_version;
}

static uint64_t know(struct stress *stress, unsigned uri) {
        return __atomic_load_n(&stress->known[uri], __ATOMIC_ACQUIRE);
}

static void raise_to(uint64_t *number, uint64_t value) {
        uint64_t old = __atomic_load_n(number, __ATOMIC_ACQUIRE);

        while (old < value &&
               !__atomic_compare_exchange_n(number, &old, value, false, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
                ;
}

static void learn(struct stress *stress, unsigned uri, uint64_t state) {
        raise_to(&stress->known[uri], state);
}

static void learn_durable(struct stress *stress, unsigned uri, uint64_t state) {
        raise_to(&stress->durable[uri], state);
        learn(stress, uri, state);
}

/* The generation is gone: whatever comes now is of a later one. */
static void learn_gone(struct stress *stress, unsigned uri, uint64_t generation) {
        learn_durable(stress, uri, (generation + 1) << 24);
}

static void check_state(struct worker *worker,
                        unsigned uri,
                        uint64_t known,
                        const struct storage_info *info) {
        uint64_t state = state_of(&info->etag);

        if (state < known)
                g_error("%.40s: generation %" G_GUINT64_FORMAT " version %" G_GUINT64_FORMAT
                        " after generation %" G_GUINT64_FORMAT " version %" G_GUINT64_FORMAT,
                        worker->stress->uris[uri], state >> 24, state & 0xffffff, known >> 24,
                        known & 0xffffff);
        learn(worker->stress, uri, state);
}

/* ---- bodies: each says of which object it is, and how it goes on ---- */

#define STAMP_SIZE 24

static uint8_t *make_body(unsigned uri, uint64_t stamp, size_t *ret_size) {
        size_t size = STAMP_SIZE + (size_t) (stamp * 2654435761U) % (stamp % 8 == 0 ? 60000 : 3000);
        uint8_t *bytes = make_bytes(stamp, size);

        memcpy(bytes, &(uint64_t){ uri }, 8);
        memcpy(bytes + 8, &stamp, 8);
        memcpy(bytes + 16, &(uint64_t){ size }, 8);
        *ret_size = size;
        return bytes;
}

static uint8_t *new_body(struct worker *worker, unsigned uri, size_t *ret_size) {
        return make_body(uri, worker->next_stamp++, ret_size);
}

static void check_body(unsigned uri, const uint8_t *bytes, size_t size, const struct storage_info *info) {
        g_autofree uint8_t *expected = NULL;
        size_t expected_size;
        uint64_t stamp;

        g_assert_cmpuint(size, ==, info->size);
        g_assert_cmpuint(size, >=, STAMP_SIZE);
        memcpy(&stamp, bytes + 8, 8);
        expected = make_body(uri, stamp, &expected_size);
        g_assert_cmpmem(bytes, size, expected, expected_size);
}

static void check_fd(unsigned uri, int fd, const struct storage_info *info) {
        g_autofree uint8_t *bytes = g_malloc(info->size + 1);

        g_assert_cmpint(pread(fd, bytes, info->size + 1, 0), ==, info->size);
        check_body(uri, bytes, info->size, info);
}

/* ---- gets ---- */

static bool is_get_refusal(int r) {
        return r == -ENOENT || r == -ESTALE;
}

/* A copy, or the body itself; as if the copy could not be read, sometimes. */
static void check_opened(struct worker *worker, unsigned uri, const struct storage_object *object) {
        check_fd(uri, object->fd, &object->info);
        if (object->copy == 0 || g_rand_boolean(worker->rand))
                return;

        /* Others may have it open too. */
        for (unsigned i = 0; i < 4; i++) {
                _cleanup_close_ int fd = CALL(storage_open_original, worker->storage, object->copy,
                                              object->fd);

                g_assert_true(fd >= 0 || fd == -ENOENT);
                if (fd >= 0)
                        check_fd(uri, fd, &object->info);
        }
}

static void do_get(struct worker *worker, unsigned uri) {
        static const unsigned flags[] = { 0, STORAGE_GET_OPEN, STORAGE_GET_OPEN,
                                          STORAGE_GET_OPEN | STORAGE_GET_STALE };
        struct storage_object *object = &worker->object;
        uint64_t known = know(worker->stress, uri);
        unsigned flag = flags[g_rand_int(worker->rand) % ARRAY_SIZE(flags)];
        const char *name = worker->stress->uris[uri];
        struct storage_etag etag;
        int r;

        if (g_rand_boolean(worker->rand))
                flag |= STORAGE_GET_NOWAIT;
        object->body_max = g_rand_boolean(worker->rand) ? UINT64_MAX : 0;

        r = CALL(storage_get, worker->storage, name, strlen(name), flag, NULL, object);
        if (r == -ENOENT || (r == -EINPROGRESS && flag & STORAGE_GET_NOWAIT))
                return;
        g_assert_true(r == 0 || (r == -ESTALE && !(flag & STORAGE_GET_STALE)));
        check_state(worker, uri, known, &object->info);
        CALL(storage_note_body_read, worker->storage, name, strlen(name), object->info.etag.generation,
             g_rand_boolean(worker->rand) ? -EIO : 0);
        if (r == 0 && object->body)
                check_body(uri, object->body, object->info.size, &object->info);
        else if (r == 0 && flag & STORAGE_GET_OPEN)
                check_opened(worker, uri, object);

        etag = object->info.etag;
        known = know(worker->stress, uri);
        r = CALL(storage_get, worker->storage, name, strlen(name), flag, &etag, object);
        g_assert_true(r == 0 || r == 1 || is_get_refusal(r) || r == -EINPROGRESS);
        if (r == 0)
                check_state(worker, uri, known, &object->info);
        if (r == 1)
                g_assert_cmpuint(object->info.etag.generation, ==, etag.generation);
}

/* What is hot, got until it is. */
static void do_view(struct worker *worker, unsigned uri) {
        struct storage_object *object = &worker->object;
        const char *name = worker->stress->uris[uri];
        struct storage_viewer viewer;
        struct storage_view view;
        uint64_t known;

        for (unsigned i = 0; i < 2; i++) {
                object->body_max = UINT64_MAX;
                (void) CALL(storage_get, worker->storage, name, strlen(name), STORAGE_GET_OPEN, NULL, object);
        }

        known = know(worker->stress, uri);
        if (!CALL(storage_viewer_begin, worker->storage, clock_usec(CLOCK_REALTIME), &viewer))
                return;
        if (CALL(storage_view, &viewer, name, strlen(name), UINT64_MAX, &view)) {
                check_state(worker, uri, known, view.info);
                g_assert_cmpuint(view.metadata_size, ==, 3);
                check_body(uri, view.body, view.info->size, view.info);
                if (g_rand_boolean(worker->rand))
                        CALL(storage_view_count, &viewer, &view);
        }
        CALL(storage_viewer_end, &viewer);
}

static void do_object_done(struct worker *worker, unsigned uri) {
        do_get(worker, uri);
        CALL(storage_object_done, &worker->object);
}

static void do_get_fd(struct worker *worker, unsigned uri) {
        uint64_t known = know(worker->stress, uri);
        const char *name = worker->stress->uris[uri];
        _cleanup_close_ int fd = -EBADF;
        struct storage_info info;
        int r;

        r = CALL(storage_get_fd, worker->storage, name, strlen(name), &fd, &info);
        g_assert_true(r == 0 || is_get_refusal(r));
        if (r < 0)
                return;
        check_state(worker, uri, known, &info);
        check_fd(uri, fd, &info);
}

static void do_get_mmap(struct worker *worker, unsigned uri) {
        uint64_t known = know(worker->stress, uri);
        const char *name = worker->stress->uris[uri];
        struct storage_info info;
        const void *address;
        int r;

        r = CALL(storage_get_mmap, worker->storage, name, strlen(name), &address, &info);
        g_assert_true(r == 0 || is_get_refusal(r));
        if (r < 0)
                return;
        check_state(worker, uri, known, &info);
        check_body(uri, address, info.size, &info);
        CALL(storage_munmap, address, info.size);
}

static void do_get_info(struct worker *worker, unsigned uri) {
        uint64_t known = know(worker->stress, uri);
        const char *name = worker->stress->uris[uri];
        struct storage_info info;
        char metadata[64];
        size_t size = sizeof(metadata);
        int r;

        r = CALL(storage_get_info, worker->storage, name, strlen(name), &info, metadata, &size);
        g_assert_true(r == 0 || is_get_refusal(r));
        if (r < 0)
                return;
        check_state(worker, uri, known, &info);
        g_assert_cmpmem(metadata, size, info.etag.metadata_version == 1 ? "put" : "set", 3);
}

/* ---- changes ---- */

static bool is_put_refusal(const struct storage_change *change, int r) {
        return r == -ENOSPC || (change->if_absent && r == -EEXIST) ||
               (change->if_generation > 0 && (r == -ECANCELED || r == -ENOENT));
}

static void do_put(struct worker *worker, unsigned uri) {
        const char *name = worker->stress->uris[uri];
        g_autofree uint8_t *bytes = NULL;
        struct storage_info info;
        size_t size;
        int r;

        bytes = new_body(worker, uri, &size);
        r = CALL(storage_put, worker->storage, name, strlen(name), bytes, size, "put", 3, &info);
        g_assert_true(r == 0 || r == -ENOSPC);
        if (r < 0)
                return;
        g_assert_cmpuint(info.size, ==, size);
        learn_durable(worker->stress, uri, state_of(&info.etag));
}

static void do_remove(struct worker *worker, unsigned uri) {
        const char *name = worker->stress->uris[uri];
        uint64_t known = know(worker->stress, uri);
        int r = CALL(storage_remove, worker->storage, name, strlen(name));

        g_assert_true(r == 0 || r == -ENOENT);
        if (known > 0) /* that one at least */
                learn_gone(worker->stress, uri, (known - 1) >> 24);
}

static struct storage_upload *upload_body(struct worker *worker, unsigned uri) {
        struct storage_upload *upload = NULL;
        g_autofree uint8_t *bytes = NULL;
        size_t size, half;

        bytes = new_body(worker, uri, &size);
        half = size / 2;
        assert_ok(CALL(storage_upload_new, worker->storage, g_rand_boolean(worker->rand) ? size : UINT64_MAX,
                       &upload));
        assert_ok(CALL(storage_upload_write, upload, bytes, half));
        g_assert_cmpuint(CALL(storage_upload_size, upload), ==, half);
        assert_ok(CALL(storage_upload_write, upload, bytes + half, size - half));
        if (g_rand_boolean(worker->rand))
                assert_ok(CALL(storage_upload_finish, upload));
        else
                assert_ok(CALL(storage_upload_finish_unsynced, upload));
        g_assert_cmpuint(CALL(storage_upload_checksum, upload), !=, 0);
        return upload;
}

static void free_upload(struct storage_upload *upload) {
        if (upload)
                CALL(storage_upload_free, upload);
}

/* One that is given up. */
static void do_upload(struct worker *worker, unsigned uri) {
        free_upload(upload_body(worker, uri));
}

static void make_change(struct worker *worker, unsigned uri, struct storage_change *change) {
        *change = (struct storage_change){ .uri = worker->stress->uris[uri],
                                           .uri_size = strlen(worker->stress->uris[uri]) };

        switch (g_rand_int(worker->rand) % 10) {
        case 0:
                change->kind = STORAGE_REMOVE;
                break;
        case 8:
                change->kind = uri % 10 == 0 ? STORAGE_PIN : STORAGE_UNPIN;
                break;
        case 1 ... 2:
                change->kind = STORAGE_SET_METADATA;
                change->metadata = "set";
                change->metadata_size = 3;
                break;
        default:
                change->kind = STORAGE_PUT;
                change->upload = upload_body(worker, uri);
                change->visible = g_rand_boolean(worker->rand);
                change->metadata = "put";
                change->metadata_size = 3;
                change->ttl_msec = g_rand_boolean(worker->rand) ? 1 + g_rand_int(worker->rand) % 50 : 0;
                break;
        }

        change->if_absent = change->kind == STORAGE_PUT && g_rand_int(worker->rand) % 8 == 0;
        if (!change->if_absent && g_rand_int(worker->rand) % 8 == 0)
                change->if_generation = MAX(know(worker->stress, uri) >> 24, UINT64_C(1));
}

/* Of one that is done. Called from the store's thread too. */
static void check_change(struct stress *stress, unsigned uri, const struct storage_change *change) {
        int r = change->result;

        if (r < 0) {
                g_assert_true(is_put_refusal(change, r) || (change->kind != STORAGE_PUT && r == -ENOENT));
                return;
        }
        if (change->kind == STORAGE_REMOVE)
                learn_gone(stress, uri, change->info.etag.generation);
        else if (change->visible)
                learn(stress, uri, state_of(&change->info.etag));
        else
                learn_durable(stress, uri, state_of(&change->info.etag));
}

static void do_change(struct worker *worker, unsigned uri) {
        struct storage_change change;

        make_change(worker, uri, &change);
        (void) CALL(storage_change_wait, worker->storage, &change);
        check_change(worker->stress, uri, &change);
        free_upload(change.upload);
}

static void on_flight_done(struct storage_change *change) {
        struct flight *flight = change->userdata;

        check_change(flight->stress, flight->uri, change);
        __atomic_store_n(&flight->is_busy, false, __ATOMIC_RELEASE);
}

static bool is_busy(const struct flight *flight) {
        return __atomic_load_n(&flight->is_busy, __ATOMIC_ACQUIRE);
}

static void do_submit(struct worker *worker, unsigned uri) {
        struct flight *flight = &worker->flights[g_rand_int(worker->rand) % IN_FLIGHT];

        if (is_busy(flight))
                return;

        free_upload(flight->change.upload);
        make_change(worker, uri, &flight->change);
        flight->change.done = on_flight_done;
        flight->change.userdata = flight;
        flight->stress = worker->stress;
        flight->uri = uri;
        __atomic_store_n(&flight->is_busy, true, __ATOMIC_RELAXED);
        CALL(storage_submit, worker->storage, &flight->change);
}

static void do_purge(struct worker *worker, unsigned uri) {
        struct stress *stress = worker->stress;
        g_autofree char *prefix = g_strndup(stress->uris[uri], 5); /* some of a kind */
        struct storage_change change = { .kind = STORAGE_PURGE, .uri = prefix, .uri_size = strlen(prefix) };
        uint64_t known[URIS];

        for (unsigned i = 0; i < URIS; i++)
                known[i] = know(stress, i);
        assert_ok(CALL(storage_change_wait, worker->storage, &change));
        for (unsigned i = 0; i < URIS; i++)
                if (known[i] > 0 && g_str_has_prefix(stress->uris[i], prefix))
                        learn_gone(stress, i, (known[i] - 1) >> 24);
}

/* ---- the rest ---- */

struct listing {
        struct worker *worker;
        uint64_t durable[URIS]; /* before it */
};

static void begin_listing(struct listing *listing, struct worker *worker) {
        listing->worker = worker;
        for (unsigned i = 0; i < URIS; i++)
                listing->durable[i] = __atomic_load_n(&worker->stress->durable[i], __ATOMIC_ACQUIRE);
}

/* URIS or more: a pinned one. */
static unsigned number_of(const struct stress *stress, const void *uri, size_t uri_size) {
        for (unsigned i = 0; i < URIS; i++)
                if (strlen(stress->uris[i]) == uri_size && memcmp(stress->uris[i], uri, uri_size) == 0)
                        return i;
        for (unsigned i = 0; i < PINNED; i++)
                if (strlen(stress->pinned[i]) == uri_size && memcmp(stress->pinned[i], uri, uri_size) == 0)
                        return URIS + i;

        g_error("%.*s was never put", (int) uri_size, (const char *) uri);
}

static int visit(const void *uri, size_t uri_size, const struct storage_info *info, void *userdata) {
        struct listing *listing = userdata;
        unsigned number = number_of(listing->worker->stress, uri, uri_size);

        if (number >= URIS)
                return 0;
        check_state(listing->worker, number, listing->durable[number], info);
        raise_to(&listing->worker->stress->durable[number], state_of(&info->etag));
        return 0;
}

static void do_list(struct worker *worker, unsigned uri) {
        struct listing listing;
        struct storage_cursor cursor = {};

        begin_listing(&listing, worker);
        assert_ok(CALL(storage_list, worker->storage, worker->stress->uris[uri], 4, &cursor, 20, visit,
                       &listing));
}

static size_t skip(const void *uri, _unused_ size_t uri_size, _unused_ void *userdata) {
        return ((const char *) uri)[0] == '1' ? 1 : 0;
}

static int visit_others(const void *uri, size_t uri_size, const struct storage_info *info, void *userdata) {
        g_assert_cmpint(((const char *) uri)[0], !=, '1');
        return visit(uri, uri_size, info, userdata);
}

static void do_list_except(struct worker *worker, _unused_ unsigned uri) {
        struct listing listing;
        struct storage_cursor cursor = {};

        begin_listing(&listing, worker);
        assert_ok(CALL(storage_list_except, worker->storage, "", 0, &cursor, 50, skip, visit_others,
                       &listing));
}

static void do_stats(struct worker *worker, _unused_ unsigned uri) {
        struct storage_stats stats;

        CALL(storage_get_stats, worker->storage, &stats);
        g_assert_cmpuint(stats.objects, <=, OBJECTS_MAX);
        g_assert_cmpuint(stats.bytes, <=, BYTES_MAX);
        g_assert_cmpuint(CALL(storage_get_id, worker->storage), ==, storage_get_id(worker->storage));
        g_assert_false(CALL(storage_is_mapped, worker->storage, &stats));
}

/* What goes on meanwhile is nothing that verify may find. */
static void on_finding(const struct storage_finding *finding, _unused_ void *userdata) {
        g_error("verify found of %.*s, %s: %s (%s)", (int) finding->uri_size, (const char *) finding->uri,
                finding->file ?: "no file", CALL(storage_problem_text, finding->problem),
                CALL(storage_problem_name, finding->problem));
}

static void on_verified(int result, void *userdata) {
        g_assert_true(result == 0 || result == -ECANCELED);
        __atomic_store_n((bool *) userdata, true, __ATOMIC_RELEASE);
}

static void do_verify(struct worker *worker, unsigned uri) {
        bool is_done = false;
        struct storage_verify_config config = {
                .repair = uri % 2,
                .bytes_per_sec = UINT64_MAX,
                .on_finding = on_finding,
                .on_done = on_verified,
                .userdata = &is_done,
        };
        struct storage_verify_progress progress;
        struct storage_verify *verify = NULL;
        int r;

        g_assert_nonnull(CALL(storage_problem_name, uri % STORAGE_PROBLEM_MAX));
        g_assert_nonnull(CALL(storage_problem_text, uri % STORAGE_PROBLEM_MAX));

        r = CALL(storage_verify_begin, &verify, worker->storage, &config);
        g_assert_true(r == 0 || r == -EBUSY);
        if (r < 0) {
                CALL(storage_verify_end, NULL);
                return;
        }

        for (unsigned i = 0; i < 10; i++) {
                CALL(storage_verify_get_progress, verify, &progress);
                g_assert_cmpuint(progress.problems, ==, 0);
                if (uri % 32 > 0)
                        CALL(storage_verify_cancel, verify);
        }
        if (uri % 32 == 0)
                wait_until(__atomic_load_n(&is_done, __ATOMIC_ACQUIRE));
        CALL(storage_verify_end, verify);
        g_assert_true(is_done);
}

static void do_set_cache_path_max(struct worker *worker, unsigned uri) {
        CALL(storage_set_cache_path_max, worker->storage,
             &(struct storage_amount){ .bytes = uri % 8 * CACHE_PATH_MAX / 8 });
}

/* The maxima of the store are lowered at times; three namespaces go each their own way. */
static int set_limits(struct storage *storage, unsigned random) {
        const struct storage_namespace namespaces[] = {
                { .name = "one",
                  .prefix = "1",
                  .prefix_size = 1,
                  .bytes_max = BYTES_MAX / 4,
                  .policy = random / 8 % 3,
                  .evict = true },
                { .name = "two",
                  .prefix = "2",
                  .prefix_size = 1,
                  .objects_max = OBJECTS_MAX / 8,
                  .ttl_msec = 20,
                  .policy = STORAGE_POLICY_LFU,
                  .evict = true },
                { .name = "three",
                  .prefix = "3",
                  .prefix_size = 1,
                  .bytes_max = BYTES_MAX / 4,
                  .evict = random & 4 },
        };

        return CALL(storage_set_limits, storage,
                    &(struct storage_limits){ .bytes_max = random & 1 ? BYTES_MAX : BYTES_MAX / 2,
                                              .objects_max = random & 2 ? OBJECTS_MAX : OBJECTS_MAX / 2,
                                              .policy = random / 32 % 3,
                                              .evict = true,
                                              .namespaces = namespaces,
                                              .n_namespaces = random / 128 % 4 });
}

static void do_set_limits(struct worker *worker, _unused_ unsigned uri) {
        assert_ok(set_limits(worker->storage, g_rand_int(worker->rand)));
}

static void do_get_pinned(struct worker *worker, unsigned uri) {
        struct stress *stress = worker->stress;
        struct storage_object *object = &worker->object;
        unsigned which = uri % PINNED;
        const char *name = stress->pinned[which];

        object->body_max = 0; /* the file is wanted */
        assert_ok(CALL(storage_get, worker->storage, name, strlen(name), STORAGE_GET_OPEN, NULL, object));
        g_assert_cmpuint(object->info.etag.generation, ==, stress->pinned_generations[which]);
        check_opened(worker, URIS + which, object);
}

static void note_usage(const struct storage_namespace *namespace,
                       const struct storage_usage *usage,
                       void *userdata) {
        g_assert_nonnull(namespace->name);
        g_assert_cmpuint(usage->pinned_bytes, <=, usage->bytes);
        g_assert_cmpuint(usage->pinned_objects, <=, usage->objects);
        ++*(unsigned *) userdata;
}

static void do_visit_namespaces(struct worker *worker, _unused_ unsigned uri) {
        unsigned n = 0;

        CALL(storage_visit_namespaces, worker->storage, note_usage, &n);
        g_assert_cmpuint(n, >=, 1);
}

/* A store of the thread's own, opened and closed. */
static void do_open(struct worker *worker, _unused_ unsigned uri) {
        struct storage_config config = worker->stress->shelf.config;
        struct storage *storage = NULL;

        config.directory = worker->own_path;
        config.cache_path = NULL;
        assert_ok(CALL(storage_init, &storage, &config));
        CALL(storage_cleanup, storage);
}

static void count_writes(void *userdata) {
        (void) __atomic_fetch_add((unsigned *) userdata, 1, __ATOMIC_RELAXED);
}

static void do_settings(struct worker *worker, unsigned uri) {
        static const uint64_t sizes[] = { 0, 1U << 20, 16U << 20, 16U << 20 };

        assert_ok(CALL(storage_set_cache_size, worker->storage, sizes[uri % ARRAY_SIZE(sizes)]));
        CALL(storage_set_check_on_fill, worker->storage, g_rand_boolean(worker->rand));
        CALL(storage_set_object_max, worker->storage, g_rand_boolean(worker->rand) ? 0 : UINT64_C(1) << 40);
        CALL(storage_set_expired_keep, worker->storage, worker->stress->shelf.config.expired_keep_usec);
        (void) CALL(storage_get_write_error, worker->storage);
        CALL(storage_watch_writes, worker->storage, uri % 2 ? count_writes : NULL,
             &worker->stress->n_write_states);
        if (uri % 2 == 0)
                assert_ok(CALL(storage_drop_cache, worker->storage));
        CALL(storage_shrink, worker->storage);
}

static const struct {
        void (*function)(struct worker *worker, unsigned uri);
        unsigned weight;
} operations[] = {
        { do_get, 40 },       { do_object_done, 5 }, { do_view, 60 },
        { do_get_fd, 10 },    { do_get_mmap, 16 },   { do_get_info, 10 },
        { do_put, 4 },        { do_remove, 3 },      { do_upload, 2 },
        { do_change, 8 },     { do_submit, 30 },     { do_purge, 1 },
        { do_list, 4 },       { do_list_except, 4 }, { do_stats, 4 },
        { do_open, 6 },       { do_verify, 8 },      { do_set_cache_path_max, 3 },
        { do_set_limits, 3 }, { do_get_pinned, 16 }, { do_visit_namespaces, 3 },
        { do_settings, 4 },
};

static void do_any(struct worker *worker) {
        unsigned uri = (unsigned) g_rand_int_range(worker->rand, 0, URIS), sum = 0, which;

        /* Some are asked for more than others. */
        if (g_rand_boolean(worker->rand))
                uri %= URIS / 10;

        for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
                sum += operations[i].weight;
        which = g_rand_int(worker->rand) % sum;
        for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
                if (which < operations[i].weight) {
                        operations[i].function(worker, uri);
                        return;
                }
                which -= operations[i].weight;
        }
}

static bool is_enough(const struct stress *stress) {
        for (size_t i = 0; i < CALLS; i++)
                if (__atomic_load_n(&calls[i], __ATOMIC_RELAXED) < stress->calls_wanted)
                        return false;

        return true;
}

/* A busy machine is given the time that it needs. */
static bool is_over(const struct stress *stress) {
        return clock_usec(CLOCK_MONOTONIC) >= stress->end_usec && is_enough(stress);
}

static void *run(void *userdata) {
        struct worker *worker = userdata;

        while (!is_over(worker->stress))
                do_any(worker);

        for (size_t i = 0; i < IN_FLIGHT; i++) {
                wait_until(!is_busy(&worker->flights[i]));
                free_upload(worker->flights[i].change.upload);
        }
        CALL(storage_object_done, &worker->object);
        return NULL;
}

static void put_pinned(struct stress *stress, unsigned which) {
        struct storage_change pin = { .kind = STORAGE_PIN };
        g_autofree uint8_t *bytes = NULL;
        struct storage_info info;
        size_t size;

        bytes = make_body(URIS + which, 8 * (which + 1), &size); /* large ones, that have copies */
        pin.uri = stress->pinned[which] = g_strdup_printf("kept/%u", which);
        pin.uri_size = strlen(pin.uri);
        assert_ok(storage_put(stress->shelf.storage, pin.uri, pin.uri_size, bytes, size, "put", 3, &info));
        assert_ok(storage_change_wait(stress->shelf.storage, &pin));
        stress->pinned_generations[which] = info.etag.generation;
}

static void stress_init(struct stress *stress) {
        *stress = (struct stress){};
        for (unsigned i = 0; i < URIS; i++) /* each other one too long for a key */
                stress->uris[i] = g_strdup_printf("%u/%u/%0*u", i % 4, i % 10, i % 2 ? 10 : 700, i);

        shelf_init(&stress->shelf);
        stress->shelf.config.expired_keep_usec = 5 * USEC_PER_MSEC;
        stress->shelf.hooks.usage_interval_usec = 2000;
        stress->shelf.hooks.expiry_interval_usec = 2000;
        stress->shelf.config.cache_path = stress->cache_path = harness_make_dir();
        stress->shelf.config.cache_path_max.bytes = CACHE_PATH_MAX;
        stress->shelf.config.limits = (struct storage_limits){ .bytes_max = BYTES_MAX,
                                                               .objects_max = OBJECTS_MAX,
                                                               .evict = true };
        shelf_open(&stress->shelf);

        for (unsigned i = 0; i < PINNED; i++)
                put_pinned(stress, i);
}

static void check_end(struct stress *stress) {
        struct shelf *shelf = &stress->shelf;
        struct storage_change purge = { .kind = STORAGE_PURGE, .uri = "", .uri_size = 0 };
        struct storage_stats stats;

        g_assert_cmpuint(shelf_events(shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        g_assert_cmpuint(shelf_events(shelf, STORAGE_EVENT_WRITE_FAILED), ==, 0);
        g_assert_cmpuint(shelf_stats(shelf).puts_visible, >, 0);
        g_assert_cmpuint(shelf_stats(shelf).puts_lost, ==, 0);

        g_assert_cmpuint(shelf_stats(shelf).fast_hits, >, 0);

        assert_ok(storage_change_wait(shelf->storage, &purge));
        stats = shelf_stats(shelf);
        g_assert_cmpuint(stats.objects + stats.bytes + stats.objects_inline, ==, 0);
        g_assert_cmpuint(stats.expired, >, 0);
        g_assert_cmpuint(stats.evictions, >, 0);
        g_assert_cmpuint(stats.hot_hits, >, 0);
        wait_until(shelf_count_blobs(shelf) == 0);
}

static void test_stress(void) {
        g_autofree struct stress *stress = g_new(struct stress, 1);
        g_autofree struct worker *workers = g_new0(struct worker, THREADS);
        unsigned seconds = seconds_wanted();
        pthread_t threads[THREADS];

        stress_init(stress);
        stress->end_usec = clock_usec(CLOCK_MONOTONIC) + seconds * USEC_PER_SEC;
        stress->calls_wanted = seconds < SECONDS_FULL ? 1 : CALLS_FULL;
        for (unsigned i = 0; i < THREADS; i++) {
                workers[i].stress = stress;
                workers[i].storage = stress->shelf.storage;
                workers[i].rand = g_rand_new_with_seed((guint32) g_test_rand_int());
                workers[i].next_stamp = (uint64_t) i << 32 | 1;
                workers[i].own_path = harness_make_dir();
                workers[i].object = STORAGE_OBJECT_INIT;
                assert_ok(pthread_create(&threads[i], NULL, run, &workers[i]));
        }
        for (unsigned i = 0; i < THREADS; i++) {
                assert_ok(pthread_join(threads[i], NULL));
                g_rand_free(workers[i].rand);
                harness_remove_dir(workers[i].own_path);
        }

        for (size_t i = 0; i < CALLS; i++) {
                g_test_message("%s: %" G_GUINT64_FORMAT, call_names[i], calls[i]);
                g_assert_cmpuint(calls[i], >=, stress->calls_wanted);
        }
        check_end(stress);
        shelf_destroy(&stress->shelf);
        harness_remove_dir(stress->cache_path);
        for (unsigned i = 0; i < URIS; i++)
                g_free(stress->uris[i]);
        for (unsigned i = 0; i < PINNED; i++)
                g_free(stress->pinned[i]);
}

/* A function that is new in the header is to be added above. */
static void test_complete(void) {
        g_autofree char *path = g_build_filename(g_getenv("OBJMAPPER_SOURCE") ?: ".", "src/storage/storage.h",
                                                 NULL),
                        *text = NULL;
        g_autoptr(GRegex) regex = NULL;
        g_autoptr(GMatchInfo) match = NULL;
        g_autoptr(GError) error = NULL;
        unsigned n = 0;

        if (!g_file_get_contents(path, &text, NULL, &error))
                g_error("%s", error->message);
        regex = g_regex_new("^\\w[^(/]*\\b(storage_\\w+)\\(", G_REGEX_MULTILINE, 0, &error);
        g_assert_no_error(error);

        for (g_regex_match(regex, text, 0, &match); g_match_info_matches(match);
             g_match_info_next(match, NULL), n++) {
                g_autofree char *name = g_match_info_fetch(match, 1);

                for (size_t i = 0; !g_str_equal(call_names[i], name);)
                        if (++i == CALLS)
                                g_error("%s() is not called in the stress test", name);
        }
        g_assert_cmpuint(n, ==, CALLS);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_use_memory(); /* more happens at once without a disk to wait for */
        harness_add("/storage/stress/complete", test_complete);
        harness_add("/storage/stress/threads", test_stress);
        return g_test_run();
}
