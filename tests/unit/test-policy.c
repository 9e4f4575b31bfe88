/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>

#include "ghost.h"
#include "harness.h"
#include "heat.h"
#include "macro.h"
#include "policy.h"
#include "queue.h"
#include "trace.h"

static const enum storage_policy policies[] = { STORAGE_POLICY_S3FIFO, STORAGE_POLICY_LRU,
                                                STORAGE_POLICY_LFU };

/* Like the finalizer of splitmix64: numbers in a row become hashes. */
static uint64_t hash_of(uint64_t number) {
        number = (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
        number = (number ^ (number >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        number = (number ^ (number >> 27)) * UINT64_C(0x94d049bb133111eb);
        return number ^ (number >> 31);
}

/* A cache of numbered objects, by the rules. */
struct entry {
        struct queue_node node;
        enum policy_queue queue;
        bool is_in;
        uint64_t size;
        uint64_t heat; /* unless there is a table of them */
};

struct cache {
        uint64_t capacity, used, n;
        struct policy *policy;
        struct heat_table *clock, *heats; /* heats: NULL: each entry has its own */
        struct queue queues[POLICY_QUEUES];
        struct entry entries[TRACE_OBJECTS_MAX];
};

static struct cache *cache_new(enum storage_policy policy, uint64_t capacity, bool has_table) {
        struct cache *cache = g_new0(struct cache, 1);

        cache->capacity = capacity;
        assert_ok(policy_new(&cache->policy, policy, NULL));
        assert_ok(heat_table_new(&cache->clock, 0));
        if (has_table)
                cache->heats = cache->clock;
        return cache;
}

static void cache_free(struct cache *cache) {
        policy_free(cache->policy);
        heat_table_free(cache->clock);
        g_free(cache);
}
DEFINE_CLEANUP(struct cache, cache_free)

static void cache_queue(struct cache *cache, struct entry *entry, struct policy_place place) {
        entry->queue = place.queue;
        entry->node.position = place.position;
        queue_add(&cache->queues[place.queue], &entry->node);
}

static struct policy_place cache_unqueue(struct cache *cache, struct entry *entry) {
        queue_remove(&cache->queues[entry->queue], &entry->node);
        return (struct policy_place){ entry->queue, entry->node.position };
}

static bool cache_get(uint32_t object, _unused_ uint64_t size, void *userdata) {
        struct cache *cache = userdata;
        struct entry *entry = &cache->entries[object];

        if (!entry->is_in)
                return false;
        if (cache->heats)
                heat_table_touch(cache->heats, hash_of(object));
        else
                heat_touch(&entry->heat, heat_table_tick(cache->clock));
        return true;
}

/* Examines objects until one goes, which is returned. */
static uint32_t cache_evict(struct cache *cache) {
        for (;;) {
                int queue = policy_pick(cache->policy);
                struct policy_place place;
                struct entry *entry;
                uint32_t object;
                uint64_t heat;

                g_assert_cmpint(queue, >=, 0);
                g_assert_nonnull(cache->queues[queue].first);
                entry = container_of(cache->queues[queue].first, struct entry, node);
                object = (uint32_t) (entry - cache->entries);
                place = cache_unqueue(cache, entry);
                heat = cache->heats ? heat_table_take(cache->heats, hash_of(object)) : entry->heat;
                entry->heat = 0;

                if (policy_examine(cache->policy, &place, hash_of(object), entry->size, heat,
                                   heat_table_tick(cache->clock))) {
                        entry->is_in = false;
                        cache->used -= entry->size;
                        cache->n--;
                        return object;
                }

                cache_queue(cache, entry, place);
        }
}

static void cache_put(uint32_t object, uint64_t size, void *userdata) {
        struct cache *cache = userdata;
        struct entry *entry = &cache->entries[object];

        if (size > cache->capacity)
                return;
        while (cache->used + size > cache->capacity)
                (void) cache_evict(cache);

        *entry = (struct entry){ .is_in = true, .size = size };
        cache_queue(cache, entry,
                    policy_insert(cache->policy, hash_of(object), size, heat_table_tick(cache->clock)));
        cache->used += size;
        cache->n++;
        if (cache->heats)
                heat_table_fit(cache->heats, policy_get_kind(cache->policy) == STORAGE_POLICY_LFU
                                                             ? 2 * cache->n
                                                             : cache->n);
}

/* The sums of the policy are those of what is in the queues. */
static void assert_sums(struct cache *cache) {
        struct policy_state state, wanted = {};

        for (size_t i = 0; i < TRACE_OBJECTS_MAX; i++)
                if (cache->entries[i].is_in) {
                        wanted.queues[cache->entries[i].queue].bytes += cache->entries[i].size;
                        wanted.queues[cache->entries[i].queue].objects++;
                }

        policy_get_state(cache->policy, &state);
        g_assert_cmpmem(&state, sizeof(state), &wanted, sizeof(wanted));
}

static void check_figure(const struct trace_figure *figure, const struct trace *trace, bool has_table) {
        uint64_t capacity = trace->bytes / 100 * figure->percent;
        struct trace_ratios lfu = trace_run_textbook(trace, STORAGE_POLICY_LFU, capacity);

        for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
                _cleanup_(cache_freep) struct cache *cache = cache_new(policies[i], capacity, has_table);
                struct trace_ratios ratios = trace_run(trace, cache_get, cache_put, cache);

                g_test_message("%s %u %%, %s%s: %.3f/%.3f", figure->trace, figure->percent,
                               trace_policy_name(policies[i]), has_table ? ", with a table" : "",
                               ratios.objects, ratios.bytes);
                assert_sums(cache);
                trace_assert(figure, policies[i], &ratios, &lfu);

                /* With each heat in its place LFU is the textbook's to the object. */
                if (policies[i] == STORAGE_POLICY_LFU && !has_table) {
                        g_assert_cmpfloat(ratios.objects, ==, lfu.objects);
                        g_assert_cmpfloat(ratios.bytes, ==, lfu.bytes);
                }
        }
}

static void test_traces(void) {
        for (size_t i = 0; i < TRACE_FIGURES; i++) {
                _cleanup_(trace_freep) struct trace *trace = trace_load(trace_figures[i].trace, 1);

                check_figure(&trace_figures[i], trace, false);
                check_figure(&trace_figures[i], trace, true);
        }
}

static void test_trace_is_as_told(void) {
        _cleanup_(trace_freep) struct trace *web07 = trace_load("web07", 1), *web12 = trace_load("web12", 1);

        g_assert_cmpuint(web07->n_requests, ==, 76118);
        g_assert_cmpuint(web07->bytes, ==, 797258404);
        g_assert_cmpuint(web12->n_requests, ==, 95607);
        g_assert_cmpuint(web12->bytes, ==, 523004423);
}

static void test_lru_order(void) {
        _cleanup_(cache_freep) struct cache *cache = cache_new(STORAGE_POLICY_LRU, 4, true);

        for (uint32_t i = 0; i < 4; i++)
                cache_put(i, 1, cache);
        g_assert_true(cache_get(0, 1, cache));
        g_assert_true(cache_get(2, 1, cache));
        g_assert_true(cache_get(1, 1, cache));
        g_assert_true(cache_get(0, 1, cache));

        g_assert_cmpuint(cache_evict(cache), ==, 3);
        g_assert_cmpuint(cache_evict(cache), ==, 2);
        g_assert_cmpuint(cache_evict(cache), ==, 1);
        g_assert_cmpuint(cache_evict(cache), ==, 0);
        g_assert_cmpint(policy_pick(cache->policy), ==, -ENOENT);
}

static void test_lfu_order(void) {
        _cleanup_(cache_freep) struct cache *cache = cache_new(STORAGE_POLICY_LFU, 4, true);

        for (uint32_t i = 0; i < 4; i++)
                cache_put(i, 1, cache);
        for (unsigned i = 0; i < 3; i++)
                g_assert_true(cache_get(0, 1, cache));
        g_assert_true(cache_get(2, 1, cache));
        g_assert_true(cache_get(1, 1, cache));

        g_assert_cmpuint(cache_evict(cache), ==, 3);
        g_assert_cmpuint(cache_evict(cache), ==, 2);
        cache_put(2, 1, cache); /* its count starts anew */
        g_assert_cmpuint(cache_evict(cache), ==, 2);
        g_assert_cmpuint(cache_evict(cache), ==, 1);
        g_assert_cmpuint(cache_evict(cache), ==, 0);
}

/* What was asked for stays while others, asked for once, pass by in any number. */
static void test_scan(void) {
        _cleanup_(cache_freep) struct cache *cache = cache_new(STORAGE_POLICY_S3FIFO, 100, true);

        for (uint32_t i = 0; i < 50; i++)
                cache_put(i, 1, cache);
        for (uint32_t i = 0; i < 50; i++)
                g_assert_true(cache_get(i, 1, cache));
        for (uint32_t i = 1000; i < 10000; i++)
                cache_put(i, 1, cache);

        for (uint32_t i = 0; i < 50; i++)
                g_assert_true(cache->entries[i].is_in);
        assert_sums(cache);
}

/* What nobody asked for gets a tenth. */
static void test_small_share(void) {
        _cleanup_(cache_freep) struct cache *cache = cache_new(STORAGE_POLICY_S3FIFO, 1000, false);
        struct policy_state state;

        for (uint32_t i = 0; i < 1000; i++)
                cache_put(i, 1, cache);
        for (uint32_t i = 0; i < 1000; i++)
                g_assert_true(cache_get(i, 1, cache));
        for (uint32_t i = 1000; i < 2000; i++)
                cache_put(i, 1, cache);

        policy_get_state(cache->policy, &state);
        g_assert_cmpuint(state.queues[POLICY_QUEUE_SMALL].bytes, >=, 99);
        g_assert_cmpuint(state.queues[POLICY_QUEUE_SMALL].bytes, <=, 101);
}

static void test_size_aware(void) {
        static const struct {
                uint64_t size;
                unsigned hits;
        } cases[] = { { 0, 1 },    { 1, 1 },    { 100, 1 },  { 101, 2 },
                      { 1600, 2 }, { 1601, 3 }, { 8101, 3 }, { UINT64_MAX / 2, 3 } };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (unsigned hits = 0; hits <= 3; hits++) {
                        _cleanup_(policy_freep) struct policy *policy = NULL;
                        struct policy_place place = { POLICY_QUEUE_SMALL, 4 };

                        assert_ok(policy_new(&policy, STORAGE_POLICY_S3FIFO,
                                             &(struct policy_state){ .queues = { { 10000, 100 } } }));
                        g_assert_cmpint(policy_examine(policy, &place, 1, cases[i].size, heat_make(hits, 1),
                                                       2),
                                        ==, hits < cases[i].hits);
                        if (hits >= cases[i].hits)
                                g_assert_cmpint(place.queue, ==, POLICY_QUEUE_MAIN);
                }
}

static void test_frequency(void) {
        _cleanup_(policy_freep) struct policy *policy = NULL;
        struct policy_place place = { POLICY_QUEUE_MAIN, 0 };
        uint64_t now = 1;

        assert_ok(policy_new(&policy, STORAGE_POLICY_S3FIFO,
                             &(struct policy_state){ .queues = { {}, { 10, 10 } } }));

        /* However often it was hit, it comes round three times. */
        g_assert_false(policy_examine(policy, &place, 1, 1, heat_make(1000, 1), now++));
        g_assert_false(policy_examine(policy, &place, 1, 1, 0, now++));
        g_assert_false(policy_examine(policy, &place, 1, 1, 0, now++));
        g_assert_true(policy_examine(policy, &place, 1, 1, 0, now++));

        /* What is left counts with what is new. */
        place = (struct policy_place){ POLICY_QUEUE_MAIN, 0 };
        g_assert_false(policy_examine(policy, &place, 1, 1, heat_make(2, 1), now++));
        g_assert_false(policy_examine(policy, &place, 1, 1, heat_make(1, 1), now++));
        g_assert_false(policy_examine(policy, &place, 1, 1, 0, now++));
        g_assert_true(policy_examine(policy, &place, 1, 1, 0, now++));
}

static void test_return(void) {
        _cleanup_(cache_freep) struct cache *cache = cache_new(STORAGE_POLICY_S3FIFO, 100, true);

        for (uint32_t i = 0; i < 101; i++)
                cache_put(i, 1, cache);
        g_assert_false(cache->entries[0].is_in);

        cache_put(0, 1, cache);
        g_assert_cmpint(cache->entries[0].queue, ==, POLICY_QUEUE_MAIN);
        cache_put(2000, 1, cache);
        g_assert_cmpint(cache->entries[2000].queue, ==, POLICY_QUEUE_SMALL);
}

static void test_replace(void) {
        for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
                _cleanup_(policy_freep) struct policy *policy = NULL;
                struct policy_place place, before;
                struct policy_state state;

                assert_ok(policy_new(&policy, policies[i], NULL));
                before = place = policy_insert(policy, 1, 100, 1);
                policy_replace(policy, &place, 100, 30, 2);

                g_assert_cmpint(place.queue, ==, before.queue);
                if (policies[i] == STORAGE_POLICY_S3FIFO)
                        g_assert_cmpuint(place.position, ==, before.position);
                else
                        g_assert_cmpuint(place.position, >, before.position);
                policy_get_state(policy, &state);
                g_assert_cmpuint(state.queues[place.queue].bytes, ==, 30);
                g_assert_cmpuint(state.queues[place.queue].objects, ==, 1);

                /* Another policy takes it over, as if it were new. */
                policy_set_kind(policy, policies[(i + 1) % ARRAY_SIZE(policies)]);
                policy_replace(policy, &place, 30, 40, 3);
                g_assert_cmpint(place.queue, !=, before.queue);
                policy_get_state(policy, &state);
                g_assert_cmpuint(state.queues[before.queue].objects, ==, 0);
                g_assert_cmpuint(state.queues[place.queue].bytes, ==, 40);
        }
}

static void test_change(void) {
        for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
                for (size_t j = 0; j < ARRAY_SIZE(policies); j++) {
                        _cleanup_(cache_freep) struct cache *cache = cache_new(policies[i], 1000, true);

                        for (uint32_t object = 0; object < 1000; object++)
                                cache_put(object, 1, cache);
                        for (uint32_t object = 0; object < 1000; object += 10)
                                g_assert_true(cache_get(object, 1, cache));

                        policy_set_kind(cache->policy, policies[j]);
                        g_assert_cmpint(policy_get_kind(cache->policy), ==, policies[j]);
                        for (uint32_t object = 1000; object < 1900; object++)
                                cache_put(object, 1, cache);
                        assert_sums(cache);

                        /* All that was asked for is still there. */
                        for (uint32_t object = 0; object < 1000; object += 10)
                                g_assert_true(cache->entries[object].is_in);

                        while (cache->n > 0)
                                (void) cache_evict(cache);
                        g_assert_cmpint(policy_pick(cache->policy), ==, -ENOENT);
                        assert_sums(cache);
                }
}

/* Whatever is done in whatever order, the sums are right and each queue holds what it says. */
static void test_any_order(void) {
        _cleanup_(cache_freep) struct cache *cache = cache_new(STORAGE_POLICY_S3FIFO, UINT64_MAX, true);
        struct policy_state state;

        for (uint64_t i = 0; i < 200000; i++) {
                uint64_t random = hash_of(i);
                uint32_t object = (uint32_t) (random >> 32) % 3000;
                struct entry *entry = &cache->entries[object];
                uint64_t size = random % 1000;
                struct policy_place place;

                switch ((random >> 20) % 16) {
                case 0 ... 4:
                        if (!entry->is_in) {
                                cache_put(object, size, cache);
                                break;
                        }
                        place = cache_unqueue(cache, entry);
                        policy_replace(cache->policy, &place, entry->size, size,
                                       heat_table_tick(cache->clock));
                        cache->used += size - entry->size;
                        entry->size = size;
                        cache_queue(cache, entry, place);
                        break;
                case 5 ... 11:
                        (void) cache_get(object, 0, cache);
                        break;
                case 12:
                        if (!entry->is_in)
                                break;
                        place = cache_unqueue(cache, entry);
                        policy_remove(cache->policy, &place, entry->size);
                        entry->is_in = false;
                        cache->used -= entry->size;
                        cache->n--;
                        break;
                case 13 ... 14:
                        if (cache->n > 1000)
                                (void) cache_evict(cache);
                        break;
                default:
                        if (i % 64 == 0)
                                policy_set_kind(cache->policy, policies[random % ARRAY_SIZE(policies)]);
                        policy_get_state(cache->policy, &state);
                        (void) policy_insert(cache->policy, random, size,
                                             i); /* in a transaction that fails */
                        policy_set_state(cache->policy, &state);
                        break;
                }

                if (i % 1000 == 0)
                        assert_sums(cache);
        }

        while (cache->n > 0)
                (void) cache_evict(cache);
        g_assert_cmpuint(cache->used, ==, 0);
        assert_sums(cache);
}

/* Sizes and sums that make no sense make no harm: sums stop at their ends, and everything goes in the end. */
static void test_extremes(void) {
        for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
                _cleanup_(policy_freep) struct policy *policy = NULL;
                static const uint64_t sizes[] = { 0, UINT64_MAX, 1, UINT64_MAX - 1, 0 };
                struct policy_place places[ARRAY_SIZE(sizes)];
                struct policy_state state;

                assert_ok(policy_new(&policy, policies[i], NULL));
                g_assert_cmpint(policy_pick(policy), ==, -ENOENT);

                for (size_t j = 0; j < ARRAY_SIZE(sizes); j++)
                        places[j] = policy_insert(policy, hash_of(j), sizes[j], j + 1);
                policy_get_state(policy, &state);
                g_assert_cmpuint(state.queues[places[0].queue].bytes, ==, UINT64_MAX);

                for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
                        g_assert_cmpint(policy_pick(policy), ==, places[j].queue);
                        g_assert_true(policy_examine(policy, &places[j], hash_of(j), sizes[j], 0, 100));
                }
                g_assert_cmpint(policy_pick(policy), ==, -ENOENT);

                /* More is taken than there was. */
                policy_remove(policy, &places[0], 1000);
                policy_get_state(policy, &state);
                g_assert_cmpuint(state.queues[places[0].queue].bytes, ==, 0);
                g_assert_cmpuint(state.queues[places[0].queue].objects, ==, 0);

                /* A queue that is said to be full, and is not. */
                state.queues[places[0].queue].objects = UINT64_MAX;
                state.queues[places[0].queue].bytes = UINT64_MAX;
                policy_set_state(policy, &state);
                g_assert_cmpint(policy_pick(policy), ==, places[0].queue);
                policy_forget_queue(policy, places[0].queue);
                g_assert_cmpint(policy_pick(policy), ==, -ENOENT);
        }
}

