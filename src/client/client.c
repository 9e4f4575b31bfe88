/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "clock.h"
#include "macro.h"

#define READER_PATH     "/run/objmapper/objmapper.sock"
#define PUBLISHER_PATH  "/run/objmapper/publish.sock"
#define TIMEOUT_DEFAULT (30 * USEC_PER_SEC)
#define EVENTS_MAX      16
#define SPARE_MAX       256 /* calls that are kept for their memory */
#define PATH_SIZE       sizeof(((struct sockaddr_un *) NULL)->sun_path)

#define FOREACH_CONNECTION(c, client) \
        for (struct connection *c = (client)->connection; c < (client)->connection + ROLE_MAX; c++)

DEFINE_CLEANUP(objmapper_client, objmapper_client_close)

/* ---- life and options ---- */

static int set_paths(objmapper_client *client, const char *reader, const char *publisher) {
        _cleanup_free_ char *reader_copy = NULL, *publisher_copy = NULL;

        if ((reader && strlen(reader) >= PATH_SIZE) || (publisher && strlen(publisher) >= PATH_SIZE))
                return client_fail(client, -EINVAL, "the socket's path is longer than %zu bytes",
                                   PATH_SIZE - 1);
        if ((reader && !*reader) || (publisher && !*publisher) || (!reader && !publisher))
                return client_fail(client, -EINVAL, "a socket's path is missing");

        FOREACH_CONNECTION(connection, client)
        if (connection->state != CONNECTION_CLOSED || client->n_calls > 0)
                return client_fail(client, -EBUSY, "the client is connected already");

        if (reader && !(reader_copy = strdup(reader)))
                return client_fail(client, -ENOMEM, "out of memory");
        if (publisher && !(publisher_copy = strdup(publisher)))
                return client_fail(client, -ENOMEM, "out of memory");

        free(client->connection[READER].path);
        free(client->connection[PUBLISHER].path);
        client->connection[READER].path = TAKE_PTR(reader_copy);
        client->connection[PUBLISHER].path = TAKE_PTR(publisher_copy);
        return 0;
}

int objmapper_client_new(objmapper_client **ret) {
        _cleanup_(objmapper_client_closep) objmapper_client *client = NULL;
        int r;

        if (!ret)
                return -EINVAL;

        client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;

        client->mode = OP_AUTO;
        client->fd_fallback = true;
        client->timeout_usec = TIMEOUT_DEFAULT;
        TAILQ_INIT(&client->done);
        TAILQ_INIT(&client->spare);
        FOREACH_CONNECTION(connection, client)
        connection_init(connection, client);

        client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (client->epoll_fd < 0)
                return -errno;

        r = set_paths(client, READER_PATH, PUBLISHER_PATH);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(client);
        return 0;
}

void objmapper_client_close(objmapper_client *client) {
        struct call *call;

        if (!client)
                return;

        assert(!client->running);

        FOREACH_CONNECTION(connection, client)
        connection_done(connection);
        while ((call = TAILQ_FIRST(&client->done))) {
                call_move(call, NULL, false);
                call_free(call);
        }
        while ((call = TAILQ_FIRST(&client->spare))) {
                TAILQ_REMOVE(&client->spare, call, link);
                free(call);
        }
        call_free(client->failed);
        (void) close_fd(client->epoll_fd);
        free(client);
}

int objmapper_client_set_sockets(objmapper_client *client, const char *reader, const char *publisher) {
        return set_paths(client, reader, publisher);
}

/* What a systemd unit's instance may be called, as long as it is a single path component. */
static bool instance_valid(const char *name) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\";
        size_t size = strlen(name);

        return size > 0 && size <= 64 && name[0] != '.' && strspn(name, allowed) == size;
}

int objmapper_client_set_instance(objmapper_client *client, const char *name, int user) {
        char folder[PATH_SIZE], reader[PATH_SIZE + 16], publisher[PATH_SIZE + 16];
        const char *runtime = "/run";
        int n;

        if (!name && !user)
                return client_fail(client, -EINVAL, "an instance's name is missing");
        if (name && !instance_valid(name))
                return client_fail(client, -EINVAL, "no instance can have this name");

        if (user) {
                runtime = getenv("XDG_RUNTIME_DIR");
                if (!runtime || runtime[0] != '/')
                        return client_fail(client, -ENXIO,
                                           "$XDG_RUNTIME_DIR is not set: log in through systemd-logind, or "
                                           "set it");
        }

        n = snprintf(folder, sizeof(folder), "%s/objmapper%s%s", runtime, name ? "-" : "", name ?: "");
        if (n < 0 || (size_t) n >= sizeof(folder))
                return client_fail(client, -EINVAL, "$XDG_RUNTIME_DIR is too long for a socket's path");

        (void) snprintf(reader, sizeof(reader), "%s/objmapper.sock", folder);
        (void) snprintf(publisher, sizeof(publisher), "%s/publish.sock", folder);
        return set_paths(client, reader, publisher);
}

