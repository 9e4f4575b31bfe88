/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hot.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "clock.h"
#include "heat.h"
#include "macro.h"
#include "policy.h"
#include "segment.h"

#define SHARDS      64
#define SHARD_BITS  6
#define MOMENTS     4096  /* a power of two */
#define DOOR_PLACES 65536 /* a power of two */

#define SEGMENT_MIN      ((size_t) 4 << 10)
#define SEGMENT_WIDE     ((size_t) 32 << 10) /* has room for any body that may come */
#define SEGMENT_MAX      ((size_t) 256 << 10)
#define SEGMENTS_FEW     6                /* of a shard, at least, up to that size */
#define SEGMENTS_MANY    32               /* ... and beyond it */
#define BYTES_PER_BUCKET 512              /* of a shard's memory */
#define POLICY_SHARE     32               /* a part in so many is for what the policy remembers */
#define LIVE_SHARE(size) ((size) / 8 * 7) /* the rest is what is dead and not used again yet */
#define CLEANED_AT_ONCE  8
#define GROWTH_STEPS     16

struct buckets {
        size_t mask;
        struct hot_entry *first[]; /* atomic */
};

struct queue {
        struct hot_entry *first, *last;
};

struct shard {
        struct buckets *buckets; /* atomic; NULL: nothing is kept */
        pthread_mutex_t mutex;
        /* Under the mutex. */
        struct policy *policy;
        struct queue queues[POLICY_QUEUES];
        struct segments segments;
        uint64_t now; /* the policy's clock */
        uint64_t grow_usec, next_growth_usec;
} __attribute__((aligned(64)));

struct hot {
        struct epoch epoch;
        struct shard shards[SHARDS];
        uint64_t moments[MOMENTS];  /* atomic: changes, by hash */
        uint16_t door[DOOR_PLACES]; /* atomic: gets of late, by hash */
        uint64_t seed;
        uint64_t (*hash)(const void *uri, size_t uri_size);
        uint64_t size_max; /* atomic */
        void *memory;
        size_t memory_size;
        size_t shard_overhead; /* bytes of a shard that are not in segments */
};

/* ---- a shard, its mutex held ---- */

static struct hot_entry **bucket_of(struct buckets *buckets, uint64_t hash) {
        return &buckets->first[hash & buckets->mask];
}

static struct hot_entry *load(struct hot_entry **p) {
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store(struct hot_entry **p, struct hot_entry *entry) {
        __atomic_store_n(p, entry, __ATOMIC_SEQ_CST);
}

static bool is_of(const struct hot_entry *entry, uint64_t hash, const void *uri, size_t uri_size) {
        return entry->hash == hash && entry->uri_size == uri_size && memcmp(entry->data, uri, uri_size) == 0;
}

static void enqueue(struct shard *shard, struct hot_entry *entry) {
        struct queue *queue = &shard->queues[entry->place.queue];

        entry->later = NULL;
        entry->earlier = queue->last;
        if (queue->last)
                queue->last->later = entry;
        else
                queue->first = entry;
        queue->last = entry;
}

static void dequeue(struct shard *shard, struct hot_entry *entry) {
        struct queue *queue = &shard->queues[entry->place.queue];

        if (entry->earlier)
                entry->earlier->later = entry->later;
        else
                queue->first = entry->later;
        if (entry->later)
                entry->later->earlier = entry->earlier;
        else
                queue->last = entry->earlier;
}

/* What points at the entry in its bucket. */
static struct hot_entry **link_of(struct shard *shard, const struct hot_entry *entry) {
        struct hot_entry **link = bucket_of(shard->buckets, entry->hash);

        while (*link != entry)
                link = &(*link)->next;

