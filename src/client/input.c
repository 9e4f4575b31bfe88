/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "client.h"
#include "connection.h"
#include "macro.h"
#include "plain.h"
#include "transfer.h"
#include "words.h"

#define INPUT_SIZE      CONNECTION_INPUT_SIZE
#define ROUNDS_MAX      64                   /* reads in one turn */
#define SPLICE_MAX      ((size_t) 1 << 20)   /* bytes of one splice, and of the pipe where that is allowed */
#define LARGE_MIN       (UINT64_C(32) << 10) /* bytes of a body that are worth a read of their own */
#define AFTER_LARGE_MAX ((size_t) 4 << 10)
#define LOOK_USEC       40                  /* no longer than it takes to fall asleep and be woken */
#define LOST_USEC       5                   /* of looking in vain, for each time that it is not tried then */
#define UNWANTED_MAX    (UINT64_C(1) << 20) /* bytes of a body that is received though nobody wants it */

static struct call *find_call(const struct connection *connection, uint64_t id) {
        struct call *call = connection->slot[id % CONNECTION_DEPTH_MAX];

        return call && call->id == id ? call : NULL;
}

/* The daemon's remark, for people. */
static const char *remark(char *buffer, size_t size, const struct proto_message *message) {
        return message->text.size > 0 ? printable(buffer, size, message->text.data, message->text.size)
                                      : "no reason is given";
}

static int take_notice(struct connection *connection, const struct proto_message *message) {
        char text[PROTO_TEXT_MAX + 1];

        switch (message->head.status) {
        case PROTO_DRAINING:
                connection->draining = true;
                return 0;
        case PROTO_DRAINED:
                connection->draining = connection->drained = true;
                return 0;
        case PROTO_BUSY:
                connection_fail(connection, -EBUSY, "the daemon behind %s takes no more connections: %s",
                                connection->path, remark(text, sizeof(text), message));
                return -EBUSY;
        case PROTO_BAD_REQUEST:
                connection_fail(connection, -EPROTO, "the daemon behind %s gives this connection up: %s",
                                connection->path, remark(text, sizeof(text), message));
                return -EPROTO;
        default: /* of a later version: for those who know it */
                return 0;
        }
}

static int take_greeting(struct connection *connection, const struct proto_message *message) {
        const struct proto_limits *limits = &message->limits;
        bool agreed = limits->min_version <= PROTO_VERSION && limits->version >= PROTO_VERSION;
        char text[PROTO_TEXT_MAX + 1];
        int r;

        if (message->head.type != (PROTO_HELLO | PROTO_REPLY)) {
                connection_fail(connection, -EPROTO, "what listens on %s does not greet", connection->path);
                return -EPROTO;
        }

        if (message->head.status == PROTO_UNSUPPORTED ||
            (message->head.status == PROTO_OK && limits->version != PROTO_VERSION)) {
                connection_fail(connection, -EPROTO,
                                "the daemon behind %s speaks the versions %u to %u of the protocol, this "
                                "library %u%s",
                                connection->path, limits->min_version, limits->version, PROTO_VERSION,
                                agreed ? "" : ": update the older of the two");
                return -EPROTO;
        }

        r = status_to_errno(message->head.status);
        if (r < 0) {
                connection_fail(connection, r, "the daemon behind %s does not take this connection: %s (%s)",
                                connection->path, error_meaning(r), remark(text, sizeof(text), message));
                return r;
        }

        connection->depth = MAX(limits->depth, 1U);
        connection->depth = MIN(connection->depth, (unsigned) CONNECTION_DEPTH_MAX);
        connection->streams = MAX(limits->streams, 1U);
        connection->n_free = connection->depth;
        for (unsigned i = 0; i < connection->depth; i++)
                connection->free_slot[i] = (uint16_t) (connection->depth - 1 - i);
        connection->state = CONNECTION_OPEN;
        return 0;
}

