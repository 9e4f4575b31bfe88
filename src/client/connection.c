/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client.h"
#include "clock.h"
#include "macro.h"
#include "words.h"

#define INPUT_SIZE   CONNECTION_INPUT_SIZE
#define SEND_BUFFER  (4 << 20) /* bytes that we ask for; the kernel has its own limit */
#define PAUSE_MIN    (10 * USEC_PER_MSEC)
#define PAUSE_MAX    (1000 * USEC_PER_MSEC)
#define LOSSES_MAX   8 /* connections lost in a row without any answer, before waiting calls are given up */
#define REFUSED_USEC (30 * USEC_PER_SEC) /* how long a vanished daemon is waited for without a time-out */

void connection_init(struct connection *connection, objmapper_client *client) {
        connection->watch = WATCH_CONNECTION;
        connection->client = client;
        connection->fd = -EBADF;
        connection->pipe[0] = connection->pipe[1] = -EBADF;
        connection->download.fd = -EBADF;
        TAILQ_INIT(&connection->waiting);
        TAILQ_INIT(&connection->waiting_streams);
        TAILQ_INIT(&connection->pending);
        TAILQ_INIT(&connection->parked);
        TAILQ_INIT(&connection->output);
}

static struct call *first_waiting(const struct connection *connection) {
        return TAILQ_FIRST(&connection->waiting) ?: TAILQ_FIRST(&connection->waiting_streams);
}

/* Whether a daemon was there for one of those that wait: each of these is at the head of its list. */
static bool was_served(const struct connection *connection) {
        const struct call *call = TAILQ_FIRST(&connection->waiting);
        const struct call *stream = TAILQ_FIRST(&connection->waiting_streams);

        return (call && call->attempts > 0) || (stream && stream->attempts > 0);
}

static bool is_wanted(const struct connection *connection) {
        return connection->wanted || first_waiting(connection);
}

/* ---- calls ---- */

static void stop_sending(struct connection *connection, struct call *call) {
        if (call->sending)
                TAILQ_REMOVE(&connection->output, call, output_link);
        call->sending = false;

        if (call->watched)
                (void) epoll_ctl(connection->client->epoll_fd, EPOLL_CTL_DEL, call->upload.fd, NULL);
        call->watched = false;
}

static void release(struct connection *connection, struct call *call) {
        unsigned slot = (unsigned) (call->id % CONNECTION_DEPTH_MAX);

        if (call->id == 0)
                return;

        assert(connection->slot[slot] == call);

        connection_unexpect(connection, call);
        connection->slot[slot] = NULL;
        connection->free_slot[connection->n_free++] = (uint16_t) slot;
        if (call->upload.stream)
                connection->n_streams--;
        if (call->abandoned)
                connection->n_abandoned--;
        if (connection->receiving == call)
                connection->receiving = NULL;
        call->id = 0;
}

static void tell(struct connection *connection, struct call *call) {
        call_conclude(call);
        call_move(call, &connection->client->done, false);
}

/* It is over: nothing is being sent, nothing more comes. */
static void settle(struct connection *connection, struct call *call) {
        bool told = call->abandoned;

        release(connection, call);
        if (!told)
                tell(connection, call);
        else if (!call->list) /* else it is about to be told, and freed after that */
                call_free(call);
}

void connection_add(struct connection *connection, struct call *call) {
        call->connection = connection;
        call_move(call, call->upload.stream ? &connection->waiting_streams : &connection->waiting, false);
}

uint64_t connection_next_id(const struct connection *connection) {
        return (connection->serial + 1) * CONNECTION_DEPTH_MAX +
               connection->free_slot[connection->n_free - 1];
}

void connection_note_quick(struct connection *connection) {
        connection->serial++;
        connection->losses = connection->pauses = 0;
}

