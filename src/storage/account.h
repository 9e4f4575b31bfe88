/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What each namespace holds: how many bytes and objects, in which eviction queues, how much of it pinned; and
 * what it may hold. Every record is counted in one account, by its number: 0 is the rest of the store, a
 * namespace keeps its number as long as records are counted in it. The sums are kept in the transactions that
 * write the records.
 *
 * The writer's, unless a comment says otherwise. */

#include <lmdb.h>
#include <pthread.h>

#include "heat.h"
#include "policy.h"
#include "record.h"

#define ACCOUNT_REST 0

struct dictionary;

struct account_sums {
        uint64_t pinned_bytes;
        uint64_t pinned_objects;
        struct policy_state queued;
};

struct account {
        uint32_t id;
        char *name;            /* "": the rest of the store */
        struct policy *policy; /* knows what is queued, in the transaction under way */
        uint64_t pinned_bytes; /* ... as these */
        uint64_t pinned_objects;
        struct account_sums committed; /* under the mutex of the accounts */
        bool is_dirty;                 /* those of the transaction are others */

        /* Of the configuration; under the mutex when they change. */
        bool is_configured;
        uint8_t *prefix;
        size_t prefix_size;
        uint64_t bytes_max;
        uint64_t objects_max;
        uint64_t ttl_msec; /* of puts that carry none; 0: none */
        bool evict;
};

struct accounts {
        pthread_mutex_t mutex;
        struct account **list; /* by number; NULL: there is none */
        size_t n;
        struct heat_table *heat;
        uint64_t seed; /* of the hash that a policy knows an object by */
};

/* With account 0 alone. 0 or -ENOMEM. */
int accounts_new(struct accounts **ret, uint64_t seed, uint64_t clock);
void accounts_free(struct accounts *accounts);
DEFINE_CLEANUP(struct accounts, accounts_free)

/* The numbers below are those of the transaction under way. */
uint64_t account_bytes(const struct account *account);
uint64_t account_objects(const struct account *account);
void account_get_sums(const struct account *account, struct account_sums *ret);
/* They were found to be others. */
void account_mend_sums(struct account *account, const struct account_sums *sums);
/* Counts a record that is there already. */
void account_sums_add(struct account_sums *sums, const struct record *record);

/* The account with this number; NULL: there is none. */
struct account *accounts_get(const struct accounts *accounts, uint32_t id);
/* The one that a URI belongs to: that of the longest prefix. */
struct account *accounts_of(const struct accounts *accounts, const void *uri, size_t uri_size);
/* The one with a name, made when there is none. -ENOMEM. */
int accounts_add(struct accounts *accounts, const char *name, struct account **ret);

/* Reads the table. -EUCLEAN: it is damaged; -ENOMEM. */
int accounts_load(struct accounts *accounts, struct dictionary *dictionary, MDB_txn *txn);

/* A transaction starts from what was committed; what it changed is written before, and counts after, it is
 * committed. */
void accounts_begin(struct accounts *accounts);
int accounts_write(struct accounts *accounts, struct dictionary *dictionary, MDB_txn *txn);
void accounts_commit(struct accounts *accounts);

/* A record comes in: it is given its account and its place in a queue, unless it is pinned. */
void accounts_enter(struct accounts *accounts, struct account *account, struct record *record);
/* A record goes, or is to come in anew. */
void accounts_leave(struct accounts *accounts, const struct record *record);
/* A record takes the place of another of the same URI. */
void accounts_replace(struct accounts *accounts,
                      struct account *account,
                      const struct record *old,
                      struct record *record);

/* By what policies and heat know an object. Any thread. */
uint64_t accounts_hash(const struct accounts *accounts, const void *uri, size_t uri_size);
