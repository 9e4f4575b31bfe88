/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy.h"

#include <assert.h>

#include "ghost.h"
#include "heat.h"
#include "macro.h"

#define FREQUENCY_MAX POLICY_FIFO_HITS_MAX
#define LEFT_BITS     2 /* what is left of it is kept in the lowest bits of a position in MAIN */

struct policy {
        enum storage_policy kind;
        struct policy_state state;
        struct ghost ghost;
};

int policy_new(struct policy **ret, enum storage_policy kind, const struct policy_state *state) {
        struct policy *policy = calloc(1, sizeof(*policy));

        if (!policy)
                return -ENOMEM;

        policy->kind = kind;
        if (state)
                policy->state = *state;

        *ret = policy;
        return 0;
}

void policy_free(struct policy *policy) {
        ghost_done(&policy->ghost);
        free(policy);
}

void policy_set_kind(struct policy *policy, enum storage_policy kind) {
        if (kind != STORAGE_POLICY_S3FIFO)
                ghost_done(&policy->ghost);
        policy->kind = kind;
}

enum storage_policy policy_get_kind(const struct policy *policy) {
        return policy->kind;
}

void policy_get_state(const struct policy *policy, struct policy_state *ret) {
        *ret = policy->state;
}

void policy_set_state(struct policy *policy, const struct policy_state *state) {
        policy->state = *state;
}

