/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>

#include "varnish.h"

#include "put.h"
#include "storage.h"
#include "store.h"
#include "uri.h"

/* Asks for the removal, and for that of all that begins with prefix. */
static int ask(objmapper_client *client, const char *uri, const char *prefix) {
        int r = 0;

        if (uri)
                r = objmapper_remove(client, uri);
        if (r >= 0 || r == -ENOENT)
                r = objmapper_purge(client, prefix, NULL);
        return r;
}

/* uri: also this very one; NULL: prefix says it all. */
static bool invalidate(VRT_CTX, struct vmod_objmapper_store *store, const char *uri, const char *prefix) {
        struct storage *storage = store->storage;
        objmapper_client *client;
        int r;

        if (uri)
                put_cancel(storage, uri, strlen(uri), false);
        else
                put_cancel(storage, prefix, strlen(prefix), true);

        r = pool_take(storage->pool, &client);
        if (r >= 0) {
                objmapper_client_set_timeout(client, store->timeout_usec);
                r = ask(client, uri, prefix);
                if (r < 0)
                        VSLb(ctx->vsl, SLT_Error, "objmapper %s: not invalidated: %s", store->name,
                             objmapper_client_error(client));
                pool_give(storage->pool, client, r < 0);
        } else
                VSLb(ctx->vsl, SLT_Error, "objmapper %s: not invalidated: %s", store->name, strerror(-r));
        if (r < 0)
                return false;

        STORAGE_COUNT(storage, invalidated, 1);
        VSLb(ctx->vsl, SLT_VCL_Log, "objmapper %s: invalidated %s%s", store->name, uri ? uri : prefix,
             uri ? "" : "*");
        return true;
}

/* The request's URI, with a NUL, in workspace. NULL: it has none. */
static const char *request_uri(VRT_CTX, struct vmod_objmapper_store *store, const char *set) {
        char uri[OBJMAPPER_URI_MAX];
        int size = uri_of_request(ctx->http_req ? ctx->http_req : ctx->http_bereq, set && set[0] ? set : NULL,
                                  uri, sizeof(uri));

        if (size < 0) {
                VSLb(ctx->vsl, SLT_Error, "objmapper %s: not invalidated: there is no such URI", store->name);
                return NULL;
        }
        return WS_Printf(ctx->ws, "%.*s", size, uri);
}

VCL_BOOL vmod_store_purge(VRT_CTX, struct vmod_objmapper_store *store, VCL_STRING set) {
        const char *uri, *variants;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CHECK_OBJ_NOTNULL(store, STORE_MAGIC);
        if (!ctx->http_req && !ctx->http_bereq) {
                VRT_fail(ctx, "%s.purge() is for requests", store->name);
                return 0;
        }

        uri = request_uri(ctx, store, set);
        if (!uri)
                return 0;
        variants = WS_Printf(ctx->ws, "%s ", uri);
        if (!variants) {
                VRT_fail(ctx, "%s: no workspace", store->name);
                return 0;
        }
        return invalidate(ctx, store, uri, variants);
}

/* A text as a regular expression that matches nothing else. */
static char *quote(char *p, const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                p += isalnum((unsigned char) text[i]) ? sprintf(p, "%c", text[i])
                                                      : sprintf(p, "\\x%02x", (unsigned char) text[i]);
        return p;
}

/* What Varnish has under http://HOST/PREFIX. */
static bool ban(VRT_CTX, const char *uri) {
        const char *host = uri + strlen("http://"), *path = strchr(host, '/');
        size_t host_size = path ? (size_t) (path - host) : strlen(host);
        char *expression, *p;
        const char *error;

        expression = p = malloc(128 + 4 * strlen(uri));
        AN(expression);
        p += sprintf(p, "req.http.host ~ (?i)^");
        p = quote(p, host, host_size);
        if (path) {
                p += sprintf(p, "%s$ && req.url ~ ^", memchr(host, ':', host_size) ? "" : "(:80)?");
                p = quote(p, path, strlen(path));
        }
        *p = '\0';

        error = VRT_ban_string(ctx, expression);
        if (error)
                VSLb(ctx->vsl, SLT_Error, "objmapper: not banned: %s", error);
        free(expression);
        return !error;
}

VCL_BOOL vmod_store_ban_prefix(VRT_CTX, struct vmod_objmapper_store *store, VCL_STRING prefix) {
        const char *uri;
        bool gone;

        CHECK_OBJ_NOTNULL(ctx, VRT_CTX_MAGIC);
        CHECK_OBJ_NOTNULL(store, STORE_MAGIC);

        if (prefix && prefix[0] == '/' && (ctx->http_req || ctx->http_bereq)) {
                const struct http *request = ctx->http_req ? ctx->http_req : ctx->http_bereq;
                char text[OBJMAPPER_URI_MAX];
                const char *host;
                int size = -EINVAL;

                if (http_GetHdr(request, H_Host, &host))
                        size = http_uri(text, sizeof(text), host, strlen(host), prefix, strlen(prefix));
                uri = size < 0 ? NULL : WS_Printf(ctx->ws, "%.*s", size, text);
        } else if (prefix && strncmp(prefix, "http://", 7) == 0 && prefix[7] && prefix[7] != '/')
                uri = WS_Printf(ctx->ws, "%s", prefix);
        else
                uri = NULL;
        if (!uri) {
                VSLb(ctx->vsl, SLT_Error, "objmapper %s: not invalidated: no prefix of URIs: %s", store->name,
                     prefix ? prefix : "");
                return 0;
        }

        /* Varnish second: what it fetches from objmapper meanwhile is older than the ban. */
        gone = invalidate(ctx, store, NULL, uri);
        return ban(ctx, uri) && gone;
}
