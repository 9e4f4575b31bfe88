/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store.h"

#include <assert.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "folder.h"
#include "format.h"
#include "rebuild.h"
#include "writer.h"

#define GROW_USEC              (10 * USEC_PER_SEC)
#define DICTIONARY_MAX_DEFAULT (UINT64_C(1) << 40)
#define DICTIONARY_MAX_LEAST   (UINT64_C(1) << 32) /* of a default */
#define INLINE_MAX_DEFAULT     2000
#define INLINE_MAX_LIMIT       (UINT64_C(1) << 20)

uint64_t storage_get_id(struct storage *storage) {
        return storage->id;
}

bool storage_is_mapped(struct storage *storage, const void *address) {
        const uint8_t *map = dictionary_map(storage->dictionary);

        return map && (const uint8_t *) address >= map &&
               (const uint8_t *) address < map + dictionary_map_size(storage->dictionary);
}

void storage_tell(struct storage *storage,
                  enum storage_event event,
                  const void *uri,
                  size_t uri_size,
                  int error) {
        bool of_bodies = event == STORAGE_EVENT_BODY_WRITE_FAILED ||
                         event == STORAGE_EVENT_BODY_WRITE_RECOVERED;

        if (storage->on_event)
                storage->on_event(event, uri, uri_size, error, 0, storage->userdata);
        if (of_bodies || event == STORAGE_EVENT_WRITE_FAILED || event == STORAGE_EVENT_WRITE_RECOVERED)
                storage_note_writes(storage, of_bodies, error);
}

static int make_folders(const char *path) {
        _cleanup_free_ char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;

        for (char *p = copy + 1; (p = strchr(p, '/')); *p++ = '/') {
                *p = 0;
                if (mkdir(copy, 0700) < 0 && errno != EEXIST)
                        return -errno;
        }

        return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int open_directory(const char *path, int *ret_fd) {
        int fd, r;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
                r = make_folders(path);
                if (r < 0)
                        return r;
                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (fd >= 0)
                        (void) syncfs(fd); /* the folders above have new names too */
        }
        if (fd < 0)
                return -errno;

        *ret_fd = fd;
        return 0;
}

