/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Gets counted in memory, per object, until the writer adds them to the records: a get writes nothing. The
 * memory is bounded: when too many objects were got since the last time, the gets of further ones are not
 * counted. */

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"
#include "record.h"

#define USAGE_SHARDS 16

struct usage;

int usage_new(struct usage **ret);
void usage_free(struct usage *usage);
DEFINE_CLEANUP(struct usage, usage_free)

/* Counts a get of the object under key, whose URI has hash (hot.h); adds what is not written yet to *info, this
 * get included. Any thread. Returns true when it is the first one since usage_begin() of shard 0. */
bool usage_count(struct usage *usage,
                 const void *key,
                 size_t key_size,
                 uint64_t hash,
                 uint64_t now_usec,
                 struct storage_info *info);

/* Adds what is not written yet to *info. Any thread. */
void usage_add(struct usage *usage, struct storage_info *info);

struct usage_entry {
        uint64_t generation; /* 0: free */
        uint64_t used_usec;
        uint64_t hash;
        uint32_t hits;
        uint32_t key; /* where it is in the table's keys */
        size_t key_size;
};

/* The writer's: begins to write a shard's counts, calls write for each object, and drops them at the end.
 * They are still added to infos in between. usage_begin() returns how many there are. */
size_t usage_begin(struct usage *usage, size_t shard);
int usage_visit(struct usage *usage,
                size_t shard,
                int (*visit)(const struct usage_entry *entry, const void *key, void *userdata),
                void *userdata);
void usage_end(struct usage *usage, size_t shard);
