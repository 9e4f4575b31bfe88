/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Readers that take no lock: what they may still be looking at is used again only when all who might have
 * seen it have left. A reader writes nothing that another one reads, but a place of its own. */

#include <stdbool.h>
#include <stdint.h>

#include "thread-slot.h"

struct epoch_slot {
        uint64_t since; /* atomic; 0: free */
} __attribute__((aligned(64)));

struct epoch {
        uint64_t now; /* atomic */
        struct epoch_slot slots[THREAD_SLOTS];
};

#define EPOCH_FIRST 1

/* What is reachable between these two stays as it is. Short, and no waiting in between. What leads to it is
 * read, and unlinked, by sequentially consistent operations. */
struct epoch_slot *epoch_enter(struct epoch *epoch);
void epoch_leave(struct epoch_slot *slot);

/* Something was unlinked: returns the mark from which epoch_has_passed() tells that no reader sees it. */
uint64_t epoch_mark(struct epoch *epoch);
bool epoch_has_passed(struct epoch *epoch, uint64_t mark);
/* Waits for it. */
void epoch_wait(struct epoch *epoch, uint64_t mark);
