/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "varnish.h"

#include "body.h"
#include "fetch.h"
#include "put.h"
#include "response.h"
#include "storage.h"

/* What Varnish wants of a storage: objects with attributes and a body. Whoever fetches an object is the only one to change
 * it, until the state BOS_FINISHED; others read its body meanwhile. */

#define OBJECT_MAGIC UINT32_C(0x0b3a9e76)
#define MAP_MIN      (UINT64_C(64) << 10) /* bytes of a body that is worth a mapping; smaller ones are copied */

struct attribute {
        uint8_t *data;
        ssize_t size;
};

struct object {
        unsigned magic;
        int nuke_limit; /* how much may be given up at a time to make room */
        struct storage *storage;
        struct put *put; /* on its way into objmapper; NULL: it is not */
        struct body body;
        bool looked; /* for a mapping of what is being fetched */

#define OBJ_FIXATTR(U, l, s) uint8_t fixed_##l[s];
#include "tbl/obj_attr.h"
#define OBJ_VARATTR(U, l) struct attribute variable_##l;
#include "tbl/obj_attr.h"
#define OBJ_AUXATTR(U, l) struct attribute auxiliary_##l;
#include "tbl/obj_attr.h"

        size_t size, used; /* of the space for variable attributes */
        uint8_t space[];
};

static struct object *get_object(const struct objcore *oc) {
        struct object *object;

        CHECK_OBJ_NOTNULL(oc, OBJCORE_MAGIC);
        CAST_OBJ_NOTNULL(object, oc->stobj->priv, OBJECT_MAGIC);
        return object;
}

/* ---- birth ---- */

static void begin_put(struct object *object,
                      const struct fetch *fetch,
                      const struct busyobj *bo,
                      struct objcore *oc) {
        struct storage *storage = object->storage;
        const char *why = NULL;
        int r = 0;

        if (fetch->uri_size < 0)
                why = "it has no URI";
        else
                r = put_new(&object->put, &why, storage, bo, oc, fetch->uri, (size_t) fetch->uri_size,
                            &object->body);
        if (r < 0) {
                STORAGE_COUNT(storage, failed, 1);
                VSLb(bo->wrk->vsl, SLT_Error, "objmapper %s: not stored: %s: %.*s", storage->name,
                     r == -EINVAL || r == -ENAMETOOLONG ? "its fields do not fit" : strerror(-r),
                     fetch->uri_size, fetch->uri);
        } else if (why)
                VSLb(bo->wrk->vsl, SLT_VCL_Log, "objmapper %s: not stored, as %s", storage->name, why);
}

static int allocate(struct worker *worker,
                    const struct stevedore *stevedore,
                    struct objcore *oc,
                    unsigned space) {
        struct storage *storage;
        struct object *object;
        struct busyobj *bo;
        struct fetch *fetch;
        size_t size = sizeof(*object) + space;

        CAST_OBJ_NOTNULL(storage, stevedore->priv, STORAGE_MAGIC);

        if (!storage_take_memory(worker, storage, size))
                return 0;
        object = calloc(1, size);
        if (!object) {
                STORAGE_COUNT(storage, memory, -size);
                return 0;
        }
        object->magic = OBJECT_MAGIC;
        object->nuke_limit = worker->strangelove;
        object->storage = storage;
        object->size = space;
        body_init(&object->body, storage->counters);
        STORAGE_COUNT(storage, objects, 1);

        oc->stobj->stevedore = stevedore;
        oc->stobj->priv = object;
        oc->stobj->priv2 = 0;

        fetch = fetch_of_thread(&bo);
        if (!fetch || bo->fetch_objcore != oc || fetch->storage != storage || !bo->htc)
                return 1;
        if (fetch->reply)
                response_keep_times(fetch->reply, oc);
        else if (!fetch->answered && !bo->uncacheable)
                begin_put(object, fetch, bo, oc);
        return 1;
}

/* ---- the body, as it comes ---- */

