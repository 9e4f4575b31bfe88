/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>

#include "clock.h"
#include "macro.h"
#include "upload.h"
#include "writer.h"

int change_check(const struct storage_change *change, const struct storage_info *present, uint64_t now_usec) {
        if (change->if_generation != 0) {
                if (!present)
                        return -ENOENT;
                if (present->etag.generation != change->if_generation)
                        return -ECANCELED;
        }

        /* An expired one counts as none. */
        if (change->if_absent && present && (present->expires_usec == 0 || present->expires_usec > now_usec))
                return -EEXIST;

        return 0;
}

/* What is at a change's URI. */
struct place {
        struct key key;
        struct record record;
        bool has_value;      /* there is a record, maybe a damaged one */
        bool has_record;     /* ... that can be read */
        struct purge *purge; /* ... and is gone but for this purge's coming to it */
};

static int find_place(struct writer *writer,
                      MDB_txn *txn,
                      const struct storage_change *change,
                      struct place *ret) {
        int r;

        ret->purge = NULL;
        r = dictionary_find(writer->storage->dictionary, txn, change->uri, change->uri_size, &ret->key,
                            &ret->record);
        ret->has_record = r >= 0;
        ret->has_value = r >= 0 || r == -EBADMSG;
        if (ret->has_record)
                ret->purge = writer_find_purge(writer, &ret->record);

        return r == -ENOENT || r == -EBADMSG ? 0 : r;
}

static bool is_present(const struct place *place) {
        return place->has_record && !place->purge;
}

/* Finds what is to be changed as it is; whether there is such a thing is the change's result. */
static int find_present(struct writer *writer,
                        MDB_txn *txn,
                        struct storage_change *change,
                        struct place *ret) {
        int r;

        r = find_place(writer, txn, change, ret);
        if (r < 0)
                return r;

        change->result = is_present(ret) ? change_check(change, &ret->record.info, 0) : -ENOENT;
        return 0;
}

