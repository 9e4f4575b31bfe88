/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Gets counted in memory, per object, until the writer adds them to the records: a get writes nothing. The
 * memory is bounded: when too many objects were got since the last time, the gets of further ones are not
 * counted.
 *
 * Who counts has a place in the epoch (epoch.h), and counts in tables of that place: no lock is taken, and no line
 * of memory is written that another thread writes. */

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"
#include "epoch.h"
#include "record.h"

#define USAGE_TABLES 16 /* of each place */
#define USAGE_SHARDS (EPOCH_SLOTS * USAGE_TABLES)

struct usage;

/* The epoch must outlive it. -ENOMEM. */
int usage_new(struct usage **ret, struct epoch *epoch);
void usage_free(struct usage *usage);
DEFINE_CLEANUP(struct usage, usage_free)

/* Counts a get of the object of this generation under key, whose URI has hash (hot.h). slot: the caller's place
 * in the epoch. Returns true when it is the first one since usage_begin() of shard 0. */
bool usage_count(struct usage *usage,
                 const struct epoch_slot *slot,
                 const void *key,
                 size_t key_size,
                 uint64_t hash,
                 uint64_t generation,
                 uint64_t now_usec);

/* Adds what is not written yet to *info. The caller has a place in the epoch. */
void usage_add(struct usage *usage, struct storage_info *info);

struct usage_entry {
        uint64_t generation; /* atomic, as the next; 0: free */
        uint64_t used_usec;
        uint32_t hits; /* atomic */
        uint32_t key;  /* where it is in the table's keys */
        uint64_t hash;
        size_t key_size;
};

/* The writer's: begins to write a shard's counts, calls write for each object, and drops them at the end.
 * They are still added to infos in between. usage_begin() returns how many there are; the writer has no place in
 * the epoch then. */
size_t usage_begin(struct usage *usage, size_t shard);
int usage_visit(struct usage *usage,
                size_t shard,
                int (*visit)(const struct usage_entry *entry, const void *key, void *userdata),
                void *userdata);
void usage_end(struct usage *usage, size_t shard);
