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

static struct shard *shard_of(struct fast_table *table, uint64_t blob) {
        return &table->shards[fast_hash(blob) % ARRAY_SIZE(table->shards)];
}

static struct shard *lock_shard(struct fast_table *table, uint64_t blob) {
        struct shard *shard = shard_of(table, blob);

        (void) pthread_mutex_lock(&shard->mutex);
        return shard;
}

static void unlock_shard(struct shard *shard) {
        (void) pthread_mutex_unlock(&shard->mutex);
}

static struct copy **bucket_of(struct buckets *buckets, uint64_t blob) {
        /* The lowest bits are the shard's. */
        return &buckets->first[fast_hash(blob) >> 8 & (buckets->n - 1)];
}

static struct copy *load(struct copy **p) {
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store(struct copy **p, struct copy *copy) {
        __atomic_store_n(p, copy, __ATOMIC_SEQ_CST);
}

static enum copy_state state_of(const struct copy *copy) {
        return __atomic_load_n(&copy->state, __ATOMIC_RELAXED);
}

static void set_state(struct copy *copy, enum copy_state state) {
        __atomic_store_n(&copy->state, state, __ATOMIC_RELAXED);
}

/* The pointer to the blob's copy, or NULL. Its shard is locked. */
static struct copy **find(const struct shard *shard, uint64_t blob) {
        if (!shard->buckets)
                return NULL;

        for (struct copy **copy = bucket_of(shard->buckets, blob); *copy; copy = &(*copy)->next)
                if ((*copy)->blob == blob)
                        return copy;

        return NULL;
}

static void insert(struct buckets *buckets, struct copy *copy) {
        struct copy **bucket = bucket_of(buckets, copy->blob);

        store(&copy->next, *bucket);
        store(bucket, copy);
}

static int grow(struct shard *shard) {
        struct buckets *old = shard->buckets, *grown;
        size_t n = old ? 2 * old->n : BUCKETS_MIN;

        if (old && shard->n_copies < old->n)
                return 0;

        grown = calloc(1, sizeof(*grown) + n * sizeof(grown->first[0]));
        if (!grown) /* longer chains will do */
                return old ? 0 : -ENOMEM;

        grown->n = n;
        grown->outgrown = old;
        for (size_t i = 0; old && i < old->n; i++)
                for (struct copy *copy = old->first[i], *next; copy; copy = next) {
                        next = copy->next;
                        insert(grown, copy); /* who is at it goes on from there, and may miss others */
                }

        __atomic_store_n(&shard->buckets, grown, __ATOMIC_SEQ_CST);
        return 0;
}

int fast_table_add(struct fast_table *table, struct copy *copy) {
        struct shard *shard = lock_shard(table, copy->blob);
        int r;

        r = find(shard, copy->blob) ? -EEXIST : grow(shard);
        if (r >= 0) {
                insert(shard->buckets, copy);
                shard->n_copies++;
        }

        unlock_shard(shard);
        return r;
}

bool fast_table_touch(struct fast_table *table, uint64_t blob) {
        struct buckets *buckets = __atomic_load_n(&shard_of(table, blob)->buckets, __ATOMIC_SEQ_CST);
        struct copy *copy = buckets ? load(bucket_of(buckets, blob)) : NULL;

        while (copy && copy->blob != blob)
                copy = load(&copy->next);
        if (!copy || state_of(copy) != COPY_READY)
                return false;

        /* The policy has no use for when it was. */
        if (heat_count(__atomic_load_n(&copy->heat, __ATOMIC_RELAXED)) < POLICY_FIFO_HITS_MAX)
                heat_touch(&copy->heat, 0);
        return true;
}

static void take_out(struct shard *shard, struct copy **place) {
        struct copy *copy = *place;

        store(place, copy->next);
        shard->n_copies--;
        set_state(copy, COPY_GONE);
}

bool fast_table_drop(struct fast_table *table, uint64_t blob) {
        struct shard *shard = lock_shard(table, blob);
        struct copy **place = find(shard, blob), *copy = place ? *place : NULL;
        bool was_ready = copy && state_of(copy) == COPY_READY;

        if (copy)
                take_out(shard, place);
        if (was_ready) {
                (void) pthread_mutex_lock(&table->gone_mutex);
                store(&copy->next, table->gone); /* who is at it finds nothing more */
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
        bool is_there = state_of(copy) != COPY_GONE;

        unlock_shard(shard);
        return is_there;
}

bool fast_table_set_ready(struct fast_table *table, struct copy *copy) {
        struct shard *shard = lock_shard(table, copy->blob);
        bool is_there = state_of(copy) != COPY_GONE;

        if (is_there)
                set_state(copy, COPY_READY);

        unlock_shard(shard);
        return is_there;
}

bool fast_table_remove(struct fast_table *table, struct copy *copy) {
        struct shard *shard = lock_shard(table, copy->blob);
        bool is_there = state_of(copy) != COPY_GONE;

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

                for (size_t j = 0; shard->buckets && j < shard->buckets->n; j++)
                        free_list(shard->buckets->first[j]);
                for (struct buckets *buckets; (buckets = shard->buckets);) {
                        shard->buckets = buckets->outgrown;
                        free(buckets);
                }
                (void) pthread_mutex_destroy(&shard->mutex);
        }

        free_list(table->gone);
        (void) pthread_mutex_destroy(&table->gone_mutex);
}