static void begin_body(struct connection *connection,
                       struct call *call,
                       enum download_kind kind,
                       uint64_t size) {
        connection->receiving = call;
        connection->in_body = true;
        connection->after_large = kind == DOWNLOAD_MEMORY && size >= LARGE_MIN;
        download_begin(&connection->download, kind, size, call ? call->output : -EBADF, connection->object);
}

/* A call has its answer. r: of what it was to be given; object: consumed. */
static void answer(struct connection *connection, struct call *call, objmapper_object *object, int r) {
        if (!call->abandoned) {
                if (call->error == 0 && r < 0)
                        call_fail_body(call, r);
                if (call->error == 0)
                        call->object = TAKE_PTR(object);
        }
        objmapper_object_free(object);
        connection_reply(connection, call);
}

/* The same where all of a body is here already. */
static void answer_whole(struct connection *connection, struct call *call, size_t size) {
        objmapper_object *object = TAKE_PTR(connection->object);
        int r = object_set_body(object, connection->input + connection->input_begin, size);

        connection->input_begin += size;
        connection->after_large = size >= LARGE_MIN;
        answer(connection, call, object, r);
}

/* A passed descriptor, or that it was lost. 1: the call is asked again. */
static int take_fd(struct connection *connection, struct call *call, objmapper_object *object, int fd) {
        int r;

        if (fd < 0) {
                if (!connection->client->fd_fallback)
                        return -ENOLINK;

                call->mode = OP_COPY;
                objmapper_object_free(object);
                connection->object = NULL;
                connection_requeue(connection, call);
                return 1;
        }

        object->mode = OP_FDPASS;
        object->body_size = object->info.size;
        if (call->output < 0) {
                object->fd = fd;
                return 0;
        }

        r = transfer_file(fd, 0, object->body_size, call->output);
        (void) client_read_clock(connection->client);
        if (r < 0)
                call_fail_body(call, r);

        return r;
}

static bool range_fits(const struct call *call, const struct proto_message *message) {
        bool ranged = message->has & PROTO_HAS(PROTO_TAG_RANGE);

        if (!call->ranged)
                return !ranged;

        return ranged && message->range.offset == call->range.offset &&
               message->range.size <= call->range.size;
}

/* What was asked for. 0: a body comes or the call is answered; or an error, after which fd is still owned by
 * the caller. */
static int take_success(struct connection *connection,
                        struct call *call,
                        const struct proto_message *message,
                        int *fd) {
        const struct proto_head *head = &message->head;
        enum download_kind kind = DOWNLOAD_NOWHERE;
        objmapper_object *object;
        int r;

        r = object_new(&object, TAKE_PTR(call->reused), call->uri, message);
        if (r < 0) {
                call->error = r;
                begin_body(connection, call, DOWNLOAD_NOWHERE, head->body_size);
                return 0;
        }
        connection->object = object;

        if (head->fd_count > 0) {
                int output = call->output;

                r = take_fd(connection, call, object, *fd);
                if (r > 0)
                        return 0;
                if (r == 0 && output < 0)
                        *fd = -EBADF;
                call->error = r;
        } else if (head->status == PROTO_OK &&
                   (call->verb == OBJMAPPER_LIST || call->verb == OBJMAPPER_STATS)) {
                object->page = true;
                object->body_size = head->body_size;
                kind = DOWNLOAD_MEMORY;
        } else if (head->status == PROTO_OK && call->verb == OBJMAPPER_GET) {
                object->mode = head->mode;
                object->body_size = head->body_size;
                kind = call->output >= 0         ? DOWNLOAD_OUTPUT
                       : head->mode == OP_SPLICE ? DOWNLOAD_MEMFD
                                                 : DOWNLOAD_MEMORY;
                if (kind == DOWNLOAD_MEMORY &&
                    head->body_size <= connection->input_end - connection->input_begin) {
                        answer_whole(connection, call, (size_t) head->body_size);
                        return 0;
                }
        }

        begin_body(connection, call, kind, head->body_size);
        return 0;
}

