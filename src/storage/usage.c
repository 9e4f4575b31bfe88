/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"

#define TABLE_SLOTS 1024 /* a power of two */
#define TABLE_MAX   (TABLE_SLOTS / 4 * 3)
#define TABLE_KEYS  (96U * 1024)

static_assert(EPOCH_SLOTS <= 64, "a bit each");

struct usage_table {
        size_t n;
        size_t keys_size;
        struct usage_entry entries[TABLE_SLOTS];
        uint8_t keys[TABLE_KEYS];
};

struct shard {
        struct usage_table *counting,
                        *writing; /* atomic; NULL: empty. What is in the former is its place's */
};

/* By the place of who counts: others read there alone. */
struct place {
        struct shard shards[USAGE_TABLES];
} __attribute__((aligned(64)));

struct usage {
        struct place places[EPOCH_SLOTS];
        struct epoch *epoch;
        uint64_t places_used; /* atomic: bits of those where there ever was something */
        bool is_counting;     /* atomic */
};

int usage_new(struct usage **ret, struct epoch *epoch) {
        struct usage *usage = aligned_alloc(64, sizeof(*usage));

        if (!usage)
                return -ENOMEM;

        memset(usage, 0, sizeof(*usage));
        usage->epoch = epoch;
        *ret = usage;
        return 0;
}

static struct shard *shard_at(struct usage *usage, size_t i) {
        return &usage->places[i / USAGE_TABLES].shards[i % USAGE_TABLES];
}

void usage_free(struct usage *usage) {
        for (size_t i = 0; i < USAGE_SHARDS; i++) {
                free(shard_at(usage, i)->counting);
                free(shard_at(usage, i)->writing);
        }
        free(usage);
}

/* Generations come in order: the lowest bits tell the table, those of a product the slot. */
static size_t table_of(uint64_t generation) {
        return generation % USAGE_TABLES;
}

