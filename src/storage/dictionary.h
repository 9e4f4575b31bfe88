/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The dictionary from URI to record: an LMDB environment with the records, what is kept beside them in the
 * same transactions (live.h, due.h, order.h, account.h), and one record of the store's own state. Readers each
 * see one moment; one thread at a time writes.
 *
 * A URI of up to KEY_MAX bytes is its own key. A longer one's key is its first KEY_HEAD bytes, a NUL, the
 * XXH3-128 of the whole and a number that tells URIs of equal hashes apart: together such keys are a chain.
 */

#include <lmdb.h>

#include "environment.h"
#include "live.h"
#include "order.h"
#include "record.h"

#define DICTIONARY_VERSION 3 /* 1: there were no tables "live" and "due"; 2: nor "order" and "accounts" */

typedef void (*key_hash_fn)(const void *data, size_t size, uint64_t seed, uint8_t ret[static 16]);

struct dictionary;

/* What the store knows of itself. Numbers up to the reserved ones may have been used: whoever opens the store
 * goes on after them. */
struct dictionary_state {
        uint64_t store_id;
        uint64_t generations; /* reserved */
        uint64_t blobs;       /* reserved */
        uint64_t objects;
        uint64_t objects_inline;
        uint64_t bytes;
        uint64_t clock; /* of heat.h */
};

/* Opens the environment in the folder path, which exists, and writes nothing. seed: of the hash. hash: NULL:
 * XXH3-128. 0, or -EUCLEAN (not a dictionary), -ENOMEM, or the errno of opening its files. */
int dictionary_open(
                struct dictionary **ret, const char *path, size_t map_size, uint64_t seed, key_hash_fn hash);
/* The version of the one that is there; an older one is copied, then rebuilt (rebuild.h), by who opens it.
 * -ENOENT: there is none yet. -EUCLEAN: damaged. -EPROTONOSUPPORT: newer. */
int dictionary_read_version(struct dictionary *dictionary, unsigned *ret);
/* Writes the whole, while nobody changes it, to an empty file, and calls on_step each time that some megabytes more
 * are on the disk. The last ones are not synced. */
int dictionary_copy(struct dictionary *dictionary, int fd, void (*on_step)(void *userdata), void *userdata);
/* Opens the tables, and makes those that are not there: before all that follows. */
int dictionary_open_tables(struct dictionary *dictionary);
void dictionary_free(struct dictionary *dictionary);
DEFINE_CLEANUP(struct dictionary, dictionary_free)

/* All below: 0 or an errno; transactions as in environment.h. What was found is valid until the end of the
 * transaction. */
int dictionary_read_begin(struct dictionary *dictionary, MDB_txn **ret);
void dictionary_read_end(struct dictionary *dictionary, MDB_txn *txn);
/* Whether to begin would mean to wait, which it does only after a commit has failed. */
bool dictionary_is_shut(const struct dictionary *dictionary);

/* A transaction of the one writer. The commit is durable when it returns 0; it ends the transaction in any
 * case. */
int dictionary_write_begin(struct dictionary *dictionary, MDB_txn **ret);
int dictionary_write_commit(struct dictionary *dictionary, MDB_txn *txn);
void dictionary_write_abort(MDB_txn *txn);

/* Looks a URI up. *ret_key becomes its key, or the one that it would get. -ENOENT: absent. -EBADMSG: its
 * record is damaged. */
int dictionary_find(struct dictionary *dictionary,
                    MDB_txn *txn,
                    const void *uri,
                    size_t uri_size,
                    struct key *ret_key,
                    struct record *ret);

/* Looks a key up. -ENOENT, -EBADMSG likewise. */
int dictionary_find_key(struct dictionary *dictionary,
                        MDB_txn *txn,
                        const void *key,
                        size_t key_size,
                        struct record *ret);

/* Writes the record of a new object under key, in place of what dictionary_forget() was told of; it must not point
 * into the dictionary. */
int dictionary_insert(struct dictionary *dictionary,
                      MDB_txn *txn,
                      const struct key *key,
                      const struct record *record);
/* The same for an object that is there, whose blob, generation, time to live, account and place in a queue stay as
 * they are. */
int dictionary_put(struct dictionary *dictionary,
                   MDB_txn *txn,
                   const struct key *key,
                   const struct record *record);
/* Copies what a found record points at to a buffer of the writer's, so that it can be put: valid until the
 * next call. -ENOMEM. */
int dictionary_keep(struct dictionary *dictionary, struct record *record);
int dictionary_delete(struct dictionary *dictionary, MDB_txn *txn, const struct key *key);
/* Before a record is replaced or deleted: takes it out of what is kept beside the records. *ret_is_last: its
 * blob was the last in its folder that is named. */
int dictionary_forget(struct dictionary *dictionary,
                      MDB_txn *txn,
                      const struct record *record,
                      bool *ret_is_last);

/* Which blobs of a folder records name now. Any thread. */
int dictionary_read_live(struct dictionary *dictionary, uint64_t folder, struct live_map *ret);

/* due_peek() and due_take(). */
int dictionary_peek_due(struct dictionary *dictionary, MDB_txn *txn, uint64_t *ret_usec);
int dictionary_take_due(struct dictionary *dictionary,
                        MDB_txn *txn,
                        struct key *ret_key,
                        uint64_t *ret_generation);
