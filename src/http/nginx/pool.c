/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <ngx_event.h>
#include <string.h>
#include <time.h>

#define MSEC_LATER    3600000 /* when nothing is said about when */
#define REPORT_PERIOD 10      /* s: a daemon that fails again and again is told of once in these */

struct link {
        struct pool *pool;
        objmapper_client *client;
        ngx_connection_t *connection; /* the client's descriptor in nginx's loop */
        ngx_event_t timer;            /* its deadline */
        ngx_event_t turn;             /* posted: something was submitted */
        bool processing;
};

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* A timer that is early only costs a turn, and most requests are answered long before theirs: it is only ever moved
 * forward. */
static void arm_timer(struct link *link) {
        uint64_t deadline = objmapper_client_get_deadline(link->client), now;
        ngx_msec_t wait = 0;

        if (deadline == UINT64_MAX)
                return;

        now = now_usec();
        if (deadline > now)
                wait = (ngx_msec_t) ngx_min((deadline - now) / 1000 + 1, (uint64_t) MSEC_LATER);

        if (link->timer.timer_set &&
            (ngx_msec_int_t) (link->timer.timer.key - (ngx_current_msec + wait)) <= 0)
                return;
        ngx_add_timer(&link->timer, wait);
}

static void process(struct link *link) {
        int r;

        link->processing = true;
        r = objmapper_client_process(link->client);
        link->processing = false;

        assert(r >= 0);
        (void) r;
        arm_timer(link);
}

static void on_readable(ngx_event_t *event) {
        ngx_connection_t *connection = event->data;

        process(connection->data);
}

static void on_event(ngx_event_t *event) {
        process(event->data);
}

static void link_free(struct link *link) {
        if (!link)
                return;

        if (link->timer.timer_set)
                ngx_del_timer(&link->timer);
        if (link->turn.posted) {
                ngx_delete_posted_event(&link->turn);
        }

        /* The descriptor is the client's: nginx only forgets it. */
        if (link->connection) {
                if (link->connection->read->active)
                        (void) ngx_del_event(link->connection->read, NGX_READ_EVENT, 0);
                ngx_free_connection(link->connection);
                link->connection->fd = (ngx_socket_t) -1;
        }

        objmapper_client_close(link->client);
        ngx_free(link);
}

/* Level-triggered, as one turn of the client need not take all that is there. */
static int watch(struct link *link) {
        ngx_log_t *log = ngx_cycle->log;

        link->connection = ngx_get_connection(objmapper_client_get_fd(link->client), log);
        if (!link->connection)
                return -EMFILE;

        link->connection->data = link;
        link->connection->log = log;
        link->connection->read->log = log;
        link->connection->write->log = log;
        link->connection->read->handler = on_readable;
        if (ngx_add_event(link->connection->read, NGX_READ_EVENT, NGX_LEVEL_EVENT) != NGX_OK)
                return -ENOMEM;

        return 0;
}

static int link_new(struct pool *pool, struct link **ret) {
        struct link *link;
        int r;

        link = ngx_calloc(sizeof(*link), ngx_cycle->log);
        if (!link)
                return -ENOMEM;

        link->pool = pool;
        link->timer.handler = link->turn.handler = on_event;
        link->timer.data = link->turn.data = link;
        link->timer.log = link->turn.log = ngx_cycle->log;
        link->timer.cancelable = 1; /* keeps no worker that is to leave */

        r = objmapper_client_new(&link->client);
        if (r >= 0)
                r = objmapper_client_set_sockets(link->client, pool->publisher ? NULL : pool->path,
                                                 pool->publisher ? pool->path : NULL);
        if (r >= 0)
                r = watch(link);
        if (r < 0) {
                link_free(link);
                return r;
        }

        objmapper_client_set_timeout(link->client, (uint64_t) pool->timeout * 1000);
        /* A large body in the memory of a worker that has run out of descriptors helps nobody. */
        objmapper_client_set_fd_fallback(link->client, 0);

        *ret = link;
        return 0;
}

/* The first that is not crowded, so that requests travel together; then one more; then the least busy. */
static int find_link(struct pool *pool, struct link **ret) {
        struct link *best = NULL;
        size_t best_pending = SIZE_MAX;

        for (ngx_uint_t i = 0; i < pool->n_clients; i++) {
                size_t pending;

                if (!pool->link[i]) {
                        int r = link_new(pool, &pool->link[i]);

                        if (r < 0 && !best)
                                return r;
                        best = pool->link[i] ? pool->link[i] : best;
                        break;
                }

                pending = objmapper_client_get_pending(pool->link[i]->client);
                if (pending < best_pending) {
                        best = pool->link[i];
                        best_pending = pending;
                }
                if (pending < pool->crowd)
                        break;
        }

        *ret = best;
        return 0;
}

static void post_turn(struct link *link) {
        if (!link->processing) {
                ngx_post_event(&link->turn, &ngx_posted_events);
        }
}

int pool_submit_to(struct pool *pool,
                   objmapper_request *request,
                   ngx_log_t *log,
                   objmapper_reply_fn reply,
                   void *userdata,
                   objmapper_client **ret_client) {
        struct link *link;
        int r;

        r = find_link(pool, &link);
        if (r < 0) {
                pool_report(pool, log, r, strerror(-r));
                return r;
        }

        r = objmapper_client_submit(link->client, request, reply, userdata);
        if (r < 0) {
                pool_report(pool, log, r, objmapper_client_error(link->client));
                return r;
        }

        *ret_client = link->client;
        post_turn(link);
        return 0;
}

int pool_submit(struct pool *pool,
                objmapper_request *request,
                ngx_log_t *log,
                objmapper_reply_fn reply,
                void *userdata) {
        objmapper_client *client;

        return pool_submit_to(pool, request, log, reply, userdata, &client);
}

size_t pool_pending(const struct pool *pool) {
        size_t n = 0;

        for (ngx_uint_t i = 0; i < POOL_CLIENTS_MAX && pool->link[i]; i++)
                n += objmapper_client_get_pending(pool->link[i]->client);

        return n;
}

void pool_wake(struct pool *pool, objmapper_client *client) {
        objmapper_client_wake(client);
        for (ngx_uint_t i = 0; i < POOL_CLIENTS_MAX && pool->link[i]; i++)
                if (pool->link[i]->client == client)
                        post_turn(pool->link[i]);
}

void pool_report(struct pool *pool, ngx_log_t *log, int error, const char *words) {
        time_t now = ngx_time();

        if (error < 0 && !pool->failing && now >= pool->report_next) {
                ngx_log_error(NGX_LOG_ERR, log, 0, "objmapper: %s", words);
                pool->failing = true;
                pool->report_next = now + REPORT_PERIOD;
        } else if (error < 0) {
                ngx_log_error(NGX_LOG_INFO, log, 0, "objmapper: %s", words);
        } else if (pool->failing) {
                ngx_log_error(NGX_LOG_NOTICE, log, 0, "objmapper: the daemon behind %s answers again",
                              pool->path);
                pool->failing = false;
        }
}

void pool_close(struct pool *pool) {
        keep_close(&pool->keep);
        for (ngx_uint_t i = 0; i < POOL_CLIENTS_MAX; i++) {
                link_free(pool->link[i]);
                pool->link[i] = NULL;
        }
}
