/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The copies that there are, or that are to be made, by their blobs' numbers. */

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
        struct copy *next; /* in its bucket, or among those that are gone */
        uint64_t blob;
        enum copy_state state; /* under the shard's mutex */
        bool is_queued;        /* as all below but heat, the thread's that makes and removes copies */
        uint64_t heat;         /* atomic */
        uint64_t bytes;
        struct policy_place place;
        TAILQ_ENTRY(copy) queue;
};

struct shard {
        pthread_mutex_t mutex;
        struct copy **buckets;
        size_t n_buckets; /* a power of two; 0: there was no copy yet */
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

/* Counts a hit of a copy that is ready. Returns false when there is none. */
bool fast_table_touch(struct fast_table *table, uint64_t blob, uint64_t now);

/* Takes the blob's copy out, if there is one. Returns true when it was ready: it is among those of the next
 * function now, before another can be added. One that is wanted is left to whoever makes it. */
bool fast_table_drop(struct fast_table *table, uint64_t blob);
/* Takes over the list of all ready ones that were dropped. */
struct copy *fast_table_take_gone(struct fast_table *table);

/* For the thread that makes and removes copies. All return false when the copy was dropped meanwhile. */
bool fast_table_is_there(struct fast_table *table, struct copy *copy);
bool fast_table_set_ready(struct fast_table *table, struct copy *copy);
bool fast_table_remove(struct fast_table *table, struct copy *copy);