        return link;
}

/* It is in no queue. Readers who are at it find on from there. */
static void forget(struct shard *shard, struct hot_entry *entry) {
        store(link_of(shard, entry), entry->next);
        entry->is_dead = true;
        segments_release(&shard->segments, entry, entry->size);
}

static void drop(struct shard *shard, struct hot_entry *entry) {
        dequeue(shard, entry);
        policy_remove(shard->policy, &entry->place, entry->size);
        forget(shard, entry);
}

static bool evict(struct shard *shard) {
        for (;;) {
                int queue = policy_pick(shard->policy);
                struct hot_entry *entry;
                uint64_t heat;

                if (queue < 0)
                        return false;

                entry = shard->queues[queue].first;
                if (!entry) {
                        policy_forget_queue(shard->policy, (enum policy_queue) queue);
                        continue;
                }

                heat = heat_make(__atomic_exchange_n(&entry->heat, 0, __ATOMIC_RELAXED), shard->now);
                dequeue(shard, entry);
                if (policy_examine(shard->policy, &entry->place, entry->hash, entry->size, heat,
                                   ++shard->now)) {
                        forget(shard, entry);
                        return true;
                }
                enqueue(shard, entry);
        }
}

static bool move(struct shard *shard, struct hot_entry *entry) {
        struct queue *queue = &shard->queues[entry->place.queue];
        struct hot_entry *copy = segments_append(&shard->segments, entry->size, true);

        if (!copy)
                return false;

        memcpy(copy, entry, offsetof(struct hot_entry, heat));
        copy->heat = __atomic_load_n(&entry->heat, __ATOMIC_RELAXED); /* readers still write it */
        memcpy(&copy->uri_size, &entry->uri_size, entry->size - offsetof(struct hot_entry, uri_size));
        if (copy->earlier)
                copy->earlier->later = copy;
        else
                queue->first = copy;
        if (copy->later)
                copy->later->earlier = copy;
        else
                queue->last = copy;

        store(link_of(shard, entry), copy);
        entry->is_dead = true;
        segments_release(&shard->segments, entry, entry->size);
        return true;
}

/* Makes the emptiest segment a free one. */
static bool clean(struct shard *shard) {
        struct segments *segments = &shard->segments;
        uint32_t i = segments_emptiest(segments);
        const uint8_t *p, *end;

        if (i == SEGMENT_NONE || segments->segments[i].live > segments->size / 16 * 15)
                return false;

        p = segment_at(segments, i);
        for (end = p + segments->segments[i].used; p < end && segments->segments[i].live > 0;) {
                struct hot_entry *entry = (struct hot_entry *) (void *) p;

                p += entry->size;
                if (!entry->is_dead && !move(shard, entry))
                        return false;
        }

        return true;
}

static void evict_until(struct shard *shard, size_t size) {
        while (shard->segments.live > size && evict(shard))
                ;
}

/* A step on the way to one free segment more. What is large may not fit together as closely as its sum says. */
static bool free_segment(struct shard *shard) {
        uint32_t n_before = shard->segments.n_used;

        return (clean(shard) && shard->segments.n_used < n_before) || evict(shard);
}

static size_t live_max(const struct shard *shard) {
        return LIVE_SHARE(shard->segments.n_allowed * shard->segments.size);
}

/* Memory that was given back is taken again in small steps. */
static void grow(struct shard *shard) {
        struct segments *segments = &shard->segments;
        uint64_t now_usec;

        if (segments->n_allowed == segments->n)
                return;

        now_usec = clock_usec(CLOCK_MONOTONIC_COARSE);
        if (now_usec < shard->next_growth_usec)
                return;

        shard->next_growth_usec = now_usec + shard->grow_usec;
        segments->n_allowed = MIN(segments->n_allowed + 1 + segments->n / GROWTH_STEPS, segments->n);
}

static struct hot_entry *append(struct shard *shard, size_t size) {
        grow(shard);
        if (size > live_max(shard) / 4)
                return NULL;

