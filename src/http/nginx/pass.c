/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* objmapper_pass: looks an object up and sends it as the response, an open file by sendfile. What can't be answered so
 * ends with a status that error_page leads elsewhere. */

#include <assert.h>
#include <errno.h>
#include <objmapper.h>
#include <string.h>

#include "keep.h"
#include "key.h"
#include "module.h"
#include "response.h"

struct pass;

/* What the daemon's answer is for. It outlives a request that ended before the answer came. */
struct lookup {
        struct pass *pass; /* NULL: nobody waits any more */
        struct pool *pool;
        struct kept *known; /* in use: what the daemon is asked to compare with; NULL: nothing */
        bool stat;          /* the body is not asked for */
};

struct pass {
        ngx_http_request_t *request;
        struct report *report;
        ngx_str_t key;
        struct lookup *lookup; /* under way; else NULL */
        struct kept *found;    /* in use; NULL: nothing yet */
        ngx_event_t timer;
        ngx_msec_t began;
        bool in_variant; /* the index was found, and the variant is looked up */
};

static ngx_int_t conclude(struct pass *pass, enum pass_status status, ngx_int_t rc) {
        pass->report->status = status;
        pass->report->msec = ngx_current_msec - pass->began;
        pass->report->timed = true;
        return rc;
}

static void leave_lookup(struct pass *pass) {
        if (pass->timer.timer_set)
                ngx_del_timer(&pass->timer);
        if (pass->lookup)
                pass->lookup->pass = NULL;
        pass->lookup = NULL;
}

static void on_request_end(void *data) {
        leave_lookup(data);
}

/* Later than the former: the body may still be sent while a connection is closed. */
static void on_pool_end(void *data) {
        struct pass *pass = data;

        kept_release(pass->found);
        pass->found = NULL;
}

/* ---- the response ---- */

static ngx_int_t make_body(ngx_http_request_t *r, struct pass *pass, ngx_buf_t **ret) {
        objmapper_object *object = kept_object(pass->found);
        ngx_buf_t *buffer = ngx_calloc_buf(r->pool);
        uint64_t size = objmapper_object_get_body_size(object);
        const void *data;
        size_t data_size;

        if (!buffer)
                return NGX_ERROR;

        buffer->last_buf = r == r->main;
        buffer->last_in_chain = 1;
        *ret = buffer;
        if (size == 0)
                return NGX_OK;

        if (objmapper_object_get_mode(object) == OBJMAPPER_FDPASS) {
                ngx_file_t *file = ngx_pcalloc(r->pool, sizeof(*file));

                if (!file)
                        return NGX_ERROR;

                file->fd = objmapper_object_get_fd(object);
                file->name = pass->key;
                file->log = r->connection->log;
                buffer->file = file;
                buffer->file_last = (off_t) size;
                buffer->in_file = 1;
                pass->report->from_file = true;
                return NGX_OK;
        }

        if (objmapper_object_get_data(object, &data, &data_size) < 0)
                return NGX_ERROR;

        buffer->pos = buffer->start = (u_char *) data;
        buffer->last = buffer->end = buffer->pos + data_size;
        buffer->memory = 1;
        return NGX_OK;
}

static ngx_int_t send_response(struct pass *pass, const struct http_object *response) {
        objmapper_object *object = kept_object(pass->found);
        ngx_http_request_t *r = pass->request;
        ngx_chain_t out = {};
        ngx_int_t rc;

        if (response_set_header(r, response, object) != NGX_OK)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;

        if (r->method == NGX_HTTP_HEAD || (r != r->main && objmapper_object_get_size(object) == 0))
                return ngx_http_send_header(r);

        if (make_body(r, pass, &out.buf) != NGX_OK)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;

        rc = ngx_http_send_header(r);
        if (rc == NGX_ERROR || rc > NGX_OK || r->header_only)
                return rc;

        return ngx_http_output_filter(r, &out);
}

/* ---- the lookup ---- */