/* What comes from objmapper is not copied but mapped, where nothing changes it on its way. */
static void look_for_mapping(struct worker *worker, struct object *object, const struct objcore *oc) {
        struct busyobj *bo;
        struct fetch *fetch;
        const void *mapping;
        size_t size;

        if (object->looked)
                return;
        object->looked = true;

        fetch = fetch_of_thread(&bo);
        if (!fetch || bo->fetch_objcore != oc || !fetch->reply || bo->was_304 ||
            response_get_size(fetch->reply) < MAP_MIN ||
            !storage_may_map(worker, object->storage, response_get_size(fetch->reply)))
                return;
        mapping = response_map(fetch->reply, bo->vfc, &size);
        if (mapping) {
                body_settle_mapping(&object->body, mapping, size);
                STORAGE_COUNT(object->storage, taken, 1);
        }
}

static int get_space(struct worker *worker, struct objcore *oc, ssize_t *size, uint8_t **ret) {
        struct object *object = get_object(oc);
        size_t room, wanted;

        worker->strangelove = object->nuke_limit;
        look_for_mapping(worker, object, oc);
        if (object->put)
                put_feed(object->put);

        room = body_room(&object->body, ret);
        if (room == 0 && !body_is_whole(&object->body)) {
                wanted = *size > 0 ? (size_t) *size : (size_t) cache_param->fetch_chunksize;
                wanted = body_next_piece(&object->body, wanted);
                if (!storage_take_memory(worker, object->storage, wanted))
                        return 0;
                if (body_add_piece(&object->body, wanted) < 0) {
                        STORAGE_COUNT(object->storage, memory, -wanted);
                        return 0;
                }
                room = body_room(&object->body, ret);
        }

        *size = (ssize_t) room;
        return room > 0;
}

/* Called with the lock of the object's boc. */
static void extend(struct worker *worker, struct objcore *oc, ssize_t size) {
        (void) worker;
        body_extend(&get_object(oc)->body, (size_t) size);
}

static void trim(struct worker *worker, struct objcore *oc) {
        struct object *object = get_object(oc);

        (void) worker;
        if (object->put)
                put_feed(object->put);
}

/* ---- the end of the fetch ---- */

/* From now on it is served from objmapper's file, where that is worth a mapping, and the pieces are given back. */
static void settle(struct worker *worker, struct object *object, bool stored) {
        uint64_t size = body_get_size(&object->body);
        const void *mapping = NULL;
        size_t mapped;

        if (body_is_whole(&object->body))
                return;
        if (stored && size >= MAP_MIN && storage_may_map(worker, object->storage, size))
                mapping = put_map(object->put, &mapped);
        if (mapping)
                body_settle_mapping(&object->body, mapping, mapped);
        else if (size < MAP_MIN)
                body_settle_copy(&object->body);
}

static void log_put(struct worker *worker, const struct object *object, int r) {
        const struct storage *storage = object->storage;
        int size;
        const char *uri = put_uri(object->put, &size);

        if (!worker->vsl)
                return;
        if (r < 0)
                VSLb(worker->vsl, SLT_Error, "objmapper %s: not stored: %s: %.*s", storage->name,
                     put_error(object->put), size, uri);
        else
                VSLb(worker->vsl, SLT_VCL_Log, "objmapper %s: stored %s %.*s", storage->name,
                     put_etag(object->put), size, uri);
}

/* usec: how long it may take. */
static void finish_put(struct worker *worker, struct object *object, uint64_t usec) {
        struct storage *storage = object->storage;
        int r;

        r = put_finish(object->put, usec);
        if (r == -EAGAIN)
                return;

        if (r < 0)
                STORAGE_COUNT(storage, failed, 1);
        else {
                STORAGE_COUNT(storage, stored, 1);
                STORAGE_COUNT(storage, stored_bytes, body_get_size(&object->body));
        }
        log_put(worker, object, r);
        settle(worker, object, r >= 0);
        put_free(object->put);
        object->put = NULL;
}

/* Called before the state changes. Who waits for the end of the response waits here no longer than the timeout. */
static void set_state(struct worker *worker, const struct objcore *oc, enum boc_state_e state) {
        struct object *object = get_object(oc);

        if (state == BOS_FAILED) {
                put_free(object->put);
                object->put = NULL;
        } else if (state == BOS_FINISHED) {
                worker->strangelove = object->nuke_limit;
                if (object->put)
                        finish_put(worker, object, atomic_load(&object->storage->timeout_usec));
                else
                        settle(worker, object, false);
        }
}