void connection_admit(struct connection *connection, struct call *call) {
        enum proto_mode mode = call->mode != OP_DEFAULT ? call->mode : connection->client->mode;
        unsigned slot;

        assert(connection->n_free > 0);

        call->id = connection_next_id(connection);
        connection->serial++;
        slot = connection->free_slot[--connection->n_free];
        connection->slot[slot] = call;
        call->attempts++;
        call->progress_usec = connection->progress_usec = connection->client->now;

        if (call->verb == OBJMAPPER_GET) {
                call->expects_fd = !call->ranged && (mode == OP_FDPASS || mode == OP_AUTO);
                call->expects_splice = call->output >= 0 || mode == OP_SPLICE;
        }
        connection->n_fds_expected += call->expects_fd;
        connection->n_splices_expected += call->expects_splice;
        connection->n_streams += call->upload.stream;

        upload_begin(&call->upload, call->head, call->head_size, call->id, call->mode);
        call_move(call, &connection->pending, false);
        TAILQ_INSERT_TAIL(&connection->output, call, output_link);
        call->sending = true;
}

void connection_unexpect(struct connection *connection, struct call *call) {
        connection->n_fds_expected -= call->expects_fd;
        connection->n_splices_expected -= call->expects_splice;
        call->expects_fd = call->expects_splice = false;
}

void connection_progress(struct connection *connection, struct call *call) {
        uint64_t now = connection->client->now;

        connection->progress_usec = now;
        if (call->progress_usec == now)
                return;

        call->progress_usec = now;
        if (call->list == &connection->pending)
                call_move(call, &connection->pending, false);
}

void connection_reply(struct connection *connection, struct call *call) {
        call->replied = true;
        connection->losses = connection->pauses = 0;

        if (call->upload.step == UPLOAD_DONE) {
                settle(connection, call);
                return;
        }

        /* An early answer: a stream is ended by ABORT, anything else is sent to its end. */
        if (call->upload.stream)
                upload_give_up(&call->upload, 0);
        if (call->list == &connection->parked)
                connection_unpark(connection, call);
}

void connection_sent(struct connection *connection, struct call *call) {
        stop_sending(connection, call);
        if (call->replied)
                settle(connection, call);
}

void connection_cut(struct connection *connection, struct call *call) {
        stop_sending(connection, call);
        settle(connection, call);
}

void connection_requeue(struct connection *connection, struct call *call) {
        stop_sending(connection, call);
        release(connection, call);
        call->replied = false;
        call_move(call, call->upload.stream ? &connection->waiting_streams : &connection->waiting, true);
}

/* ---- the socket's life ---- */