static void test_ghost(void) {
        struct ghost ghost = {};
        unsigned known = 0, lost = 0, taken_for_another = 0;

        g_assert_false(ghost_take(&ghost, hash_of(0)));

        for (uint64_t i = 0; i < 103000; i++)
                ghost_note(&ghost, hash_of(i), 10, 10000 * 10, 10000);

        /* Two thirds of ten thousand are there, but for those that full buckets lost; all in all about ten
         * thousand. */
        for (uint64_t i = 103000; i-- > 0;) {
                bool is_known = ghost_take(&ghost, hash_of(i));

                lost += !is_known && i >= 103000 - 6000;
                known += is_known;
                if (i == 102999)
                        g_assert_false(ghost_take(&ghost, hash_of(i)));
        }
        g_assert_cmpuint(lost, <, 400);
        g_assert_cmpuint(known, >, 6000);
        g_assert_cmpuint(known, <, 14000);

        for (uint64_t i = 0; i < 10000; i++)
                ghost_note(&ghost, hash_of(i), 10, 10000 * 10, 10000);
        for (uint64_t i = 1000000; i < 1100000; i++)
                taken_for_another += ghost_take(&ghost, hash_of(i));
        g_assert_cmpuint(taken_for_another, <, 50);

        /* Hashes that begin alike, as in a part of a cache. */
        ghost_done(&ghost);
        for (uint64_t i = 0; i < 5000; i++)
                ghost_note(&ghost, hash_of(i) >> 8, 10, 10000 * 10, 10000);
        for (uint64_t i = 0; i < 5000; i++)
                lost += !ghost_take(&ghost, hash_of(i) >> 8);
        g_assert_cmpuint(lost, <, 600);

        ghost_done(&ghost);
        g_assert_false(ghost_take(&ghost, hash_of(9999)));
        ghost_note(&ghost, hash_of(1), UINT64_MAX, 0, 0);
        g_assert_true(ghost_take(&ghost, hash_of(1)));
        ghost_done(&ghost);
}