/* The head of a frame, with its descriptor. 0, or -errno: the connection was given up. */
static int take_message(struct connection *connection, const struct proto_message *message) {
        const struct proto_head *head = &message->head;
        _cleanup_close_ int fd = -EBADF;
        struct call *call;
        int r;

        if (head->fd_count > 0) {
                fd = fdpass_queue_take(connection->fds, head->fd_index, head->fd_count);
                if (fd == -EBADMSG) {
                        connection_fail(connection, -EPROTO,
                                        "the daemon behind %s counts its descriptors wrong",
                                        connection->path);
                        return -EPROTO;
                }
        }

        if (head->id == 0) {
                r = head->type == PROTO_NOTICE ? take_notice(connection, message) : 0;
                if (r == 0)
                        begin_body(connection, NULL, DOWNLOAD_NOWHERE, head->body_size);
                return r;
        }

        if (connection->state == CONNECTION_GREETING) {
                r = take_greeting(connection, message);
                if (r == 0)
                        begin_body(connection, NULL, DOWNLOAD_NOWHERE, head->body_size);
                return r;
        }

        /* A put that was refused before its stream was opened: so are its pieces and its end, which may have been
         * on their way. */
        if (head->type == (PROTO_DATA | PROTO_REPLY) || head->type == (PROTO_END | PROTO_REPLY) ||
            head->type == (PROTO_ABORT | PROTO_REPLY)) {
                begin_body(connection, NULL, DOWNLOAD_NOWHERE, head->body_size);
                return 0;
        }

        call = find_call(connection, head->id);
        if (!call || call->replied || head->type != (call->verb | PROTO_REPLY) ||
            (head->fd_count > 0 && (call->verb != OBJMAPPER_GET || call->ranged)) ||
            (head->status == PROTO_NOT_MODIFIED && !call->revalidates)) {
                connection_fail(connection, -EPROTO,
                                "the daemon behind %s answers what was not asked (%s, id %llu)",
                                connection->path, proto_type_name(head->type & (uint16_t) ~PROTO_REPLY),
                                (unsigned long long) head->id);
                return -EPROTO;
        }
        connection_unexpect(connection, call);

        if (call->abandoned) {
                begin_body(connection, call, DOWNLOAD_NOWHERE, head->body_size);
                return 0;
        }

        call->error = status_to_errno(head->status);
        if (call->error < 0) {
                if (message->text.size > 0) {
                        char text[PROTO_TEXT_MAX + 1];

                        free(call->text);
                        call->text = strdup(printable(text, sizeof(text), message->text.data,
                                                      message->text.size));
                }
                begin_body(connection, call, DOWNLOAD_NOWHERE, head->body_size);
                return 0;
        }

        if (call->verb == OBJMAPPER_GET && head->status == PROTO_OK && !range_fits(call, message)) {
                connection_fail(connection, -EPROTO,
                                "the daemon behind %s sends another range than was asked for",
                                connection->path);
                return -EPROTO;
        }

        if (call->verb == OBJMAPPER_PUT && !upload_acted_on(&call->upload)) {
                connection_fail(connection, -EPROTO,
                                "the daemon behind %s says \"done\" before it has the whole body",
                                connection->path);
                return -EPROTO;
        }

        return take_success(connection, call, message, &fd);
}

/* The body, if there was one, is here: the call is answered. */
static void end_body(struct connection *connection) {
        struct call *call = connection->receiving;
        objmapper_object *object = TAKE_PTR(connection->object);
        int r;

        connection->in_body = false;
        connection->receiving = NULL;

        r = object ? download_finish(&connection->download, object) : 0;
        download_end(&connection->download);
        if (call)
                answer(connection, call, object, r);
        else
                objmapper_object_free(object);
}

