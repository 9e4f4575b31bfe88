/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "order.h"

#include <string.h>

#include "bytes.h"
#include "dictionary.h"

/* A key: account, queue, position and generation, big-endian so that their order is that of the bytes. A value:
 * size, the record's key. */
#define ENTRY_SIZE  21
#define ENTRY_QUEUE 5 /* bytes that the keys of one queue begin with */
#define VALUE_HEAD  8

static void make_entry(uint32_t account,
                       uint8_t queue,
                       uint64_t position,
                       uint64_t generation,
                       uint8_t ret[static ENTRY_SIZE]) {
        store_be32(ret, account);
        ret[4] = queue;
        store_be64(ret + 5, position);
        store_be64(ret + 13, generation);
}

int order_add(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record) {
        uint8_t entry[ENTRY_SIZE], *p;
        MDB_val k = { sizeof(entry), entry }, v = { VALUE_HEAD + key->size, NULL };
        int r;

        if (record->queue == QUEUE_NONE)
                return 0;

        make_entry(record->account, record->queue, record->position, record->info.etag.generation, entry);
        r = mdb_put(txn, dbi, &k, &v, MDB_RESERVE);
        if (r != 0)
                return environment_errno(r);

        p = v.mv_data;
        store_le64(p, record->info.size);
        memcpy(p + VALUE_HEAD, key->data, key->size);
        return 0;
}

static int delete (MDB_dbi dbi, MDB_txn *txn, uint8_t entry[static ENTRY_SIZE]) {
        MDB_val k = { ENTRY_SIZE, entry };
        int r = mdb_del(txn, dbi, &k, NULL);

        return r == MDB_NOTFOUND ? 0 : environment_errno(r);
}

int order_remove(MDB_dbi dbi, MDB_txn *txn, const struct record *record) {
        uint8_t entry[ENTRY_SIZE];

        if (record->queue == QUEUE_NONE)
                return 0;

        make_entry(record->account, record->queue, record->position, record->info.etag.generation, entry);
        return delete (dbi, txn, entry);
}

int order_drop(MDB_dbi dbi, MDB_txn *txn, const struct order_entry *entry) {
        uint8_t key[ENTRY_SIZE];

        make_entry(entry->account, entry->queue, entry->position, entry->generation, key);
        return delete (dbi, txn, key);
}

static void read_entry(const MDB_val *k, const MDB_val *v, struct order_entry *ret) {
        const uint8_t *p = k->mv_data;

        *ret = (struct order_entry){
                .account = load_be32(p),
                .queue = p[4],
                .position = load_be64(p + 5),
                .generation = load_be64(p + 13),
        };

        if (v->mv_size > VALUE_HEAD && v->mv_size <= VALUE_HEAD + KEY_MAX) {
                ret->size = load_le64(v->mv_data);
                ret->key.size = v->mv_size - VALUE_HEAD;
                memcpy(ret->key.data, (const uint8_t *) v->mv_data + VALUE_HEAD, ret->key.size);
        }
}

int order_first(MDB_dbi dbi, MDB_txn *txn, uint32_t account, uint8_t queue, struct order_entry *ret) {
        uint8_t entry[ENTRY_SIZE];
        MDB_val k = { sizeof(entry), entry }, v;
        MDB_cursor *cursor;
        int r;

        r = mdb_cursor_open(txn, dbi, &cursor);
        if (r != 0)
                return environment_errno(r);

        make_entry(account, queue, 0, 0, entry);
        r = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        mdb_cursor_close(cursor);
        if (r != 0)
                return r == MDB_NOTFOUND ? 0 : environment_errno(r);
        if (k.mv_size != ENTRY_SIZE || memcmp(k.mv_data, entry, ENTRY_QUEUE) != 0)
                return 0;

        read_entry(&k, &v, ret);
        return 1;
}

int order_has(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record) {
        uint8_t entry[ENTRY_SIZE];
        MDB_val k = { sizeof(entry), entry }, v;
        struct order_entry found;
        int r;

        make_entry(record->account, record->queue, record->position, record->info.etag.generation, entry);
        r = mdb_get(txn, dbi, &k, &v);
        if (r != 0)
                return r == MDB_NOTFOUND ? 0 : environment_errno(r);

        read_entry(&k, &v, &found);
        return found.size == record->info.size && found.key.size == key->size &&
               memcmp(found.key.data, key->data, key->size) == 0;
}

bool order_parse(const MDB_val *k, const MDB_val *v, struct order_entry *ret) {
        if (k->mv_size != ENTRY_SIZE)
                return false;

        read_entry(k, v, ret);
        return true;
}