static void test_heat(void) {
        _cleanup_(heat_table_freep) struct heat_table *table = NULL;
        uint64_t heat = 0;

        assert_ok(heat_table_new(&table, 1000));
        g_assert_cmpuint(heat_table_tick(table), ==, 1001);
        heat_table_touch(table, hash_of(1)); /* nothing to keep it in */
        g_assert_cmpuint(heat_table_take(table, hash_of(1)), ==, 0);

        heat_table_fit(table, 100);
        for (unsigned i = 0; i < 3; i++)
                heat_table_touch(table, hash_of(1));
        heat_table_touch(table, hash_of(2));
        heat = heat_table_take(table, hash_of(1));
        g_assert_cmpuint(heat_count(heat), ==, 3);
        g_assert_cmpuint(heat_last(heat), ==, heat_table_clock(table) - 1);
        g_assert_cmpuint(heat_table_take(table, hash_of(1)), ==, 0);

        /* A table that has grown knows what it knew. */
        for (uint64_t objects = 1000; objects < 100000; objects *= 2)
                heat_table_fit(table, objects);
        heat = heat_table_take(table, hash_of(2));
        g_assert_cmpuint(heat_count(heat), ==, 1);
        g_assert_cmpuint(heat_last(heat), ==, heat_table_clock(table));

        /* Counts stop at their end. */
        for (unsigned i = 0; i < 70000; i++)
                heat_table_touch(table, hash_of(3));
        g_assert_cmpuint(heat_count(heat_table_take(table, hash_of(3))), ==, HEAT_COUNT_MAX);
        heat = 0;
        for (unsigned i = 0; i < 70000; i++)
                heat_touch(&heat, i);
        g_assert_cmpuint(heat_count(heat), ==, HEAT_COUNT_MAX);
        g_assert_cmpuint(heat_last(heat), ==, 69999);

        /* Nobody makes it smaller, and nothing makes it larger than it may be. */
        heat_table_touch(table, hash_of(4));
        heat_table_fit(table, 0);
        g_assert_cmpuint(heat_count(heat_table_take(table, hash_of(4))), ==, 1);
}