static ngx_int_t fail(struct pass *pass, int error) {
        switch (error) {
        case -ENOENT:
                return conclude(pass, PASS_MISS, NGX_HTTP_NOT_FOUND);
        case -ESTALE:
                return conclude(pass, PASS_EXPIRED, NGX_HTTP_NOT_FOUND);
        case -ETIMEDOUT:
                return conclude(pass, PASS_TIMEOUT, NGX_HTTP_GATEWAY_TIME_OUT);
        case -EHOSTDOWN:
                return conclude(pass, PASS_DOWN, NGX_HTTP_BAD_GATEWAY);
        default:
                return conclude(pass, PASS_ERROR, NGX_HTTP_BAD_GATEWAY);
        }
}

static void on_reply(objmapper_client *client, int error, objmapper_object *object, void *userdata);

static void lookup_free(struct lookup *lookup) {
        kept_release(lookup->known);
        ngx_free(lookup);
}

static int submit(struct lookup *lookup, const ngx_str_t *key, ngx_log_t *log) {
        objmapper_request *request;
        int error;

        error = objmapper_request_new(&request, lookup->stat ? OBJMAPPER_STAT : OBJMAPPER_GET, key->data,
                                      key->len);
        if (error < 0)
                return error;

        if (lookup->known)
                error = objmapper_request_set_if_modified(
                                request, objmapper_object_get_etag(kept_object(lookup->known)));
        if (error >= 0)
                error = pool_submit(lookup->pool, request, log, on_reply, lookup);

        objmapper_request_free(request);
        return error;
}

/* NGX_AGAIN: under way; or the request's end. */
static ngx_int_t ask(struct pass *pass, const ngx_str_t *key) {
        ngx_http_request_t *r = pass->request;
        struct location_conf *conf = ngx_http_get_module_loc_conf(r, ngx_http_objmapper_module);
        struct lookup *lookup;
        int error;

        lookup = ngx_alloc(sizeof(*lookup), r->connection->log);
        if (!lookup)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;

        *lookup = (struct lookup){ .pass = pass, .pool = conf->pass, .stat = r->method == NGX_HTTP_HEAD };
        if (!lookup->stat)
                lookup->known = keep_find(&conf->pass->keep, *key);

        error = submit(lookup, key, r->connection->log);
        if (error < 0) {
                lookup_free(lookup);
                return fail(pass, error);
        }

        pass->lookup = lookup;
        return NGX_AGAIN;
}

/* What the daemon answered as an object in use; NULL: it has none, or out of memory. */
static struct kept *take_answer(struct lookup *lookup, int error, objmapper_object *object) {
        struct kept *known = lookup->known;
        struct keep *keep = &lookup->pool->keep;

        if (error >= 0 && objmapper_object_is_unmodified(object)) {
                objmapper_object_free(object);
                lookup->known = NULL;
                return known;
        }

        if (known && (error >= 0 || error == -ENOENT || error == -ESTALE))
                keep_drop(keep, known);
        return error >= 0 ? keep_add(lookup->stat ? NULL : keep, object) : NULL;
}

/* found: taken. */
static ngx_int_t answer(struct pass *pass, int error, struct kept *found) {
        ngx_http_request_t *r = pass->request;
        struct location_conf *conf = ngx_http_get_module_loc_conf(r, ngx_http_objmapper_module);
        struct http_object response;
        enum http_freshness freshness;

        if (error < 0)
                return fail(pass, error);
        if (!found)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;

        kept_release(pass->found);
        pass->found = found;
        if (objmapper_object_get_size(kept_object(found)) > NGX_MAX_OFF_T_VALUE ||
            http_object_read(kept_object(found), &response) < 0) {
                ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                              "objmapper: the metadata of \"%V\" is not that of a response", &pass->key);
                return fail(pass, -EBADMSG);
        }

        if (response.vary) {
                ngx_str_t variant;
                ngx_int_t rc;

                if (pass->in_variant)
                        return fail(pass, -ENOENT);

                rc = key_make_variant(r, &pass->key, &response, &variant);
                if (rc == NGX_ERROR)
                        return NGX_HTTP_INTERNAL_SERVER_ERROR;
                if (rc == NGX_DECLINED)
                        return fail(pass, -ENOENT);

                pass->in_variant = true;
                return ask(pass, &variant);
        }

        freshness = http_object_freshness(&response, response_now());
        if (freshness == HTTP_DEAD || (freshness == HTTP_STALE && !conf->stale))
                return fail(pass, -ESTALE);

        (void) conclude(pass, freshness == HTTP_STALE ? PASS_STALE : PASS_HIT, NGX_OK);
        return send_response(pass, &response);
}