/* Nobody waits for the fetch any more: a daemon that is slow but goes on gets the time that it needs. */
static void boc_done(struct worker *worker, struct objcore *oc, struct boc *boc) {
        struct object *object = get_object(oc);

        (void) boc;
        if (object->put)
                finish_put(worker, object, UINT64_MAX);

        if (isnan(worker->lastused))
                worker->lastused = VTIM_real();
        LRU_Add(oc, worker->lastused);
}

/* ---- delivery ---- */

static int iterate(struct worker *worker, struct objcore *oc, void *priv, objiterate_f *func, int final) {
        struct object *object = get_object(oc);
        struct boc *boc = HSH_RefBoc(oc);
        uint64_t position = 0, size;
        const uint8_t *whole;
        size_t whole_size;
        unsigned flags = 0;
        int r = 0;

        (void) final; /* what is not cached is never here */
        whole = boc ? NULL : body_get_whole(&object->body, &whole_size);
        if (whole)
                return func(priv, OBJ_ITER_END, whole, (ssize_t) whole_size);

        /* The response's header need not wait for its body. */
        if (boc && body_get_size(&object->body) == 0)
                r = func(priv, OBJ_ITER_FLUSH, NULL, 0);

        while (r == 0) {
                enum boc_state_e state = BOS_FINISHED;
                const uint8_t *data;
                bool pinned;
                size_t n;

                if (boc) {
#ifdef VARNISH_7_7
                        size = ObjWaitExtend(worker, oc, position, &state);
#else
                        size = ObjWaitExtend(worker, oc, position);
                        state = boc->state;
#endif
                        if (state == BOS_FAILED) {
                                r = -1;
                                break;
                        }
                } else
                        size = body_get_size(&object->body);
                if (size == position) {
                        if (state == BOS_FINISHED)
                                break;
                        continue;
                }

                n = body_pin(&object->body, position, &data, &pinned);
                if (n > size - position)
                        n = (size_t) (size - position);
                position += n;

                /* Pieces are given back once the fetch has ended: nobody may hold on to one. */
                flags = pinned || (boc && state != BOS_FINISHED) ? OBJ_ITER_FLUSH : 0;
                if (!boc && position == size)
                        flags |= OBJ_ITER_END;
                r = func(priv, flags, data, (ssize_t) n);
                if (pinned)
                        body_unpin(&object->body);
        }

        if (boc)
                HSH_DerefBoc(worker, oc);
        if (!(flags & OBJ_ITER_END)) {
                int r2 = func(priv, OBJ_ITER_END, NULL, 0);

                if (r == 0)
                        r = r2;
        }
        return r;
}

/* ---- attributes ---- */

