/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <math.h>

#include "varnish.h"

#include "fetch.h"
#include "response.h"
#include "storage.h"
#include "store.h"
#include "uri.h"

#define MEMORY_MIN (1 << 20)

static void free_store(struct vmod_objmapper_store *store) {
        while (store->fronts) {
                struct front *front = store->fronts;

                store->fronts = front->next;
                VRT_DelDirector(&front->director);
                VRT_Assign_Backend(&front->origin, NULL);
                FREE_OBJ(front);
        }
        if (store->director)
                VRT_DelDirector(&store->director);
        if (store->counters)
                VSC_objmapper_Destroy(&store->segment);
        pool_free(store->pool);
        (void) pthread_mutex_destroy(&store->mutex);
        free(store->name);
        FREE_OBJ(store);
}

static const char *explain(int error) {
        switch (error) {
        case -EINVAL:
                return "no path of a socket can be this";
        case -ENOTSUP:
                return "this Varnish lays its storage out in a way that this module does not know";
        default:
                return strerror(-error);
        }
}

VCL_VOID vmod_store__init(VRT_CTX,
                          struct vmod_objmapper_store **ret,
                          const char *name,
                          VCL_STRING path,
                          VCL_DURATION timeout,
                          VCL_STRING publisher,
                          VCL_BYTES memory,
                          VCL_BYTES mapped) {
        struct storage_limits limits = { .memory_max = (uint64_t) memory, .mapped_max = (uint64_t) mapped };
        struct vmod_objmapper_store *store;
        int r;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        AN(ret);
        AZ(*ret);

        /* Also refuses what is no number. */
        if (!(timeout >= 0.001 && timeout <= 3600)) {
                VRT_fail(ctx, "objmapper.store %s: timeout must be between 1ms and 1h", name);
                return;
        }
        if (!path || path[0] != '/') {
                VRT_fail(ctx, "objmapper.store %s: socket must be an absolute path", name);
                return;
        }
        if (!publisher || publisher[0] != '/') {
                VRT_fail(ctx, "objmapper.store %s: publisher must be an absolute path", name);
                return;
        }
        if (memory < MEMORY_MIN) {
                VRT_fail(ctx, "objmapper.store %s: memory must be at least 1MB", name);
                return;
        }

        ALLOC_OBJ(store, STORE_MAGIC);
        AN(store);
        (void) pthread_mutex_init(&store->mutex, NULL);
        store->name = strdup(name);
        AN(store->name);
        store->timeout_usec = (uint64_t) (timeout * 1e6);
        turn_init(&store->turn);

        limits.timeout_usec = store->timeout_usec;
        r = pool_new(&store->pool, path, path, store->timeout_usec);
        if (r >= 0)
                r = storage_get(&store->storage, name, path, publisher, &limits);
        if (r < 0) {
                VRT_fail(ctx, "objmapper.store %s: %s, %s: %s", name, path, publisher, explain(r));
                free_store(store);
                return;
        }

        store->director = VRT_AddDirector(ctx, director_methods, store, "%s", name);
        AN(store->director);
        VRT_StaticDirector(store->director);
        store->counters = VSC_objmapper_New(NULL, &store->segment, "%s.%s", VCL_Name(ctx->vcl), name);
        AN(store->counters);

        *ret = store;
}

VCL_VOID vmod_store__fini(struct vmod_objmapper_store **store) {
        struct vmod_objmapper_store *taken;

        TAKE_OBJ_NOTNULL(taken, store, STORE_MAGIC);
        free_store(taken);
}

VCL_BACKEND vmod_store_backend(VRT_CTX, struct vmod_objmapper_store *store) {
        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CHECK_OBJ_NOTNULL(store, STORE_MAGIC);

        return store->director;
}

/* A director of its own for each origin: the task that resolves it knows of no other way which one was meant. */
VCL_BACKEND vmod_store_or(VRT_CTX, struct vmod_objmapper_store *store, VCL_BACKEND origin) {
        struct front *front;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CHECK_OBJ_NOTNULL(store, STORE_MAGIC);
        if (!origin)
                return store->director;
        CHECK_OBJ(origin, DIRECTOR_MAGIC);

        (void) pthread_mutex_lock(&store->mutex);
        for (front = store->fronts; front; front = front->next)
                if (front->origin == origin)
                        break;
        if (!front) {
                ALLOC_OBJ(front, FRONT_MAGIC);
                AN(front);
                front->store = store;
                front->director = VRT_AddDirector(ctx, front_methods, front, "%s.or(%s)", store->name,
                                                  origin->vcl_name);
                if (front->director) {
                        VRT_StaticDirector(front->director);
                        VRT_Assign_Backend(&front->origin, origin);
                        front->next = store->fronts;
                        store->fronts = front;
                } else
                        FREE_OBJ(front); /* the VCL is on its way out: its last requests go to the origin */
        }
        (void) pthread_mutex_unlock(&store->mutex);

        return front ? front->director : origin;
}

VCL_VOID vmod_store_set_uri(VRT_CTX, struct vmod_objmapper_store *store, VCL_STRING uri) {
        struct task *task;
        char *copy;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CHECK_OBJ_NOTNULL(store, STORE_MAGIC);

        if (ctx->method != VCL_MET_BACKEND_FETCH) {
                VRT_fail(ctx, "%s.set_uri() is for vcl_backend_fetch", store->name);
                return;
        }
        task = task_get(ctx, store);
        if (!task)
                return;

        copy = strdup(uri ? uri : "");
        AN(copy);
        free(task->uri);
        task->uri = copy;
}

/* Keeps what the fetch is to be stored as, for the moment when Varnish wants room for it. */
VCL_STEVEDORE vmod_store_storage(VRT_CTX, struct vmod_objmapper_store *store) {
        char uri[OBJMAPPER_URI_MAX];
        struct fetch *fetch;
        struct task *task;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CHECK_OBJ_NOTNULL(store, STORE_MAGIC);

        if (!ctx->bo)
                return &store->storage->stevedore;
        task = task_get(ctx, store);
        fetch = fetch_get(ctx);
        if (!task || !fetch)
                return &store->storage->stevedore;

        fetch->storage = store->storage;
        fetch->uri_size = uri_of_request(ctx->bo->bereq, task->uri, uri, sizeof(uri));
        free(fetch->uri);
        fetch->uri = NULL;
        if (fetch->uri_size >= 0) {
                fetch->uri = strndup(uri, (size_t) fetch->uri_size);
                AN(fetch->uri);
        }
        if (fetch->reply)
                response_keep_times(fetch->reply, ctx->bo->fetch_objcore);

        return &store->storage->stevedore;
}