static void test_heat_is_bounded(void) {
        _cleanup_(heat_table_freep) struct heat_table *table = NULL;
        unsigned known = 0, taken_for_another = 0;

        assert_ok(heat_table_new(&table,
                                 UINT32_MAX - 5000)); /* what is cut off of the clock changes meanwhile */
        heat_table_fit(table, 16384);
        for (uint64_t i = 0; i < 100000; i++)
                heat_table_touch(table, hash_of(i));

        for (uint64_t i = 100000; i < 200000; i++)
                taken_for_another += heat_table_take(table, hash_of(i)) != 0;
        g_assert_cmpuint(taken_for_another, <, 50);

        /* Those hit last are there; of those hit long before, none. */
        for (uint64_t i = 95000; i < 100000; i++) {
                uint64_t heat = heat_table_take(table, hash_of(i));

                known += heat != 0;
                if (heat != 0)
                        g_assert_cmpuint(heat_last(heat), ==, UINT32_MAX - UINT64_C(5000) + i + 1);
        }
        g_assert_cmpuint(known, >, 4500);
        for (uint64_t i = 0; i < 50000; i++)
                taken_for_another += heat_table_take(table, hash_of(i)) != 0;
        g_assert_cmpuint(taken_for_another, <, 100);
}

#define TOUCHERS 3
#define TOUCHES  200000

