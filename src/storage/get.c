/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <xxhash.h>

#include "clock.h"
#include "macro.h"
#include "store.h"
#include "writer.h"

#define CHECK_SIZE      ((size_t) 64 << 10) /* bytes of a body that are read at once to be checked */
#define VIEW_CLOCK_USEC USEC_PER_SEC        /* the clock of who looks may be so far behind */

void storage_object_done(struct storage_object *object) {
        close_fdp(&object->fd);
        free(object->buffer);
        *object = STORAGE_OBJECT_INIT;
}

/* A get on its way. */
struct get {
        struct storage *storage;
        const void *uri;
        size_t uri_size;
        unsigned flags;
        const struct storage_etag *known;
        struct storage_object *object;

        uint64_t hash;
        bool is_past_hot; /* it is no use to ask the hot table (again) */
        bool is_hot;      /* the hot table knew it */
        bool is_new;      /* a put that is not committed yet */
        bool is_worthy;   /* of being put there */
        uint64_t moment;  /* before the dictionary was read */
        struct hot_found found;
        struct key key; /* of a long URI, when the dictionary was read */
        uint64_t vanished;
};

static bool may_wait(const struct get *get) {
        return !(get->flags & STORAGE_GET_NOWAIT);
}

static bool is_checking(const struct get *get) {
        return get->flags & STORAGE_GET_OPEN &&
               __atomic_load_n(&get->storage->check_on_fill, __ATOMIC_RELAXED);
}

/* Bytes of a file's body that are taken from memory, or to it. */
static uint64_t small_max(const struct get *get) {
        return MIN(get->object->body_max, (uint64_t) HOT_BODY_MAX);
}

/* Room for metadata and body in the object's own memory; what is in it stays. */
static int make_room(struct storage_object *object, size_t size) {
        uint8_t *p;

        if (size <= object->buffer_size)
                return 0;

        p = realloc(object->buffer, size);
        if (!p)
                return -ENOMEM;

        if (object->metadata_size > 0)
                object->metadata = p;
        object->buffer = p;
        object->buffer_size = size;
        return 0;
}

static int fill(struct get *get, const struct record *record) {
        struct storage_object *object = get->object;
        size_t body_size = record->blob == 0 ? record->info.size : 0;
        size_t size = record->metadata_size + body_size;
        int r;

        r = make_room(object, size);
        if (r < 0)
                return r;

        if (size > 0) /* the one follows the other in the record too */
                memcpy(object->buffer, record->metadata, size);

        object->info = record->info;
        object->info.etag.store_id = get->storage->id;
        object->metadata = object->buffer ?: (uint8_t *) ""; /* an empty body is a body */
        object->metadata_size = record->metadata_size;
        object->body = record->blob == 0 ? object->metadata + record->metadata_size : NULL;
        return 0;
}

static int fill_from_overlay(const struct record *record, void *userdata) {
        struct get *get = userdata;

        get->found.blob = record->blob;
        get->found.is_checked = record->blob == 0;
        return fill(get, record);
}

static bool is_resident(const struct get *get) {
        int hooked = get->storage->hooks.is_resident;

        return hooked != 0 ? hooked > 0 : resident_is(get->storage->resident);
}

static int look_up(struct get *get) {
        struct dictionary *dictionary = get->storage->dictionary;
        struct record record;
        uint64_t begun = 0;
        MDB_txn *txn;
        int r;

        if (!may_wait(get)) {
                if (!is_resident(get) || dictionary_is_shut(dictionary))
                        return -EINPROGRESS;
                begun = resident_begin();
        }

        get->moment = hot_moment(get->storage->hot, get->hash);
        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_find(dictionary, txn, get->uri, get->uri_size, &get->key, &record);
        if (r >= 0) {
                r = fill(get, &record);
                get->found.blob = record.blob;
                get->found.is_checked = record.blob == 0;
                if (get->uri_size > KEY_MAX)
                        memcpy(get->found.key_tail, get->key.data + KEY_HEAD, KEY_TAIL);
        }

        dictionary_read_end(dictionary, txn);
        if (!may_wait(get))
                resident_end(get->storage->resident, begun);

        if (r == -EBADMSG) {
                storage_report_damage(get->storage, get->uri, get->uri_size, 0, r);
                return -ENOENT;
        }

        return r;
}

