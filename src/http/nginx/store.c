/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store.h"

#include <errno.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <objmapper.h>
#include <string.h>
#include <unistd.h>

#include "http-object.h"
#include "key.h"
#include "module.h"
#include "storable.h"

#define QUEUE_MAX (1 << 20) /* bytes in memory, from which on the response is slowed down */
#define QUEUE_LOW (1 << 18) /* ... until it is no more than these */
/* What a worker has waiting for a daemon that is slower than the origins: no other put is begun from here on, and those
 * that make it twice as much are given up. */
#define BACKLOG_MAX  (32 << 20)
#define BACKLOG_PUTS 512

/* A piece of the body on its way to the daemon. */
struct piece {
        ngx_queue_t link; /* first: the queue points here */
        off_t size, done;
        int fd; /* of a copy in a file, from offset on; negative: data has it */
        off_t offset;
        u_char data[];
};

/* One put. It outlives the request, which may end before the daemon has taken everything. */
struct store {
        ngx_http_request_t *request; /* NULL: it has ended */
        struct pool *pool;
        objmapper_client *client;
        ngx_queue_t pieces;
        size_t queued;         /* bytes in memory */
        off_t seen, announced; /* bytes of the body so far; and what Content-Length said, or negative */
        bool pending;          /* the answer is still to come */
        bool whole;            /* the last piece is queued */
        bool cut;              /* it will never be whole */
        ngx_event_t timer;     /* how long the response waits for the daemon to take something */
        bool slowed;           /* the response waits for the daemon */
        uint64_t lifetime;     /* ms */
        size_t key_size;       /* of a variant: the index to bring up to date; else 0 */
        size_t vary_size;
        char text[]; /* key, vary */
};

static ngx_http_output_header_filter_pt next_header_filter;
static ngx_http_output_body_filter_pt next_body_filter;

/* ---- the queue ---- */

static struct piece *first_piece(struct store *store) {
        return (struct piece *) (void *) ngx_queue_head(&store->pieces);
}

/* n bytes of the body, in memory, are gone. */
static void account(struct store *store, size_t n) {
        store->queued -= n;
        store->pool->backlog -= n;
}

static void piece_free(struct piece *piece) {
        ngx_queue_remove(&piece->link);
        if (piece->fd >= 0)
                (void) close(piece->fd);
        ngx_free(piece);
}

static void drop_pieces(struct store *store) {
        while (!ngx_queue_empty(&store->pieces))
                piece_free(first_piece(store));
        account(store, store->queued);
}

static void stop_timer(struct store *store) {
        if (store->timer.timer_set)
                ngx_del_timer(&store->timer);
}

/* Lets the response wait for the daemon, but not for one that takes nothing. The timer also keeps a worker that is to
 * leave: nothing else tells nginx that something is under way. */
static void slow_down(struct store *store) {
        store->slowed = true;
        store->request->connection->write->delayed = 1;
        ngx_add_timer(&store->timer, store->pool->timeout);
}

/* Lets the response go on. */
static void release(struct store *store) {
        ngx_event_t *write;

        stop_timer(store);
        if (!store->slowed)
                return;
        store->slowed = false;
        if (!store->request)
                return;

        write = store->request->connection->write;
        write->delayed = 0;
        ngx_post_event(write, &ngx_posted_events);
}

static void store_free(struct store *store) {
        stop_timer(store);
        drop_pieces(store);
        ngx_free(store);
}

static void cut(struct store *store) {
        store->cut = true;
        drop_pieces(store);
        release(store);
        if (store->pending)
                pool_wake(store->pool, store->client);
}

static void on_timeout(ngx_event_t *event) {
        cut(event->data);
}

static bool add_piece(struct store *store, const ngx_buf_t *buffer) {
        bool in_memory = ngx_buf_in_memory(buffer);
        off_t size = ngx_buf_size(buffer);
        struct piece *piece;

        if (size <= 0)
                return true;

        piece = ngx_alloc(sizeof(*piece) + (in_memory ? (size_t) size : 0), ngx_cycle->log);
        if (!piece)
                return false;

        piece->size = size;
        piece->done = 0;
        piece->fd = -1;
        ngx_queue_insert_tail(&store->pieces, &piece->link);
        if (in_memory) {
                ngx_memcpy(piece->data, buffer->pos, (size_t) size);
                store->queued += (size_t) size;
                store->pool->backlog += (size_t) size;
                return true;
        }

        piece->offset = buffer->file_pos;
        piece->fd = fcntl(buffer->file->fd, F_DUPFD_CLOEXEC, 0);
        return piece->fd >= 0;
}