static int lock_directory(int dir_fd, int *ret_fd) {
        _cleanup_close_ int fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* 1: it is empty or not there; 0: it is not; or an errno. */
static int is_empty(int dir_fd, const char *name) {
        _cleanup_(folder_closep) DIR *dir = NULL;
        const char *first;
        int r;

        r = folder_open(dir_fd, name, &dir);
        if (r < 0)
                return r == -ENOENT ? 1 : r;

        r = folder_next(dir, &first);
        return r < 0 ? r : r == 0;
}

/* There is no format file: either the folder is new, or the making of a store in it broke off. What was begun
 * is begun anew; anything else is not ours to guess about. (An empty folder for the blobs may well be there:
 * a view of it must have something to be bound to.) */
static int begin_store(int dir_fd, struct format *ret) {
        int r;

        r = format_was_begun(dir_fd);
        if (r < 0)
                return r;
        if (r == 0) {
                r = is_empty(dir_fd, "dictionary");
                if (r > 0)
                        r = is_empty(dir_fd, "blobs");
                if (r <= 0)
                        return r < 0 ? r : -EUCLEAN;
        }

        r = format_begin(dir_fd, ret);
        if (r < 0)
                return r;

        if (mkdirat(dir_fd, "dictionary", 0700) < 0 && errno != EEXIST)
                return -errno;
        if ((unlinkat(dir_fd, "dictionary/data.mdb", 0) < 0 && errno != ENOENT) ||
            (unlinkat(dir_fd, "dictionary/lock.mdb", 0) < 0 && errno != ENOENT))
                return -errno;

        return 0;
}

static int finish_store(struct storage *storage, int dir_fd, const struct dictionary_state *state) {
        _cleanup_close_ int fd = -EBADF;
        MDB_txn *txn;
        int r;

        r = dictionary_write_begin(storage->dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_write_state(storage->dictionary, txn, state);
        if (r < 0) {
                dictionary_write_abort(txn);
                return r;
        }

        r = dictionary_write_commit(storage->dictionary, txn);
        if (r < 0)
                return r;

        fd = openat(dir_fd, "dictionary", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fsync(fd) < 0)
                return -errno;

        return format_commit(dir_fd);
}

/* The dictionary of an older version is copied before a byte of it is changed. */
static int prepare_upgrade(struct storage *storage, int dir_fd, unsigned *ret_version) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = dictionary_read_version(storage->dictionary, ret_version);
        if (r < 0)
                return r == -ENOENT ? -EUCLEAN : r;
        if (*ret_version == DICTIONARY_VERSION)
                return 0;

        fd = openat(dir_fd, "dictionary", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;

        return rebuild_copy(storage, fd, *ret_version);
}

static int read_state(struct storage *storage, const struct format *format, struct dictionary_state *ret) {
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(storage->dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_read_state(storage->dictionary, txn, ret);
        if (r == -ENOENT || (r >= 0 && ret->store_id != storage->id))
                r = -EUCLEAN;
        if (r >= 0)
                r = accounts_new(&storage->accounts, format->seed, ret->clock);
        if (r >= 0)
                r = accounts_load(storage->accounts, storage->dictionary, txn);

        dictionary_read_end(storage->dictionary, txn);
        return r;
}

static int load_dictionary(struct storage *storage,
                           int dir_fd,
                           const struct format *format,
                           struct dictionary_state *ret) {
        unsigned version;
        int r;

        r = prepare_upgrade(storage, dir_fd, &version);
        if (r >= 0)
                r = dictionary_open_tables(storage->dictionary);
        if (r >= 0)
                r = read_state(storage, format, ret);
        if (r == -EUCLEAN && storage->accounts) { /* the sums can't be read */
                accounts_free(TAKE_PTR(storage->accounts));
                r = accounts_new(&storage->accounts, format->seed, ret->clock);
                version = 0;
        }
        if (r >= 0 && version != DICTIONARY_VERSION)
                r = rebuild_begin(storage, ret);
        if (r < 0)
                return r;

        r = rebuild_run(storage, ret);
        if (r < 0)
                return r;
        if (version != DICTIONARY_VERSION && version != 0 && storage->on_event)
                storage->on_event(STORAGE_EVENT_UPGRADED, NULL, 0, 0, version, storage->userdata);

        return format_upgrade(dir_fd, format);
}

static int open_dictionary(struct storage *storage,
                           int dir_fd,
                           const struct storage_config *config,
                           const struct format *format,
                           bool is_new,
                           struct dictionary_state *ret) {
        uint64_t map_size = config->dictionary_max ?: DICTIONARY_MAX_DEFAULT;
        _cleanup_free_ char *path = NULL;
        int r;

        if (!is_new && faccessat(dir_fd, "dictionary/data.mdb", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? -EUCLEAN : -errno;

        if (asprintf(&path, "%s/dictionary", config->directory) < 0)
                return -ENOMEM;

        /* Where the address space is limited a smaller map has to do (valgrind says -EINVAL). */
        do
                r = dictionary_open(&storage->dictionary, path, map_size, format->seed, storage->hooks.hash);
        while ((r == -ENOMEM || r == -EINVAL) && config->dictionary_max == 0 &&
               (map_size /= 4) >= DICTIONARY_MAX_LEAST);
        if (r < 0)
                return r;

        if (!is_new)
                return load_dictionary(storage, dir_fd, format, ret);

        r = dictionary_open_tables(storage->dictionary);
        if (r >= 0)
                r = accounts_new(&storage->accounts, format->seed, 0);
        if (r < 0)
                return r;

        *ret = (struct dictionary_state){ .store_id = format->store_id };
        return finish_store(storage, dir_fd, ret);
}

static int set_first_limits(struct storage *storage, const struct storage_limits *from) {
        _cleanup_(limits_freep) struct limits *limits = NULL;
        int r;

        r = limits_new(&limits, from);
        if (r >= 0)
                r = storage_apply_limits(storage, limits);
        if (r >= 0)
                TAKE_PTR(limits);
        return r;
}

int storage_set_limits(struct storage *storage, const struct storage_limits *from) {
        struct limits *limits;
        int r;

        r = limits_new(&limits, from);
        if (r < 0)
                return r;

        writer_set_limits(storage->writer, limits);
        return 0;
}

static int open_store(struct storage *storage, const struct storage_config *config) {
        struct dictionary_state state;
        struct format format;
        int dir_fd, r;
        bool is_new;

        r = open_directory(config->directory, &storage->dir_fd);
        if (r < 0)
                return r;
        dir_fd = storage->dir_fd;

        /* A newer store is not even locked. */
        r = format_read(dir_fd, &format);
        if (r < 0 && r != -ENOENT)
                return r;

        r = lock_directory(dir_fd, &storage->lock_fd);
        if (r < 0)
                return r;

        /* Another process may have made it since. */
        r = format_read(dir_fd, &format);
        is_new = r == -ENOENT;
        if (is_new)
                r = begin_store(dir_fd, &format);
        else if (r >= 0 && faccessat(dir_fd, "blobs", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                r = errno == ENOENT ? -EUCLEAN : -errno;
        if (r < 0)
                return r;

        storage->id = format.store_id;
        r = blobs_open(&storage->blobs, dir_fd, storage->hooks.no_tmpfile);
        if (r < 0)
                return r;

        r = open_dictionary(storage, dir_fd, config, &format, is_new, &state);
        if (r < 0)
                return r;

        if (config->view) {
                r = blobs_use_view(&storage->blobs, config->view);
                if (r < 0)
                        storage_tell(storage, STORAGE_EVENT_VIEW_UNUSABLE, NULL, 0, r);
        }

        r = hot_new(&storage->hot, config->cache_size, storage->accounts->seed, storage->hooks.hot_hash);
        if (r < 0)
                return r;

        if (config->cache_path) {
                r = fast_new(&storage->fast, storage, config);
                if (r < 0)
                        storage_tell(storage, STORAGE_EVENT_CACHE_UNUSABLE, NULL, 0, r);
        }

        r = set_first_limits(storage, &config->limits);
        if (r < 0)
                return r;

        r = overlay_new(&storage->overlay);
        if (r < 0)
                return r;

        r = usage_new(&storage->usage, hot_epoch(storage->hot));
        if (r < 0)
                return r;

        r = resident_new(&storage->resident, storage->dictionary);
        if (r < 0)
                return r;

        r = writer_new(&storage->writer, storage, &state);
        if (r < 0)
                return r;

        return sweeper_new(&storage->sweeper, storage, state.blobs);
}

int storage_init_with_hooks(struct storage **ret,
                            const struct storage_config *config,
                            const struct storage_hooks *hooks) {
        _cleanup_(storage_cleanupp) struct storage *storage = NULL;
        int r;

        assert(ret);
        assert(config);

        if (!config->directory || config->directory[0] == 0 ||
            (config->inline_max != SIZE_MAX && config->inline_max > INLINE_MAX_LIMIT))
                return -EINVAL;

        storage = aligned_alloc(64, sizeof(*storage));
        if (!storage)
                return -ENOMEM;

        *storage = (struct storage){
                .inline_max = config->inline_max == SIZE_MAX ? INLINE_MAX_DEFAULT : config->inline_max,
                .expired_keep_usec = config->expired_keep_usec,
                .check_on_fill = config->check_on_fill,
                .on_event = config->on_event,
                .on_progress = config->on_progress,
                .userdata = config->userdata,
                .hooks = *hooks,
                .dir_fd = -EBADF,
                .lock_fd = -EBADF,
                .blobs = BLOBS_INIT,
                .disk_errors = { .failed_size = NOTHING_FAILED,
                                 .mutex = PTHREAD_MUTEX_INITIALIZER,
                                 .watch_mutex = PTHREAD_MUTEX_INITIALIZER },
                .damaged_mutex = PTHREAD_MUTEX_INITIALIZER,
        };

        storage_set_object_max(storage, config->object_max);
        r = open_store(storage, config);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(storage);
        return 0;
}

int storage_init(struct storage **ret, const struct storage_config *config) {
        return storage_init_with_hooks(ret, config, &(struct storage_hooks){});
}

void storage_cleanup(struct storage *storage) {
        if (!storage)
                return;

        assert(!storage->verify);
        if (storage->sweeper)
                sweeper_free(storage->sweeper);
        if (storage->fast)
                fast_stop(storage->fast); /* it may submit changes, and the writer drops copies until its end */
        if (storage->writer)
                writer_free(storage->writer);
        if (storage->fast)
                fast_free(storage->fast);
        overlay_free(storage->overlay);
        if (storage->usage)
                usage_free(storage->usage);
        if (storage->accounts)
                accounts_free(storage->accounts);
        if (storage->resident)
                resident_free(storage->resident);
        if (storage->hot)
                hot_free(storage->hot);
        if (storage->dictionary)
                dictionary_free(storage->dictionary);
        blobs_close(&storage->blobs);
        close_fdp(&storage->dir_fd);
        close_fdp(&storage->lock_fd); /* the last: whoever gets the lock finds the rest free */
        (void) pthread_mutex_destroy(&storage->disk_errors.mutex);
        (void) pthread_mutex_destroy(&storage->disk_errors.watch_mutex);
        (void) pthread_mutex_destroy(&storage->damaged_mutex);
        free(storage);
}

void storage_set_cache_path_max(struct storage *storage, const struct storage_amount *max) {
        if (storage->fast)
                fast_set_max(storage->fast, max);
}

void storage_visit_namespaces(struct storage *storage,
                              void (*visit)(const struct storage_namespace *namespace,
                                            const struct storage_usage *usage,
                                            void *userdata),
                              void *userdata) {
        accounts_visit(storage->accounts, visit, userdata);
}

void storage_get_stats(struct storage *storage, struct storage_stats *ret) {
        const uint64_t *from = (const uint64_t *) &storage->stats;
        uint64_t *to = (uint64_t *) ret;

        for (size_t i = 0; i < sizeof(*ret) / sizeof(*to); i++)
                to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);

        accounts_get_pinned(storage->accounts, &ret->pinned_objects, &ret->pinned_bytes);
        for (size_t i = 0; i < EPOCH_SLOTS; i++) {
                const struct tally *tally = &storage->tallies[i];

                ret->gets += __atomic_load_n(&tally->gets, __ATOMIC_RELAXED);
                ret->hits += __atomic_load_n(&tally->hits, __ATOMIC_RELAXED);
                ret->hot_hits += __atomic_load_n(&tally->hot_hits, __ATOMIC_RELAXED);
                ret->hot_misses += __atomic_load_n(&tally->hot_misses, __ATOMIC_RELAXED);
                ret->fast_hits += __atomic_load_n(&tally->fast_hits, __ATOMIC_RELAXED);
        }
        hot_count(storage->hot, &ret->hot_bytes, &ret->hot_objects);

        if (dictionary_used(storage->dictionary, &ret->dictionary_bytes) < 0)
                ret->dictionary_bytes = 0;
        if (dictionary_count_due(storage->dictionary, &ret->objects_expiring) < 0)
                ret->objects_expiring = 0;
}

int storage_set_cache_size(struct storage *storage, uint64_t cache_size) {
        return hot_set_size(storage->hot, cache_size);
}

void storage_set_check_on_fill(struct storage *storage, bool check_on_fill) {
        __atomic_store_n(&storage->check_on_fill, check_on_fill, __ATOMIC_RELAXED);
}

/* A file has no more than INT64_MAX bytes. */
void storage_set_object_max(struct storage *storage, uint64_t object_max) {
        object_max = object_max == 0 ? INT64_MAX : MIN(object_max, (uint64_t) INT64_MAX);
        __atomic_store_n(&storage->object_max, object_max, __ATOMIC_RELAXED);
}

void storage_set_expired_keep(struct storage *storage, uint64_t expired_keep_usec) {
        __atomic_store_n(&storage->expired_keep_usec, expired_keep_usec, __ATOMIC_RELAXED);
        writer_wake(storage->writer);
}

int storage_drop_cache(struct storage *storage) {
        int r = hot_clear(storage->hot);

        if (storage->fast)
                fast_clear(storage->fast);
        (void) malloc_trim(0);
        return r;
}

void storage_shrink(struct storage *storage) {
        hot_shrink(storage->hot, storage->hooks.grow_usec ?: GROW_USEC);
        (void) malloc_trim(0);
}
