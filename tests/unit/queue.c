/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "queue.h"

#include "macro.h"

/* A node is before all below it. Its children are a list, whose first points back at it. */
static struct queue_node *join(struct queue_node *a, struct queue_node *b) {
        if (!a || !b)
                return a ?: b;
        if (b->position < a->position) {
                struct queue_node *t = a;
                a = b;
                b = t;
        }

        b->previous = a;
        b->next = a->child;
        if (b->next)
                b->next->previous = b;
        a->child = b;
        return a;
}

/* Joins the nodes of a list by two, then the pairs to one: this order is what keeps it cheap. */
static struct queue_node *join_all(struct queue_node *list) {
        struct queue_node *pairs = NULL, *all = NULL;

        while (list) {
                struct queue_node *a = list, *b = a->next, *pair;

                list = b ? b->next : NULL;
                pair = join(a, b);
                pair->next = pairs;
                pairs = pair;
        }

        while (pairs) {
                struct queue_node *next = pairs->next;

                all = join(all, pairs);
                pairs = next;
        }

        if (all)
                all->previous = all->next = NULL;
        return all;
}

void queue_add(struct queue *queue, struct queue_node *node) {
        node->child = node->next = node->previous = NULL;
        queue->first = join(queue->first, node);
}

void queue_remove(struct queue *queue, struct queue_node *node) {
        if (node == queue->first) {
                queue->first = join_all(node->child);
                return;
        }

        if (node->previous->child == node)
                node->previous->child = node->next;
        else
                node->previous->next = node->next;
        if (node->next)
                node->next->previous = node->previous;

        queue->first = join(queue->first, join_all(node->child));
}
