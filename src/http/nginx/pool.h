/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The daemon behind one socket, as a worker process uses it: a few clients that are made when they are needed,
 * each with many requests in flight, served by nginx's event loop. Nothing here waits. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <objmapper.h>
#include <stdbool.h>

#include "keep.h"

#define POOL_CLIENTS_MAX 64

struct link;

struct pool {
        const char *path;
        bool publisher;       /* the socket is for changes */
        ngx_uint_t n_clients; /* at most */
        ngx_uint_t crowd;     /* requests in flight from which on another client is used */
        ngx_msec_t timeout;   /* of a request without progress */
        bool failing;         /* it was logged that the daemon fails, and not yet that it answers again */
        time_t report_next;   /* when the next failure may be logged so */
        struct link *link[POOL_CLIENTS_MAX];
        struct keep keep;
        size_t backlog; /* bytes that wait in memory for the daemon to take them */
};

/* Hands request to the least busy client, which sends it at the end of this turn of the event loop, with what else
 * was submitted until then. As objmapper_client_submit(), by whose rules reply is
 * called; its errors were reported. */
int pool_submit(struct pool *pool,
                objmapper_request *request,
                ngx_log_t *log,
                objmapper_reply_fn reply,
                void *userdata);

/* The same; *ret_client is the client that has it, for pool_wake(). */
int pool_submit_to(struct pool *pool,
                   objmapper_request *request,
                   ngx_log_t *log,
                   objmapper_reply_fn reply,
                   void *userdata,
                   objmapper_client **ret_client);

/* Requests under way, sent or not. */
size_t pool_pending(const struct pool *pool);

/* As objmapper_client_wake(); the client is processed at the end of this turn. */
void pool_wake(struct pool *pool, objmapper_client *client);

/* Logs a failure of the daemon, with words of the client's or for error alone: the first in a row as an error, when
 * there was none for some seconds, those after it for whoever looks closer. error 0: it answered. */
void pool_report(struct pool *pool, ngx_log_t *log, int error, const char *words);

/* Closes all clients; requests under way end without an answer. */
void pool_close(struct pool *pool);