/* How many objects have a time to live. Any thread. */
int dictionary_count_due(struct dictionary *dictionary, uint64_t *ret);

/* order_first() and order_drop(). */
int dictionary_first_queued(struct dictionary *dictionary,
                            MDB_txn *txn,
                            uint32_t account,
                            uint8_t queue,
                            struct order_entry *ret);
int dictionary_drop_queued(struct dictionary *dictionary, MDB_txn *txn, const struct order_entry *entry);
/* old is found under key, record the same with another account or place: puts it, and itself on the buffer of
 * dictionary_keep(). */
int dictionary_requeue(struct dictionary *dictionary,
                       MDB_txn *txn,
                       const struct key *key,
                       const struct record *old,
                       struct record *record);

/* What is kept beside records: of one, what of it is there (0 or 1); or how much there is of all. */
struct dictionary_notes {
        uint64_t live;  /* blobs said to be named */
        uint64_t due;   /* records said to expire */
        uint64_t order; /* records that stand in a queue */
};

int dictionary_find_notes(struct dictionary *dictionary,
                          MDB_txn *txn,
                          const struct key *key,
                          const struct record *record,
                          struct dictionary_notes *ret);
int dictionary_count_notes(struct dictionary *dictionary, MDB_txn *txn, struct dictionary_notes *ret);

/* The table of accounts: values of account.c. An errno of visit ends the walk and is returned. value: NULL: removes
 * it. */
int dictionary_visit_accounts(struct dictionary *dictionary,
                              MDB_txn *txn,
                              int (*visit)(uint32_t id, const uint8_t *value, size_t size, void *userdata),
                              void *userdata);
int dictionary_write_account(
                struct dictionary *dictionary, MDB_txn *txn, uint32_t id, const uint8_t *value, size_t size);

/* The accounts_layout() by which all records are counted. */
int dictionary_get_layout(struct dictionary *dictionary, uint64_t *ret);
int dictionary_set_layout(struct dictionary *dictionary, MDB_txn *txn, uint64_t layout);

/* -ENOENT: there is none yet. -EUCLEAN: damaged. -EPROTONOSUPPORT: of a newer version. */
int dictionary_read_state(struct dictionary *dictionary, MDB_txn *txn, struct dictionary_state *ret);
int dictionary_write_state(struct dictionary *dictionary, MDB_txn *txn, const struct dictionary_state *state);

/* The writer's, before it adds about size bytes: sees to it that there is room for them, and some more for
 * removals. growth_max: bytes that the file may grow by, UINT64_MAX: any. -ENOSPC, -EDQUOT: there is not. */
int dictionary_make_room(struct dictionary *dictionary, uint64_t size, uint64_t growth_max);

/* environment_map(), environment_map_size(). */
const uint8_t *dictionary_map(const struct dictionary *dictionary);
uint64_t dictionary_map_size(const struct dictionary *dictionary);

/* The dictionary's file, borrowed, and its bytes that may have pages in use. For who has a transaction, until that
 * ends. */
int dictionary_get_file(struct dictionary *dictionary, int *ret_fd, size_t *ret_size);

/* Bytes of the pages in use. */
int dictionary_used(struct dictionary *dictionary, uint64_t *ret);

/* A walk over the records of all URIs that begin with a prefix, in the order of their keys. */
struct dictionary_walk {
        MDB_cursor *cursor;
        const uint8_t *prefix;
        size_t prefix_size;
        bool positioned;
        struct key last; /* the key last returned; the walk goes on after it; empty: from the beginning */
};

/* walk->last is the caller's to set before. */
int dictionary_walk_begin(struct dictionary_walk *walk,
                          struct dictionary *dictionary,
                          MDB_txn *txn,
                          const void *prefix,
                          size_t prefix_size);
/* 1: *ret is the next; 0: no more; -EBADMSG: walk->last has a damaged record (go on if you like); -EAGAIN:
 * walk->last does not begin with the prefix, go on. */
int dictionary_walk_next(struct dictionary_walk *walk, struct record *ret);
/* Removes the record at walk->last, in a write transaction. */
int dictionary_walk_delete(struct dictionary_walk *walk);
void dictionary_walk_end(struct dictionary_walk *walk);

/* What is kept beside the records is being made anew from them (rebuild.h): 1, *ret is the key of the last that was
 * done; 0: it is not. dictionary_write_rebuild(): NULL: it is done. dictionary_clear_notes(): nothing is kept
 * beside the records any more. */
int dictionary_read_rebuild(struct dictionary *dictionary, MDB_txn *txn, struct key *ret);
int dictionary_write_rebuild(struct dictionary *dictionary, MDB_txn *txn, const struct key *last);
int dictionary_clear_notes(struct dictionary *dictionary, MDB_txn *txn);

/* The tables that are kept beside the records, for who compares them (audit.c). */
struct dictionary_tables {
        MDB_dbi live, due, order;
};

struct dictionary_tables dictionary_get_tables(const struct dictionary *dictionary);

/* Bytes of the file that pages have ever been in: it never shrinks. For who has a transaction. */
uint64_t dictionary_extent(struct dictionary *dictionary);