int objmapper_client_set_mode(objmapper_client *client, enum objmapper_mode mode) {
        if (mode < OBJMAPPER_FDPASS || mode > OBJMAPPER_AUTO)
                return client_fail(client, -EINVAL, "%i is no mode", (int) mode);

        FOREACH_CONNECTION(connection, client)
        if (connection->state != CONNECTION_CLOSED || client->n_calls > 0)
                return client_fail(client, -EBUSY, "the client is connected already");

        client->mode = (enum proto_mode) mode;
        return 0;
}

void objmapper_client_set_timeout(objmapper_client *client, uint64_t usec) {
        /* What is added to a clock must not wrap, and so far off is never. */
        client->timeout_usec = usec < UINT64_MAX / 2 ? usec : 0;
}

void objmapper_client_set_fd_fallback(objmapper_client *client, int enabled) {
        client->fd_fallback = enabled;
}

/* ---- errors ---- */

int client_fail(objmapper_client *client, int error, const char *format, ...) {
        va_list ap;

        call_free(client->failed);
        client->failed = NULL;

        va_start(ap, format);
        (void) vsnprintf(client->words, sizeof(client->words), format, ap);
        va_end(ap);

        return error;
}

void client_keep_failed(objmapper_client *client, struct call *call) {
        call_free(client->failed);
        client->failed = call;
}

const char *objmapper_client_error(objmapper_client *client) {
        if (client->failed) {
                call_explain(client->failed, client->words, sizeof(client->words));
                call_free(client->failed);
                client->failed = NULL;
        }

        return client->words;
}

/* ---- requests ---- */

static struct connection *find_connection(objmapper_client *client, enum objmapper_verb verb) {
        struct connection *connection = &client->connection[verb_changes(verb) ? PUBLISHER : READER];

        return connection->path ? connection : &client->connection[verb_changes(verb) ? READER : PUBLISHER];
}

void client_take_call(objmapper_client *client,
                      struct connection *connection,
                      struct call *call,
                      objmapper_reply_fn reply,
                      void *userdata) {
        call->reply = reply;
        call->userdata = userdata;
        call->progress_usec = client->now;
        connection_add(connection, call);
        client->n_calls++;
}

/* Takes call when it returns 0. */
static int add(objmapper_client *client,
               struct connection *connection,
               struct call *call,
               objmapper_reply_fn reply,
               void *userdata,
               bool armed) {
        if (connection->state == CONNECTION_CLOSED) {
                int r = connection_open(connection);

                if (r < 0)
                        return r;
        }

        client_take_call(client, connection, call, reply, userdata);
        if (!armed || client->running)
                return 0;

        /* One alone goes at once, and the caller's loop hears of its answer next; of those behind it, and of a put, which
         * may ask its source and read a file, that they can be sent. */
        if (client->n_calls == 1 && call->verb != OBJMAPPER_PUT && connection_is_idle(connection))
                connection_flush(connection);
        else if (connection_has_output(connection))
                connection_arm_output(connection, true);

        return 0;
}

int client_add(objmapper_client *client,
               const objmapper_request *request,
               objmapper_reply_fn reply,
               void *userdata,
               bool armed) {
        _cleanup_(call_freep) struct call *call = NULL;
        int r;

        r = call_new(&call, request);
        if (r < 0)
                return client_fail(client, r, "%s: %s", proto_type_name((uint16_t) request->verb),
                                   error_meaning(r));

        (void) client_read_clock(client);
        r = add(client, find_connection(client, request->verb), call, reply, userdata, armed);
        if (r >= 0)
                (void) TAKE_PTR(call);
        else
                client->is_timely = false;

        return r;
}

static void keep_spare(objmapper_client *client, struct call *call) {
        if (client->n_spare >= SPARE_MAX) {
                call_free(call);
                return;
        }

        call_empty(call);
        TAILQ_INSERT_HEAD(&client->spare, call, link);
        client->n_spare++;
}

