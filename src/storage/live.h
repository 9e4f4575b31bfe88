/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which blobs records name: for each folder of blobs a map of one bit a blob, kept in the transactions that
 * write the records. So a folder is checked by one small lookup, whatever the number of objects. A map that
 * can't be read says that all are named: what is not known to be left over stays.
 *
 * Functions return 0 or an errno, as those of dictionary.h. */

#include <lmdb.h>

#include "blob.h"

struct live_map {
        uint8_t bits[1U << (BLOB_FOLDER_BITS - 3)];
};

static inline bool live_has(const struct live_map *map, uint64_t blob) {
        uint64_t i = blob & ((1U << BLOB_FOLDER_BITS) - 1);

        return map->bits[i / 8] >> i % 8 & 1;
}

static inline void live_clear(struct live_map *map, uint64_t blob) {
        uint64_t i = blob & ((1U << BLOB_FOLDER_BITS) - 1);

        map->bits[i / 8] &= (uint8_t) ~(1U << i % 8);
}

bool live_is_empty(const struct live_map *map);

int live_read(MDB_dbi dbi, MDB_txn *txn, uint64_t folder, struct live_map *ret);

int live_add(MDB_dbi dbi, MDB_txn *txn, uint64_t blob);
/* *ret_is_last: no other of its folder is named. */
int live_remove(MDB_dbi dbi, MDB_txn *txn, uint64_t blob, bool *ret_is_last);

/* How many blobs are said to be named. */
int live_count(MDB_dbi dbi, MDB_txn *txn, uint64_t *ret);

/* For who compares the maps with the records. The first map from folder *folder on, whose number *folder becomes.
 * 1: *ret is it; 0: there is none; -EBADMSG: it can't be read. */
int live_next(MDB_dbi dbi, MDB_txn *txn, uint64_t *folder, struct live_map *ret);
/* Writes a map in place of the one that is there; that no blob is named is no map. */
int live_write(MDB_dbi dbi, MDB_txn *txn, uint64_t folder, const struct live_map *map);