/* Bytes of a body have found, or not found, their place. Whether the connection goes on. */
static bool body_moved(struct connection *connection) {
        struct download *download = &connection->download;
        struct call *call = connection->receiving;

        if (download->left == 0) {
                end_body(connection);
                return true;
        }
        if (call)
                connection_progress(connection, call);

        /* Nobody wants the rest, and it is long. */
        if (download->error < 0 && download->left > UNWANTED_MAX) {
                connection_lost(connection);
                return false;
        }

        return true;
}

static void fail_descriptors(struct connection *connection) {
        connection_fail(connection, -EPROTO, "the daemon behind %s sends too many descriptors",
                        connection->path);
}

/* Takes what was received. Whether the connection goes on. */
static bool take_input(struct connection *connection) {
        for (;;) {
                const uint8_t *p = connection->input + connection->input_begin;
                size_t size = connection->input_end - connection->input_begin;
                struct proto_message message;
                struct proto_head head;
                const char *what = "";

                if (connection->in_body) {
                        size_t n = (size_t) MIN((uint64_t) size, connection->download.left);

                        if (n == 0 && connection->download.left > 0) {
                                if (connection->receiving)
                                        connection_progress(connection, connection->receiving);
                                return true;
                        }
                        connection->input_begin += n;
                        download_take(&connection->download, p, n);
                        if (n > 0 && connection->download.kind == DOWNLOAD_OUTPUT)
                                (void) client_read_clock(connection->client);
                        if (!body_moved(connection))
                                return false;
                        continue;
                }

                if (size < PROTO_HEAD_FIXED)
                        return true;

                head.head_size = load_le32(p);
                if (head.head_size <= size && proto_plain_reply_decode(p, head.head_size, &message)) {
                        connection->input_begin += head.head_size;
                        if (take_message(connection, &message) < 0)
                                return false;
                        continue;
                }

                if (proto_head_decode(p, &head) < 0) {
                        connection_fail(connection, -EPROTO, "what listens on %s does not speak the protocol",
                                        connection->path);
                        return false;
                }
                if (size < head.head_size)
                        return true;

                if (proto_message_decode(p, head.head_size, &message, &what) < 0) {
                        connection_fail(connection, -EPROTO, "the daemon behind %s sends a bad %s: %s",
                                        connection->path,
                                        proto_type_name(head.type & (uint16_t) ~PROTO_REPLY), what);
                        return false;
                }
                connection->input_begin += head.head_size;
                if (take_message(connection, &message) < 0)
                        return false;
        }
}

/* How much may be read: where a body is to stay out of memory no byte of it is, and behind a large one there is most
 * likely another, whose bytes are read to their own place. */
static size_t wanted_input(const struct connection *connection) {
        size_t size = connection->input_end - connection->input_begin;
        struct proto_head head;

        if (connection->in_body ||
            (connection->n_splices_expected == 0 && (!connection->after_large || size >= AFTER_LARGE_MAX)))
                return INPUT_SIZE - connection->input_end;
        if (connection->n_splices_expected == 0)
                return AFTER_LARGE_MAX - size;
        if (size < PROTO_HEAD_FIXED)
                return PROTO_HEAD_FIXED - size;

        (void) proto_head_decode(connection->input + connection->input_begin, &head);
        return head.head_size - size;
}

