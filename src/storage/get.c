/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <sys/stat.h>

#include "clock.h"
#include "macro.h"
#include "store.h"
#include "writer.h"

void storage_object_done(struct storage_object *object) {
        close_fdp(&object->fd);
        free(object->buffer);
        *object = STORAGE_OBJECT_INIT;
}

/* What a lookup finds: the object without its file. */
struct found {
        struct key key;
        uint64_t blob; /* 0: the body is in the object */
};

static int fill(struct storage *storage, const struct record *record, struct storage_object *object) {
        size_t body_size = record->blob == 0 ? record->info.size : 0;
        size_t size = record->metadata_size + body_size;
        uint8_t *p = object->buffer;

        if (size > object->buffer_size) {
                p = realloc(object->buffer, size);
                if (!p)
                        return -ENOMEM;

                object->buffer = p;
                object->buffer_size = size;
        }

        if (size > 0) /* the one follows the other in the record too */
                memcpy(p, record->metadata, size);
        else if (!p)
                p = (uint8_t *) ""; /* an empty body is a body */

        object->info = record->info;
        object->info.etag.store_id = storage->id;
        object->metadata = p;
        object->metadata_size = record->metadata_size;
        object->body = record->blob == 0 ? p + record->metadata_size : NULL;
        return 0;
}

struct fill_from {
        struct storage *storage;
        struct storage_object *object;
        struct found *found;
};

static int fill_from_overlay(const struct record *record, void *userdata) {
        struct fill_from *from = userdata;

        /* A longer URI's key is not known before the commit: the gets until then are not counted. */
        from->found->key.size = 0;
        if (record->uri_size <= KEY_MAX) {
                memcpy(from->found->key.data, record->uri, record->uri_size);
                from->found->key.size = record->uri_size;
        }
        from->found->blob = record->blob;
        return fill(from->storage, record, from->object);
}

static int look_up(struct storage *storage,
                   const void *uri,
                   size_t uri_size,
                   struct storage_object *object,
                   struct found *ret) {
        struct record record;
        MDB_txn *txn;
        int r;

        r = overlay_find(storage->overlay, uri, uri_size, fill_from_overlay,
                         &(struct fill_from){ storage, object, ret });
        if (r != -ENOENT)
                return r;

        r = dictionary_read_begin(storage->dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_find(storage->dictionary, txn, uri, uri_size, &ret->key, &record);
        if (r >= 0) {
                r = fill(storage, &record, object);
                ret->blob = record.blob;
        }

        dictionary_read_end(storage->dictionary, txn);

        if (r == -EBADMSG) {
                storage_report_damage(storage, uri, uri_size, 0, r);
                return -ENOENT;
        }

        return r;
}

static bool is_expired(struct storage *storage, const struct storage_info *info) {
        return info->expires_usec != 0 && info->expires_usec <= storage_now(storage);
}

static bool is_known(const struct storage_etag *known, const struct storage_etag *etag) {
        return known && known->store_id == etag->store_id && known->generation == etag->generation &&
               known->metadata_version == etag->metadata_version;
}

static void count_hit(struct storage *storage,
                      const void *uri,
                      size_t uri_size,
                      const struct key *key,
                      struct storage_info *info) {
        /* The coarse clock is cheap and some milliseconds behind: nothing is used before it was stored. */
        uint64_t used_usec = MAX(clock_usec(CLOCK_REALTIME_COARSE), info->stored_usec);

        stats_add(&storage->stats.hits, 1);
        heat_table_touch(storage->accounts->heat, accounts_hash(storage->accounts, uri, uri_size));
        if (key->size > 0 && usage_count(storage->usage, key, used_usec, info))
                writer_expect_usage(storage->writer);
}

static int open_blob(struct storage *storage, uint64_t blob, uint64_t size) {
        int fd = blob_open(&storage->blobs, blob, size);

        if (fd != -EXDEV)
                return fd;

        /* The view shows something else by now. */
        if (!__atomic_exchange_n(&storage->blobs.is_view_lost, true, __ATOMIC_RELAXED))
                storage_tell(storage, STORAGE_EVENT_VIEW_UNUSABLE, NULL, 0, -EXDEV);

        return blob_open(&storage->blobs, blob, size);
}

static int open_body(struct storage *storage,
                     uint64_t blob,
                     const void *uri,
                     size_t uri_size,
                     struct storage_object *object) {
        int fd = storage->fast ? fast_open(storage->fast, blob, object->info.size) : -ENOENT;

        if (fd >= 0) {
                object->copy = blob;
                return fd;
        }

        fd = open_blob(storage, blob, object->info.size);
        if (fd >= 0 && storage->fast)
                fast_want(storage->fast, blob, &object->info, uri, uri_size);
        return fd;
}

int storage_open_original(struct storage *storage, uint64_t copy, int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;

        fast_drop(storage->fast, copy);
        return open_blob(storage, copy, (uint64_t) st.st_size);
}

int storage_get(struct storage *storage,
                const void *uri,
                size_t uri_size,
                unsigned flags,
                const struct storage_etag *known,
                struct storage_object *object) {
        uint64_t vanished = 0;
        struct found found;
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

        if (flags & STORAGE_GET_OPEN)
                stats_add(&storage->stats.gets, 1);

        for (;;) {
                r = look_up(storage, uri, uri_size, object, &found);
                if (r < 0)
                        return r == -ENOENT || r == -ENOMEM || r == -EAGAIN ? r : -EIO;

                if (!(flags & STORAGE_GET_STALE) && is_expired(storage, &object->info)) {
                        object->body = NULL;
                        return -ESTALE;
                }

                r = is_known(known, &object->info.etag);
                if (!(flags & STORAGE_GET_OPEN)) {
                        usage_add(storage->usage, &object->info);
                        return r;
                }

                if (r == 0 && found.blob != 0)
                        r = object->fd = open_body(storage, found.blob, uri, uri_size, object);
                if (r >= 0) {
                        count_hit(storage, uri, uri_size, &found.key, &object->info);
                        return object->fd >= 0 ? 0 : r;
                }

                object->fd = -EBADF;
                if (r == -EMFILE || r == -ENFILE || r == -ENOMEM)
                        return r;
                if (r != -ENOENT && r != -EMSGSIZE) {
                        storage_note_body_read(storage, uri, uri_size, object->info.etag.generation, r);
                        return -EIO;
                }

                /* Replaced or removed since the lookup, unless it is still the same one. */
                if (object->info.etag.generation == vanished) {
                        storage_report_damage(storage, uri, uri_size, vanished, r);
                        return -ENOENT;
                }
                vanished = object->info.etag.generation;
        }
}
