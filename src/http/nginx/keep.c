/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keep.h"

#define BODY_MAX     (64 << 10) /* bytes in memory that are kept of one object */
#define BYTES_MAX    (16 << 20) /* ... and of all */
#define IDLE_SECONDS 30 /* a descriptor that nobody asks for must not hold a removed object's disk for long */

struct kept {
        ngx_str_node_t node; /* first: the tree points here; the URI is the object's */
        ngx_queue_t link;
        objmapper_object *object;
        ngx_uint_t users; /* requests, and the keep itself */
        bool in_keep;
        time_t used;
};

static uint32_t hash_of(ngx_str_t uri) {
        return ngx_murmur_hash2(uri.data, uri.len);
}

/* What its body takes of memory. */
static size_t bytes_of(objmapper_object *object) {
        return objmapper_object_get_mode(object) == OBJMAPPER_FDPASS
                               ? 0
                               : (size_t) objmapper_object_get_body_size(object);
}

objmapper_object *kept_object(const struct kept *kept) {
        return kept->object;
}

void kept_release(struct kept *kept) {
        if (!kept || --kept->users > 0)
                return;

        objmapper_object_free(kept->object);
        ngx_free(kept);
}

void keep_drop(struct keep *keep, struct kept *kept) {
        if (!kept->in_keep)
                return;

        ngx_rbtree_delete(&keep->tree, &kept->node.node);
        ngx_queue_remove(&kept->link);
        keep->n--;
        keep->bytes -= bytes_of(kept->object);
        kept->in_keep = false;
        kept_release(kept);
}

static struct kept *oldest(struct keep *keep) {
        return ngx_queue_data(ngx_queue_last(&keep->used), struct kept, link);
}

static void on_timer(ngx_event_t *event) {
        struct keep *keep = event->data;

        while (keep->n > 0 && oldest(keep)->used + IDLE_SECONDS <= ngx_time())
                keep_drop(keep, oldest(keep));
        if (keep->n > 0)
                ngx_add_timer(&keep->timer, IDLE_SECONDS * 1000 / 2);
}

void keep_init(struct keep *keep) {
        ngx_rbtree_init(&keep->tree, &keep->sentinel, ngx_str_rbtree_insert_value);
        ngx_queue_init(&keep->used);
        keep->timer.handler = on_timer;
        keep->timer.data = keep;
        keep->timer.cancelable = 1; /* keeps no worker that is to leave */
}

void keep_close(struct keep *keep) {
        while (keep->n > 0)
                keep_drop(keep, oldest(keep));
        if (keep->timer.timer_set)
                ngx_del_timer(&keep->timer);
}

static struct kept *look_up(struct keep *keep, ngx_str_t uri) {
        return (struct kept *) (void *) ngx_str_rbtree_lookup(&keep->tree, &uri, hash_of(uri));
}

struct kept *keep_find(struct keep *keep, ngx_str_t uri) {
        struct kept *kept = look_up(keep, uri);

        if (!kept)
                return NULL;

        ngx_queue_remove(&kept->link);
        ngx_queue_insert_head(&keep->used, &kept->link);
        kept->used = ngx_time();
        kept->users++;
        return kept;
}

static void insert(struct keep *keep, struct kept *kept) {
        ngx_str_t uri = kept->node.str;
        struct kept *former = look_up(keep, uri);

        if (former)
                keep_drop(keep, former);
        while (keep->n > 0 && (keep->n >= keep->max || keep->bytes + bytes_of(kept->object) > BYTES_MAX))
                keep_drop(keep, oldest(keep));

        kept->node.node.key = hash_of(uri);
        ngx_rbtree_insert(&keep->tree, &kept->node.node);
        ngx_queue_insert_head(&keep->used, &kept->link);
        kept->in_keep = true;
        kept->used = ngx_time();
        kept->users++;
        keep->n++;
        keep->bytes += bytes_of(kept->object);

        if (!keep->timer.timer_set) {
                keep->timer.log = ngx_cycle->log;
                ngx_add_timer(&keep->timer, IDLE_SECONDS * 1000 / 2);
        }
}

struct kept *keep_add(struct keep *keep, objmapper_object *object) {
        struct kept *kept = ngx_calloc(sizeof(*kept), ngx_cycle->log);

        if (!kept) {
                objmapper_object_free(object);
                return NULL;
        }

        kept->object = object;
        kept->users = 1;
        kept->node.str.data = (u_char *) objmapper_object_get_uri(object, &kept->node.str.len);
        if (keep && keep->max > 0 && bytes_of(object) <= BODY_MAX)
                insert(keep, kept);

        return kept;
}
