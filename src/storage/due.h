/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The objects that have a time to live, in the order in which it ends, kept in the transactions that write
 * the records. Others cost nothing.
 *
 * Functions return 0 or an errno, as those of dictionary.h. */

#include <lmdb.h>

#include "record.h"

/* Does nothing for a record that never expires, as does the next. */
int due_add(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record);
/* One that is not there is fine. */
int due_remove(MDB_dbi dbi, MDB_txn *txn, const struct record *record);

/* Whether it is there: 1, or 0. */
int due_has(MDB_dbi dbi, MDB_txn *txn, const struct key *key, const struct record *record);

/* 1: *ret_usec is when the first expires (CLOCK_REALTIME); 0: there is none. */
int due_peek(MDB_dbi dbi, MDB_txn *txn, uint64_t *ret_usec);
/* Takes the first out. 1: *ret_key is its key (of size 0 when that can't be read), *ret_generation its
 * generation; 0: there is none. */
int due_take(MDB_dbi dbi, MDB_txn *txn, struct key *ret_key, uint64_t *ret_generation);

/* Reads an entry. False: it is none that this code wrote. *ret_key is of size 0 when it can't be read. */
bool due_parse(const MDB_val *k,
               const MDB_val *v,
               struct key *ret_key,
               uint64_t *ret_usec,
               uint64_t *ret_generation);
