/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "due.h"

#include <string.h>

#include "bytes.h"
#include "dictionary.h"

/* A key: when it expires and the generation, both big-endian so that their order is that of the bytes. A
 * value: the record's key. */
#define ENTRY_SIZE 16

static void make_entry(const struct record *record, uint8_t ret[static ENTRY_SIZE]) {
        store_be64(ret, record->info.expires_usec);
        store_be64(ret + 8, record->info.etag.generation);
}

int due_add(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record) {
        uint8_t entry[ENTRY_SIZE];
        MDB_val k = { sizeof(entry), entry }, v = { key->size, (void *) key->data };

        if (record->info.expires_usec == 0)
                return 0;

        make_entry(record, entry);
        return environment_errno(mdb_put(txn, dbi, &k, &v, 0));
}

int due_remove(MDB_dbi dbi, MDB_txn *txn, const struct record *record) {
        uint8_t entry[ENTRY_SIZE];
        MDB_val k = { sizeof(entry), entry };
        int r;

        if (record->info.expires_usec == 0)
                return 0;

        make_entry(record, entry);
        r = mdb_del(txn, dbi, &k, NULL);
        return r == MDB_NOTFOUND ? 0 : environment_errno(r);
}

int due_has(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record) {
        uint8_t entry[ENTRY_SIZE];
        MDB_val k = { sizeof(entry), entry }, v;
        int r;

        make_entry(record, entry);
        r = mdb_get(txn, dbi, &k, &v);
        if (r != 0)
                return r == MDB_NOTFOUND ? 0 : environment_errno(r);

        return v.mv_size == key->size && memcmp(v.mv_data, key->data, key->size) == 0;
}

static int find_first(MDB_dbi dbi, MDB_txn *txn, MDB_val *k, MDB_val *v) {
        MDB_cursor *cursor;
        int r;

        r = mdb_cursor_open(txn, dbi, &cursor);
        if (r != 0)
                return environment_errno(r);

        r = mdb_cursor_get(cursor, k, v, MDB_FIRST);
        mdb_cursor_close(cursor);
        return r == MDB_NOTFOUND ? 0 : r != 0 ? environment_errno(r) : 1;
}

int due_peek(MDB_dbi dbi, MDB_txn *txn, uint64_t *ret_usec) {
        MDB_val k, v;
        int r;

        r = find_first(dbi, txn, &k, &v);
        if (r <= 0)
                return r;

        /* What can't be read is due: so it goes. */
        *ret_usec = k.mv_size == ENTRY_SIZE ? load_be64(k.mv_data) : 0;
        return 1;
}

bool due_parse(const MDB_val *k,
               const MDB_val *v,
               struct key *ret_key,
               uint64_t *ret_usec,
               uint64_t *ret_generation) {
        ret_key->size = 0;
        if (k->mv_size != ENTRY_SIZE || v->mv_size > KEY_MAX)
                return false;

        *ret_usec = load_be64(k->mv_data);
        *ret_generation = load_be64((const uint8_t *) k->mv_data + 8);
        ret_key->size = v->mv_size;
        memcpy(ret_key->data, v->mv_data, v->mv_size);
        return true;
}

int due_take(MDB_dbi dbi, MDB_txn *txn, struct key *ret_key, uint64_t *ret_generation) {
        uint8_t entry[KEY_MAX];
        uint64_t usec;
        MDB_val k, v;
        int r;

        r = find_first(dbi, txn, &k, &v);
        if (r <= 0)
                return r;

        (void) due_parse(&k, &v, ret_key, &usec, ret_generation);
        memcpy(entry, k.mv_data, k.mv_size);
        k.mv_data = entry;
        r = mdb_del(txn, dbi, &k, NULL);
        return r != 0 ? environment_errno(r) : 1;
}