struct call *client_take_spare(objmapper_client *client) {
        struct call *call = TAILQ_FIRST(&client->spare);

        if (call) {
                TAILQ_REMOVE(&client->spare, call, link);
                client->n_spare--;
        }
        return call;
}

struct call *client_find_spare(objmapper_client *client, size_t size) {
        struct call *call = TAILQ_FIRST(&client->spare);

        if (call && call->room >= size)
                return call;

        free(client_take_spare(client));
        call = call_new_spare(size);
        if (!call)
                return NULL;

        TAILQ_INSERT_HEAD(&client->spare, call, link);
        client->n_spare++;
        return call;
}

int client_add_get(objmapper_client *client,
                   const char *uri,
                   objmapper_object *reused,
                   objmapper_reply_fn reply,
                   void *userdata) {
        struct call *spare = client_take_spare(client), *call;
        int r;

        r = call_new_get(&call, spare, uri, strlen(uri));
        if (r < 0) {
                free(spare);
                return client_fail(client, r,
                                   r == -EINVAL ? "get: not a URI: 1 to %i bytes" : "out of memory",
                                   OBJMAPPER_URI_MAX);
        }

        r = add(client, find_connection(client, OBJMAPPER_GET), call, reply, userdata, false);
        if (r < 0) {
                call_free(call);
                return r;
        }

        call->reused = reused;
        return 0;
}

int objmapper_client_submit(objmapper_client *client,
                            objmapper_request *request,
                            objmapper_reply_fn reply,
                            void *userdata) {
        int r;

        if (!request || !reply)
                return client_fail(client, -EINVAL, "a request and a function for its answer are needed");
        if (request->output >= 0)
                return client_fail(client, -EINVAL,
                                   "a request with an output is only for objmapper_client_call()");

        r = client_add(client, request, reply, userdata, true);
        client->is_timely = false; /* the caller may take its time */
        return r;
}

/* ---- the loop ---- */

static unsigned tell_answers(objmapper_client *client) {
        struct call *call;
        unsigned n = 0;

        while ((call = TAILQ_FIRST(&client->done))) {
                objmapper_object *object = TAKE_PTR(call->object);
                objmapper_reply_fn reply = call->reply;
                void *userdata = call->userdata;
                int error = call->error;

                call_move(call, NULL, false);
                client->n_calls--;
                n++;

                if (error < 0) {
                        objmapper_object_free(object);
                        object = NULL;
                }

                /* An answer may still come to one that ended by a time-out: it stays until then. */
                if (call->id != 0) {
                        char words[WORDS_MAX];

                        call_explain(call, words, sizeof(words));
                        (void) client_fail(client, error, "%s", words);
                } else if (error < 0)
                        client_keep_failed(client, call);
                else
                        keep_spare(client, call);

                reply(client, error, object, userdata);
        }

        return n;
}

/* All sockets that there are, and all that will be. */
static int watch_all(objmapper_client *client) {
        int r = 0;

        client->watches = true;
        FOREACH_CONNECTION(connection, client) {
                int q = connection_watch(connection);

                if (q < 0)
                        r = q;
        }

        return r;
}

uint64_t client_read_clock(objmapper_client *client) {
        client->now = clock_usec(CLOCK_MONOTONIC);
        client->is_timely = true;
        return client->now;
}

void client_look_at_clock(objmapper_client *client) {
        if (!client->is_timely)
                (void) client_read_clock(client);
}

static int wait_events(objmapper_client *client, struct epoll_event *events, uint64_t usec) {
        int n;

        n = watch_all(client);
        if (n < 0)
                return n;

        n = epoll_wait(client->epoll_fd, events, EVENTS_MAX, clock_wait_msec(usec));
        if (n < 0 && errno != EINTR)
                return -errno;

        return MAX(n, 0);
}

static void serve(struct epoll_event *events, int n) {
        /* The sources first: receiving may end the calls that they belong to. */
        for (int i = 0; i < n; i++)
                if (*(enum watch *) events[i].data.ptr == WATCH_SOURCE) {
                        struct call *call = events[i].data.ptr;

                        connection_unpark(call->connection, call);
                }

        for (int i = 0; i < n; i++)
                if (*(enum watch *) events[i].data.ptr == WATCH_CONNECTION && (events[i].events & ~EPOLLOUT))
                        connection_receive(events[i].data.ptr, 0);
}