static int find_committed(struct get *get) {
        const struct hot_want want = {
                .body_max = get->flags & STORAGE_GET_OPEN ? small_max(get) : 0,
                .is_checked = is_checking(get),
                .is_counted = get->flags & STORAGE_GET_OPEN,
        };
        int r;

        if (!get->is_past_hot) {
                r = hot_get(get->storage->hot, get->hash, get->uri, get->uri_size, &want, get->object,
                            &get->found);
                get->is_hot = r > 0;
                if (r != 0)
                        return r;
        }

        r = look_up(get);
        return r >= 0 || r == -ENOENT || r == -ENOMEM || r == -EAGAIN || r == -EINPROGRESS ? r : -EIO;
}

static int find_new(struct get *get) {
        int r = overlay_find(get->storage->overlay, get->uri, get->uri_size, fill_from_overlay, get);

        if (r != -ENOENT) {
                get->is_new = true;
                get->is_hot = false;
        }
        return r;
}

/* Fills the object with what is known of it. */
static int find(struct get *get) {
        int committed, r;

        get->is_hot = get->is_new = false;
        r = find_new(get);
        if (r != -ENOENT)
                return r;

        if (get->storage->hooks.before_find)
                get->storage->hooks.before_find(get->storage->hooks.userdata);
        committed = find_committed(get);
        /* A put may have come since then, and a durable one behind it, which is committed by now: until the first
         * is dropped others are shown that, and so would who was shown the second be. */
        r = find_new(get);
        return r != -ENOENT ? r : committed;
}

static bool is_expired(struct storage *storage, const struct storage_info *info) {
        return info->expires_usec != 0 && info->expires_usec <= storage_now(storage);
}

static bool is_known(const struct storage_etag *known, const struct storage_etag *etag) {
        return known && known->store_id == etag->store_id && known->generation == etag->generation &&
               known->metadata_version == etag->metadata_version;
}