static void finish(struct pass *pass, ngx_int_t rc) {
        ngx_http_request_t *r = pass->request;
        ngx_connection_t *c = r->connection;

        leave_lookup(pass);
        ngx_http_finalize_request(r, rc);
        ngx_http_run_posted_requests(c);
}

/* What is no answer to the request, but the daemon's or the configuration's failure. */
static bool is_failure(int error) {
        return error < 0 && error != -ENOENT && error != -ESTALE;
}

static void on_reply(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct lookup *lookup = userdata;
        struct pass *pass = lookup->pass;
        struct kept *found;
        ngx_http_request_t *r;
        ngx_int_t rc;

        pool_report(lookup->pool, pass ? pass->request->connection->log : ngx_cycle->log,
                    is_failure(error) ? error : 0, is_failure(error) ? objmapper_client_error(client) : "");
        found = take_answer(lookup, error, object);
        lookup_free(lookup);
        if (!pass) {
                kept_release(found);
                return;
        }

        pass->lookup = NULL;
        r = pass->request;
        ngx_http_set_log_request(r->connection->log, r);

        rc = answer(pass, error, found);
        if (rc != NGX_AGAIN || !pass->lookup)
                finish(pass, rc);
}

static void on_timeout(ngx_event_t *event) {
        struct pass *pass = event->data;
        ngx_http_request_t *r = pass->request;
        struct location_conf *conf = ngx_http_get_module_loc_conf(r, ngx_http_objmapper_module);

        ngx_http_set_log_request(r->connection->log, r);
        pool_report(conf->pass, r->connection->log, -ETIMEDOUT, "no answer in objmapper_timeout");
        finish(pass, fail(pass, -ETIMEDOUT));
}

static struct pass *pass_new(ngx_http_request_t *r) {
        struct pass *pass = ngx_pcalloc(r->pool, sizeof(*pass));
        ngx_http_cleanup_t *at_end;
        ngx_pool_cleanup_t *at_pool_end;

        if (!pass)
                return NULL;

        pass->report = report_get(r);
        at_end = ngx_http_cleanup_add(r, 0);
        at_pool_end = ngx_pool_cleanup_add(r->pool, 0);
        if (!pass->report || !at_end || !at_pool_end)
                return NULL;

        at_end->handler = on_request_end;
        at_end->data = pass;
        at_pool_end->handler = on_pool_end;
        at_pool_end->data = pass;

        pass->request = r;
        pass->began = ngx_current_msec;
        pass->timer.handler = on_timeout;
        pass->timer.data = pass;
        pass->timer.log = r->connection->log;
        return pass;
}

ngx_int_t pass_handler(ngx_http_request_t *r) {
        struct location_conf *conf = ngx_http_get_module_loc_conf(r, ngx_http_objmapper_module);
        struct pass *pass;
        ngx_int_t rc;

        if (!(r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)))
                return NGX_HTTP_NOT_ALLOWED;

        rc = ngx_http_discard_request_body(r);
        if (rc != NGX_OK)
                return rc;

        pass = pass_new(r);
        if (!pass)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;

        rc = key_make(r, conf->key, &pass->key);
        pass->report->key = pass->key;
        if (rc == NGX_ERROR)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        if (rc == NGX_DECLINED)
                return conclude(pass, PASS_BYPASS, NGX_HTTP_NOT_FOUND);

        rc = ask(pass, &pass->key);
        if (rc != NGX_AGAIN)
                return rc;

        ngx_add_timer(&pass->timer, conf->timeout);
        r->read_event_handler = ngx_http_test_reading;
        r->main->count++;
        return NGX_DONE;
}
