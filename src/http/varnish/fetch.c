/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "varnish.h"

#include "fetch.h"

#define FETCH_MAGIC UINT32_C(0x0b3a9e74)

/* Its address is the key of a task's fetch. */
static const char key;

static void free_fetch(VRT_CTX, void *p) {
        struct fetch *fetch;

        (void) ctx;
        CAST_OBJ_NOTNULL(fetch, p, FETCH_MAGIC);
        free(fetch->uri);
        FREE_OBJ(fetch);
}

static const struct vmod_priv_methods methods[1] = { {
                .magic = VMOD_PRIV_METHODS_MAGIC,
                .type = "objmapper-fetch",
                .fini = free_fetch,
} };

struct fetch *fetch_get(VRT_CTX) {
        struct vmod_priv *priv;
        struct fetch *fetch;

        priv = VRT_priv_task(ctx, &key);
        if (!priv) {
                VRT_fail(ctx, "objmapper: no workspace");
                return NULL;
        }
        if (!priv->priv) {
                ALLOC_OBJ(fetch, FETCH_MAGIC);
                AN(fetch);
                priv->priv = fetch;
                priv->methods = methods;
        }

        CAST_OBJ_NOTNULL(fetch, priv->priv, FETCH_MAGIC);
        return fetch;
}

struct fetch *fetch_find(VRT_CTX) {
        struct vmod_priv *priv = VRT_priv_task_get(ctx, &key);
        struct fetch *fetch;

        if (!priv || !priv->priv)
                return NULL;
        CAST_OBJ_NOTNULL(fetch, priv->priv, FETCH_MAGIC);
        return fetch;
}

struct fetch *fetch_of_thread(struct busyobj **ret_bo) {
        struct busyobj *bo = THR_GetBusyobj();
        struct vrt_ctx ctx;

        if (!bo)
                return NULL;
        CHECK_OBJ(bo, BUSYOBJ_MAGIC);
        /* VCL_Bo2Ctx() would forget what the VCL returned. */
        INIT_OBJ(&ctx, VRT_CTX_MAGIC);
        ctx.bo = bo;
        ctx.vsl = bo->vsl;
        ctx.ws = bo->ws;

        *ret_bo = bo;
        return fetch_find(&ctx);
}
