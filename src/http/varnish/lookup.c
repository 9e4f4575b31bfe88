/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "varnish.h"

#include "store.h"

/* After so many requests without an answer in time, nobody is asked for a while: a daemon that hangs then costs
 * few threads their time. */
#define TIMEOUTS_MAX 3
#define PAUSE_USEC   1000000

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

bool lookup_may_ask(const struct vmod_objmapper_store *store) {
        return (uint64_t) clock_usec(CLOCK_MONOTONIC) >= atomic_load(&store->asked_again_usec);
}

/* While there is a pause nobody asks; when it ends, one thread does, and the others once that had an answer. */
static bool take_turn(struct vmod_objmapper_store *store) {
        uint_fast64_t until = atomic_load(&store->asked_again_usec);
        uint_fast64_t now = (uint_fast64_t) clock_usec(CLOCK_MONOTONIC);

        if (until == 0)
                return true;
        if (now < until)
                return false;
        return atomic_compare_exchange_strong(&store->asked_again_usec, &until,
                                              now + store->timeout_usec + PAUSE_USEC);
}

static void set_pause(struct vmod_objmapper_store *store, uint_fast64_t until) {
        bool paused = atomic_exchange(&store->asked_again_usec, until) != 0;

        if (paused != (until != 0))
                atomic_store(&store->changed_usec, clock_usec(CLOCK_REALTIME));
}

static void note_answer(struct vmod_objmapper_store *store, int error) {
        if (error != -ETIMEDOUT) {
                atomic_store(&store->timeouts_in_a_row, 0);
                set_pause(store, 0);
                return;
        }

        STORE_COUNT(store, timeouts, 1);
        if (atomic_fetch_add(&store->timeouts_in_a_row, 1) + 1 >= TIMEOUTS_MAX)
                set_pause(store, (uint_fast64_t) clock_usec(CLOCK_MONOTONIC) + PAUSE_USEC);
}

/* A request's field for a variant's URI. */
static bool request_field(const char *name, struct http_digest *digest, void *userdata) {
        const struct http *request = userdata;
        size_t size = strlen(name);
        bool found = false;

        for (unsigned i = HTTP_HDR_FIRST; i < request->nhd; i++) {
                const char *b = request->hd[i].b, *e = request->hd[i].e;

                if (!b || (size_t) (e - b) <= size || b[size] != ':' || strncasecmp(b, name, size) != 0)
                        continue;
                b += size + 1;
                while (b < e && (*b == ' ' || *b == '\t'))
                        b++;
                while (e > b && (e[-1] == ' ' || e[-1] == '\t'))
                        e--;
                if (found)
                        http_digest_add(digest, ", ", 2);
                http_digest_add(digest, b, (size_t) (e - b));
                found = true;
        }

        return found;
}

static int find_uri(VRT_CTX, const struct task *task, char *ret, size_t size) {
        const char *host, *target = ctx->http_bereq->hd[HTTP_HDR_URL].b;

        if (task->uri) {
                size_t n = strlen(task->uri);

                if (n == 0)
                        return -EINVAL;
                if (n > size)
                        return -ENAMETOOLONG;
                memcpy(ret, task->uri, n);
                return (int) n;
        }

        if (!http_GetHdr(ctx->http_bereq, H_Host, &host))
                return -EINVAL;
        return http_uri(ret, size, host, strlen(host), target,
                        (size_t) (ctx->http_bereq->hd[HTTP_HDR_URL].e - target));
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
                             task->http.vary_size, request_field, ctx->http_bereq);
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

        size = find_uri(ctx, task, uri, sizeof(uri));
        if (size < 0) {
                VSLb(ctx->vsl, SLT_VCL_Log, "objmapper %s: miss, the request has no URI", store->name);
                STORE_COUNT(store, misses, 1);
                return -ENOENT;
        }
        if (!take_turn(store)) {
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
