/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fast-table.h"

#include "heat.h"
#include "macro.h"

#define BUCKETS_MIN 64U

/* Numbers come in a row. */
uint64_t fast_hash(uint64_t blob) {
        uint64_t h = blob * UINT64_C(0x9e3779b97f4a7c15);

        h = (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
        return h ^ h >> 32;
}

static struct shard *lock_shard(struct fast_table *table, uint64_t blob) {
        struct shard *shard = &table->shards[fast_hash(blob) % ARRAY_SIZE(table->shards)];

        (void) pthread_mutex_lock(&shard->mutex);
        return shard;
}

static void unlock_shard(struct shard *shard) {
        (void) pthread_mutex_unlock(&shard->mutex);
}

static struct copy **bucket_of(const struct shard *shard, uint64_t blob) {
        /* The lowest bits are the shard's. */
        return &shard->buckets[fast_hash(blob) >> 8 & (shard->n_buckets - 1)];
}

/* The pointer to the blob's copy, or NULL. */
static struct copy **find(const struct shard *shard, uint64_t blob) {
        if (shard->n_buckets == 0)
                return NULL;

        for (struct copy **copy = bucket_of(shard, blob); *copy; copy = &(*copy)->next)
                if ((*copy)->blob == blob)
                        return copy;

        return NULL;
}

static void insert(struct shard *shard, struct copy *copy) {
        struct copy **bucket = bucket_of(shard, copy->blob);

        copy->next = *bucket;
        *bucket = copy;
}

static int grow(struct shard *shard) {
        struct shard grown = { .n_buckets = MAX(2 * shard->n_buckets, (size_t) BUCKETS_MIN) };

        if (shard->n_copies < shard->n_buckets)
                return 0;

        grown.buckets = calloc(grown.n_buckets, sizeof(struct copy *));
        if (!grown.buckets) /* longer chains will do */
                return shard->n_buckets > 0 ? 0 : -ENOMEM;

        for (size_t i = 0; i < shard->n_buckets; i++)
                for (struct copy *copy = shard->buckets[i], *next; copy; copy = next) {
                        next = copy->next;
                        insert(&grown, copy);
                }

        free(shard->buckets);
        shard->buckets = grown.buckets;
        shard->n_buckets = grown.n_buckets;
        return 0;
}

int fast_table_add(struct fast_table *table, struct copy *copy) {
        struct shard *shard = lock_shard(table, copy->blob);
        int r;

        r = find(shard, copy->blob) ? -EEXIST : grow(shard);
        if (r >= 0) {
                insert(shard, copy);
                shard->n_copies++;
        }

        unlock_shard(shard);
        return r;
}

bool fast_table_touch(struct fast_table *table, uint64_t blob, uint64_t now) {
        struct shard *shard = lock_shard(table, blob);
        struct copy **copy = find(shard, blob);
        bool is_ready = copy && (*copy)->state == COPY_READY;

        if (is_ready)
                heat_touch(&(*copy)->heat, now);

        unlock_shard(shard);
        return is_ready;
}

static void take_out(struct shard *shard, struct copy **place) {
        struct copy *copy = *place;

        *place = copy->next;
        shard->n_copies--;
        copy->state = COPY_GONE;
}

bool fast_table_drop(struct fast_table *table, uint64_t blob) {
        struct shard *shard = lock_shard(table, blob);
        struct copy **place = find(shard, blob), *copy = place ? *place : NULL;
        bool was_ready = copy && copy->state == COPY_READY;

        if (copy)
                take_out(shard, place);
        if (was_ready) {
                (void) pthread_mutex_lock(&table->gone_mutex);
                copy->next = table->gone;
                table->gone = copy;
                (void) pthread_mutex_unlock(&table->gone_mutex);
        }

        unlock_shard(shard);
        return was_ready;
}

struct copy *fast_table_take_gone(struct fast_table *table) {
        struct copy *gone;

        (void) pthread_mutex_lock(&table->gone_mutex);
        gone = TAKE_PTR(table->gone);
        (void) pthread_mutex_unlock(&table->gone_mutex);

        return gone;
}

bool fast_table_is_there(struct fast_table *table, struct copy *copy) {
        struct shard *shard = lock_shard(table, copy->blob);
        bool is_there = copy->state != COPY_GONE;

        unlock_shard(shard);
        return is_there;
}

bool fast_table_set_ready(struct fast_table *table, struct copy *copy) {
        struct shard *shard = lock_shard(table, copy->blob);
        bool is_there = copy->state != COPY_GONE;

        if (is_there)
                copy->state = COPY_READY;

        unlock_shard(shard);
        return is_there;
}

bool fast_table_remove(struct fast_table *table, struct copy *copy) {
        struct shard *shard = lock_shard(table, copy->blob);
        bool is_there = copy->state != COPY_GONE;

        if (is_there)
                take_out(shard, find(shard, copy->blob));

        unlock_shard(shard);
        return is_there;
}

void fast_table_init(struct fast_table *table) {
        *table = (struct fast_table){ .gone_mutex = PTHREAD_MUTEX_INITIALIZER };
        for (size_t i = 0; i < ARRAY_SIZE(table->shards); i++)
                (void) pthread_mutex_init(&table->shards[i].mutex, NULL);
}

static void free_list(struct copy *copy) {
        for (struct copy *next; copy; copy = next) {
                next = copy->next;
                free(copy);
        }
}

void fast_table_done(struct fast_table *table) {
        for (size_t i = 0; i < ARRAY_SIZE(table->shards); i++) {
                struct shard *shard = &table->shards[i];

                for (size_t j = 0; j < shard->n_buckets; j++)
                        free_list(shard->buckets[j]);
                free(shard->buckets);
                (void) pthread_mutex_destroy(&shard->mutex);
        }

        free_list(table->gone);
        (void) pthread_mutex_destroy(&table->gone_mutex);
}
