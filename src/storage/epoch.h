/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Readers that take no lock: what they may still be looking at is used again only when all who might have
 * seen it have left. A reader writes nothing that another one reads, but a place of its own. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "thread-slot.h"

#define EPOCH_FIRST 1
#define EPOCH_SLOTS THREAD_SLOTS

struct epoch_slot {
        uint64_t since; /* atomic; 0: free */
} __attribute__((aligned(64)));

struct epoch {
        uint64_t now; /* atomic */
        struct epoch_slot slots[EPOCH_SLOTS];
};

/* What is reachable between these two stays as it is. Short, and no waiting in between. What leads to it is
 * read, and unlinked, by sequentially consistent operations. */
static inline struct epoch_slot *epoch_enter(struct epoch *epoch);
static inline void epoch_leave(struct epoch_slot *slot);

/* Which of EPOCH_SLOTS it is: nobody else is there as long as it is held, and what a holder left there is seen by
 * the next. */
static inline size_t epoch_index(const struct epoch *epoch, const struct epoch_slot *slot) {
        return (size_t) (slot - epoch->slots);
}

/* Something was unlinked: returns the mark from which epoch_has_passed() tells that no reader sees it. */
uint64_t epoch_mark(struct epoch *epoch);
bool epoch_has_passed(struct epoch *epoch, uint64_t mark);
/* Waits for it. */
void epoch_wait(struct epoch *epoch, uint64_t mark);

/* The place i from the thread's own on, or NULL: somebody else is there. */
static inline struct epoch_slot *epoch_try(struct epoch *epoch, unsigned i) {
        struct epoch_slot *slot = &epoch->slots[(thread_slot() + i) % EPOCH_SLOTS];
        uint64_t none = 0;

        /* Whoever looks for readers after this sees this one; whoever looked before had unlinked before, and
         * that is seen from here on. */
        return __atomic_compare_exchange_n(&slot->since, &none,
                                           __atomic_load_n(&epoch->now, __ATOMIC_SEQ_CST), false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)
                               ? slot
                               : NULL;
}

/* For epoch_enter(): when its own place is taken. */
struct epoch_slot *epoch_enter_elsewhere(struct epoch *epoch);

static inline struct epoch_slot *epoch_enter(struct epoch *epoch) {
        return epoch_try(epoch, 0) ?: epoch_enter_elsewhere(epoch);
}

static inline void epoch_leave(struct epoch_slot *slot) {
        __atomic_store_n(&slot->since, 0, __ATOMIC_RELEASE);
}