/* Of the holder of slot alone. */
static void tally_add(uint64_t *number, uint64_t n) {
        __atomic_store_n(number, __atomic_load_n(number, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* The one place where a get that found its object is counted. key_tail: of a long URI, NULL when it is not known.
 * slot: the caller's place in the epoch. */
__attribute__((always_inline)) static inline void count_hit(struct storage *storage,
                                                            const struct epoch_slot *slot,
                                                            const void *uri,
                                                            size_t uri_size,
                                                            const uint8_t *key_tail,
                                                            uint64_t hash,
                                                            uint64_t generation,
                                                            uint64_t used_usec) {
        bool is_long = uri_size > KEY_MAX;
        const void *p = uri;
        size_t size = uri_size;
        struct key key;

        if (is_long && key_tail) {
                memcpy(key.data, uri, KEY_HEAD);
                memcpy(key.data + KEY_HEAD, key_tail, KEY_TAIL);
                p = key.data;
                size = KEY_MAX;
        }

        if ((!is_long || key_tail) && usage_count(storage->usage, slot, p, size, hash, generation, used_usec))
                writer_expect_usage(storage->writer);

        accounts_note_hit(storage->accounts, storage->hooks.hot_hash
                                                             ? accounts_hash(storage->accounts, uri, uri_size)
                                                             : hash); /* they are the same */
}

/* The coarse clock is cheap and some milliseconds behind: nothing is used before it was stored. */
static uint64_t used_at(uint64_t now_usec, const struct storage_info *info) {
        return MAX(now_usec, info->stored_usec);
}

/* A get has come to its end; r: as storage_get() returns it. */
static void count_get(struct get *get, int r) {
        struct storage *storage = get->storage;
        struct storage_info *info = &get->object->info;
        struct epoch_slot *slot = epoch_enter(hot_epoch(storage->hot));
        struct tally *tally = &storage->tallies[epoch_index(hot_epoch(storage->hot), slot)];

        tally_add(&tally->gets, 1);
        tally_add(get->is_hot ? &tally->hot_hits : &tally->hot_misses, 1);
        if (get->object->copy != 0)
                tally_add(&tally->fast_hits, 1);
        if (r >= 0) {
                tally_add(&tally->hits, 1);
                /* The key of what is not committed yet is not known. */
                count_hit(storage, slot, get->uri, get->uri_size, get->is_new ? NULL : get->found.key_tail,
                          get->hash, info->etag.generation,
                          used_at(get->object->now_usec ?: clock_usec(CLOCK_REALTIME_COARSE), info));
        }
        epoch_leave(slot);
}

void storage_add_usage(struct storage *storage, struct storage_info *info) {
        struct epoch_slot *slot = epoch_enter(hot_epoch(storage->hot));

        usage_add(storage->usage, info);
        epoch_leave(slot);
}

static int open_blob(struct storage *storage, uint64_t blob, uint64_t size, bool nowait) {
        int fd = blob_open(&storage->blobs, blob, size, nowait);
        if (fd != -EXDEV)
                return fd;

        /* The view shows something else by now. */
        if (!__atomic_exchange_n(&storage->blobs.is_view_lost, true, __ATOMIC_RELAXED))
                storage_tell(storage, STORAGE_EVENT_VIEW_UNUSABLE, NULL, 0, -EXDEV);

        return blob_open(&storage->blobs, blob, size, nowait);
}

static int open_body(struct get *get) {
        const struct storage_info *info = &get->object->info;
        struct storage *storage = get->storage;
        uint64_t blob = get->found.blob;
        struct fast *fast = info->size > HOT_BODY_MAX ? storage->fast : NULL; /* memory is faster still */
        int fd = -ENOENT;

        if (storage->hooks.before_open)
                storage->hooks.before_open(storage->hooks.userdata);

        if (fast)
                fd = fast_open(fast, blob, info->size, !may_wait(get));
        get->object->copy = fd >= 0 ? blob : 0;
        if (fd >= 0 || fd == -EINPROGRESS)
                return fd;

        fd = open_blob(storage, blob, info->size, !may_wait(get));
        if (fd >= 0 && fast)
                fast_want(fast, blob, info, get->uri, get->uri_size);
        return fd;
}

int storage_open_original(struct storage *storage, uint64_t copy, int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;

        fast_drop(storage->fast, copy);
        return open_blob(storage, copy, (uint64_t) st.st_size, false);
}

/* Reads size bytes. -EMSGSIZE: there are fewer. -EINPROGRESS: they are not in memory. */
static int read_at(int fd, void *buffer, size_t size, uint64_t offset, bool nowait) {
        for (size_t done = 0; done < size;) {
                struct iovec part = { (uint8_t *) buffer + done, size - done };
                ssize_t n = preadv2(fd, &part, 1, (off_t) (offset + done), nowait ? RWF_NOWAIT : 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return nowait && (errno == EAGAIN || errno == EOPNOTSUPP || errno == ENOSYS)
                                               ? -EINPROGRESS
                                               : -errno;
                if (n == 0)
                        return -EMSGSIZE;
                done += (size_t) n;
        }

        return 0;
}

/* Has a small body in the object's memory, and nothing open any more. */
static int load_body(struct get *get) {
        struct storage_object *object = get->object;
        size_t size = (size_t) object->info.size;
        uint8_t *body;
        int r;

        r = make_room(object, object->metadata_size + size);
        if (r < 0)
                return r;

        body = object->buffer + object->metadata_size;
        r = read_at(object->fd, body, size, 0, !may_wait(get));
        if (r < 0)
                return r;
        if (XXH3_64bits(body, size) != object->info.checksum)
                return -EILSEQ;
        storage_note_body_read(get->storage, get->uri, get->uri_size, object->info.etag.generation, 0);

        close_fdp(&object->fd);
        object->copy = 0;
        object->body = body;
        get->found.is_checked = true;
        return 0;
}

/* Reads the whole of a body; nothing of it is kept. */
static int check_body(struct get *get) {
        const struct storage_info *info = &get->object->info;
        uint8_t buffer[CHECK_SIZE];
        XXH3_state_t *hash;
        int r = 0;

        if (!may_wait(get) && info->size > HOT_BODY_MAX)
                return -EINPROGRESS;

        hash = XXH3_createState();
        if (!hash)
                return -ENOMEM;

        (void) XXH3_64bits_reset(hash);
        for (uint64_t at = 0; at < info->size && r >= 0;) {
                size_t size = (size_t) MIN(info->size - at, (uint64_t) CHECK_SIZE);

                r = read_at(get->object->fd, buffer, size, at, !may_wait(get));
                (void) XXH3_64bits_update(hash, buffer, r < 0 ? 0 : size);
                at += size;
        }
        if (r >= 0 && XXH3_64bits_digest(hash) != info->checksum)
                r = -EILSEQ;
        (void) XXH3_freeState(hash);

        if (r >= 0)
                storage_note_body_read(get->storage, get->uri, get->uri_size, info->etag.generation, 0);
        get->found.is_checked = r >= 0;
        return r;
}

/* Only what is asked for again is worth it. */
static void note(struct get *get) {
        if (!get->is_hot && !get->is_new && !get->is_worthy)
                get->is_worthy = hot_note(get->storage->hot, get->hash);
}

/* Of a body that is not in memory: opened, and read when that is wanted. */
static int provide_body(struct get *get) {
        struct storage_object *object = get->object;
        int r;

        r = object->fd = open_body(get);
        if (r < 0)
                return r;

        note(get);
        if (get->is_worthy && object->info.size <= small_max(get))
                return load_body(get);
        if (is_checking(get) && !get->found.is_checked) {
                get->is_worthy = true; /* so that it is not read again */
                return check_body(get);
        }

        return 0;
}

static void put_hot(struct get *get) {
        struct storage *storage = get->storage;

        if (get->is_hot || get->is_new || !get->is_worthy)
                return;

        if (storage->hooks.before_put)
                storage->hooks.before_put(storage->hooks.userdata);
        hot_put(storage->hot, get->hash, get->moment, get->uri, get->uri_size, get->object, &get->found);
}

/* What was looked up is to be served. Returns as storage_get(), or 2: it is to be looked up again. */
static int serve(struct get *get) {
        struct storage_object *object = get->object;
        int r = 0;

        if (get->found.blob == 0)
                note(get);
        else
                r = provide_body(get);

        if (r >= 0) {
                put_hot(get);
                return 0;
        }

        close_fdp(&object->fd);
        object->body = NULL;

        if (object->copy != 0 && r != -EINPROGRESS) { /* the store has it too */
                fast_drop(get->storage->fast, object->copy);
                object->copy = 0;
                return 2;
        }

        if (r == -ENOENT || r == -EMSGSIZE || r == -EILSEQ) {
                uint64_t generation = object->info.etag.generation;

                get->is_past_hot = true;
                if (get->is_hot)
                        hot_drop(get->storage->hot, get->hash, generation);
                else if (get->vanished == generation) {
                        storage_report_damage(get->storage, get->uri, get->uri_size, generation, r);
                        return -ENOENT;
                } else
                        get->vanished = generation;

                return 2; /* replaced or removed since the lookup, unless it is still the same one */
        }

        if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EINPROGRESS)
                return r;

        storage_note_body_read(get->storage, get->uri, get->uri_size, object->info.etag.generation, r);
        return -EIO;
}

static int run(struct get *get) {
        struct storage_object *object = get->object;
        int r;

        do {
                r = find(get);
                if (r < 0)
                        return r;

                if (!(get->flags & STORAGE_GET_STALE) && is_expired(get->storage, &object->info)) {
                        object->body = NULL;
                        return -ESTALE;
                }

                if (!(get->flags & STORAGE_GET_OPEN)) {
                        storage_add_usage(get->storage, &object->info);
                        return is_known(get->known, &object->info.etag);
                }

                if (is_known(get->known, &object->info.etag)) {
                        note(get);
                        put_hot(get);
                        r = 1;
                } else if (get->is_hot && get->found.is_lacking) {
                        get->is_past_hot = get->is_worthy = true;
                        r = 2;
                } else if (get->is_hot && object->body)
                        r = 0;
                else
                        r = serve(get);
        } while (r == 2);

        return r;
}

int storage_get(struct storage *storage,
                const void *uri,
                size_t uri_size,
                unsigned flags,
                const struct storage_etag *known,
                struct storage_object *object) {
        struct get get;
        int r;

        assert(storage);
        assert(object);

        close_fdp(&object->fd);
        object->info = (struct storage_info){};
        object->metadata = object->body = NULL;
        object->metadata_size = 0;
        object->copy = 0;

        if (!is_uri(uri, uri_size))
                return -EINVAL;

        /* Not all of it needs to be zeroed. */
        get.storage = storage;
        get.uri = uri;
        get.uri_size = uri_size;
        get.flags = flags;
        get.known = known;
        get.object = object;
        get.hash = hot_hash(storage->hot, uri, uri_size);
        get.is_past_hot = get.is_worthy = false;
        get.vanished = 0;

        r = run(&get);
        if (flags & STORAGE_GET_OPEN && r != -EINPROGRESS)
                count_get(&get, r);

        return r;
}

/* now_usec is a bit behind; and another clock than a test's. */
static bool may_have_expired(const struct storage *storage, uint64_t expires_usec, uint64_t now_usec) {
        return expires_usec != 0 && (storage->hooks.now || expires_usec <= now_usec + VIEW_CLOCK_USEC);
}

bool storage_viewer_begin(struct storage *storage, uint64_t now_usec, struct storage_viewer *ret) {
        struct epoch *epoch = hot_epoch(storage->hot);
        struct epoch_slot *slot;

        if (!overlay_is_empty(storage->overlay))
                return false;

        slot = epoch_enter(epoch);
        *ret = (struct storage_viewer){ .storage = storage,
                                        .slot = slot,
                                        .tally = &storage->tallies[epoch_index(epoch, slot)],
                                        .now_usec = now_usec };
        return true;
}

void storage_viewer_end(struct storage_viewer *viewer) {
        if (viewer->n_hits > 0) {
                tally_add(&viewer->tally->gets, viewer->n_hits);
                tally_add(&viewer->tally->hits, viewer->n_hits);
                tally_add(&viewer->tally->hot_hits, viewer->n_hits);
        }
        epoch_leave(viewer->slot);
}

bool storage_view(const struct storage_viewer *viewer,
                  const void *uri,
                  size_t uri_size,
                  uint64_t body_max,
                  struct storage_view *ret) {
        struct storage *storage = viewer->storage;
        struct hot_entry *entry = hot_find(storage->hot, uri, uri_size);

        if (!entry || !entry->has_body || (entry->blob != 0 && entry->info.size > body_max) ||
            (!entry->is_checked && __atomic_load_n(&storage->check_on_fill, __ATOMIC_RELAXED)) ||
            may_have_expired(storage, entry->info.expires_usec, viewer->now_usec) ||
            !overlay_is_empty(storage->overlay)) /* as find() looks there again */
                return false;

        ret->info = &entry->info;
        ret->metadata = hot_entry_metadata(entry);
        ret->metadata_size = entry->metadata_size;
        ret->body = ret->metadata + ret->metadata_size;
        ret->entry = entry;
        return true;
}

void storage_view_count(struct storage_viewer *viewer, const struct storage_view *view) {
        struct hot_entry *entry = view->entry;

        viewer->n_hits++;
        hot_entry_heat(entry);
        count_hit(viewer->storage, viewer->slot, entry->data, entry->uri_size, hot_entry_key_tail(entry),
                  entry->hash, entry->info.etag.generation, used_at(viewer->now_usec, &entry->info));
}
