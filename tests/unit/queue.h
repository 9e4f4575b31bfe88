/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A queue in memory, ordered by position (policy.h): nodes live in what is queued, so that nothing here can
 * fail. Adding costs a few instructions, removing some for each doubling of the length. One thread at a time. */

#include <stddef.h>
#include <stdint.h>

struct queue_node {
        uint64_t position;
        struct queue_node *child, *next, *previous; /* private: a pairing heap */
};

/* Zeroed: empty. */
struct queue {
        struct queue_node *first; /* of the lowest position; NULL: the queue is empty */
};

/* node->position is set before, and stays while it is in the queue. */
void queue_add(struct queue *queue, struct queue_node *node);
void queue_remove(struct queue *queue, struct queue_node *node);