/* Sums that came from a disk may be wrong: they stop at their ends. */
static uint64_t add(uint64_t a, uint64_t b) {
        uint64_t sum;

        return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t subtract(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

static void count_in(struct policy *policy, enum policy_queue queue, uint64_t size) {
        policy->state.queues[queue].bytes = add(policy->state.queues[queue].bytes, size);
        policy->state.queues[queue].objects = add(policy->state.queues[queue].objects, 1);
}

static void count_out(struct policy *policy, enum policy_queue queue, uint64_t size) {
        policy->state.queues[queue].bytes = subtract(policy->state.queues[queue].bytes, size);
        policy->state.queues[queue].objects = subtract(policy->state.queues[queue].objects, 1);
}

static uint64_t bytes_in(const struct policy *policy, enum policy_queue queue) {
        return policy->state.queues[queue].bytes;
}

static uint64_t objects_in(const struct policy *policy, enum policy_queue queue) {
        return policy->state.queues[queue].objects;
}

/* Of the two queues of S3-FIFO. */
static uint64_t fifo_bytes(const struct policy *policy) {
        return add(bytes_in(policy, POLICY_QUEUE_SMALL), bytes_in(policy, POLICY_QUEUE_MAIN));
}

static uint64_t fifo_objects(const struct policy *policy) {
        return add(objects_in(policy, POLICY_QUEUE_SMALL), objects_in(policy, POLICY_QUEUE_MAIN));
}

static struct policy_place small_place(uint64_t now) {
        return (struct policy_place){ POLICY_QUEUE_SMALL, now << LEFT_BITS };
}

static struct policy_place main_place(uint64_t now, uint64_t left) {
        return (struct policy_place){ POLICY_QUEUE_MAIN, now << LEFT_BITS | left };
}

/* The order of LFU is that of heats: the count first, then the clock. */
static struct policy_place used_place(const struct policy *policy, uint64_t accesses, uint64_t last) {
        return policy->kind == STORAGE_POLICY_LRU
                               ? (struct policy_place){ POLICY_QUEUE_RECENT, last }
                               : (struct policy_place){ POLICY_QUEUE_FREQUENT, heat_make(accesses, last) };
}

static uint64_t accesses_of(const struct policy_place *place) {
        return place->queue == POLICY_QUEUE_FREQUENT ? heat_count(place->position) : 1;
}

static bool is_own(const struct policy *policy, enum policy_queue queue) {
        switch (policy->kind) {
        case STORAGE_POLICY_S3FIFO:
                return queue == POLICY_QUEUE_SMALL || queue == POLICY_QUEUE_MAIN;
        case STORAGE_POLICY_LRU:
                return queue == POLICY_QUEUE_RECENT;
        case STORAGE_POLICY_LFU:
                return queue == POLICY_QUEUE_FREQUENT;
        }

        return false;
}

struct policy_place policy_insert(struct policy *policy, uint64_t hash, uint64_t size, uint64_t now) {
        struct policy_place place;

        if (policy->kind != STORAGE_POLICY_S3FIFO)
                place = used_place(policy, 1, now);
        else if (ghost_take(&policy->ghost, hash))
                place = main_place(now, 0);
        else
                place = small_place(now);

        count_in(policy, place.queue, size);
        return place;
}

void policy_replace(struct policy *policy,
                    struct policy_place *place,
                    uint64_t old_size,
                    uint64_t size,
                    uint64_t now) {
        count_out(policy, place->queue, old_size);
        if (policy->kind != STORAGE_POLICY_S3FIFO)
                *place = used_place(policy, accesses_of(place) + 1, now);
        else if (!is_own(policy, place->queue))
                *place = small_place(now);
        count_in(policy, place->queue, size);
}

void policy_remove(struct policy *policy, const struct policy_place *place, uint64_t size) {
        count_out(policy, place->queue, size);
}

int policy_pick(const struct policy *policy) {
        for (enum policy_queue queue = 0; queue < POLICY_QUEUES; queue++)
                if (objects_in(policy, queue) > 0 && !is_own(policy, queue))
                        return (int) queue;

        if (objects_in(policy, POLICY_QUEUE_SMALL) > 0 &&
            (objects_in(policy, POLICY_QUEUE_MAIN) == 0 ||
             bytes_in(policy, POLICY_QUEUE_SMALL) > fifo_bytes(policy) / 10))
                return POLICY_QUEUE_SMALL;

        for (enum policy_queue queue = POLICY_QUEUES; queue-- > 0;)
                if (objects_in(policy, queue) > 0)
                        return (int) queue;

        return -ENOENT;
}

void policy_forget_queue(struct policy *policy, enum policy_queue queue) {
        policy->state.queues[queue].bytes = policy->state.queues[queue].objects = 0;
}

/* Hits that lead out of the small queue: (size / mean size) ^ 1/4, at least 1, and no more than are counted. */
static uint64_t hits_wanted(const struct policy *policy, uint64_t size) {
        uint64_t objects = fifo_objects(policy), mean = objects > 0 ? fifo_bytes(policy) / objects : 0;
        uint64_t multiple = mean > 0 ? size / mean + (size % mean > 0) : 0; /* rounded up */

        return multiple <= 1 ? 1 : multiple <= 2 * 2 * 2 * 2 ? 2 : FREQUENCY_MAX;
}

static bool examine_fifo(struct policy *policy,
                         struct policy_place *place,
                         uint64_t hash,
                         uint64_t size,
                         uint64_t hits,
                         uint64_t now) {
        if (place->queue == POLICY_QUEUE_MAIN) {
                uint64_t frequency = MIN((place->position & ((1U << LEFT_BITS) - 1)) + hits, FREQUENCY_MAX);

                if (frequency == 0)
                        return true;
                *place = main_place(now, frequency - 1);
                return false;
        }

        if (hits >= (place->queue == POLICY_QUEUE_SMALL ? hits_wanted(policy, size) : 1)) {
                *place = main_place(now, 0);
                return false;
        }

        ghost_note(&policy->ghost, hash, size, fifo_bytes(policy) / 10 * 9, fifo_objects(policy));
        return true;
}

bool policy_examine(struct policy *policy,
                    struct policy_place *place,
                    uint64_t hash,
                    uint64_t size,
                    uint64_t heat,
                    uint64_t now) {
        uint64_t hits = MIN(heat_count(heat), FREQUENCY_MAX);
        bool goes;

        if (policy->kind == STORAGE_POLICY_S3FIFO) {
                enum policy_queue queue = place->queue;
                goes = examine_fifo(policy, place, hash, size, hits, now);
                count_out(policy, queue, size);
        } else {
                count_out(policy, place->queue, size);
                goes = heat_count(heat) == 0;
                if (!goes)
                        *place = used_place(policy, accesses_of(place) + heat_count(heat), heat_last(heat));
        }

        if (!goes)
                count_in(policy, place->queue, size);
        return goes;
}