static void close_socket(struct connection *connection) {
        if (connection->watched)
                (void) epoll_ctl(connection->client->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
        connection->watched = false;
        connection->fd = close_fd(connection->fd);
        connection->pipe[0] = close_fd(connection->pipe[0]);
        connection->pipe[1] = close_fd(connection->pipe[1]);
        fdpass_queue_free(connection->fds);
        connection->fds = NULL;
        objmapper_object_free(connection->object);
        connection->object = NULL;
        download_end(&connection->download);
        connection->receiving = NULL;
        connection->in_body = connection->output_armed = false;
        connection->input_begin = connection->input_end = 0;
        connection->state = CONNECTION_CLOSED;
}

static void drop_calls(struct call_list *list, struct connection *connection) {
        struct call *call;

        while ((call = TAILQ_FIRST(list))) {
                stop_sending(connection, call);
                release(connection, call);
                call_move(call, NULL, false);
                call_free(call);
        }
}

/* Calls that were told of their time-out, and whose answer will never come. */
static void drop_abandoned(struct connection *connection) {
        for (unsigned i = 0; connection->n_abandoned > 0 && i < CONNECTION_DEPTH_MAX; i++) {
                struct call *call = connection->slot[i];

                if (call && call->abandoned)
                        connection_cut(connection, call);
        }
}

void connection_done(struct connection *connection) {
        drop_calls(&connection->pending, connection);
        drop_calls(&connection->parked, connection);
        drop_calls(&connection->waiting, connection);
        drop_calls(&connection->waiting_streams, connection);
        drop_abandoned(connection);
        close_socket(connection);
        free(connection->input);
        free(connection->path);
}

static void pause_until(struct connection *connection, int refusal) {
        uint64_t pause = PAUSE_MIN << MIN(connection->pauses++, 10U);

        connection->refusal = refusal;
        connection->retry_usec = connection->client->now + MIN(pause, PAUSE_MAX);
        connection->state = CONNECTION_PAUSED;
}

static int make_hello(struct connection *connection) {
        struct proto_message message = {
                .head = { .type = PROTO_HELLO, .id = 1 },
                .has = PROTO_HAS(PROTO_TAG_HELLO),
                .hello = {
                        .min_version = PROTO_VERSION,
                        .max_version = PROTO_VERSION,
                        .mode = (uint8_t) connection->client->mode,
                        .depth = CONNECTION_DEPTH_MAX,
                },
        };
        ssize_t n = proto_message_encode(&message, connection->hello, sizeof(connection->hello));

        if (n < 0)
                return (int) n;

        connection->hello_size = (size_t) n;
        connection->hello_sent = 0;
        return 0;
}

/* What connect(2) said, as an error of ours, or 0: it is to be tried again. */
static int refused(struct connection *connection, int error) {
        objmapper_client *client = connection->client;
        char words[WORDS_MAX];

        /* The daemon's backlog is full. */
        if (error == -EAGAIN) {
                pause_until(connection, error);
                return 0;
        }

        /* A daemon that was there a moment ago may come back. */
        if ((error == -ENOENT || error == -ECONNREFUSED) && was_served(connection)) {
                uint64_t patience = client->timeout_usec > 0 ? client->timeout_usec : REFUSED_USEC;

                if (connection->refused_usec == 0)
                        connection->refused_usec = client->now;
                if (client->now - connection->refused_usec < patience) {
                        pause_until(connection, error);
                        return 0;
                }
        }

        connection->refused_usec = 0;
        connection->losses = connection->pauses = 0;
        explain_connect(words, sizeof(words), connection->path, error);
        if (error == -ENOENT || error == -ENOTDIR || error == -ECONNREFUSED)
                error = -EHOSTDOWN;
        else if (error == -EPERM)
                error = -EACCES;

        return client_fail(client, error, "%s", words);
}

/* A body that the kernel moves is waited for in splice(), which has no flag for a time. Only the wait for the daemon's
 * backlog must not be one. */
static void make_waiting(struct connection *connection) {
        const struct timeval timeout = { .tv_sec = CONNECTION_WAIT_USEC / USEC_PER_SEC };
        int flags = fcntl(connection->fd, F_GETFL);

        connection->may_wait = flags >= 0 &&
                               setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
                                          sizeof(timeout)) == 0 &&
                               fcntl(connection->fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

void connection_never_wait(struct connection *connection) {
        int flags;

        if (!connection->may_wait)
                return;

        connection->may_wait = false;
        flags = fcntl(connection->fd, F_GETFL);
        if (flags >= 0)
                (void) fcntl(connection->fd, F_SETFL, flags | O_NONBLOCK);
}

int connection_open(struct connection *connection) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        objmapper_client *client = connection->client;
        _cleanup_close_ int fd = -EBADF;
        int r, size = SEND_BUFFER;

        assert(connection->fd < 0);
        assert(strlen(connection->path) < sizeof(address.sun_path));

        connection->state = CONNECTION_CLOSED;
        (void) stpcpy(address.sun_path, connection->path);

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return client_fail(client, -errno, "can't make a socket: %s", strerror(errno));

        do
                r = connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ? -errno : 0;
        while (r == -EINTR);
        if (r < 0)
                return refused(connection, r);

        if (connection == &client->connection[PUBLISHER]) /* bodies go this way */
                (void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));

        if (!connection->input)
                connection->input = malloc(INPUT_SIZE);
        if (!connection->input)
                return client_fail(client, -ENOMEM, "out of memory");
        r = fdpass_queue_new(&connection->fds);
        if (r >= 0)
                r = make_hello(connection);
        if (r >= 0) {
                connection->fd = TAKE_FD(fd);
                if (client->watches)
                        r = connection_watch(connection);
        }
        if (r < 0) {
                close_socket(connection);
                return client_fail(client, r, "can't connect: %s", strerror(-r));
        }

        connection->may_wait = false;
        if (connection == &client->connection[READER])
                make_waiting(connection);
        connection->state = CONNECTION_GREETING;
        connection->draining = connection->drained = connection->output_broken = false;
        connection->no_splice = false;
        connection->refused_usec = 0;
        connection->refusal = 0;
        connection->progress_usec = client->now;
        return 0;
}