struct touching {
        struct heat_table *table;
        unsigned n_running; /* atomic */
};

static void *touch(void *userdata) {
        struct touching *touching = userdata;

        for (uint64_t i = 0; i < TOUCHES; i++)
                heat_table_touch(touching->table, hash_of(i % 100));

        (void) __atomic_sub_fetch(&touching->n_running, 1, __ATOMIC_RELEASE);
        return NULL;
}

static void test_heat_threads(void) {
        _cleanup_(heat_table_freep) struct heat_table *table = NULL;
        struct touching touching = { .n_running = TOUCHERS };
        pthread_t threads[TOUCHERS];
        uint64_t sum = 0, objects = 1;
        bool is_running;

        assert_ok(heat_table_new(&table, 0));
        heat_table_fit(table, 1);
        touching.table = table;
        for (size_t i = 0; i < TOUCHERS; i++)
                g_assert_cmpint(pthread_create(&threads[i], NULL, touch, &touching), ==, 0);

        do {
                is_running = __atomic_load_n(&touching.n_running, __ATOMIC_ACQUIRE) > 0;
                for (uint64_t i = 0; i < 100; i++)
                        sum += heat_count(heat_table_take(table, hash_of(i)));
                objects = MIN(objects * 2, UINT64_C(1) << 16);
                heat_table_fit(table, objects);
        } while (is_running);

        for (size_t i = 0; i < TOUCHERS; i++)
                g_assert_cmpint(pthread_join(threads[i], NULL), ==, 0);

        /* None is invented but by growing, which copies; lost are those that lost a race twice. */
        g_assert_cmpuint(heat_table_clock(table), ==, TOUCHERS * TOUCHES);
        g_assert_cmpuint(sum, >, TOUCHERS * TOUCHES / 4);
        g_assert_cmpuint(sum, <, TOUCHERS * TOUCHES * 3 / 2);
}

