/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>

#include "varnish.h"

#include "condition.h"
#include "fetch.h"
#include "map.h"
#include "response.h"
#include "store.h"

#define REPLY_MAGIC UINT32_C(0x0b3a9e73)

/* A response whose body Varnish is fetching. */
struct reply {
        unsigned magic;
        struct vmod_objmapper_store *store;
        objmapper_object *object;
        struct http_object http; /* of the object */
        const uint8_t *data;     /* the body, where it came as a copy; otherwise it is read from fd */
        const uint8_t *mapping;  /* the whole body, where Varnish has its room; not owned */
        int fd;
        uint64_t offset, left;
};

static enum vfp_status pull_body(struct vfp_ctx *vfc, struct vfp_entry *entry, void *p, ssize_t *size) {
        struct reply *reply;
        ssize_t n = *size;

        CHECK_OBJ_NOTNULL(vfc, VFP_CTX_MAGIC);
        CAST_OBJ_NOTNULL(reply, entry->priv1, REPLY_MAGIC);

        *size = 0;
        if ((uint64_t) n > reply->left)
                n = (ssize_t) reply->left;
        if (reply->mapping) {
                if (p != reply->mapping + reply->offset)
                        memcpy(p, reply->mapping + reply->offset, (size_t) n);
        } else if (reply->data)
                memcpy(p, reply->data + reply->offset, (size_t) n);
        else if (n > 0) {
                do
                        n = pread(reply->fd, p, (size_t) n, (off_t) reply->offset);
                while (n < 0 && errno == EINTR);
                if (n < 0)
                        return VFP_Error(vfc, "objmapper %s: can't read the body: %s", reply->store->name,
                                         strerror(errno));
                if (n == 0)
                        return VFP_Error(vfc, "objmapper %s: the body is shorter than announced",
                                         reply->store->name);
        }
        reply->offset += (uint64_t) n;
        reply->left -= (uint64_t) n;
        STORE_COUNT(reply->store, bytes, n);

        *size = n;
        return reply->left == 0 ? VFP_END : VFP_OK;
}

static const struct vfp body_filter = {
        .name = "objmapper",
        .pull = pull_body,
};

static struct http_conn *new_connection(VRT_CTX) {
        struct http_conn *htc;

        htc = WS_Alloc(ctx->bo->ws, sizeof(*htc));
        if (!htc) {
                VSLb(ctx->vsl, SLT_FetchError, "objmapper: no workspace");
                return NULL;
        }
        INIT_OBJ(htc, HTTP_CONN_MAGIC);
        htc->doclose = SC_NULL;
        htc->body_status = BS_NONE;
        return htc;
}

int response_begin_without_object(VRT_CTX, unsigned status, const char *reason) {
        struct fetch *fetch = fetch_get(ctx);
        struct http_conn *htc;

        htc = new_connection(ctx);
        if (!htc || !fetch)
                return -1;

        http_PutResponse(ctx->http_beresp, "HTTP/1.1", (uint16_t) status, reason);
        if (status == 405)
                http_SetHeader(ctx->http_beresp, "Allow: GET, HEAD");
        http_SetHeader(ctx->http_beresp, "Content-Length: 0");
        ctx->bo->htc = htc;
        fetch->answered = true;
        return 0;
}

/* A date of the request in seconds since 1970; -1: there is none, or it is none. */
static int64_t request_date(VRT_CTX, const char *field) {
        const char *value;
        vtim_real t;

        if (!http_GetHdr(ctx->http_bereq, field, &value))
                return -1;
        t = VTIM_parse(value);
        return t > 0 ? (int64_t) t : -1;
}

static const char *request_field(VRT_CTX, const char *field) {
        const char *value = NULL;

        (void) http_GetHdr(ctx->http_bereq, field, &value);
        return value;
}