static void flush_all(objmapper_client *client) {
        FOREACH_CONNECTION(connection, client)
        connection_flush(connection);
}

/* The connection that is the only one that something can be heard of; NULL: there is none. */
static struct connection *find_only(objmapper_client *client) {
        struct connection *reader = &client->connection[READER], *publisher = &client->connection[PUBLISHER];

        if (reader->fd < 0 || !TAILQ_EMPTY(&reader->parked) || publisher->state != CONNECTION_CLOSED)
                return NULL;

        return reader;
}

/* Receives what there is, or comes within usec. */
static void receive_some(objmapper_client *client, uint64_t usec) {
        struct connection *only = find_only(client);
        struct epoll_event events[EVENTS_MAX];
        int n;

        /* Its socket is asked, or waited for, without epoll in between; not where epoll is to have it, and has not. */
        if (only && (!client->watches || only->watched) && (usec == 0 || connection_can_wait(only))) {
                connection_receive(only, usec);
                return;
        }

        n = wait_events(client, events, usec);
        client_look_at_clock(client);
        if (n < 0) /* the caller closed our descriptor: nothing will ever come */
                FOREACH_CONNECTION(connection, client)
        connection_fail(connection, n, "can't wait for the daemon: %s", strerror(-n));
        serve(events, n);
}

int client_turn(objmapper_client *client, uint64_t usec) {
        uint64_t deadline;
        unsigned told;

        if (client->running)
                return -EDEADLK;
        client->running = true;

        client_look_at_clock(client);
        if (client->woken) {
                client->woken = false;
                FOREACH_CONNECTION(connection, client)
                connection_wake_sources(connection);
        }
        FOREACH_CONNECTION(connection, client)
        connection_tend(connection);
        flush_all(client);

        deadline = objmapper_client_get_deadline(client);
        usec = MIN(usec, deadline > client->now ? deadline - client->now : 0);
        client->is_timely = usec == 0;
        receive_some(client, usec);
        client_look_at_clock(client);
        FOREACH_CONNECTION(connection, client) {
                /* Not before: a caller that was away for long finds the answers that came meanwhile. */
                connection_end_overdue(connection);
                connection_tend(connection);
        }

        told = tell_answers(client);
        flush_all(client); /* what was submitted by those who were told, too */

        client->is_timely = false; /* the caller may take its time */
        client->running = false;
        return (int) MIN(told, (unsigned) INT_MAX);
}

int client_greet(objmapper_client *client) {
        struct connection *connection = &client->connection[READER];
        uint64_t now = clock_usec(CLOCK_MONOTONIC), end;
        int r;

        end = client->timeout_usec > 0 ? now + client->timeout_usec : UINT64_MAX;
        connection->wanted = true;
        while (connection->wanted && connection->state != CONNECTION_OPEN && now < end) {
                (void) client_turn(client, end - now);
                now = clock_usec(CLOCK_MONOTONIC);
        }

        r = connection->wanted_error;
        if (r == 0 && connection->state != CONNECTION_OPEN)
                r = -ETIMEDOUT;
        connection->wanted = false;
        connection->wanted_error = 0;

        return r;
}

int objmapper_client_get_fd(objmapper_client *client) {
        (void) watch_all(client); /* where it failed the next turn says so */
        return client->epoll_fd;
}

uint64_t objmapper_client_get_deadline(objmapper_client *client) {
        uint64_t deadline = UINT64_MAX;

        if (client->woken || !TAILQ_EMPTY(&client->done))
                return 0;

        FOREACH_CONNECTION(connection, client) {
                uint64_t one = connection_deadline(connection);

                deadline = MIN(deadline, one);
        }

        return deadline;
}

int objmapper_client_process(objmapper_client *client) {
        return client_turn(client, 0);
}

void objmapper_client_wake(objmapper_client *client) {
        client->woken = true;
}

int objmapper_client_wait(objmapper_client *client, uint64_t usec) {
        uint64_t now = clock_usec(CLOCK_MONOTONIC), end = usec > UINT64_MAX - now ? UINT64_MAX : now + usec;
        int r;

        do {
                uint64_t left = client->n_calls == 0 ? 0 : end == UINT64_MAX ? UINT64_MAX : end - now;

                r = client_turn(client, left);
                now = clock_usec(CLOCK_MONOTONIC);
        } while (r == 0 && now < end && client->n_calls > 0);

        return r;
}

size_t objmapper_client_get_pending(objmapper_client *client) {
        return client->n_calls;
}