/* Reads into the input buffer, or into a body's own place. Returns the bytes, 0 at the end, or -errno. */
static ssize_t read_socket(struct connection *connection) {
        struct download *download = &connection->download;
        /* Where none is to come the kernel need not look for one. */
        bool takes_fds = connection->n_fds_expected > 0;
        struct fdpass_fds fds, *ret_fds = takes_fds ? &fds : NULL;
        uint8_t *to;
        size_t room = 0;
        ssize_t n;

        if (connection->input_begin == connection->input_end)
                connection->input_begin = connection->input_end = 0;
        else if (connection->input_begin > 0) {
                memmove(connection->input, connection->input + connection->input_begin,
                        connection->input_end - connection->input_begin);
                connection->input_end -= connection->input_begin;
                connection->input_begin = 0;
        }

        if (connection->in_body)
                room = download_room(download, &to);

        if (room > 0)
                n = fdpass_read(connection->fd, to, (size_t) MIN((uint64_t) room, download->left), ret_fds);
        else
                n = fdpass_read(connection->fd, connection->input + connection->input_end,
                                wanted_input(connection), ret_fds);
        if (n <= 0)
                return n;

        if (takes_fds && fdpass_queue_push(connection->fds, &fds) < 0)
                return -EBADMSG;

        if (room > 0)
                download_received(download, (size_t) n);
        else
                connection->input_end += (size_t) n;

        return n;
}

/* Whether the body is moved by the kernel. Not while a descriptor may be on its way: the kernel would drop one
 * that came with bytes of the body. */
static bool may_splice(const struct connection *connection) {
        return connection->in_body && !connection->no_splice && connection->n_fds_expected == 0 &&
               (connection->download.kind == DOWNLOAD_MEMFD || connection->download.kind == DOWNLOAD_OUTPUT);
}

/* As read_socket(), through a pipe. wait: for something, CONNECTION_WAIT_USEC at most; only where the socket may_wait. */
static ssize_t splice_socket(struct connection *connection, bool wait) {
        struct download *download = &connection->download;
        size_t size = (size_t) MIN((uint64_t) SPLICE_MAX, download->left);
        ssize_t n;

        if (connection->pipe[0] < 0) {
                if (pipe2(connection->pipe, O_CLOEXEC) < 0) {
                        connection->pipe[0] = connection->pipe[1] = -EBADF;
                        connection->no_splice = true;
                        return -EINTR;
                }
                (void) fcntl(connection->pipe[1], F_SETPIPE_SZ, (int) SPLICE_MAX);
        }

        n = splice(connection->fd, NULL, connection->pipe[1], NULL, size,
                   SPLICE_F_MOVE | (wait ? 0 : SPLICE_F_NONBLOCK));
        if (n < 0 && errno == EINVAL) {
                connection->no_splice = true;
                return -EINTR;
        }
        if (n < 0)
                return -errno;
        if (n == 0)
                return 0;

        download_take_pipe(download, connection->pipe[0], (size_t) n);
        if (download->error < 0) { /* bytes may be left in it */
                connection->pipe[0] = close_fd(connection->pipe[0]);
                connection->pipe[1] = close_fd(connection->pipe[1]);
        }

        return n;
}

static ssize_t receive_once(struct connection *connection, bool wait) {
        return may_splice(connection) ? splice_socket(connection, wait) : read_socket(connection);
}

void connection_take(struct connection *connection, size_t size, struct fdpass_fds *fds) {
        connection->input_begin = 0;
        connection->input_end = size;
        connection->progress_usec = client_read_clock(connection->client);
        if (fdpass_queue_push(connection->fds, fds) < 0)
                fail_descriptors(connection);
        else
                (void) take_input(connection);
}

static bool expects_input(const struct connection *connection) {
        return connection->in_body || connection->n_free < connection->depth ||
               connection->state == CONNECTION_GREETING;
}

bool connection_can_wait(const struct connection *connection) {
        return connection->fd >= 0 && expects_input(connection) && !connection_has_output(connection);
}

/* Of many answers the first come while the daemon is at work on the others, and who sleeps meanwhile finds more of them. */
static bool awaits_one(const struct connection *connection) {
        return connection->in_body || connection->depth - connection->n_free == 1;
}

/* Most of the time a few microseconds are won. One that has to share its processor may lose thousands. */
static bool is_late(struct connection *connection, uint64_t begun_usec, uint64_t now_usec) {
        uint64_t took = now_usec - begun_usec;

        if (took <= LOOK_USEC)
                return false;

        connection->n_late = (uint16_t) MIN(took / LOST_USEC, (uint64_t) UINT16_MAX);
        return true;
}