static struct usage_entry *entry_of(struct usage_table *table, uint64_t generation) {
        size_t i = (size_t) ((generation * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % TABLE_SLOTS;

        for (;; i = (i + 1) % TABLE_SLOTS) {
                uint64_t found = __atomic_load_n(&table->entries[i].generation, __ATOMIC_ACQUIRE);

                if (found == 0 || found == generation)
                        return &table->entries[i];
        }
}

static void add_to(struct usage_table *table, struct storage_info *info) {
        const struct usage_entry *entry;

        if (!table)
                return;

        entry = entry_of(table, info->etag.generation);
        if (__atomic_load_n(&entry->generation, __ATOMIC_RELAXED) == 0)
                return;

        info->hits += __atomic_load_n(&entry->hits, __ATOMIC_RELAXED);
        info->used_usec = MAX(info->used_usec, __atomic_load_n(&entry->used_usec, __ATOMIC_RELAXED));
}

/* The first get of a round: without memory it is not counted. */
static struct usage_table *begin_counting(struct usage *usage, size_t place, struct shard *shard) {
        struct usage_table *table = calloc(1, sizeof(*table));

        if (!table)
                return NULL;

        (void) __atomic_fetch_or(&usage->places_used, UINT64_C(1) << place, __ATOMIC_SEQ_CST);
        __atomic_store_n(&shard->counting, table, __ATOMIC_SEQ_CST);
        return table;
}

/* The first get of an object. NULL: there is no room for it. */
__attribute__((noinline)) static struct usage_entry *enter(struct usage *usage,
                                                           size_t place,
                                                           const void *key,
                                                           size_t key_size,
                                                           uint64_t hash,
                                                           uint64_t generation) {
        struct shard *shard = &usage->places[place].shards[table_of(generation)];
        struct usage_table *table = __atomic_load_n(&shard->counting, __ATOMIC_SEQ_CST)
                                                    ?: begin_counting(usage, place, shard);
        struct usage_entry *entry;

        if (!table || table->n >= TABLE_MAX || key_size > TABLE_KEYS - table->keys_size)
                return NULL;

        entry = entry_of(table, generation);
        entry->hash = hash;
        entry->key = (uint32_t) table->keys_size;
        entry->key_size = key_size;
        memcpy(table->keys + table->keys_size, key, key_size);
        table->keys_size += key_size;
        table->n++;
        __atomic_store_n(&entry->generation, generation, __ATOMIC_RELEASE);
        return entry;
}

bool usage_count(struct usage *usage,
                 const struct epoch_slot *slot,
                 const void *key,
                 size_t key_size,
                 uint64_t hash,
                 uint64_t generation,
                 uint64_t now_usec) {
        size_t place = epoch_index(usage->epoch, slot);
        struct shard *shard = &usage->places[place].shards[table_of(generation)];
        struct usage_table *table = __atomic_load_n(&shard->counting, __ATOMIC_SEQ_CST);
        struct usage_entry *entry = table ? entry_of(table, generation) : NULL;

        if (!entry || __atomic_load_n(&entry->generation, __ATOMIC_RELAXED) == 0)
                entry = enter(usage, place, key, key_size, hash, generation);

        if (entry) {
                uint32_t hits = __atomic_load_n(&entry->hits, __ATOMIC_RELAXED);

                __atomic_store_n(&entry->hits, hits + (hits < UINT32_MAX), __ATOMIC_RELAXED);
                if (__atomic_load_n(&entry->used_usec, __ATOMIC_RELAXED) < now_usec)
                        __atomic_store_n(&entry->used_usec, now_usec, __ATOMIC_RELAXED);
        }

        /* In the order of usage_begin(): who finds it set is in a table that will be found there. */
        return !__atomic_load_n(&usage->is_counting, __ATOMIC_SEQ_CST) &&
               !__atomic_exchange_n(&usage->is_counting, true, __ATOMIC_SEQ_CST);
}

void usage_add(struct usage *usage, struct storage_info *info) {
        uint64_t left = __atomic_load_n(&usage->places_used, __ATOMIC_SEQ_CST);

        for (; left != 0; left &= left - 1) {
                struct shard *shard = &usage->places[__builtin_ctzll(left)]
                                                       .shards[table_of(info->etag.generation)];
                struct usage_table *counting = __atomic_load_n(&shard->counting, __ATOMIC_SEQ_CST);
                struct usage_table *writing = __atomic_load_n(&shard->writing, __ATOMIC_SEQ_CST);

                add_to(counting, info);
                if (writing != counting) /* on its way from the one to the other it is both */
                        add_to(writing, info);
        }
}

size_t usage_begin(struct usage *usage, size_t i) {
        struct shard *shard = shard_at(usage, i);
        struct usage_table *table;

        /* Before the tables are taken: a get that comes later starts the next round. */
        if (i == 0)
                __atomic_store_n(&usage->is_counting, false, __ATOMIC_SEQ_CST);

        assert(!shard->writing);
        table = __atomic_load_n(&shard->counting, __ATOMIC_SEQ_CST);
        if (!table)
                return 0;

        __atomic_store_n(&shard->writing, table, __ATOMIC_SEQ_CST);
        __atomic_store_n(&shard->counting, NULL, __ATOMIC_SEQ_CST);
        /* Who found it there counts in it until then. */
        epoch_wait(usage->epoch, epoch_mark(usage->epoch));
        return table->n;
}

int usage_visit(struct usage *usage,
                size_t i,
                int (*visit)(const struct usage_entry *entry, const void *key, void *userdata),
                void *userdata) {
        const struct usage_table *table = shard_at(usage, i)->writing;
        int r;

        for (size_t j = 0; table && j < TABLE_SLOTS; j++) {
                const struct usage_entry *entry = &table->entries[j];

                if (entry->generation == 0)
                        continue;

                r = visit(entry, table->keys + entry->key, userdata);
                if (r < 0)
                        return r;
        }

        return 0;
}

void usage_end(struct usage *usage, size_t i) {
        struct shard *shard = shard_at(usage, i);
        struct usage_table *table = shard->writing;

        if (!table)
                return;

        __atomic_store_n(&shard->writing, NULL, __ATOMIC_SEQ_CST);
        epoch_wait(usage->epoch, epoch_mark(usage->epoch));
        free(table);
}
