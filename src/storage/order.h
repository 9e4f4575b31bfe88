/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The order in which objects may be evicted: each account has some queues, in which its objects stand by their
 * positions, kept in the transactions that write the records. The first of a queue is found by one lookup,
 * whatever the number of objects. Pinned objects stand in none.
 *
 * Functions return 0 or an errno, as those of dictionary.h. */

#include <lmdb.h>

#include "record.h"

/* Who stands there. What the record says now counts: an entry may outlive a record that can't be read. */
struct order_entry {
        uint32_t account;
        uint8_t queue;
        uint64_t position;
        uint64_t generation; /* tells entries of one position apart */
        uint64_t size;
        struct key key; /* of size 0 when that can't be read */
};

/* Adds the record where it says that it stands; does nothing for one that stands nowhere, as does the next. */
int order_add(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record);
/* One that is not there is fine. */
int order_remove(MDB_dbi dbi, MDB_txn *txn, const struct record *record);

/* The first of an account's queue. 1: *ret is it; 0: there is none. */
int order_first(MDB_dbi dbi, MDB_txn *txn, uint32_t account, uint8_t queue, struct order_entry *ret);
/* Takes an entry out for whose record nobody would. One that is not there is fine. */
int order_drop(MDB_dbi dbi, MDB_txn *txn, const struct order_entry *entry);
/* Whether the record stands where it says: 1, or 0. */
int order_has(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record);

/* Reads an entry. False: it is none that this code wrote. */
bool order_parse(const MDB_val *k, const MDB_val *v, struct order_entry *ret);