static bool look_again(struct connection *connection, uint64_t *begun_usec) {
        if (*begun_usec == 0) {
                if (connection->n_late > 0) {
                        connection->n_late--;
                        return false;
                }
                *begun_usec = clock_usec(CLOCK_MONOTONIC);
        } else if (is_late(connection, *begun_usec, clock_usec(CLOCK_MONOTONIC)))
                return false;

        (void) sched_yield();
        return true;
}

ssize_t connection_look(struct connection *connection,
                        ssize_t (*receive)(void *userdata),
                        void *userdata,
                        uint64_t *ret_begun_usec) {
        uint64_t begun_usec = 0;
        ssize_t n = -EAGAIN;

        while (n == -EAGAIN && look_again(connection, &begun_usec))
                n = receive(userdata);
        if (n != -EAGAIN)
                (void) is_late(connection, begun_usec, clock_usec(CLOCK_MONOTONIC));

        *ret_begun_usec = begun_usec;
        return n;
}

uint64_t connection_left(uint64_t wait_usec, uint64_t begun_usec) {
        if (begun_usec == 0 || wait_usec == UINT64_MAX)
                return wait_usec;

        return wait_usec - MIN(wait_usec, clock_usec(CLOCK_MONOTONIC) - begun_usec);
}

/* Not in a recv() that blocks: that is woken when the daemon takes the request from its socket, too, as a place to write to
 * is free then, and has gone to sleep again before the answer comes. */
void connection_wait(const struct connection *connection, uint64_t usec) {
        struct pollfd pollfd = { .fd = connection->fd, .events = POLLIN };

        /* Whoever has given up all descriptors to come, by a limit of 0, is refused, and has to look from time to time. */
        if (poll(&pollfd, 1, clock_wait_msec(usec)) < 0 && errno != EINTR)
                (void) usleep((useconds_t) MIN(usec, USEC_PER_MSEC));
}

static ssize_t receive_now(void *userdata) {
        return receive_once(userdata, false);
}

/* As receive_once(), where nothing is there: looks again, and waits. */
static ssize_t await(struct connection *connection, uint64_t wait_usec) {
        uint64_t begun_usec;

        if (awaits_one(connection)) {
                ssize_t n = connection_look(connection, receive_now, connection, &begun_usec);

                if (n != -EAGAIN)
                        return n;
                wait_usec = connection_left(wait_usec, begun_usec);
        }

        if (may_splice(connection) && connection->may_wait && wait_usec >= CONNECTION_WAIT_USEC)
                return receive_once(connection, true);
        connection_wait(connection, wait_usec);
        return receive_once(connection, false);
}

void connection_receive(struct connection *connection, uint64_t wait_usec) {
        for (unsigned round = 0; round < ROUNDS_MAX && connection->fd >= 0; round++) {
                size_t before = connection->input_end - connection->input_begin;
                ssize_t n = receive_once(connection, false);

                if (n == -EAGAIN && wait_usec > 0) {
                        n = await(connection, wait_usec);
                        wait_usec = 0;
                }
                if (n == -EINTR)
                        continue;
                if (n == -EAGAIN)
                        return;
                if (n == -EBADMSG) {
                        fail_descriptors(connection);
                        return;
                }
                if (n <= 0) { /* the end, or ECONNRESET when it left requests unread */
                        connection_lost(connection);
                        return;
                }

                wait_usec = 0;
                connection->progress_usec = client_read_clock(connection->client);

                /* Bytes that are not in the buffer went to the body's own place. */
                if (connection->input_end - connection->input_begin == before && !body_moved(connection))
                        return;
                if (!take_input(connection))
                        return;
                if (!expects_input(connection))
                        return;
        }
}