static enum verdict judge(VRT_CTX, const struct task *task, uint64_t *ret_offset, uint64_t *ret_size) {
        struct condition condition = {
                .if_match = request_field(ctx, H_If_Match),
                .if_none_match = request_field(ctx, H_If_None_Match),
                .range = request_field(ctx, H_Range),
                .if_range = request_field(ctx, H_If_Range),
                .if_modified_since = request_date(ctx, H_If_Modified_Since),
                .if_unmodified_since = request_date(ctx, H_If_Unmodified_Since),
                .if_range_date = request_date(ctx, H_If_Range),
        };
        struct representation representation = {
                .modified = -1,
                .size = objmapper_object_get_size(task->object),
        };
        const char *value;

        *ret_offset = 0;
        *ret_size = representation.size;
        if (task->http.status != 200)
                return VERDICT_WHOLE;

        if (http_GetHdr(ctx->http_beresp, H_ETag, &value))
                representation.etag = value;
        if (http_GetHdr(ctx->http_beresp, H_Last_Modified, &value)) {
                vtim_real t = VTIM_parse(value);

                representation.modified = t > 0 ? (int64_t) t : -1;
        }

        return condition_judge(&condition, &representation, ret_offset, ret_size);
}

static void put_fields(VRT_CTX, const struct task *task) {
        struct http *response = ctx->http_beresp;
        const char *key, *value;
        size_t position = 0, size;

        while (objmapper_object_next_metadata(task->object, &position, &key, &value, &size) > 0)
                if (http_field_served(key, value, size))
                        http_PrintfHeader(response, "%s: %s", key, value);

        if (task->http.copy) {
                http_PrintfHeader(response, "Age: %" PRIu64,
                                  http_object_age(&task->http, clock_usec(CLOCK_REALTIME)));
                return;
        }
        if (!http_GetHdr(response, H_ETag, NULL))
                http_PrintfHeader(response, "ETag: \"%s\"", objmapper_object_get_etag(task->object));
        if (!http_GetHdr(response, H_Last_Modified, NULL)) {
                uint64_t seconds = objmapper_object_get_stored(task->object) / 1000000;

                http_TimeHeader(response, "Last-Modified: ", (vtim_real) seconds);
        }
}

/* The body, as far as the response has one. */
static int begin_body(VRT_CTX, struct reply *reply, struct http_conn *htc) {
        struct vfp_entry *entry;
        const void *data;
        int r;

        if (objmapper_object_get_mode(reply->object) == OBJMAPPER_FDPASS)
                r = reply->fd = objmapper_object_get_fd(reply->object);
        else {
                r = objmapper_object_get_data(reply->object, &data, NULL);
                reply->data = data;
        }
        if (r < 0) {
                VSLb(ctx->vsl, SLT_FetchError, "objmapper %s: %s", reply->store->name, strerror(-r));
                return -1;
        }

        entry = VFP_Push(ctx->bo->vfc, &body_filter);
        if (!entry)
                return -1;
        entry->priv1 = reply;
        htc->body_status = BS_LENGTH;
        htc->content_length = (ssize_t) reply->left;
        return 0;
}