/* What libobjmapper asks for the body. */
static int64_t give(void *data, size_t size, void *userdata) {
        struct store *store = userdata;
        struct piece *piece;
        ssize_t n;

        if (store->cut)
                return -ECANCELED;
        if (ngx_queue_empty(&store->pieces))
                return store->whole ? 0 : -EAGAIN;

        piece = first_piece(store);
        n = (ssize_t) ngx_min((off_t) size, piece->size - piece->done);
        if (piece->fd < 0) {
                ngx_memcpy(data, piece->data + piece->done, (size_t) n);
                account(store, (size_t) n);
        } else {
                n = pread(piece->fd, data, (size_t) n, piece->offset + piece->done);
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
        }

        piece->done += n;
        if (piece->done == piece->size)
                piece_free(piece);
        if (store->queued <= QUEUE_LOW)
                release(store);
        else if (store->slowed)
                ngx_add_timer(&store->timer, store->pool->timeout);
        return n;
}

/* ---- the index of variants ---- */

struct index {
        struct pool *pool;
        uint64_t lifetime, expires;
        size_t key_size, vary_size;
        char text[];
};

static void on_index_put(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct index *index = userdata;

        pool_report(index->pool, ngx_cycle->log, error, error < 0 ? objmapper_client_error(client) : "");
        objmapper_object_free(object);
        ngx_free(index);
}

static int put_index(struct index *index) {
        objmapper_request *request;
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_PUT, index->text, index->key_size);
        if (r < 0)
                return r;

        r = objmapper_request_add_metadata(request, ":vary", index->text + index->key_size, index->vary_size);
        if (r >= 0)
                r = objmapper_request_set_ttl(request, index->lifetime);
        if (r >= 0)
                r = pool_submit(index->pool, request, ngx_cycle->log, on_index_put, index);

        objmapper_request_free(request);
        return r;
}

/* It is as it must be when it names the same fields, and does not expire before the variant. */
static bool is_current(objmapper_object *object, const struct index *index) {
        size_t size;
        const char *vary = objmapper_object_get_metadata(object, ":vary", &size);
        uint64_t expires = objmapper_object_get_expires(object);

        return vary && size == index->vary_size && memcmp(vary, index->text + index->key_size, size) == 0 &&
               (expires == 0 || expires >= index->expires);
}

static void on_index_stat(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct index *index = userdata;
        bool current = error >= 0 && is_current(object, index);
        bool failed = error < 0 && error != -ENOENT && error != -ESTALE;

        if (failed)
                pool_report(index->pool, ngx_cycle->log, error, objmapper_client_error(client));
        objmapper_object_free(object);
        if (failed || current || put_index(index) < 0)
                ngx_free(index);
}

/* After the variant, so that the index never leads to nothing. */
static void update_index(const struct store *store, uint64_t expires) {
        objmapper_request *request;
        struct index *index;

        index = ngx_alloc(sizeof(*index) + store->key_size + store->vary_size, ngx_cycle->log);
        if (!index)
                return;

        *index = (struct index){
                .pool = store->pool,
                .lifetime = store->lifetime,
                .expires = expires,
                .key_size = store->key_size,
                .vary_size = store->vary_size,
        };
        ngx_memcpy(index->text, store->text, store->key_size + store->vary_size);

        if (objmapper_request_new(&request, OBJMAPPER_STAT, index->text, index->key_size) < 0) {
                ngx_free(index);
                return;
        }
        if (pool_submit(index->pool, request, ngx_cycle->log, on_index_stat, index) < 0)
                ngx_free(index);
        objmapper_request_free(request);
}

/* ---- the put ---- */

static void on_reply(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct store *store = userdata;
        bool given_up = store->cut;

        store->pending = false;
        if (!given_up)
                pool_report(store->pool, store->request ? store->request->connection->log : ngx_cycle->log,
                            error, error < 0 ? objmapper_client_error(client) : "");
        if (error >= 0 && store->key_size > 0)
                update_index(store, objmapper_object_get_expires(object));
        objmapper_object_free(object);

        if (error < 0) {
                store->cut = true;
                drop_pieces(store);
                release(store);
        }
        if (!store->request)
                store_free(store);
}

/* The request is over: what it has not given by now never comes. */
static void on_request_end(void *data) {
        struct store *store = data;

        if (store->slowed)
                store->request->connection->write->delayed = 0;
        stop_timer(store);
        store->slowed = false;
        store->request = NULL;
        if (!store->pending)
                store_free(store);
        else if (!store->whole)
                cut(store);
}

static struct store *store_new(ngx_http_request_t *r,
                               struct pool *pool,
                               const ngx_str_t *key,
                               const struct storable *storable) {
        ngx_http_cleanup_t *cleanup = ngx_http_cleanup_add(r, 0);
        struct store *store;

        if (!cleanup)
                return NULL;

        store = ngx_calloc(sizeof(*store) + key->len + storable->vary.len, r->connection->log);
        if (!store)
                return NULL;

        store->request = r;
        store->pool = pool;
        store->announced = r->headers_out.content_length_n;
        store->lifetime = storable_lifetime(storable);
        ngx_queue_init(&store->pieces);
        store->timer.handler = on_timeout;
        store->timer.data = store;
        store->timer.log = ngx_cycle->log;
        if (storable->vary.len > 0) {
                store->key_size = key->len;
                store->vary_size = storable->vary.len;
                ngx_memcpy(ngx_cpymem(store->text, key->data, key->len), storable->vary.data,
                           storable->vary.len);
        }

        cleanup->handler = on_request_end;
        cleanup->data = store;
        return store;
}

