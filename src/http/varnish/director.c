/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "varnish.h"

#include "response.h"
#include "store.h"

static bool reads(VRT_CTX) {
        const char *method = http_GetMethod(ctx->http_bereq);

        return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static VCL_BOOL director_healthy(VRT_CTX, VCL_BACKEND director, VCL_TIME *changed) {
        struct vmod_objmapper_store *store;

        (void) ctx;
        CAST_OBJ_NOTNULL(store, director->priv, STORE_MAGIC);
        if (changed)
                *changed = (vtim_real) atomic_load(&store->turn.changed_usec) / 1e6;
        return turn_may_take(&store->turn);
}

static int director_gethdrs(VRT_CTX, VCL_BACKEND director) {
        struct vmod_objmapper_store *store;
        struct task *task;
        int r;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CHECK_OBJ_NOTNULL(ctx->bo, BUSYOBJ_MAGIC);
        CAST_OBJ_NOTNULL(store, director->priv, STORE_MAGIC);

        task = task_get(ctx, store);
        if (!task)
                return -1;
        if (!reads(ctx))
                return response_begin_without_object(ctx, 405, "Method Not Allowed");

        r = task->object ? 0 : lookup(ctx, store, task); /* a front has found it already */
        if (r == -ENOENT)
                return response_begin_without_object(ctx, 404, "Not Found");
        if (r < 0)
                return -1;

        return response_begin(ctx, store, task);
}

static void director_finish(VRT_CTX, VCL_BACKEND director) {
        CHECK_OBJ_NOTNULL(director, DIRECTOR_MAGIC);
        response_finish(ctx);
}

/* Called with Varnish's locks held. A VCL that is cold keeps no connections. */
static void director_event(VCL_BACKEND director, enum vcl_event_e event) {
        struct vmod_objmapper_store *store;

        CAST_OBJ_NOTNULL(store, director->priv, STORE_MAGIC);
        if (event == VCL_EVENT_COLD) {
                pool_drain(store->pool);
                if (store->counters) {
                        store->counters->connections = 0;
                        VRT_VSC_Hide(store->segment);
                }
        } else if (event == VCL_EVENT_WARM && store->counters)
                VRT_VSC_Reveal(store->segment);
}

const struct vdi_methods director_methods[1] = { {
                .magic = VDI_METHODS_MAGIC,
                .type = "objmapper",
                .healthy = director_healthy,
                .gethdrs = director_gethdrs,
                .finish = director_finish,
                .event = director_event,
} };

static VCL_BOOL front_healthy(VRT_CTX, VCL_BACKEND director, VCL_TIME *changed) {
        struct front *front;

        CAST_OBJ_NOTNULL(front, director->priv, FRONT_MAGIC);
        return VRT_Healthy(ctx, front->origin, changed);
}

/* objmapper's response when it has one that is fresh, or stale and the origin is sick. */
static VCL_BACKEND front_resolve(VRT_CTX, VCL_BACKEND director) {
        struct vmod_objmapper_store *store;
        struct front *front;
        struct task *task;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CAST_OBJ_NOTNULL(front, director->priv, FRONT_MAGIC);
        store = front->store;

        /* What is piped or passed is between this client and the origin. */
        if (ctx->req || !ctx->bo || ctx->bo->uncacheable || !reads(ctx))
                return front->origin;

        task = task_get(ctx, store);
        if (!task || lookup(ctx, store, task) < 0)
                return front->origin;
        if (http_object_freshness(&task->http, clock_usec(CLOCK_REALTIME)) != HTTP_FRESH &&
            VRT_Healthy(ctx, front->origin, NULL)) {
                task_release_object(task);
                STORE_COUNT(store, misses, 1);
                return front->origin;
        }

        return store->director;
}

const struct vdi_methods front_methods[1] = { {
                .magic = VDI_METHODS_MAGIC,
                .type = "objmapper-or",
                .healthy = front_healthy,
                .resolve = front_resolve,
} };