static int set_watch(struct connection *connection, int operation, bool output) {
        struct epoll_event event = { .events = EPOLLIN | (output ? EPOLLOUT : 0), .data.ptr = connection };

        return epoll_ctl(connection->client->epoll_fd, operation, connection->fd, &event) < 0 ? -errno : 0;
}

int connection_watch(struct connection *connection) {
        int r;

        if (connection->fd < 0 || connection->watched)
                return 0;

        r = set_watch(connection, EPOLL_CTL_ADD, connection->output_armed);
        connection->watched = r >= 0;
        return r;
}

void connection_arm_output(struct connection *connection, bool on) {
        if (connection->fd < 0 || connection->output_armed == on)
                return;

        if (!connection->watched || set_watch(connection, EPOLL_CTL_MOD, on) >= 0)
                connection->output_armed = on;
}

/* ---- its end ---- */

static void fail_waiting(struct connection *connection, int error, const char *words) {
        struct call *call;

        while ((call = first_waiting(connection))) {
                (void) call_fail(call, error, "%s", words);
                tell(connection, call);
        }

        if (connection->wanted)
                connection->wanted_error = error;
        connection->wanted = false;
}

/* Ends or requeues what was being asked; error: 0 when it may be asked again. */
static void end_calls(struct connection *connection, struct call_list *list, int error, const char *words) {
        struct call *call;

        /* The newest first, as each goes to the head of the waiting ones. */
        while ((call = TAILQ_LAST(list, call_list))) {
                int r = error;

                if (!call->replied) {
                        if (r == 0)
                                r = call_check_retry(call, connection->drained);
                        else if (verb_changes(call->verb) && upload_acted_on(&call->upload))
                                r = -EINPROGRESS;
                        if (r == 0) {
                                connection_requeue(connection, call);
                                continue;
                        }
                        (void) call_fail(call, r, "%s%s%s",
                                         r == -EINPROGRESS || r == -ECONNRESET ? error_meaning(r) : "",
                                         r == -EINPROGRESS || r == -ECONNRESET ? ": " : "", words);
                }
                connection_cut(connection, call);
        }
}

static void end(struct connection *connection, int error, const char *words) {
        struct call *receiving;

        drop_abandoned(connection);

        receiving = connection->receiving;
        if (receiving && connection->download.error < 0) { /* the rest would have had no place, either */
                call_fail_body(receiving, connection->download.error);
                connection_cut(connection, receiving);
        } else if (receiving && connection->download.kind == DOWNLOAD_OUTPUT)
                receiving->output_begun = connection->download.left < connection->download.size;

        end_calls(connection, &connection->parked, error, words);
        end_calls(connection, &connection->pending, error, words);
        close_socket(connection);

        if (error == 0 && ++connection->losses > LOSSES_MAX)
                error = -EHOSTDOWN;
        if (error < 0)
                fail_waiting(connection, error, words);

        if (!is_wanted(connection))
                connection->losses = connection->pauses = 0;
        else if (connection->losses > 1) /* the first time it may have been a restart */
                pause_until(connection, 0);
}

void connection_lost(struct connection *connection) {
        char words[WORDS_MAX];

        explain_lost(words, sizeof(words), connection->path);
        end(connection, 0, words);
}

void connection_fail(struct connection *connection, int error, const char *format, ...) {
        char words[WORDS_MAX];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(words, sizeof(words), format, ap);
        va_end(ap);

        end(connection, error, words);
}