static void test_queue(void) {
        enum { N = 2000 };
        static struct queue_node nodes[N];
        static bool is_in[N];
        struct queue queue = {};
        uint64_t last = 0;
        size_t n = 0;

        for (uint64_t i = 0; i < 200000; i++) {
                uint64_t random = hash_of(i);
                size_t which = (random >> 32) % N;

                if (is_in[which]) {
                        queue_remove(&queue, &nodes[which]);
                        n--;
                } else {
                        nodes[which].position = i % 3 == 0 ? i : random % 1000;
                        queue_add(&queue, &nodes[which]);
                        n++;
                }
                is_in[which] = !is_in[which];

                if (i % 1000 == 0) {
                        uint64_t least = UINT64_MAX;

                        for (size_t j = 0; j < N; j++)
                                if (is_in[j])
                                        least = MIN(least, nodes[j].position);
                        g_assert_cmpuint(queue.first ? queue.first->position : UINT64_MAX, ==, least);
                }
        }

        for (; queue.first; n--) {
                g_assert_cmpuint(queue.first->position, >=, last);
                last = queue.first->position;
                queue_remove(&queue, queue.first);
        }
        g_assert_cmpuint(n, ==, 0);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);

        harness_add("/policy/lru-order", test_lru_order);
        harness_add("/policy/lfu-order", test_lfu_order);
        harness_add("/policy/scan", test_scan);
        harness_add("/policy/small-share", test_small_share);
        harness_add("/policy/size-aware", test_size_aware);
        harness_add("/policy/frequency", test_frequency);
        harness_add("/policy/return", test_return);
        harness_add("/policy/replace", test_replace);
        harness_add("/policy/change", test_change);
        harness_add("/policy/any-order", test_any_order);
        harness_add("/policy/extremes", test_extremes);
        harness_add("/policy/ghost", test_ghost);
        harness_add("/policy/heat", test_heat);
        harness_add("/policy/heat-is-bounded", test_heat_is_bounded);
        harness_add("/policy/heat-threads", test_heat_threads);
        harness_add("/policy/queue", test_queue);
        harness_add("/policy/trace-is-as-told", test_trace_is_as_told);
        harness_add("/policy/traces", test_traces);

        return g_test_run();
}