static uint64_t subtract(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

void writer_touch(struct writer *writer, const void *uri, size_t uri_size) {
        struct batch *batch = &writer->batch;

        assert(batch->n_touched < TOUCHED_MAX);
        batch->touched[batch->n_touched++] = hot_hash(writer->storage->hot, uri, uri_size);
}

int writer_drop_counted(struct writer *writer, MDB_txn *txn, const struct record *record) {
        struct batch *batch = &writer->batch;
        uint64_t blob = record->blob;
        bool is_last;
        int r;

        writer_touch(writer, record->uri, record->uri_size);

        batch->state.objects = subtract(batch->state.objects, 1);
        batch->state.bytes = subtract(batch->state.bytes, record->info.size);
        if (blob == 0)
                batch->state.objects_inline = subtract(batch->state.objects_inline, 1);
        else {
                assert(batch->n_unlinked < BATCH_MAX);
                batch->unlinked[batch->n_unlinked++] = blob;
        }

        r = dictionary_forget(writer->storage->dictionary, txn, record, &is_last);
        if (r >= 0 && is_last)
                batch->emptied[batch->n_emptied++] = blob >> BLOB_FOLDER_BITS;
        return r;
}

int writer_drop(struct writer *writer, MDB_txn *txn, const struct record *record) {
        accounts_leave(writer->storage->accounts, record);
        return writer_drop_counted(writer, txn, record);
}

void writer_drop_unreadable(struct writer *writer, const struct key *key) {
        struct batch *batch = &writer->batch;

        batch->state.objects = subtract(batch->state.objects, 1);
        if (key_is_long(key->data, key->size))
                batch->has_touched_unknown = true;
        else
                writer_touch(writer, key->data, key->size);
}

static int drop_value(struct writer *writer, MDB_txn *txn, const struct place *place) {
        if (place->has_record) {
                if (place->purge)
                        place->purge->early++;
                return writer_drop_counted(writer, txn, &place->record);
        }

        if (place->has_value)
                writer_drop_unreadable(writer, &place->key);
        return 0;
}

static uint64_t expires_after(uint64_t now_usec, uint64_t ttl_msec) {
        uint64_t ttl_usec;

        if (ttl_msec == 0)
                return 0;
        if (__builtin_mul_overflow(ttl_msec, USEC_PER_MSEC, &ttl_usec) ||
            __builtin_add_overflow(now_usec, ttl_usec, &ttl_usec))
                return UINT64_MAX;

        return ttl_usec;
}

/* Another file may have the number already: of a link that was made though it failed, or the dictionary is an older one
 * than the files. It stays: what is nobody's is swept at the next start. */
static int publish(struct writer *writer, const struct storage_upload *upload, uint64_t *ret_blob) {
        while (writer->next_blob < writer->state.blobs) {
                int r = blob_publish(&writer->storage->blobs, upload->fd, upload->staged, writer->next_blob);

                if (r < 0 && r != -EEXIST)
                        return r;

                writer->next_blob++;
                if (r >= 0) {
                        *ret_blob = writer->next_blob - 1;
                        return 0;
                }
        }

        return -EAGAIN; /* the next transaction has more numbers */
}

int writer_prepare_put(struct writer *writer, struct storage_change *change, uint64_t now_usec) {
        const struct account *account = accounts_of(writer->storage->accounts, change->uri, change->uri_size);
        struct storage_upload *upload = change->upload;
        int r;

        if (change->is_shown)
                return 0;

        if (upload->fd >= 0 && change->blob == 0) {
                r = publish(writer, upload, &change->blob);
                if (r < 0)
                        return r;
                upload->is_named = true;
        }

        change->info = (struct storage_info){
                .etag.store_id = writer->storage->id,
                .etag.generation = change->mark,
                .etag.metadata_version = 1,
                .size = upload->size,
                .checksum = upload->checksum,
                .stored_usec = now_usec,
                .expires_usec = expires_after(now_usec, change->ttl_msec ?: account->namespace->ttl_msec),
        };
        return 0;
}

static int apply_put(struct writer *writer, MDB_txn *txn, struct storage_change *change) {
        uint64_t now_usec = storage_now(writer->storage);
        struct accounts *accounts = writer->storage->accounts;
        struct batch *batch = &writer->batch;
        struct storage_upload *upload = change->upload;
        struct account *account;
        struct record record;
        struct place place;
        int r;

        change->result = change->error;
        if (change->result < 0)
                return 0;

        r = find_place(writer, txn, change, &place);
        if (r < 0)
                return r;

        account = accounts_of(accounts, change->uri, change->uri_size);
        if (!change->is_shown)
                change->result = change_check(change, is_present(&place) ? &place.record.info : NULL,
                                              now_usec);
        if (!change->is_shown && change->result >= 0)
                change->result = writer_check_space(writer, account, place.has_record ? &place.record : NULL,
                                                    upload->size);
        if (change->result >= 0)
                change->result = writer_prepare_put(writer, change, now_usec);
        if (change->result < 0)
                return 0;

        record = (struct record){
                .info = change->info,
                .blob = change->blob,
                .uri = change->uri,
                .uri_size = change->uri_size,
                .metadata = change->metadata,
                .metadata_size = change->metadata_size,
                .body = upload->buffer,
        };

        if (is_present(&place))
                accounts_replace(accounts, account, &place.record, &record);
        else {
                /* What a purge is about to remove hands nothing down. */
                if (place.has_record)
                        accounts_leave(accounts, &place.record);
                record.info.pinned = false;
                accounts_enter(accounts, account, &record);
        }
        change->info.pinned = record.info.pinned;

        r = drop_value(writer, txn, &place);
        if (r >= 0)
                r = dictionary_insert(writer->storage->dictionary, txn, &place.key, &record);
        if (r < 0)
                return r;

        writer_expect_expiry(writer, record.info.expires_usec);

        batch->state.objects++;
        batch->state.objects_inline += record.blob == 0;
        batch->state.bytes += upload->size;
        batch->n_written++;
        batch->n_put++;
        batch->bytes_put += upload->size;
        return 0;
}

static int apply_set_metadata(struct writer *writer, MDB_txn *txn, struct storage_change *change) {
        struct dictionary *dictionary = writer->storage->dictionary;
        struct place place;
        int r;

        r = find_present(writer, txn, change, &place);
        if (r < 0)
                return r;

        if (change->result < 0)
                return 0;

        r = dictionary_keep(dictionary, &place.record);
        if (r < 0)
                return r;

        place.record.metadata = change->metadata;
        place.record.metadata_size = change->metadata_size;
        place.record.info.etag.metadata_version++;
        r = dictionary_put(dictionary, txn, &place.key, &place.record);
        if (r < 0)
                return r;

        writer_touch(writer, change->uri, change->uri_size);
        writer->batch.n_written++;
        change->info = place.record.info;
        return 0;
}

static int apply_pin(struct writer *writer, MDB_txn *txn, struct storage_change *change) {
        struct dictionary *dictionary = writer->storage->dictionary;
        struct accounts *accounts = writer->storage->accounts;
        bool is_pinned = change->kind == STORAGE_PIN;
        struct record record;
        struct place place;
        int r;

        r = find_present(writer, txn, change, &place);
        if (r < 0)
                return r;

        if (change->result < 0)
                return 0;

        change->info = place.record.info;
        if (change->info.pinned == is_pinned)
                return 0;

        accounts_leave(accounts, &place.record);
        record = place.record;
        record.info.pinned = change->info.pinned = is_pinned;
        accounts_enter(accounts, accounts_of(accounts, change->uri, change->uri_size), &record);

        writer_touch(writer, change->uri, change->uri_size);
        writer->batch.n_written++;
        return dictionary_requeue(dictionary, txn, &place.key, &place.record, &record);
}

static int apply_remove(struct writer *writer, MDB_txn *txn, struct storage_change *change) {
        struct batch *batch = &writer->batch;
        struct place place;
        int r;

        r = find_present(writer, txn, change, &place);
        if (r < 0)
                return r;

        if (change->result >= 0)
                change->info = place.record.info;
        else if (!place.has_value || place.has_record)
                return 0;

        /* A damaged one is as good as absent; it goes all the same. */
        if (place.has_record)
                accounts_leave(writer->storage->accounts, &place.record);
        r = drop_value(writer, txn, &place);
        if (r >= 0)
                r = dictionary_delete(writer->storage->dictionary, txn, &place.key);
        if (r < 0)
                return r;

        batch->n_written++;
        batch->n_removed += change->result >= 0;
        return 0;
}

bool change_is_sound(const struct storage_change *change) {
        return is_uri(change->uri, change->uri_size) && change->metadata_size <= STORAGE_METADATA_MAX;
}

int writer_apply(struct writer *writer, MDB_txn *txn, struct storage_change *change) {
        int r;

        if (change->kind == STORAGE_TASK) {
                struct writer_task *task = container_of(change, struct writer_task, change);

                return task->run(writer, txn, task);
        }

        if (!change_is_sound(change)) {
                change->result = -EINVAL;
                return 0;
        }

        switch (change->kind) {
        case STORAGE_PUT:
                r = apply_put(writer, txn, change);
                break;
        case STORAGE_SET_METADATA:
                r = apply_set_metadata(writer, txn, change);
                break;
        case STORAGE_REMOVE:
                r = apply_remove(writer, txn, change);
                break;
        case STORAGE_PIN:
        case STORAGE_UNPIN:
                r = apply_pin(writer, txn, change);
                break;
        default:
                change->result = -EINVAL;
                return 0;
        }

        change->info.etag.store_id = writer->storage->id;
        writer->batch.n_changes += r >= 0 && change->result >= 0;
        return r;
}
