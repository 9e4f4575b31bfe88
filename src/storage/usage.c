/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "macro.h"

#define TABLE_SLOTS 1024 /* a power of two */
#define TABLE_MAX   (TABLE_SLOTS / 4 * 3)
#define TABLE_KEYS  (96U * 1024)

struct usage_table {
        size_t n;
        size_t keys_size;
        struct usage_entry entries[TABLE_SLOTS];
        uint8_t keys[TABLE_KEYS];
};

struct shard {
        pthread_mutex_t mutex;
        struct usage_table *counting, *writing; /* NULL: empty */
} __attribute__((aligned(64)));

struct usage {
        struct shard shards[USAGE_SHARDS];
        bool is_counting; /* atomic */
};

int usage_new(struct usage **ret) {
        struct usage *usage = aligned_alloc(64, sizeof(*usage));

        if (!usage)
                return -ENOMEM;

        memset(usage, 0, sizeof(*usage));
        for (size_t i = 0; i < USAGE_SHARDS; i++)
                (void) pthread_mutex_init(&usage->shards[i].mutex, NULL);

        *ret = usage;
        return 0;
}

void usage_free(struct usage *usage) {
        for (size_t i = 0; i < USAGE_SHARDS; i++) {
                free(usage->shards[i].counting);
                free(usage->shards[i].writing);
                (void) pthread_mutex_destroy(&usage->shards[i].mutex);
        }
        free(usage);
}

/* Generations come in order: the lowest bits tell the shard, those of a product the slot. */
static struct shard *shard_of(struct usage *usage, uint64_t generation) {
        return &usage->shards[generation % USAGE_SHARDS];
}

static struct usage_entry *entry_of(struct usage_table *table, uint64_t generation) {
        size_t i = (size_t) ((generation * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % TABLE_SLOTS;

        while (table->entries[i].generation != 0 && table->entries[i].generation != generation)
                i = (i + 1) % TABLE_SLOTS;

        return &table->entries[i];
}

static void add_to(struct usage_table *table, struct storage_info *info) {
        const struct usage_entry *entry;

        if (!table)
                return;

        entry = entry_of(table, info->etag.generation);
        if (entry->generation == 0)
                return;

        info->hits += entry->hits;
        info->used_usec = MAX(info->used_usec, entry->used_usec);
}

static void count(struct usage_table *table,
                  const void *key,
                  size_t key_size,
                  uint64_t hash,
                  uint64_t generation,
                  uint64_t now_usec) {
        struct usage_entry *entry = entry_of(table, generation);

        if (entry->generation == 0) {
                if (table->n >= TABLE_MAX || key_size > TABLE_KEYS - table->keys_size)
                        return;

                *entry = (struct usage_entry){ .generation = generation,
                                               .hash = hash,
                                               .key = (uint32_t) table->keys_size,
                                               .key_size = key_size };
                memcpy(table->keys + table->keys_size, key, key_size);
                table->keys_size += key_size;
                table->n++;
        }

        entry->hits += entry->hits < UINT32_MAX;
        entry->used_usec = MAX(entry->used_usec, now_usec);
}

bool usage_count(struct usage *usage,
                 const void *key,
                 size_t key_size,
                 uint64_t hash,
                 uint64_t now_usec,
                 struct storage_info *info) {
        struct shard *shard = shard_of(usage, info->etag.generation);

        (void) pthread_mutex_lock(&shard->mutex);
        if (!shard->counting)
                shard->counting = calloc(1, sizeof(*shard->counting)); /* without memory it is not counted */
        if (shard->counting)
                count(shard->counting, key, key_size, hash, info->etag.generation, now_usec);
        add_to(shard->counting, info);
        add_to(shard->writing, info);
        (void) pthread_mutex_unlock(&shard->mutex);

        return !__atomic_load_n(&usage->is_counting, __ATOMIC_RELAXED) &&
               !__atomic_exchange_n(&usage->is_counting, true, __ATOMIC_RELAXED);
}

void usage_add(struct usage *usage, struct storage_info *info) {
        struct shard *shard = shard_of(usage, info->etag.generation);

        (void) pthread_mutex_lock(&shard->mutex);
        add_to(shard->counting, info);
        add_to(shard->writing, info);
        (void) pthread_mutex_unlock(&shard->mutex);
}

size_t usage_begin(struct usage *usage, size_t i) {
        struct shard *shard = &usage->shards[i];
        size_t n;

        /* Before the tables are taken: a get that comes later starts the next round. */
        if (i == 0)
                __atomic_store_n(&usage->is_counting, false, __ATOMIC_RELAXED);

        (void) pthread_mutex_lock(&shard->mutex);
        assert(!shard->writing);
        shard->writing = TAKE_PTR(shard->counting);
        n = shard->writing ? shard->writing->n : 0;
        (void) pthread_mutex_unlock(&shard->mutex);

        return n;
}

int usage_visit(struct usage *usage,
                size_t i,
                int (*visit)(const struct usage_entry *entry, const void *key, void *userdata),
                void *userdata) {
        const struct usage_table *table = usage->shards[i].writing;
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
        struct shard *shard = &usage->shards[i];
        struct usage_table *table;

        (void) pthread_mutex_lock(&shard->mutex);
        table = TAKE_PTR(shard->writing);
        (void) pthread_mutex_unlock(&shard->mutex);
        free(table);
}
