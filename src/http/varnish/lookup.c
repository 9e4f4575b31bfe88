/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "varnish.h"

#include "store.h"
#include "uri.h"

static void free_task(VRT_CTX, void *p) {
        struct task *task;

        (void) ctx;
        CAST_OBJ_NOTNULL(task, p, TASK_MAGIC);
        task_release_object(task);
        free(task->uri);
        FREE_OBJ(task);
}

static const struct vmod_priv_methods task_methods[1] = { {
                .magic = VMOD_PRIV_METHODS_MAGIC,
                .type = "objmapper",
                .fini = free_task,
} };

struct task *task_get(VRT_CTX, const struct vmod_objmapper_store *store) {
        struct vmod_priv *priv;
        struct task *task;

        priv = VRT_priv_task(ctx, store);
        if (!priv) {
                VRT_fail(ctx, "%s: no workspace", store->name);
                return NULL;
        }
        if (!priv->priv) {
                ALLOC_OBJ(task, TASK_MAGIC);
                AN(task);
                priv->priv = task;
                priv->methods = task_methods;
        }

        CAST_OBJ_NOTNULL(task, priv->priv, TASK_MAGIC);
        return task;
}

void task_release_object(struct task *task) {
        objmapper_object_free(task->object);
        task->object = NULL;
}

static void note_answer(struct vmod_objmapper_store *store, int error) {
        if (error == -ETIMEDOUT)
                STORE_COUNT(store, timeouts, 1);
        turn_note(&store->turn, error);
}

static int ask(objmapper_client *client, const char *uri, int size, struct task *task) {
        int r;

        r = objmapper_client_request(client, uri, (size_t) size, &task->object);
        if (r < 0)
                return r;

        r = http_object_read(task->object, &task->http);
        if (r < 0)
                task_release_object(task);
        return r;
}

/* uri: that of the response; an index leads on to that of a variant. */
static int ask_for_variant(VRT_CTX, objmapper_client *client, char *uri, int *size, struct task *task) {
        char variant[OBJMAPPER_URI_MAX];
        int r, n;

        r = ask(client, uri, *size, task);
        if (r < 0 || !task->http.vary)
                return r;

        n = http_variant_uri(variant, sizeof(variant), uri, (size_t) *size, task->http.vary,
                             task->http.vary_size, uri_request_field, ctx->http_bereq);
        task_release_object(task);
        if (n < 0)
                return n;
        memcpy(uri, variant, (size_t) n);
        *size = n;

        r = ask(client, uri, *size, task);
        if (r >= 0 && task->http.vary) {
                task_release_object(task);
                return -ENOENT;
        }
        return r;
}

/* A miss is no error, whatever the reason. */
static bool is_miss(int r) {
        return r == -ENOENT || r == -ESTALE || r == -ENAMETOOLONG || r == -EINVAL;
}

int lookup(VRT_CTX, struct vmod_objmapper_store *store, struct task *task) {
        objmapper_client *client;
        char uri[OBJMAPPER_URI_MAX];
        int r, size;

        task_release_object(task);

        size = uri_of_request(ctx->http_bereq, task->uri, uri, sizeof(uri));
        if (size < 0) {
                VSLb(ctx->vsl, SLT_VCL_Log, "objmapper %s: miss, the request has no URI", store->name);
                STORE_COUNT(store, misses, 1);
                return -ENOENT;
        }
        if (!turn_take(&store->turn, store->timeout_usec)) {
                VSLb(ctx->vsl, SLT_FetchError, "objmapper %s: not asked, as it did not answer in time",
                     store->name);
                STORE_COUNT(store, not_asked, 1);
                return -EBUSY;
        }

        r = pool_take(store->pool, &client);
        if (r < 0) {
                note_answer(store, r);
                VSLb(ctx->vsl, SLT_FetchError, "objmapper %s: %s", store->name, strerror(-r));
                STORE_COUNT(store, errors, 1);
                return r;
        }
        r = ask_for_variant(ctx, client, uri, &size, task);
        note_answer(store, r);
        if (r >= 0 && http_object_freshness(&task->http, clock_usec(CLOCK_REALTIME)) == HTTP_DEAD) {
                task_release_object(task);
                r = -ENOENT;
        }

        if (r >= 0)
                VSLb(ctx->vsl, SLT_VCL_Log, "objmapper %s: found %s %.*s", store->name,
                     objmapper_object_get_etag(task->object), size, uri);
        else if (is_miss(r)) {
                VSLb(ctx->vsl, SLT_VCL_Log, "objmapper %s: miss %.*s", store->name, size, uri);
                STORE_COUNT(store, misses, 1);
        } else if (r == -EBADMSG) {
                VSLb(ctx->vsl, SLT_FetchError,
                     "objmapper %s: %.*s is no HTTP response: see objmapper-http(7)", store->name, size, uri);
                STORE_COUNT(store, errors, 1);
        } else {
                VSLb(ctx->vsl, SLT_FetchError, "objmapper %s: %s", store->name,
                     objmapper_client_error(client));
                STORE_COUNT(store, errors, 1);
        }
        pool_give(store->pool, client, r < 0 && !is_miss(r) && r != -EBADMSG);
        __atomic_store_n(&store->counters->connections, pool_get_idle(store->pool), __ATOMIC_RELAXED);

        return is_miss(r) ? -ENOENT : r;
}
