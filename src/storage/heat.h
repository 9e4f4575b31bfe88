/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What hits leave behind for the next examination (policy.h): how many there were, and when the last one was,
 * by a clock that counts accesses. Whoever keeps objects in memory keeps a heat in each; for objects on disk
 * there is a table. */

#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "macro.h"

/* Count (16 bits), clock of the last hit (48 bits). 0: no hit. */
#define HEAT_COUNT_MAX UINT64_C(0xffff)
#define HEAT_CLOCK_MAX UINT64_C(0xffffffffffff)

static inline uint64_t heat_make(uint64_t count, uint64_t last) {
        return MIN(count, HEAT_COUNT_MAX) << 48 | MIN(last, HEAT_CLOCK_MAX);
}

static inline uint64_t heat_count(uint64_t heat) {
        return heat >> 48;
}

static inline uint64_t heat_last(uint64_t heat) {
        return heat & HEAT_CLOCK_MAX;
}

/* Counts a hit at now in *heat, which is atomic. Any thread; of two at the same moment one may get lost. */
static inline void heat_touch(uint64_t *heat, uint64_t now) {
        uint64_t old = __atomic_load_n(heat, __ATOMIC_RELAXED);

        __atomic_store_n(heat, heat_make(heat_count(old) + 1, MAX(heat_last(old), now)), __ATOMIC_RELAXED);
}

/* The heat of objects that are elsewhere, by fingerprint: lossy, lock-free. Memory: 4 to 8 bytes for each
 * object told of by heat_table_fit(), never more, and untouched until there are hits. When more objects than
 * half of them were hit since they were examined, the oldest hits are forgotten; one object in eight thousand
 * is taken for another. */
struct heat_table;

/* clock: where it stood when it was read last, so that it never goes back. -ENOMEM. */
int heat_table_new(struct heat_table **ret, uint64_t clock);
void heat_table_free(struct heat_table *table);
DEFINE_CLEANUP(struct heat_table, heat_table_free)

/* The clock as it is, and one more than it was. Any thread. */
uint64_t heat_table_clock(struct heat_table *table);
uint64_t heat_table_tick(struct heat_table *table);

/* Counts a hit of the object whose name has this hash. Any thread. */
void heat_table_touch(struct heat_table *table, uint64_t hash);

/* The same for who wants to know no more than that there were hits, up to count_max, and not when: what is known
 * already is not written again, and the clock stands still. */
void heat_table_note(struct heat_table *table, uint64_t hash, uint64_t count_max);

/* Takes the heat out: of an object that is examined, or that went. One thread at a time. */
uint64_t heat_table_take(struct heat_table *table, uint64_t hash);

/* There are so many objects: grows the table when it is too small for them. Without memory it stays as it is. Cheap
 * when there is nothing to do. The same one thread as heat_table_take(). */
void heat_table_fit(struct heat_table *table, uint64_t objects);
