/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whether what is kept beside the records agrees with them, piece by piece, and how it is made to agree. (check.h
 * compares all of it at one moment, and repairs nothing.)
 *
 * Functions return 0 or an errno, as those of dictionary.h. */

#include "account.h"
#include "dictionary.h"

enum {
        AUDIT_LIVE = 1U << 0,  /* the map of the folder does not name the record's blob */
        AUDIT_DUE = 1U << 1,   /* there is no entry for when it expires, or a wrong one */
        AUDIT_ORDER = 1U << 2, /* it does not stand in its queue */
};

/* *ret becomes what is wrong beside a record. */
int audit_record(struct dictionary *dictionary,
                 MDB_txn *txn,
                 const struct key *key,
                 const struct record *record,
                 unsigned *ret);
/* The writer's. */
int audit_mend_record(struct dictionary *dictionary,
                      MDB_txn *txn,
                      struct accounts *accounts,
                      const struct key *key,
                      struct record *record);

/* The tables whose entries are of one record each. */
enum audit_table {
        AUDIT_TABLE_DUE,
        AUDIT_TABLE_ORDER,
        AUDIT_TABLES,
};

struct audit_entry {
        size_t size; /* 0: before the first */
        uint8_t data[KEY_MAX];
};

/* The entry behind *entry, which becomes it. 1: it is as it should be; -EBADMSG: it belongs to no record, *ret_key is
 * the key of the one that it names (of size 0 when it can't be read); 0: there is none. */
int audit_next(struct dictionary *dictionary,
               MDB_txn *txn,
               enum audit_table table,
               struct audit_entry *entry,
               struct key *ret_key);
/* The writer's: deletes the entry when it is still there and wrong: 1; 0: it is not. */
int audit_mend_entry(struct dictionary *dictionary,
                     MDB_txn *txn,
                     enum audit_table table,
                     const struct audit_entry *entry);

/* What the records add up to. */
struct audit_sums {
        uint64_t unreadable; /* records of which nothing is known; they are in objects all the same */
        uint64_t objects, objects_inline, bytes;
        size_t n_accounts;
        struct account_sums *accounts; /* by number */
};

void audit_sums_done(struct audit_sums *sums);

/* go_on is asked from time to time; -ECANCELED when it says no. */
int audit_count(struct dictionary *dictionary,
                MDB_txn *txn,
                bool (*go_on)(void *userdata),
                void *userdata,
                struct audit_sums *ret);
/* Whether that is what is kept: 1, or 0. */
int audit_compare(struct dictionary *dictionary, MDB_txn *txn, const struct audit_sums *sums);