        evict_until(shard, live_max(shard) - size);
        for (unsigned i = 0;; i++) {
                struct hot_entry *entry = segments_append(&shard->segments, size, false);

                if (entry || i == CLEANED_AT_ONCE || !free_segment(shard))
                        return entry;
        }
}

/* ---- the table ---- */

uint64_t hot_hash(const struct hot *hot, const void *uri, size_t uri_size) {
        return hot->hash ? hot->hash(uri, uri_size) : XXH3_64bits_withSeed(uri, uri_size, hot->seed);
}

static inline struct shard *shard_of(struct hot *hot, uint64_t hash) {
        return &hot->shards[hash >> (64 - SHARD_BITS)];
}

static inline struct hot_entry *find(struct shard *shard, uint64_t hash, const void *uri, size_t uri_size) {
        struct buckets *buckets = __atomic_load_n(&shard->buckets, __ATOMIC_SEQ_CST);
        struct hot_entry *entry;

        if (!buckets)
                return NULL;

        for (entry = load(bucket_of(buckets, hash)); entry; entry = load(&entry->next))
                if (is_of(entry, hash, uri, uri_size))
                        break;

        return entry;
}

static size_t tail_size(size_t uri_size) {
        return uri_size > KEY_MAX ? KEY_TAIL : 0;
}

static int copy_out(const struct hot_entry *entry, bool with_body, struct storage_object *object) {
        size_t size = entry->metadata_size + (with_body ? entry->info.size : 0);
        uint8_t *p = object->buffer;

        if (size > object->buffer_size) {
                p = realloc(object->buffer, size);
                if (!p)
                        return -ENOMEM;

                object->buffer = p;
                object->buffer_size = size;
        }

        if (size > 0)
                memcpy(p, hot_entry_metadata(entry), size);
        else if (!p)
                p = (uint8_t *) ""; /* an empty body is a body */

        object->info = entry->info;
        object->info.hits = __atomic_load_n(&entry->hits, __ATOMIC_RELAXED);
        object->info.used_usec = __atomic_load_n(&entry->used_usec, __ATOMIC_RELAXED);
        object->metadata = p;
        object->metadata_size = entry->metadata_size;
        object->body = with_body ? p + entry->metadata_size : NULL;
        return 0;
}

struct epoch *hot_epoch(struct hot *hot) {
        return &hot->epoch;
}

struct hot_entry *hot_find(struct hot *hot, const void *uri, size_t uri_size) {
        uint64_t hash = hot_hash(hot, uri, uri_size);

        return find(shard_of(hot, hash), hash, uri, uri_size);
}

static int look(struct hot_entry *entry,
                const struct hot_want *want,
                struct storage_object *object,
                struct hot_found *ret) {
        bool wants_body = entry->blob == 0 || entry->info.size <= want->body_max;
        int r;

        r = copy_out(entry, wants_body && entry->has_body, object);
        if (r < 0)
                return r;

        ret->is_lacking = (wants_body && !entry->has_body) || (want->is_checked && !entry->is_checked);
        ret->blob = entry->blob;
        ret->is_checked = entry->is_checked;
        if (hot_entry_key_tail(entry))
                memcpy(ret->key_tail, hot_entry_key_tail(entry), KEY_TAIL);
        if (want->is_counted)
                hot_entry_heat(entry);
        return 1;
}

int hot_get(struct hot *hot,
            uint64_t hash,
            const void *uri,
            size_t uri_size,
            const struct hot_want *want,
            struct storage_object *object,
            struct hot_found *ret) {
        struct epoch_slot *slot = epoch_enter(&hot->epoch);
        struct hot_entry *entry = find(shard_of(hot, hash), hash, uri, uri_size);
        int r = entry ? look(entry, want, object, ret) : 0;

