/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The copies that there are, or that are to be made, by their blobs' numbers. Who looks for one takes no lock, and is in
 * the epoch as long: what comes out of the table is freed when all who were there then have left. */

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "policy.h"

enum copy_state {
        COPY_WANTED, /* to be made */
        COPY_READY,
        COPY_GONE, /* out of the table: its blob is gone, or its file is not to be had */
};

struct copy {
        struct copy *next; /* atomic: in its bucket, or among those that are gone */
        uint64_t blob;
        enum copy_state state; /* atomic, written under the shard's mutex */
        bool is_queued;        /* as all below but heat, the thread's that makes and removes copies */
        uint64_t heat;         /* atomic */
        uint64_t bytes;
        struct policy_place place;
        TAILQ_ENTRY(copy) queue;
};

struct buckets {
        struct buckets *outgrown; /* kept until the end: somebody may be in them */
        size_t n;                 /* a power of two */
        struct copy *first[];     /* atomic */
};

struct shard {
        pthread_mutex_t mutex;   /* of who changes something */
        struct buckets *buckets; /* atomic; NULL: there was no copy yet */
        size_t n_copies;
};

struct fast_table {
        struct shard shards[16];
        pthread_mutex_t gone_mutex;
        struct copy *gone;
};

void fast_table_init(struct fast_table *table);
/* Frees the copies in it too. */
void fast_table_done(struct fast_table *table);

/* All 64 bits good. */
uint64_t fast_hash(uint64_t blob);

/* Adds one that is wanted. 0; -EEXIST: there is one; -ENOMEM. */
int fast_table_add(struct fast_table *table, struct copy *copy);

/* Counts a hit of a copy that is ready; one that is hot is only read. Returns false when there is none, or rarely when
 * the table grows or a neighbour is dropped meanwhile. For who is in the epoch. */
bool fast_table_touch(struct fast_table *table, uint64_t blob);

/* Takes the blob's copy out, if there is one. Returns true when it was ready: it is among those of the next
 * function now, before another can be added. One that is wanted is left to whoever makes it. */
bool fast_table_drop(struct fast_table *table, uint64_t blob);
/* Takes over the list of all ready ones that were dropped. */
struct copy *fast_table_take_gone(struct fast_table *table);

/* For the thread that makes and removes copies. All return false when the copy was dropped meanwhile. */
bool fast_table_is_there(struct fast_table *table, struct copy *copy);
bool fast_table_set_ready(struct fast_table *table, struct copy *copy);
bool fast_table_remove(struct fast_table *table, struct copy *copy);