/* ---- time ---- */

static void time_out(struct connection *connection, struct call *call) {
        struct upload *upload = &call->upload;
        bool sent = upload->step != UPLOAD_HEAD || upload->sent > 0;
        bool unknown = verb_changes(call->verb) &&
                       (!upload->stream || (upload->step >= UPLOAD_END && !upload->gave_up));

        if (!call->replied)
                (void) call_fail(call, -ETIMEDOUT, "no answer from %s in %.3g s%s", connection->path,
                                 (double) connection->client->timeout_usec / USEC_PER_SEC,
                                 !sent     ? ": nothing was asked"
                                 : unknown ? ": whether it was done is unknown"
                                           : "");

        if (!sent) {
                connection_cut(connection, call);
                return;
        }

        /* The caller's body must not be touched any more, and an inline one can't be left unfinished. */
        if (upload->step == UPLOAD_HEAD && upload->body_size > 0) {
                connection_cut(connection, call);
                connection_lost(connection);
                return;
        }
        if (upload->stream)
                upload_give_up(upload, 0);
        if (connection->receiving == call) {
                objmapper_object_free(connection->object);
                connection->object = NULL;
                download_drop(&connection->download, -ETIMEDOUT);
        }

        call->abandoned = true;
        connection->n_abandoned++;
        tell(connection, call);

        /* Too many answers outstanding: this daemon is stuck. */
        if (connection->n_abandoned >= (connection->depth + 1) / 2)
                connection_lost(connection);
}

static uint64_t waiting_deadline(const struct connection *connection, const struct call *call) {
        return MAX(call->progress_usec, connection->progress_usec) + connection->client->timeout_usec;
}

void connection_end_overdue(struct connection *connection) {
        objmapper_client *client = connection->client;
        struct call *call;

        if (client->timeout_usec == 0)
                return;

        while ((call = TAILQ_FIRST(&connection->pending)) &&
               call->progress_usec + client->timeout_usec <= client->now)
                time_out(connection, call);

        while ((call = first_waiting(connection)) && waiting_deadline(connection, call) <= client->now) {
                char words[WORDS_MAX];

                if (connection->refusal == -ENOENT || connection->refusal == -ECONNREFUSED) {
                        explain_connect(words, sizeof(words), connection->path, connection->refusal);
                        (void) call_fail(call, -EHOSTDOWN, "%s", words);
                } else
                        (void) call_fail(call, -ETIMEDOUT, "no answer from %s in %.3g s: nothing was asked",
                                         connection->path, (double) client->timeout_usec / USEC_PER_SEC);
                tell(connection, call);
        }
}

void connection_tend(struct connection *connection) {
        objmapper_client *client = connection->client;
        bool due;

        /* Everything is answered here, and nothing more will be begun. */
        if (connection->draining && connection_is_idle(connection))
                connection_lost(connection);

        due = connection->state == CONNECTION_CLOSED ||
              (connection->state == CONNECTION_PAUSED && connection->retry_usec <= client->now);
        if (due && is_wanted(connection)) {
                int r = connection_open(connection);

                if (r < 0)
                        fail_waiting(connection, r, client->words);
        }
}

uint64_t connection_deadline(const struct connection *connection) {
        const objmapper_client *client = connection->client;
        const struct call *waiting = first_waiting(connection), *pending = TAILQ_FIRST(&connection->pending);
        uint64_t deadline = UINT64_MAX;

        if ((is_wanted(connection) && connection->state == CONNECTION_CLOSED) || connection->wanted_error < 0)
                return 0;
        if (is_wanted(connection) && connection->state == CONNECTION_PAUSED)
                deadline = connection->retry_usec;

        if (client->timeout_usec > 0) {
                if (pending)
                        deadline = MIN(deadline, pending->progress_usec + client->timeout_usec);
                if (waiting)
                        deadline = MIN(deadline, waiting_deadline(connection, waiting));
        }

        return deadline;
}
