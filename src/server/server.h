/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sessions over Unix stream sockets: listeners, workers, and the requests of the protocol against a store.
 *
 * The caller's event loop accepts; each worker is a thread with an event loop of its own over its share of
 * the sessions; work that may block on the disk runs on a pool of further threads. All functions are for the
 * thread of the caller's event loop. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "access.h"
#include "cleanup.h"
#include "storage.h"

struct server;

struct server_config {
        unsigned workers;                  /* threads; at least 1; fixed by server_new() */
        unsigned connections_max;          /* in all */
        unsigned connections_per_user_max; /* of one uid */
        uint32_t inline_max;
        uint32_t pipeline_max;
        uint32_t streams_max;
        uint32_t fds_in_flight_max;
        uint64_t output_max;
        uint64_t object_max;
        bool visible;                /* puts that say nothing are answered before they are durable */
        uint64_t idle_timeout_usec;  /* 0: never */
        uint64_t write_timeout_usec; /* 0: never */
};

/* Starts the workers. event and storage must outlive the server. *ret is the caller's. -ENOMEM, -EMFILE,
 * -EAGAIN (no thread to be had). */
int server_new(struct server **ret,
               sd_event *event,
               struct storage *storage,
               const struct server_config *config);

/* Takes the listening stream socket fd (closed by the server, never shut down or unlinked: it is systemd's).
 * What comes through it has role. -EINVAL: not a listening Unix stream socket. */
int server_add_listener(struct server *server, int fd, enum access_role role);

/* New limits: those of connections at once, those of sessions for the sessions that come; whether puts are visible
 * at once. */
void server_reconfigure(struct server *server, const struct server_config *config);
/* Whether puts that say nothing are answered before they are durable. Any thread. */
bool server_is_visible(const struct server *server);

/* The namespaces' rules, of which the server takes a reference; NULL: none. They count for every request that is
 * read from now on, in sessions that are there too. */
void server_set_rules(struct server *server, struct access_rules *rules);
/* Borrowed until the next server_set_rules(). */
struct access_rules *server_get_rules(struct server *server);

/* Logs that a peer was refused something in a namespace: once in a while for each user and namespace. Any
 * thread. pid 0: not known. */
void server_log_refusal(struct server *server,
                        const struct access_peer *peer,
                        enum access_verb verb,
                        const char *namespace);
/* The same of a put for which there was no room in a namespace, or, NULL, in the store. */
void server_log_no_room(struct server *server, const struct access_peer *peer, const char *namespace);

/* Stops accepting, tells every session, finishes what they had begun, closes them; then calls drained once,
 * on the caller's loop. A put is begun when all of its body, or its end, was read: one that is not whole is given
 * up without an answer, like a request that was not read. A client that takes no answer is dropped after timeout_usec. */
void server_drain(struct server *server,
                  uint64_t timeout_usec,
                  void (*drained)(void *userdata),
                  void *userdata);

/* Ends the threads; open sessions are cut. NULL is fine. */
void server_free(struct server *server);
DEFINE_CLEANUP(struct server, server_free)

/* Asks every worker for a sign of life, and calls answered once all have given it. While an earlier question
 * is open it does nothing. */
void server_ask_alive(struct server *server, void (*answered)(void *userdata), void *userdata);

unsigned server_get_sessions(struct server *server);
/* How many clients have connected so far, those included that were refused. */
uint64_t server_count_connections(const struct server *server);

/* Every counter of the server and its store, by name, in a fixed order: what the stats verb and the bus show.
 */
void server_visit_counters(struct server *server,
                           void (*visit)(const char *name, uint64_t value, void *userdata),
                           void *userdata);
