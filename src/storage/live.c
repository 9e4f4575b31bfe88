/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "live.h"

#include <string.h>
#include <xxhash.h>

#include "bytes.h"
#include "dictionary.h"

/* A value: XXH3-64 of the map, seeded with the folder's number; the map. */
#define CHECK_SIZE 8
#define VALUE_SIZE (CHECK_SIZE + sizeof(struct live_map))

static uint64_t check_of(uint64_t folder, const void *bits) {
        return XXH3_64bits_withSeed(bits, sizeof(struct live_map), folder);
}

static bool is_sound(uint64_t folder, const MDB_val *v) {
        const uint8_t *p = v->mv_data;

        return v->mv_size == VALUE_SIZE && load_le64(p) == check_of(folder, p + CHECK_SIZE);
}

int live_read(MDB_dbi dbi, MDB_txn *txn, uint64_t folder, struct live_map *ret) {
        uint8_t key[8];
        MDB_val k = { sizeof(key), key }, v;
        int r;

        store_be64(key, folder);
        r = mdb_get(txn, dbi, &k, &v);
        if (r == MDB_NOTFOUND) {
                *ret = (struct live_map){};
                return 0;
        }
        if (r != 0)
                return environment_errno(r);

        if (is_sound(folder, &v))
                memcpy(ret->bits, (const uint8_t *) v.mv_data + CHECK_SIZE, sizeof(ret->bits));
        else
                memset(ret->bits, 0xff, sizeof(ret->bits));
        return 0;
}

bool live_is_empty(const struct live_map *map) {
        return map->bits[0] == 0 && memcmp(map->bits, map->bits + 1, sizeof(map->bits) - 1) == 0;
}

static int delete_map(MDB_dbi dbi, MDB_txn *txn, uint64_t folder) {
        uint8_t key[8];
        MDB_val k = { sizeof(key), key };
        int r;

        store_be64(key, folder);
        r = mdb_del(txn, dbi, &k, NULL);
        return r == MDB_NOTFOUND ? 0 : environment_errno(r);
}

static int write_map(MDB_dbi dbi, MDB_txn *txn, uint64_t folder, const struct live_map *map) {
        uint8_t key[8], value[VALUE_SIZE];
        MDB_val k = { sizeof(key), key }, v = { sizeof(value), value };

        store_be64(key, folder);
        store_le64(value, check_of(folder, map->bits));
        memcpy(value + CHECK_SIZE, map->bits, sizeof(map->bits));
        return environment_errno(mdb_put(txn, dbi, &k, &v, 0));
}

int live_add(MDB_dbi dbi, MDB_txn *txn, uint64_t blob) {
        uint64_t folder = blob >> BLOB_FOLDER_BITS;
        struct live_map map;
        int r;

        r = live_read(dbi, txn, folder, &map);
        if (r < 0)
                return r;

        map.bits[(blob >> 3) % sizeof(map.bits)] |= (uint8_t) (1U << (blob & 7));
        return write_map(dbi, txn, folder, &map);
}

int live_remove(MDB_dbi dbi, MDB_txn *txn, uint64_t blob, bool *ret_is_last) {
        uint64_t folder = blob >> BLOB_FOLDER_BITS;
        struct live_map map;
        int r;

        r = live_read(dbi, txn, folder, &map);
        if (r < 0)
                return r;

        live_clear(&map, blob);
        *ret_is_last = live_is_empty(&map);
        return *ret_is_last ? delete_map(dbi, txn, folder) : write_map(dbi, txn, folder, &map);
}

int live_write(MDB_dbi dbi, MDB_txn *txn, uint64_t folder, const struct live_map *map) {
        return live_is_empty(map) ? delete_map(dbi, txn, folder) : write_map(dbi, txn, folder, map);
}

int live_next(MDB_dbi dbi, MDB_txn *txn, uint64_t *folder, struct live_map *ret) {
        uint8_t key[8];
        MDB_val k = { sizeof(key), key }, v;
        MDB_cursor *cursor;
        int r;

        store_be64(key, *folder);
        r = mdb_cursor_open(txn, dbi, &cursor);
        if (r != 0)
                return environment_errno(r);

        r = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        while (r == 0 && k.mv_size != sizeof(key)) /* nothing that this code wrote */
                r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
        mdb_cursor_close(cursor);
        if (r != 0)
                return r == MDB_NOTFOUND ? 0 : environment_errno(r);

        *folder = load_be64(k.mv_data);
        if (!is_sound(*folder, &v))
                return -EBADMSG;

        memcpy(ret->bits, (const uint8_t *) v.mv_data + CHECK_SIZE, sizeof(ret->bits));
        return 1;
}

int live_count(MDB_dbi dbi, MDB_txn *txn, uint64_t *ret) {
        MDB_cursor *cursor;
        uint64_t n = 0;
        MDB_val k, v;
        int r;

        r = mdb_cursor_open(txn, dbi, &cursor);
        if (r != 0)
                return environment_errno(r);

        while ((r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
                for (size_t i = CHECK_SIZE; i < v.mv_size; i++)
                        n += (unsigned) __builtin_popcount(((const uint8_t *) v.mv_data)[i]);
        mdb_cursor_close(cursor);

        *ret = n;
        return r == MDB_NOTFOUND ? 0 : environment_errno(r);
}
