/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which object goes when room is needed. The rules alone: whoever keeps objects (on disk, in memory) keeps the
 * queues too, and asks here where an object comes in, which queue to look at, and what becomes of its first.
 *
 * A queue is ordered by position: the lowest is the first. Positions are never changed but by
 * policy_examine() and policy_replace(), and hits change nothing at all: they are counted beside the queues
 * (heat.h) until the object is examined. Two objects may have one position (after the clock went back).
 *
 *   S3-FIFO  New objects enter a small queue, a tenth of the bytes; those hit there go on to the main queue,
 *            the others go. What comes back soon (ghost.h) enters the main queue at once. There an object
 *            comes round as often as it was hit. Size-aware: the larger an object, the more hits lead it out
 *            of the small queue.
 *   LRU      The object whose last access is the oldest.
 *   LFU      The object with the fewest accesses since it was put, the oldest access among equals.
 *
 * Making room is: while there is too much, policy_pick() a queue, take its first out and policy_examine() it:
 * it goes, or is put back at its new place. Each round takes away heat or the object, so that ends, unless gets
 * heat everything up again meanwhile: after some rounds for each object pass no heat (0).
 * Nothing here knows a capacity: the small queue and the ghost are shares of what is there.
 *
 * Memory: the ghost's alone, 4 bytes for each object at S3-FIFO, from the first eviction on. One thread at a time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "storage.h"

/* Each policy has queues of its own, so that a change of policy finds what the former one left. Written to
 * disk: numbers are never given a new meaning. */
enum policy_queue {
        POLICY_QUEUE_SMALL,    /* S3-FIFO */
        POLICY_QUEUE_MAIN,     /* S3-FIFO */
        POLICY_QUEUE_RECENT,   /* LRU */
        POLICY_QUEUE_FREQUENT, /* LFU */
        POLICY_QUEUES,
};

#define POLICY_FIFO_HITS_MAX \
        UINT64_C(3) /* S3-FIFO counts no further, and does not care when the last one was */

struct policy_place {
        enum policy_queue queue;
        uint64_t position;
};

/* What is in the queues: all that a policy has to know when it goes on after a restart. */
struct policy_state {
        struct {
                uint64_t bytes;
                uint64_t objects;
        } queues[POLICY_QUEUES];
};

struct policy;

/* state: NULL: the queues are empty. -ENOMEM. */
int policy_new(struct policy **ret, enum storage_policy kind, const struct policy_state *state);
void policy_free(struct policy *policy);
DEFINE_CLEANUP(struct policy, policy_free)

/* Another policy from now on. What is in the former one's queues is examined first: it goes unless it was hit
 * since it was examined last. */
void policy_set_kind(struct policy *policy, enum storage_policy kind);
enum storage_policy policy_get_kind(const struct policy *policy);

/* The state as it is, and back to one that was read: a transaction that failed. (What the ghost learned stays.)
 */
void policy_get_state(const struct policy *policy, struct policy_state *ret);
void policy_set_state(struct policy *policy, const struct policy_state *state);

/* An object came in. hash: of its name, all 64 bits good. size: bytes that it counts for; may be 0. now: the
 * clock of heat.h, ticked for this (heat_table_tick()). */
struct policy_place policy_insert(struct policy *policy, uint64_t hash, uint64_t size, uint64_t now);

/* An object took the place of another of the same name, which counts as an access. *place becomes the new one:
 * at S3-FIFO it stays where it is. */
void policy_replace(struct policy *policy,
                    struct policy_place *place,
                    uint64_t old_size,
                    uint64_t size,
                    uint64_t now);

/* An object at place went for a reason of its own: removed, expired, pinned. */
void policy_remove(struct policy *policy, const struct policy_place *place, uint64_t size);

/* The queue whose first is to be examined next, or -ENOENT: all are empty. */
int policy_pick(const struct policy *policy);

/* The queue is empty, whatever was counted: nothing is found in one that was picked. */
void policy_forget_queue(struct policy *policy, enum policy_queue queue);

/* What becomes of the object at *place, the first of a picked queue. heat: of the hits since it was examined
 * last, which are hereby used up (heat_table_take()). now: as above. Returns true: it goes, and is counted no more;
 * false: it stays, at its new *place. */
bool policy_examine(struct policy *policy,
                    struct policy_place *place,
                    uint64_t hash,
                    uint64_t size,
                    uint64_t heat,
                    uint64_t now);
