/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>

#include "bytes.h"
#include "clock.h"
#include "macro.h"
#include "store.h"
#include "thread.h"

/* A cursor: a version, the store's id, the key last visited. */
#define CURSOR_VERSION 1
#define CURSOR_HEAD    9

/* Records that are looked at in one call though they are not shown. */
#define HIDDEN_MAX 10000

#define ENTRIES_PER_YIELD 32

static int cursor_read(const struct storage_cursor *cursor, uint64_t store_id, struct key *ret) {
        ret->size = 0;
        if (cursor->size == 0)
                return 0;

        if (cursor->size <= CURSOR_HEAD || cursor->size > CURSOR_HEAD + KEY_MAX ||
            cursor->data[0] != CURSOR_VERSION || load_le64(cursor->data + 1) != store_id)
                return -EINVAL;

        ret->size = cursor->size - CURSOR_HEAD;
        memcpy(ret->data, cursor->data + CURSOR_HEAD, ret->size);
        return 0;
}

static void cursor_write(struct storage_cursor *cursor, uint64_t store_id, const struct key *key) {
        cursor->size = 0;
        if (key->size == 0)
                return;

        cursor->data[0] = CURSOR_VERSION;
        store_le64(cursor->data + 1, store_id);
        memcpy(cursor->data + CURSOR_HEAD, key->data, key->size);
        cursor->size = CURSOR_HEAD + key->size;
}

/* Puts the walk behind all keys that begin with the first size bytes of its last one. */
static void walk_past(struct dictionary_walk *walk, size_t size) {
        memset(walk->last.data + size, 0xff, KEY_MAX - size);
        walk->last.size = KEY_MAX;
        walk->positioned = false;
}

int storage_list_except(struct storage *storage,
                        const void *prefix,
                        size_t prefix_size,
                        struct storage_cursor *cursor,
                        size_t max,
                        size_t (*skip)(const void *uri, size_t uri_size, void *userdata),
                        int (*visit)(const void *uri,
                                     size_t uri_size,
                                     const struct storage_info *info,
                                     void *userdata),
                        void *userdata) {
        uint64_t now_usec = storage_now(storage);
        struct dictionary_walk walk = {};
        unsigned n_done = 0;
        size_t n_hidden = 0;
        struct record record;
        struct key consumed;
        MDB_txn *txn;
        int r;

        assert(storage);
        assert(cursor);
        assert(visit);

        if (prefix_size > STORAGE_URI_MAX || (prefix_size > 0 && !is_uri(prefix, prefix_size)))
                return -EINVAL;

        r = cursor_read(cursor, storage->id, &walk.last);
        if (r < 0)
                return r;

        r = dictionary_read_begin(storage->dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_walk_begin(&walk, storage->dictionary, txn, prefix, prefix_size);
        if (r < 0) {
                dictionary_read_end(storage->dictionary, txn);
                return r;
        }

        consumed = walk.last;
        while (max > 0 && n_hidden < HIDDEN_MAX) {
                size_t n;

                thread_give_way(&n_done, ENTRIES_PER_YIELD);

                r = dictionary_walk_next(&walk, &record);
                if (r == 0) {
                        consumed.size = 0;
                        break;
                }
                if (r < 0 && r != -EAGAIN && r != -EBADMSG)
                        break;

                /* First of all: what must not be seen leaves no trace, damaged or expired as it may be. */
                n = !skip   ? 0
                    : r > 0 ? skip(record.uri, record.uri_size, userdata)
                            : skip(walk.last.data, walk.last.size, userdata);
                if (n > 0) {
                        n_hidden++;
                        if (n <= MIN(walk.last.size, (size_t) STORAGE_SKIP_MAX))
                                walk_past(&walk, n);
                        consumed = walk.last;
                        r = 0;
                        continue;
                }

                if (r < 0 || (record.info.expires_usec != 0 && record.info.expires_usec <= now_usec)) {
                        n_hidden++;
                        consumed = walk.last;
                        r = 0;
                        continue;
                }

                record.info.etag.store_id = storage->id;
                storage_add_usage(storage, &record.info);
                r = visit(record.uri, record.uri_size, &record.info, userdata);
                if (r < 0)
                        break;

                max--;
                consumed = walk.last;
        }

        cursor_write(cursor, storage->id, &consumed);
        dictionary_walk_end(&walk);
        dictionary_read_end(storage->dictionary, txn);
        return r < 0 ? r : 0;
}

int storage_list(struct storage *storage,
                 const void *prefix,
                 size_t prefix_size,
                 struct storage_cursor *cursor,
                 size_t max,
                 int (*visit)(const void *uri,
                              size_t uri_size,
                              const struct storage_info *info,
                              void *userdata),
                 void *userdata) {
        return storage_list_except(storage, prefix, prefix_size, cursor, max, NULL, visit, userdata);
}
