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
#include "limit.h"
#include "policy.h"
#include "record.h"

#define ACCOUNT_REST 0

struct dictionary;

struct account_sums {
        uint64_t pinned_bytes;
        uint64_t pinned_objects;
        struct policy_state queued;
};

/* What is to come in with the changes that are gathered: sums of their own, and the most that they come to on the
 * way. */
struct account_plan {
        int64_t bytes;
        int64_t objects;
        uint64_t bytes_peak;
        uint64_t objects_peak;
        uint64_t bytes_fixed; /* of what is there and what is to come: can't be evicted */
        uint64_t objects_fixed;
        int64_t bytes_coming; /* ... of these what is to come, and can be once it is committed */
        int64_t objects_coming;
};

struct account {
        uint32_t id;
        char *name;            /* "": the rest of the store */
        struct policy *policy; /* knows what is queued, in the transaction under way */
        uint64_t pinned_bytes; /* ... as these */
        uint64_t pinned_objects;
        struct account_sums committed; /* under the mutex of the accounts */
        bool is_dirty;                 /* those of the transaction are others */

        const struct storage_namespace *namespace; /* what it is to keep to; NULL: not configured any more */
        struct account_plan plan;
        bool must_give; /* it is over its maxima */
};

struct accounts {
        pthread_mutex_t mutex; /* who but the writer reads takes it, and the writer to change what they read */
        struct account **list; /* by number; NULL: there is none */
        size_t n;
        struct limits *limits;
        struct storage_namespace rest; /* what account 0 is to keep to: the maxima are the store's */
        struct heat_table *heat;
        bool is_heat_exact; /* atomic: a policy wants more than POLICY_FIFO_HITS_MAX */
        uint64_t seed;      /* of the hash that a policy knows an object by */
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
/* Limits are in force from now on; takes them. -ENOMEM: those before stay, and what was given the caller's. */
int accounts_configure(struct accounts *accounts, struct limits *limits);
/* Tells whether two configurations count every record in the same account. */
uint64_t accounts_layout(const struct accounts *accounts);
/* An account that is empty and not configured. */
bool account_is_unused(const struct account *account);
/* Forgets it; its entry in the table is gone. */
void accounts_forget(struct accounts *accounts, uint32_t id);

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

/* The first of a picked queue is looked at. True: it goes, and is not counted any more; false: it stays, at its new
 * place. is_pressing: whatever it was got since. */
bool accounts_examine(struct accounts *accounts,
                      struct account *account,
                      struct record *record,
                      bool is_pressing);
/* What it holds may be evicted, as far as it is asked. */
bool account_may_evict(const struct account *account);

/* storage_visit_namespaces(), and what is pinned in all: as committed. Any thread. */
void accounts_visit(struct accounts *accounts,
                    void (*visit)(const struct storage_namespace *namespace,
                                  const struct storage_usage *usage,
                                  void *userdata),
                    void *userdata);
void accounts_get_pinned(struct accounts *accounts, uint64_t *ret_objects, uint64_t *ret_bytes);

/* Sees to it that the heat of so many objects, all there are, can be kept. LFU needs twice the room: it leaves what
 * is hot unexamined for long. */
void accounts_fit_heat(struct accounts *accounts, uint64_t objects);

/* By what policies and heat know an object. Any thread. */
uint64_t accounts_hash(const struct accounts *accounts, const void *uri, size_t uri_size);

/* The object with this hash was hit. As long as all policies are S3-FIFO, an object that is hot already is only read.
 * Any thread. */
void accounts_note_hit(struct accounts *accounts, uint64_t hash);