int response_begin(VRT_CTX, struct vmod_objmapper_store *store, struct task *task) {
        struct http *response = ctx->http_beresp;
        struct fetch *fetch = fetch_get(ctx);
        uint64_t whole = objmapper_object_get_size(task->object);
        struct http_conn *htc;
        struct reply *reply;
        enum verdict verdict;
        int r = 0;

        htc = new_connection(ctx);
        reply = WS_Alloc(ctx->bo->ws, sizeof(*reply));
        if (!htc || !reply || !fetch)
                return -1;
        INIT_OBJ(reply, REPLY_MAGIC);
        reply->store = store;
        reply->fd = -1;

        http_PutResponse(response, "HTTP/1.1", (uint16_t) task->http.status,
                         task->http.reason[0] ? task->http.reason : NULL);
        put_fields(ctx, task);

        verdict = judge(ctx, task, &reply->offset, &reply->left);
        if (verdict != VERDICT_WHOLE)
                http_SetStatus(response, (uint16_t) verdict, NULL);
        if (verdict == VERDICT_PART)
                http_PrintfHeader(response, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                                  reply->offset, reply->offset + reply->left - 1, whole);
        else if (verdict == VERDICT_NO_SUCH_RANGE && whole > 0) /* Varnish asserts that it is more than 0 */
                http_PrintfHeader(response, "Content-Range: bytes */%" PRIu64, whole);
        if (verdict != VERDICT_WHOLE && verdict != VERDICT_PART)
                reply->left = 0;
        if (verdict != VERDICT_UNMODIFIED)
                http_PrintfHeader(response, "Content-Length: %" PRIu64, reply->left);

        reply->http = task->http;
        reply->object = task->object;
        task->object = NULL;
        if (reply->left > 0 && strcmp(http_GetMethod(ctx->http_bereq), "HEAD") != 0)
                r = begin_body(ctx, reply, htc);
        if (r < 0 || WS_Overflowed(ctx->bo->ws)) {
                VSLb(ctx->vsl, SLT_FetchError, "objmapper %s: the response does not fit into the workspace",
                     store->name);
                objmapper_object_free(reply->object);
                return -1;
        }

        STORE_COUNT(store, hits, 1);
        if (verdict == VERDICT_UNMODIFIED)
                STORE_COUNT(store, unmodified, 1);
        if (http_object_freshness(&task->http, clock_usec(CLOCK_REALTIME)) != HTTP_FRESH)
                STORE_COUNT(store, stale, 1);
        htc->priv = reply;
        ctx->bo->htc = htc;
        fetch->answered = true;
        fetch->reply = reply;
        return 0;
}

uint64_t response_get_size(const struct reply *reply) {
        return reply->left;
}

void response_keep_times(const struct reply *reply, struct objcore *oc) {
        if (!reply->http.copy)
                return;
        oc->t_origin = (double) reply->http.generated_usec / 1e6;
        oc->ttl = (float) ((double) reply->http.ttl_usec / 1e6);
        oc->grace = (float) ((double) reply->http.grace_usec / 1e6);
        oc->keep = (float) ((double) reply->http.keep_usec / 1e6);
}

/* Whether what is pulled out of the body filter stays as it is: Varnish's own filters that only look at it do no harm. */
static bool is_pulled_in_place(struct vfp_ctx *vfc) {
        struct vfp_entry *entry;

        VTAILQ_FOREACH(entry, &vfc->vfp, list)
        if (entry->vfp != &body_filter && strcmp(entry->vfp->name, "testgunzip") != 0 &&
            strcmp(entry->vfp->name, "esi") != 0)
                return false;

        return true;
}

const void *response_map(struct reply *reply, struct vfp_ctx *vfc, size_t *ret_size) {
        void *mapping;

        if (reply->fd < 0 || reply->mapping || reply->offset > 0 ||
            reply->left != objmapper_object_get_size(reply->object) || !is_pulled_in_place(vfc))
                return NULL;

        mapping = map_file(reply->fd, reply->left);
        if (!mapping)
                return NULL;
        reply->mapping = mapping;
        *ret_size = reply->left;
        return mapping;
}

void response_finish(VRT_CTX) {
        struct fetch *fetch = fetch_find(ctx);
        struct reply *reply;

        if (fetch) {
                fetch->answered = false;
                fetch->reply = NULL;
        }

        CHECK_OBJ_NOTNULL(ctx->bo, BUSYOBJ_MAGIC);
        CHECK_OBJ_NOTNULL(ctx->bo->htc, HTTP_CONN_MAGIC);
        if (ctx->bo->htc->priv) {
                CAST_OBJ_NOTNULL(reply, ctx->bo->htc->priv, REPLY_MAGIC);
                objmapper_object_free(reply->object);
        }
        ctx->bo->htc = NULL;
}