        epoch_leave(slot);
        return r;
}

bool hot_note(struct hot *hot, uint64_t hash) {
        uint16_t *place = &hot->door[hash % DOOR_PLACES], print = (uint16_t) (hash >> 32) | 1;

        if (__atomic_load_n(&hot->size_max, __ATOMIC_RELAXED) == 0)
                return false;
        if (__atomic_load_n(place, __ATOMIC_RELAXED) == print)
                return true;

        __atomic_store_n(place, print, __ATOMIC_RELAXED);
        return false;
}

uint64_t hot_moment(struct hot *hot, uint64_t hash) {
        return __atomic_load_n(&hot->moments[hash % MOMENTS], __ATOMIC_SEQ_CST);
}

static void fill(struct hot_entry *entry,
                 const void *uri,
                 const struct storage_object *object,
                 const struct hot_found *found) {
        uint8_t *p = entry->data;

        p = (uint8_t *) memcpy(p, uri, entry->uri_size) + entry->uri_size;
        if (tail_size(entry->uri_size) > 0)
                p = (uint8_t *) memcpy(p, found->key_tail, KEY_TAIL) + KEY_TAIL;
        if (object->metadata_size > 0)
                memcpy(p, object->metadata, object->metadata_size);
        if (entry->has_body && object->info.size > 0)
                memcpy(p + object->metadata_size, object->body, object->info.size);
}

void hot_put(struct hot *hot,
             uint64_t hash,
             uint64_t moment,
             const void *uri,
             size_t uri_size,
             const struct storage_object *object,
             const struct hot_found *found) {
        size_t size = offsetof(struct hot_entry, data) + uri_size + tail_size(uri_size) +
                      object->metadata_size + (object->body ? object->info.size : 0);
        struct shard *shard = shard_of(hot, hash);
        struct policy_place place;
        struct hot_entry *entry;

        size = (size + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;

        (void) pthread_mutex_lock(&shard->mutex);
        if (!shard->buckets || moment & 1 || hot_moment(hot, hash) != moment)
                goto finish;

        entry = find(shard, hash, uri, uri_size);
        if (entry)
                drop(shard, entry);

        entry = append(shard, size);
        if (!entry)
                goto finish;

        place = policy_insert(shard->policy, hash, size, ++shard->now);
        *entry = (struct hot_entry){
                .next = *bucket_of(shard->buckets, hash),
                .hash = hash,
                .blob = found->blob,
                .hits = object->info.hits,
                .used_usec = object->info.used_usec,
                .info = object->info,
                .place = place,
                .size = (uint32_t) size,
                .metadata_size = (uint32_t) object->metadata_size,
                .uri_size = (uint16_t) uri_size,
                .is_checked = found->is_checked,
                .has_body = object->body,
        };
        fill(entry, uri, object, found);
        enqueue(shard, entry);
        store(bucket_of(shard->buckets, hash), entry);

finish:
        (void) pthread_mutex_unlock(&shard->mutex);
}

/* Calls visit for each entry with the hash: another URI may have the same. */
static void visit(struct hot *hot,
                  uint64_t hash,
                  void (*function)(struct shard *shard, struct hot_entry *entry, void *userdata),
                  void *userdata) {
        struct shard *shard = shard_of(hot, hash);
        struct hot_entry *next;

        (void) pthread_mutex_lock(&shard->mutex);
        if (shard->buckets)
                for (struct hot_entry *entry = *bucket_of(shard->buckets, hash); entry; entry = next) {
                        next = entry->next;
                        if (entry->hash == hash)
                                function(shard, entry, userdata);
                }
        (void) pthread_mutex_unlock(&shard->mutex);
}

static void drop_generation(struct shard *shard, struct hot_entry *entry, void *userdata) {
        if (entry->info.etag.generation == *(uint64_t *) userdata)
                drop(shard, entry);
}

void hot_drop(struct hot *hot, uint64_t hash, uint64_t generation) {
        visit(hot, hash, drop_generation, &generation);
}

static void drop_any(struct shard *shard, struct hot_entry *entry, _unused_ void *userdata) {
        drop(shard, entry);
}

/* Moments are counted in twos: an odd one is the time of a commit. */
static void suspend(struct hot *hot, uint64_t hash) {
        (void) __atomic_fetch_or(&hot->moments[hash % MOMENTS], 1, __ATOMIC_SEQ_CST);
}

static void resume(struct hot *hot, uint64_t hash) {
        if (hot_moment(hot, hash) & 1)
                (void) __atomic_fetch_add(&hot->moments[hash % MOMENTS], 1, __ATOMIC_SEQ_CST);
}

static void drop_all(struct hot *hot) {
        for (size_t i = 0; i < SHARDS; i++) {
                struct shard *shard = &hot->shards[i];

                (void) pthread_mutex_lock(&shard->mutex);
                for (enum policy_queue queue = 0; queue < POLICY_QUEUES; queue++)
                        while (shard->queues[queue].first)
                                drop(shard, shard->queues[queue].first);
                (void) pthread_mutex_unlock(&shard->mutex);
        }
}

void hot_suspend(struct hot *hot, const uint64_t *hashes, size_t n) {
        for (size_t i = 0; i < (hashes ? n : MOMENTS); i++)
                suspend(hot, hashes ? hashes[i] : i);

        /* Who puts and has not compared the moments yet will find another one; who has is seen, under the mutex. */
        for (size_t i = 0; hashes && i < n; i++)
                visit(hot, hashes[i], drop_any, NULL);
        if (!hashes)
                drop_all(hot);
}

void hot_resume(struct hot *hot, const uint64_t *hashes, size_t n) {
        for (size_t i = 0; i < (hashes ? n : MOMENTS); i++)
                resume(hot, hashes ? hashes[i] : i);
}

struct added {
        uint64_t generation, used_usec;
        uint32_t hits;
};

static void add_usage(_unused_ struct shard *shard, struct hot_entry *entry, void *userdata) {
        const struct added *added = userdata;

        if (entry->info.etag.generation != added->generation)
                return;

        (void) __atomic_fetch_add(&entry->hits, added->hits, __ATOMIC_RELAXED);
        if (entry->used_usec < added->used_usec)
                __atomic_store_n(&entry->used_usec, added->used_usec, __ATOMIC_RELAXED);
}

void hot_add_usage(struct hot *hot, uint64_t hash, uint64_t generation, uint32_t hits, uint64_t used_usec) {
        (void) __atomic_fetch_add(&hot->moments[hash % MOMENTS], 2, __ATOMIC_SEQ_CST);
        visit(hot, hash, add_usage, &(struct added){ generation, used_usec, hits });
}

void hot_count(struct hot *hot, uint64_t *ret_bytes, uint64_t *ret_objects) {
        *ret_bytes = *ret_objects = 0;

        for (size_t i = 0; i < SHARDS; i++) {
                struct shard *shard = &hot->shards[i];
                struct policy_state state;

                (void) pthread_mutex_lock(&shard->mutex);
                if (shard->buckets) {
                        policy_get_state(shard->policy, &state);
                        for (enum policy_queue queue = 0; queue < POLICY_QUEUES; queue++)
                                *ret_objects += state.queues[queue].objects;
                        *ret_bytes += shard->segments.n_resident * shard->segments.size + hot->shard_overhead;
                }
                (void) pthread_mutex_unlock(&shard->mutex);
        }
}

static void shrink(struct shard *shard, uint64_t grow_usec) {
        struct segments *segments = &shard->segments;
        uint32_t n = MAX(segments->n_used / 2, 2U);

        /* What is left moves together before there is less room to move. */
        evict_until(shard, LIVE_SHARE(n * segments->size));
        while (segments->n_used > n && free_segment(shard))
                ;
        segments->n_allowed = n;
        segments_give_back(segments);

        shard->grow_usec = grow_usec;
        shard->next_growth_usec = clock_usec(CLOCK_MONOTONIC_COARSE) + grow_usec;
}

void hot_shrink(struct hot *hot, uint64_t grow_usec) {
        for (size_t i = 0; i < SHARDS; i++) {
                struct shard *shard = &hot->shards[i];

                (void) pthread_mutex_lock(&shard->mutex);
                if (shard->buckets)
                        shrink(shard, grow_usec);
                (void) pthread_mutex_unlock(&shard->mutex);
        }
}

/* ---- its memory ---- */

/* What a shard has of the table's memory. */
struct layout {
        size_t buckets, segment_size, shard_size;
        uint32_t n_segments;
};

static bool lay_out(uint64_t size_max, struct layout *ret) {
        size_t share = (size_t) MIN(size_max / SHARDS, (uint64_t) SIZE_MAX / SHARDS), buckets_size;

        ret->buckets = 16;
        while (ret->buckets * 2 <= share / BYTES_PER_BUCKET)
                ret->buckets *= 2;
        buckets_size = sizeof(struct buckets) + ret->buckets * sizeof(struct hot_entry *);

        ret->segment_size = SEGMENT_MIN;
        while (ret->segment_size < SEGMENT_MAX &&
               share / (ret->segment_size * 2) >=
                               (ret->segment_size < SEGMENT_WIDE ? SEGMENTS_FEW : SEGMENTS_MANY))
                ret->segment_size *= 2;

        buckets_size = (buckets_size + SEGMENT_MIN - 1) / SEGMENT_MIN * SEGMENT_MIN;
        share -= MIN(share, buckets_size + share / POLICY_SHARE);
        ret->n_segments = (uint32_t) MIN(share / ret->segment_size, (size_t) SEGMENT_NONE - 1);
        ret->shard_size = buckets_size + ret->n_segments * ret->segment_size;
        return ret->n_segments >= 3;
}

static void shard_done(struct shard *shard) {
        segments_done(&shard->segments);
        if (shard->policy)
                policy_free(TAKE_PTR(shard->policy));
        memset(shard->queues, 0, sizeof(shard->queues));
}

static int shard_init(struct shard *shard, struct epoch *epoch, void *memory, const struct layout *layout) {
        struct buckets *buckets = memory;
        int r;

        r = policy_new(&shard->policy, STORAGE_POLICY_S3FIFO, NULL);
        if (r < 0)
                return r;

        r = segments_init(&shard->segments, epoch,
                          (uint8_t *) memory + layout->shard_size - layout->n_segments * layout->segment_size,
                          layout->segment_size, layout->n_segments);
        if (r < 0)
                return r;

        buckets->mask = layout->buckets - 1;
        __atomic_store_n(&shard->buckets, buckets, __ATOMIC_SEQ_CST);
        return 0;
}

/* All mutexes held. */
static void release_memory(struct hot *hot) {
        for (size_t i = 0; i < SHARDS; i++)
                __atomic_store_n(&hot->shards[i].buckets, NULL, __ATOMIC_SEQ_CST);

        if (!hot->memory)
                return;

        epoch_wait(&hot->epoch, epoch_mark(&hot->epoch));
        for (size_t i = 0; i < SHARDS; i++)
                shard_done(&hot->shards[i]);
        (void) munmap(TAKE_PTR(hot->memory), hot->memory_size);
}

static int take_memory(struct hot *hot, uint64_t size_max) {
        struct layout layout;
        void *p;
        int r;

        if (!lay_out(size_max, &layout))
                return 0; /* too little to keep anything in */

        p = mmap(NULL, layout.shard_size * SHARDS, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
                return -ENOMEM;

        hot->memory = p;
        hot->memory_size = layout.shard_size * SHARDS;
        hot->shard_overhead = layout.shard_size - layout.n_segments * layout.segment_size;
        for (size_t i = 0; i < SHARDS; i++) {
                r = shard_init(&hot->shards[i], &hot->epoch, (uint8_t *) p + i * layout.shard_size, &layout);
                if (r < 0) {
                        release_memory(hot);
                        return r;
                }
        }

        return 0;
}

static void lock_all(struct hot *hot) {
        for (size_t i = 0; i < SHARDS; i++)
                (void) pthread_mutex_lock(&hot->shards[i].mutex);
}

static void unlock_all(struct hot *hot) {
        for (size_t i = 0; i < SHARDS; i++)
                (void) pthread_mutex_unlock(&hot->shards[i].mutex);
}

/* All mutexes held. On an error the size stays, where there is memory. */
static int renew_memory(struct hot *hot, uint64_t size_max) {
        int r;

        release_memory(hot);
        r = take_memory(hot, size_max);
        if (r >= 0)
                __atomic_store_n(&hot->size_max, size_max, __ATOMIC_RELAXED);
        else if (take_memory(hot, hot->size_max) < 0) /* which was given back a moment ago */
                __atomic_store_n(&hot->size_max, 0, __ATOMIC_RELAXED);

        return r;
}

int hot_set_size(struct hot *hot, uint64_t size_max) {
        int r = 0;

        lock_all(hot);
        if (size_max != hot->size_max)
                r = renew_memory(hot, size_max);
        unlock_all(hot);

        return r;
}

int hot_clear(struct hot *hot) {
        int r;

        lock_all(hot);
        r = renew_memory(hot, hot->size_max);
        unlock_all(hot);

        return r;
}

int hot_new(struct hot **ret,
            uint64_t size_max,
            uint64_t seed,
            uint64_t (*hash)(const void *uri, size_t uri_size)) {
        _cleanup_(hot_freep) struct hot *hot = aligned_alloc(64, sizeof(*hot));
        int r;

        if (!hot)
                return -ENOMEM;

        memset(hot, 0, sizeof(*hot));
        hot->epoch.now = EPOCH_FIRST;
        hot->seed = seed;
        hot->hash = hash;
        for (size_t i = 0; i < SHARDS; i++)
                (void) pthread_mutex_init(&hot->shards[i].mutex, NULL);

        r = hot_set_size(hot, size_max);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(hot);
        return 0;
}

void hot_free(struct hot *hot) {
        release_memory(hot);
        for (size_t i = 0; i < SHARDS; i++)
                (void) pthread_mutex_destroy(&hot->shards[i].mutex);
        free(hot);
}