static void submit(struct store *store,
                   ngx_http_request_t *r,
                   const ngx_str_t *uri,
                   const struct storable *storable) {
        objmapper_request *request;
        int error;

        error = objmapper_request_new(&request, OBJMAPPER_PUT, uri->data, uri->len);
        if (error < 0) {
                store->cut = true;
                return;
        }

        error = storable_describe(r, storable, request);
        /* A copy that a crash takes is fetched again. */
        if (error >= 0)
                error = objmapper_request_set_durability(request, OBJMAPPER_VISIBLE);
        if (error >= 0)
                error = objmapper_request_set_body_source(request, give, store,
                                                          store->announced >= 0 ? (uint64_t) store->announced
                                                                                : OBJMAPPER_TO_END);
        if (error >= 0)
                error = pool_submit_to(store->pool, request, r->connection->log, on_reply, store,
                                       &store->client);
        objmapper_request_free(request);

        store->pending = error >= 0;
        store->cut = error < 0;
}

static ngx_int_t begin(ngx_http_request_t *r, struct location_conf *conf, struct report *report) {
        struct storable storable;
        ngx_str_t key = ngx_null_string, uri;
        ngx_int_t rc;

        report->putting = NULL;
        report->store = STORE_SKIP;
        if (conf->store->backlog > BACKLOG_MAX || pool_pending(conf->store) >= BACKLOG_PUTS)
                return NGX_OK;

        rc = storable_check(r, conf->store_valid, &storable);
        if (rc == NGX_OK)
                rc = key_make(r, conf->key, &key);
        uri = key;
        if (rc == NGX_OK && storable.vary.len > 0) {
                struct http_object index = { .vary = (const char *) storable.vary.data,
                                             .vary_size = storable.vary.len };

                rc = key_make_variant(r, &key, &index, &uri);
        }
        if (rc != NGX_OK)
                return rc == NGX_DECLINED ? NGX_OK : NGX_ERROR;

        report->putting = store_new(r, conf->store, &key, &storable);
        if (!report->putting)
                return NGX_ERROR;

        submit(report->putting, r, &uri, &storable);
        report->store = report->putting->cut ? STORE_SKIP : STORE_PUT;
        return NGX_OK;
}

/* ---- the filters ---- */

/* The answer of an upstream that is being read, as it came, to the client's own request. */
static bool is_from_upstream(ngx_http_request_t *r) {
        return r == r->main && r->upstream && r->upstream->cleanup && !r->cached &&
               r->headers_out.status == r->upstream->headers_in.status_n;
}

static ngx_int_t header_filter(ngx_http_request_t *r) {
        struct location_conf *conf = ngx_http_get_module_loc_conf(r, ngx_http_objmapper_module);
        struct report *report;
        ngx_int_t rc;

        if (!conf->store || !is_from_upstream(r))
                return next_header_filter(r);

        report = report_get(r);
        if (!report || begin(r, conf, report) != NGX_OK)
                return NGX_ERROR;

        rc = next_header_filter(r);
        /* Of what has no body for the client, none comes from the upstream. */
        if (report->putting && (rc == NGX_ERROR || rc > NGX_OK || r->header_only)) {
                report->store = STORE_SKIP;
                cut(report->putting);
        }

        return rc;
}

static void take(struct store *store, const ngx_chain_t *in) {
        for (; in && !store->cut; in = in->next) {
                if (!add_piece(store, in->buf)) {
                        cut(store);
                        return;
                }
                if (store->pool->backlog > 2 * BACKLOG_MAX) {
                        cut(store);
                        return;
                }
                store->seen += ngx_buf_size(in->buf);
                if (in->buf->last_buf) {
                        if (store->announced >= 0 && store->seen != store->announced)
                                cut(store);
                        else
                                store->whole = true;
                }
        }

        if (store->cut)
                return;

        if (store->queued > QUEUE_MAX && !store->whole)
                slow_down(store);
        pool_wake(store->pool, store->client);
}

static ngx_int_t body_filter(ngx_http_request_t *r, ngx_chain_t *in) {
        struct report *report = ngx_http_get_module_ctx(r, ngx_http_objmapper_module);

        if (in && r == r->main && report && report->putting && !report->putting->cut &&
            !report->putting->whole)
                take(report->putting, in);

        return next_body_filter(r, in);
}

ngx_int_t store_init(ngx_conf_t *cf) {
        (void) cf;
        next_header_filter = ngx_http_top_header_filter;
        ngx_http_top_header_filter = header_filter;
        next_body_filter = ngx_http_top_body_filter;
        ngx_http_top_body_filter = body_filter;
        return NGX_OK;
}
