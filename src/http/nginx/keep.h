/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a worker process keeps of objects between requests, each with its descriptor or small body. It is no answer by
 * itself: the daemon is asked each time whether the object is still the same, and need not send it again. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <objmapper.h>
#include <stdbool.h>

struct keep {
        ngx_uint_t max; /* objects at most */
        ngx_uint_t n;
        size_t bytes;      /* of bodies in memory */
        ngx_rbtree_t tree; /* by URI */
        ngx_rbtree_node_t sentinel;
        ngx_queue_t used; /* the most recently used first */
        ngx_event_t timer;
};

/* An object that several requests may have in use. */
struct kept;

void keep_init(struct keep *keep);
/* Lets all go. Those in use stay until they are released. */
void keep_close(struct keep *keep);

/* The object of this URI, in use by the caller until kept_release(); NULL: there is none. */
struct kept *keep_find(struct keep *keep, ngx_str_t uri);
/* Takes an object that the daemon sent, in place of one of the same URI, and returns it in use by the caller. It is
 * kept unless it is large in memory, or keep is NULL. NULL: out of memory, and it is freed. */
struct kept *keep_add(struct keep *keep, objmapper_object *object);
/* The daemon has it no more. */
void keep_drop(struct keep *keep, struct kept *kept);

/* Borrowed as long as it is in use. */
objmapper_object *kept_object(const struct kept *kept);
/* NULL is fine. */
void kept_release(struct kept *kept);