static const void *get_attribute(struct worker *worker,
                                 struct objcore *oc,
                                 enum obj_attr attribute,
                                 ssize_t *ret_size) {
        struct object *object = get_object(oc);
        struct attribute found = {};

        (void) worker;
        switch (attribute) {
#define OBJ_FIXATTR(U, l, s)                                                                \
        case OA_##U:                                                                        \
                found = (struct attribute){ object->fixed_##l, sizeof(object->fixed_##l) }; \
                break;
#include "tbl/obj_attr.h"
#define OBJ_VARATTR(U, l)                     \
        case OA_##U:                          \
                found = object->variable_##l; \
                break;
#include "tbl/obj_attr.h"
#define OBJ_AUXATTR(U, l)                      \
        case OA_##U:                           \
                found = object->auxiliary_##l; \
                break;
#include "tbl/obj_attr.h"
        default:
                WRONG("an attribute of a Varnish that this module is not for");
        }

        if (ret_size)
                *ret_size = found.size;
        return found.data;
}

static void *set_variable(struct object *object, struct attribute *attribute, ssize_t size) {
        if (!attribute->data && size > 0) {
                assert((size_t) size <= object->size - object->used);
                *attribute = (struct attribute){ object->space + object->used, size };
                object->used += (size_t) size;
        }
        assert(attribute->size == size);
        return attribute->data;
}

static void *set_auxiliary(struct worker *worker,
                           struct object *object,
                           struct attribute *attribute,
                           ssize_t size) {
        if (!attribute->data && size > 0) {
                worker->strangelove = object->nuke_limit;
                if (!storage_take_memory(worker, object->storage, (uint64_t) size))
                        return NULL;
                attribute->data = malloc((size_t) size);
                if (!attribute->data) {
                        STORAGE_COUNT(object->storage, memory, -size);
                        return NULL;
                }
                attribute->size = size;
        }
        assert(attribute->size == size);
        return attribute->data;
}

static void *set_attribute(struct worker *worker,
                           struct objcore *oc,
                           enum obj_attr attribute,
                           ssize_t size,
                           const void *data) {
        struct object *object = get_object(oc);
        void *p = NULL;

        switch (attribute) {
#define OBJ_FIXATTR(U, l, s)                               \
        case OA_##U:                                       \
                assert(size == sizeof(object->fixed_##l)); \
                p = object->fixed_##l;                     \
                break;
#include "tbl/obj_attr.h"
#define OBJ_VARATTR(U, l)                                              \
        case OA_##U:                                                   \
                p = set_variable(object, &object->variable_##l, size); \
                break;
#include "tbl/obj_attr.h"
#define OBJ_AUXATTR(U, l)                                                        \
        case OA_##U:                                                             \
                p = set_auxiliary(worker, object, &object->auxiliary_##l, size); \
                break;
#include "tbl/obj_attr.h"
        default:
                WRONG("an attribute of a Varnish that this module is not for");
        }

        if (p && data)
                memcpy(p, data, (size_t) size);
        return p;
}

static void free_auxiliary(const struct object *object, struct attribute *attribute) {
        if (!attribute->data)
                return;
        STORAGE_COUNT(object->storage, memory, -attribute->size);
        free(attribute->data);
        *attribute = (struct attribute){};
}

/* ---- death ---- */

static void slim(struct worker *worker, struct objcore *oc) {
        struct object *object = get_object(oc);

        (void) worker;
        put_free(object->put);
        object->put = NULL;
        body_end(&object->body);
#define OBJ_AUXATTR(U, l) free_auxiliary(object, &object->auxiliary_##l);
#include "tbl/obj_attr.h"
}

static void free_object(struct worker *worker, struct objcore *oc) {
        struct object *object = get_object(oc);
        struct storage *storage = object->storage;

        slim(worker, oc);
        if (!oc->boc) /* with one it is not on the list yet: what was begun is given up */
                LRU_Remove(oc);

        STORAGE_COUNT(storage, memory, -(sizeof(*object) + object->size));
        STORAGE_COUNT(storage, objects, -1);
        object->magic = 0;
        free(object);
        memset(oc->stobj, 0, sizeof(oc->stobj));
        stevedore_count_freed(worker);
}

static const struct obj_methods methods = {
        .objfree = free_object,
        .objiterator = iterate,
        .objgetspace = get_space,
        .objextend = extend,
        .objgetattr = get_attribute,
        .objsetattr = set_attribute,
        .objtrimstore = trim,
        .objbocdone = boc_done,
        .objslim = slim,
        .objtouch = LRU_Touch,
        .objsetstate = set_state,
};

/* ---- the storage as a whole ---- */

static int64_t get_used(const struct stevedore *stevedore) {
        const struct storage *storage = stevedore->priv;

        return (int64_t) __atomic_load_n(&storage->counters->memory, __ATOMIC_RELAXED);
}

static int64_t get_free(const struct stevedore *stevedore) {
        const struct storage *storage = stevedore->priv;
        int64_t left = (int64_t) atomic_load(&storage->memory_max) - get_used(stevedore);

        return left > 0 ? left : 0;
}

static unsigned is_happy(const struct stevedore *stevedore) {
        const struct storage *storage = stevedore->priv;

        return turn_may_take(&storage->turn);
}

void stevedore_init(struct stevedore *stevedore, struct storage *storage) {
        *stevedore = (struct stevedore){
                .magic = STEVEDORE_MAGIC,
                .name = "objmapper",
                .allocobj = allocate,
                .methods = &methods,
                .lru = LRU_Alloc(),
                .free_space = get_free,
                .used_space = get_used,
                .happy = is_happy,
                .priv = storage,
                .ident = storage->name,
                .vclname = storage->name,
        };
}

bool stevedore_check(void) {
        const struct stevedore *transient = stv_transient;

        return transient && transient->magic == STEVEDORE_MAGIC && transient->allocobj && transient->ident &&
               strcmp(transient->ident, "Transient") == 0 && transient->vclname &&
               strcmp(transient->vclname, "storage.Transient") == 0 && SML_methods.objtouch == LRU_Touch;
}
