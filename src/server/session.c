/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "lines.h"
#include "log.h"
#include "macro.h"
#include "message-ids.h"
#include "output.h"
#include "request.h"
#include "server-internal.h"
#include "worker.h"

#define FRAMES_PER_TURN 128
#define BODIES_AHEAD    4           /* bodies' files that are open while another one is sent */
#define LOOKUPS_MAX     32          /* gets of a session that may wait for the disk at once */
#define OUTPUT_CROWDED  (64U << 10) /* bytes of output of a session when all of them have much */

static_assert(FRAMES_PER_TURN <= OUTPUT_REPLIES_MAX, "as request_plain_gets() wants it");

static_assert(offsetof(struct session, limits.pipeline_max) <= 3 * LINE_SIZE,
              "what a request touches is on three lines");

static uint32_t epoll_mask(const struct session *session, uint32_t events) {
        return events == EPOLLIN && session->hears_edges ? EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET : events;
}

/* What ends a read before all is read: descriptors, and credentials that change, which a unit of the sockets may ask for. */
static bool refuse_extras(int fd) {
        static const int options[] = { SO_PASSRIGHTS, SO_PASSCRED, SO_PASSPIDFD };

        for (size_t i = 0; i < ARRAY_SIZE(options); i++)
                if (setsockopt(fd, SOL_SOCKET, options[i], &(int){ 0 }, sizeof(int)) < 0)
                        return false;

        return true;
}

static void attach(struct mail *mail) {
        struct session *session = container_of(mail, struct session, mail);
        struct worker *worker = session->worker;

        session->input_usec = worker->now_usec = clock_usec(CLOCK_MONOTONIC);
        session->events = EPOLLIN;
        session->reads_whole = refuse_extras(session->fd);
        session->next = worker->sessions;
        if (session->next)
                session->next->previous = session;
        worker->sessions = session;
        count_add(&worker->counters.sessions_total, 1);

        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, session->fd,
                      &(struct epoll_event){ .events = EPOLLIN, .data.ptr = session }) < 0) {
                session_drop(session, -errno, "the socket can't be watched");
                return;
        }

        worker_watch_timeout(worker, HELLO_TIMEOUT_USEC);
        worker_watch_timeout(worker, session->limits.idle_timeout_usec);
        worker_watch_timeout(worker, session->limits.write_timeout_usec);

        if (worker->draining)
                session_finish(session, PROTO_DRAINING, "the server is stopping");
}

int session_new(struct session **ret,
                struct worker *worker,
                int fd,
                struct user *user,
                const struct access_peer *peer,
                enum access_role role,
                const struct session_limits *limits) {
        struct session *session;

        assert(ret);
        assert(fd >= 0);

        session = lines_alloc(sizeof(*session) + peer->n_groups * sizeof(session->groups[0]));
        if (!session)
                return -ENOMEM;

        *session = (struct session){
                .worker = worker,
                .server = worker->server,
                .user = user,
                .mail.deliver = attach,
                .fd = fd,
                .peer = *peer,
                .role = role,
                .limits = *limits,
                .depth = 1,
                .fds_per_batch = FDPASS_MAX_FDS,
        };
        session->peer.groups = session->groups;
        if (peer->n_groups > 0)
                memcpy(session->groups, peer->groups, peer->n_groups * sizeof(session->groups[0]));

        *ret = session;
        return 0;
}

void session_deal(struct session *session) {
        mailbox_post(session->worker->mailbox, &session->mail);
}

void session_free(struct session *session) {
        free(session->input); /* until now: a request that is being handled points into it */
        free(session);
}

void session_close(struct session *session) {
        struct worker *worker = session->worker;

        if (session->dead)
                return;

        session->dead = true;
        session->closing = true;
        session->body_put = NULL;

        while (session->requests) {
                struct request *request = session->requests;

                session->requests = request->next;
                request->session = NULL;
                request->previous = request->next = NULL;
                request->orphaned(request);
        }

        output_discard(session);
        session->fd = close_fd(session->fd); /* epoll forgets it by itself */

        if (session->previous)
                session->previous->next = session->next;
        else
                worker->sessions = session->next;
        if (session->next)
                session->next->previous = session->previous;

        session->next_dead = worker->dead;
        worker->dead = session;
        __atomic_fetch_sub(&worker->n_sessions, 1, __ATOMIC_RELAXED);
        server_forget_session(session->server, session->user);
        worker_check_drained(worker);
}

void session_drop(struct session *session, int error, const char *reason) {
        if (session->dead)
                return;

        count_add(&session->worker->counters.sessions_dropped, 1);
        server_log_peer(&session->server->dropped_limit, error, MESSAGE_SESSION_DROPPED, &session->peer,
                        "Dropped a session", reason);
        session_close(session);
}

static void add_notice(struct session *session, uint16_t status, const char *text) {
        struct proto_message notice = reply_message(PROTO_NOTICE, 0, status);

        notice.head.type = PROTO_NOTICE;
        reply_set_text(&notice, text);
        output_add(session, &notice);
}

/* Nothing more is read. What was begun is answered; a put that is not whole was not begun. */
static void stop_reading(struct session *session) {
        session->closing = true;
        session->body_put = NULL;
        session->body_left = 0;
        session->input_size = 0;
        put_abort_all(session);
}

void session_break(struct session *session, int error, const char *reason) {
        if (session->broken != 0)
                return;

        session->broken = error;
        session->broken_reason = reason;
        session->closing = true;
        worker_queue_turn(session->worker, session);
}

void session_finish(struct session *session, uint16_t status, const char *text) {
        if (session->closing)
                return;

        add_notice(session, status, text);
        session->draining = status == PROTO_DRAINING;
        stop_reading(session);
        worker_queue_turn(session->worker, session);
}

/* The current frame's body is complete. */
static void finish_body(struct session *session) {
        struct put *put = TAKE_PTR(session->body_put);

        if (put)
                put_frame_done(put);
}

static void handle_hello(struct session *session, const struct proto_message *message) {
        const struct proto_hello *hello = &message->hello;
        struct proto_message reply = reply_message(PROTO_HELLO, message->head.id, PROTO_OK);
        struct server *server = session->server;
        uint32_t depth = session->limits.pipeline_max;

        reply.has |= PROTO_HAS(PROTO_TAG_LIMITS);
        reply.limits = (struct proto_limits){
                .version = PROTO_VERSION,
                .min_version = PROTO_VERSION,
                .role = session->role == ACCESS_PUBLISHER,
                .store_id = storage_get_id(server->storage),
                .streams = session->limits.streams_max,
                .uri_max = PROTO_URI_MAX,
                .metadata_max = PROTO_METADATA_MAX,
                .object_max = session->limits.object_max,
                .inline_max = session->limits.inline_max,
                .fds_in_flight = session->limits.fds_in_flight_max,
                .idle_usec = session->limits.idle_timeout_usec,
        };

        if (hello->min_version > PROTO_VERSION || hello->max_version < PROTO_VERSION) {
                reply.head.status = PROTO_UNSUPPORTED;
                reply_set_text(&reply, "no protocol version in common");
                output_add(session, &reply);
                stop_reading(session);
                return;
        }

        session->greeted = true;
        session->input_usec = session->worker->now_usec;
        session->ordered = hello->flags & PROTO_HELLO_ORDERED;
        session->mode = hello->mode == OP_DEFAULT ? OP_AUTO : hello->mode;
        session->depth = hello->depth == 0 ? depth : MIN(depth, hello->depth);
        session->fds_per_batch = hello->fds_per_batch == 0 ? FDPASS_MAX_FDS
                                                           : MIN(FDPASS_MAX_FDS, hello->fds_per_batch);

        reply.limits.mode = session->mode;
        reply.limits.flags = session->ordered ? PROTO_HELLO_ORDERED : 0;
        reply.limits.features = hello->features & PROTO_FEATURES;
        reply.limits.depth = session->depth;
        reply.limits.fds_per_batch = session->fds_per_batch;
        output_add(session, &reply);
}

static const struct {
        enum access_verb verb;
        void (*handle)(struct session *session, const struct proto_message *message);
} requests[] = {
        [PROTO_GET] = { ACCESS_GET, request_get },
        [PROTO_STAT] = { ACCESS_STAT, request_stat },
        [PROTO_SET_METADATA] = { ACCESS_SET_METADATA, request_set_metadata },
        [PROTO_REMOVE] = { ACCESS_REMOVE, request_remove },
        [PROTO_PURGE] = { ACCESS_PURGE, request_purge },
        [PROTO_LIST] = { ACCESS_LIST, request_list },
        [PROTO_STATS] = { ACCESS_STATS, request_stats },
};

static void handle_request(struct session *session, const struct proto_message *message) {
        uint16_t type = message->head.type;
        char text[PROTO_TEXT_MAX];

        if (type < PROTO_NOTICE)
                count_add(&session->worker->counters.requests[type], 1);

        switch (type) {
        case PROTO_HELLO:
                if (session->greeted)
                        request_refuse(session, type, message->head.id, PROTO_BAD_REQUEST,
                                       "hello: a second one");
                else
                        handle_hello(session, message);
                return;
        case PROTO_PUT:
                session->body_put = request_put(session, message);
                break;
        case PROTO_DATA:
                session->body_put = request_data(session, message);
                break;
        case PROTO_END:
                request_end_stream(session, message);
                return;
        case PROTO_ABORT:
                request_abort_stream(session, message);
                return;
        default:
                if (type >= ARRAY_SIZE(requests) || !requests[type].handle)
                        request_refuse(session, type, message->head.id, PROTO_UNSUPPORTED,
                                       "a frame of this type is not known");
                else if (!permission_check(session, requests[type].verb, message, text))
                        request_refuse(session, type, message->head.id, PROTO_NOT_PERMITTED, text);
                else
                        requests[type].handle(session, message);
                return;
        }

        if (session->body_left == 0)
                finish_body(session);
}

/* Acts on one whole head. The session may be closing or dead afterwards. */
static void handle_frame(struct session *session, const uint8_t *p, size_t size) {
        struct proto_message message;
        const char *what = "malformed";
        int r = proto_message_decode(p, size, &message, &what);
        uint16_t type = message.head.type;
        uint64_t id = message.head.id;
        char text[PROTO_TEXT_MAX];

        session->body_left = message.head.body_size;
        session->body_put = NULL;

        if (!session->greeted && (type != PROTO_HELLO || id == 0 || r == -EBADMSG)) {
                request_refuse(session, type, id, PROTO_BAD_REQUEST,
                               "the first frame must be a hello of this protocol");
                stop_reading(session);
                return;
        }

        if (id == 0 || type & PROTO_REPLY || r == -EBADMSG) {
                (void) snprintf(text, sizeof(text), "%s: %s", proto_type_name(type & ~PROTO_REPLY),
                                type & PROTO_REPLY ? "a reply was sent to the server"
                                : id == 0          ? "the id is 0"
                                                   : what);
                request_refuse(session, type, id, PROTO_BAD_REQUEST, text);
                return;
        }

        if (r < 0) {
                (void) snprintf(text, sizeof(text), "%s: not supported: %s", proto_type_name(type), what);
                request_refuse(session, type, id, PROTO_UNSUPPORTED, text);
                return;
        }

        handle_request(session, &message);
}

/* Files that wait to be sent are open. A session that is stuck opens no more than it has, or a few bodies to be
 * read ahead; when the worker's sessions together have too many, each has one. */
static bool may_open(const struct session *session) {
        if (output_n_files(session) == 0 && session->n_pending == 0)
                return true;

        if (session->worker->n_files >= session->limits.worker_files_max || session->n_lookups >= LOOKUPS_MAX)
                return false;

        return session->output_wait == OUTPUT_READY ||
               (session->output->n_fds == 0 && output_n_bodies(session) + session->n_lookups < BODIES_AHEAD);
}

static uint64_t output_max(const struct session *session) {
        if (session->worker->output_size + session->worker->reserved < session->limits.worker_output_max)
                return session->limits.output_max;

        return MIN(session->limits.output_max, OUTPUT_CROWDED);
}

/* Pieces of a streamed put, and its end, must get through when the depth is used up: requests in flight may
 * wait for nothing that comes behind them. */
static bool may_begin_more(const struct session *session, uint16_t type) {
        if (session->ordered && session->n_pending > 0)
                return false;

        if (output_n_replies(session) >= session->depth ||
            output_size(session) + session->reserved >= output_max(session) || !may_open(session))
                return false;

        return type == PROTO_DATA || type == PROTO_END || type == PROTO_ABORT ||
               session->n_pending + output_n_replies(session) < session->depth;
}

static inline bool may_begin(const struct session *session, uint16_t type) {
        return (!session->output && session->n_pending == 0) || /* nothing is on its way */
               may_begin_more(session, type);
}

/* Takes bytes of the current frame's body. Returns how many; 0: there is no room at present. */
static size_t take_body(struct session *session, const uint8_t *p, size_t size) {
        size_t n = (size_t) MIN(session->body_left, (uint64_t) size);

        if (session->body_put) {
                uint8_t *to;
                size_t room;
                int r = put_room(session->body_put, session->body_left, &to, &room);

                if (r == 0)
                        return 0;
                if (r > 0) {
                        n = MIN(n, room);
                        memcpy(to, p, n);
                        put_received(session->body_put, n);
                }
        }

        session->body_left -= n;
        if (session->body_left == 0)
                finish_body(session);
        return n;
}

/* A frame of any kind, but for its body. Returns the size of its head; 0: it has to wait, or it is none. */
static size_t take_frame(struct session *session, const uint8_t *p, size_t size) {
        struct proto_head head;

        if (size < PROTO_HEAD_FIXED) {
                session->input_incomplete = true;
                return 0;
        }

        if (proto_head_decode(p, &head) < 0) {
                count_add(&session->worker->counters.sessions_dropped, 1);
                server_log_peer(&session->server->dropped_limit, 0, MESSAGE_SESSION_DROPPED, &session->peer,
                                "Dropped a session", "it sent a frame whose head has an impossible size");
                session_finish(session, PROTO_BAD_REQUEST,
                               "a frame's head_size is out of range: the stream can't be followed");
                return 0;
        }

        if (size < head.head_size) {
                session->input_incomplete = true;
                return 0;
        }

        if (!may_begin(session, head.type)) {
                session->input_blocked = true;
                session->blocked_type = head.type;
                return 0;
        }

        handle_frame(session, p, head.head_size);
        return head.head_size;
}

/* Gets that there is a short way for. One may be begun. */
static unsigned take_plain_gets(
                struct session *session, const uint8_t *p, size_t size, unsigned n_max, size_t *ret_size) {
        uint64_t size_max = MIN(output_max(session) - session->reserved, session->worker->may_send);
        uint64_t depth_left = session->depth - output_n_replies(session) - session->n_pending;

        if (!session->greeted)
                return 0;

        return request_plain_gets(session, p, size, (unsigned) MIN((uint64_t) n_max, depth_left),
                                  size_max - MIN(size_max, output_size(session)), ret_size);
}

static bool is_ready_to_send(const struct session *session) {
        return session->output && session->output_wait == OUTPUT_READY;
}

/* Takes what it can of size bytes; returns how many were consumed. What stopped it is in input_incomplete and
 * input_blocked; neither: its share of the turn is used up, or all was consumed. */
static size_t process(struct session *session, const uint8_t *p, size_t size) {
        size_t position = 0;

        session->input_incomplete = session->input_blocked = false;
        session->asked_usec = session->input_usec;

        for (unsigned n = 0; n < FRAMES_PER_TURN && position < size && !session->closing;) {
                unsigned n_plain;
                size_t taken;

                if (session->body_left > 0) {
                        taken = take_body(session, p + position, size - position);

                        if (taken == 0) {
                                session->input_blocked = true;
                                break;
                        }
                        position += taken;
                        continue;
                }

                n_plain = may_begin(session, PROTO_GET)
                                          ? take_plain_gets(session, p + position, size - position,
                                                            FRAMES_PER_TURN - n, &taken)
                                          : 0;
                if (n_plain == 0) {
                        taken = take_frame(session, p + position, size - position);
                        if (taken == 0)
                                break;
                        n_plain = 1;
                }
                position += taken;
                n += n_plain;

                /* A full message's worth of descriptors, some bodies, or what may be sent in this turn, go out before
                 * there is more. */
                if (is_ready_to_send(session) && (session->output->n_fds >= session->fds_per_batch ||
                                                  session->output->size >= session->worker->may_send ||
                                                  output_n_bodies(session) >= BODIES_AHEAD)) {
                        int r = output_flush(session);

                        if (r < 0)
                                session_close(session);
                        if (r != 0)
                                break;
                }
        }

        return position;
}

static void keep_some(struct session *session, const uint8_t *p, size_t size) {
        if (session->closing)
                return;

        if (size > session->input_allocated) { /* then it is not what was kept before */
                size_t wanted = 512;
                uint8_t *input;

                while (wanted < size)
                        wanted *= 2;
                input = malloc(wanted);
                if (!input) {
                        session_break(session, -ENOMEM, "no memory for its requests");
                        return;
                }

                free(session->input);
                session->input = input;
                session->input_allocated = (uint32_t) wanted;
        }

        memmove(session->input, p, size);
        session->input_size = (uint32_t) size;
}

/* Keeps size bytes at p, which may be within the input already, for later. */
static void keep_input(struct session *session, const uint8_t *p, size_t size) {
        session->input_size = 0;
        if (size > 0)
                keep_some(session, p, size);
}

static void process_kept(struct session *session) {
        size_t n;

        if (session->input_incomplete || session->closing)
                return;

        n = process(session, session->input, session->input_size);
        keep_input(session, session->input + n, session->input_size - n);
}

/* A read that brings less than it could has brought all, and the socket is watched otherwise. What was sent before it refused
 * what ends a read has been read when it is empty. */
static void hear_edges(struct session *session) {
        uint8_t byte;

        if (recv(session->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
                session->hears_edges = session->unread = true;
}

/* Bytes, 0 at the end, or -errno. Never with room for control messages: descriptors that a peer sends are dropped by the
 * kernel. */
static inline ssize_t receive_bytes(struct session *session, uint8_t *to, size_t size) {
        ssize_t n = recv(session->fd, to, size, MSG_DONTWAIT);

        if (n < 0)
                n = -errno;
        session->unread = n == (ssize_t) size || n == -EINTR;
        if (session->reads_whole && !session->hears_edges && n > 0)
                hear_edges(session);
        return n;
}

/* Large bodies go to where they will be written from. Returns whether it was done. */
static bool receive_body(struct session *session) {
        uint8_t *to;
        size_t room;
        ssize_t n;
        int r;

        if (session->input_size > 0 || !session->body_put || session->body_left < RECEIVE_MAX)
                return false;

        r = put_room(session->body_put, session->body_left, &to, &room);
        if (r == 0) {
                session->input_blocked = true;
                return true;
        }
        if (r < 0)
                return false;

        n = receive_bytes(session, to, (size_t) MIN((uint64_t) room, session->body_left));
        if (n <= 0)
                return false; /* the usual way says it again */

        session->input_usec = session->worker->now_usec;
        count_add(&session->worker->counters.bytes_received, (uint64_t) n);
        put_received(session->body_put, (size_t) n);
        session->body_left -= (uint64_t) n;
        if (session->body_left == 0) {
                struct put *put = TAKE_PTR(session->body_put);

                put_frame_done(put);
        }
        return true;
}

static void receive(struct session *session) {
        struct worker *worker = session->worker;
        size_t held = session->input_size, consumed;
        ssize_t n;

        if (receive_body(session))
                return;

        if (held > 0)
                memcpy(worker->received, session->input, held);

        n = receive_bytes(session, worker->received + held, RECEIVE_MAX);
        if (n < 0) {
                if (n != -EAGAIN && n != -EINTR)
                        session_close(session);
                return;
        }
        if (n == 0) {
                stop_reading(session);
                return;
        }

        if (session->greeted) /* the hello has to be whole in time, not to go on */
                session->input_usec = worker->now_usec;
        count_add(&worker->counters.bytes_received, (uint64_t) n);
        consumed = process(session, worker->received, held + (size_t) n);
        keep_input(session, worker->received + consumed, held + (size_t) n - consumed);
}

/* Whether what is kept has to be worked on before more is read. */
static bool input_waits(const struct session *session) {
        return session->input_blocked || (session->input_size > 0 && !session->input_incomplete);
}

static bool may_go_on(const struct session *session) {
        if (session->input_size == 0 || session->input_incomplete)
                return false;

        if (session->input_blocked)
                /* Within a body the put has no room: it asks for a turn when that changed. */
                return session->body_left == 0 && may_begin(session, session->blocked_type);

        return true;
}

static void watch(struct session *session) {
        uint32_t events = 0;

        if (!session->closing && !input_waits(session))
                events |= EPOLLIN;
        if (session->output_wait == OUTPUT_WAIT_ROOM)
                events |= EPOLLOUT;
        if (session->output_wait == OUTPUT_WAIT_FDS)
                /* The socket has room: only the edges tell that the client received something. */
                events = EPOLLOUT | EPOLLET;

        /* Said again, an edge that is there is told again at once. */
        if (events == session->events && !(session->unread && events == EPOLLIN && session->hears_edges))
                return;

        if (epoll_ctl(session->worker->epoll_fd, EPOLL_CTL_MOD, session->fd,
                      &(struct epoll_event){ .events = epoll_mask(session, events), .data.ptr = session }) <
            0) {
                session_drop(session, -errno, "the socket can't be watched");
                return;
        }
        session->events = events;
        session->unread = false;
}

static void fail_to_send(struct session *session, int error) {
        if (error == -EPIPE || error == -ECONNRESET)
                session_close(session);
        else
                session_drop(session, error, "its answers can't be sent");
}

static inline void flush(struct session *session) {
        int r = output_flush(session);

        if (r < 0)
                fail_to_send(session, r);
}

static bool is_answered(const struct session *session) {
        return session->closing && !session->dead && session->n_pending == 0 && !session->output;
}

static void close_when_answered(struct session *session) {
        if (is_answered(session) && session->draining) {
                /* Without it, the client can't tell this end from one that swallowed an answer. */
                session->draining = false;
                add_notice(session, PROTO_DRAINED, "all that was begun is answered");
                if (is_ready_to_send(session))
                        flush(session);
        }

        if (is_answered(session))
                session_close(session);
}

static bool drop_broken(struct session *session) {
        if (session->broken != 0)
                session_drop(session, session->broken, session->broken_reason);

        return session->dead;
}

static void stop_waiting(struct session *session) {
        if (session->output_wait == OUTPUT_WAIT_ROOM || session->output_wait == OUTPUT_WAIT_FDS)
                session->output_wait = OUTPUT_READY;
}

void session_may_send(struct session *session) {
        stop_waiting(session);
        worker_queue_turn(session->worker, session);
}

void session_turn(struct session *session, uint32_t events) {
        session->worker->may_send = TURN_SEND_MAX;
        session->worker->may_send_alone = ALONE_SEND_MAX;
        session->worker->wall_usec = clock_usec(CLOCK_REALTIME_COARSE);

        if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
                session_close(session);
                return;
        }
        if (session->closing && drop_broken(session))
                return;

        if (events & EPOLLOUT)
                stop_waiting(session);
        if (is_ready_to_send(session))
                flush(session);

        if (session->input_size > 0)
                process_kept(session);
        else
                session->input_blocked = false;
        if (events & EPOLLIN) {
                session->unread = true;
                if (!session->closing && !input_waits(session))
                        receive(session);
                if (events & EPOLLRDHUP) /* nothing tells of the end again, behind what was read */
                        session->unread = true;
                if (events & EPOLLPRI) { /* what is out of band ends a read, too */
                        session->reads_whole = session->hears_edges = false;
                        session->events = UINT32_MAX; /* none that it is watched for: to be watched anew */
                }
        }

        if (session->closing && drop_broken(session))
                return;
        if (is_ready_to_send(session))
                flush(session);
        if (session->closing) {
                close_when_answered(session);
                if (session->dead)
                        return;
        } else if (session->events == EPOLLIN && !session->output && session->input_size == 0 &&
                   !session->input_blocked && !session->unread)
                return; /* all is answered, most often, and what comes is waited for already */

        /* More to send, or frames that are whole and may be begun by now: after the others. */
        if (is_ready_to_send(session) || may_go_on(session))
                worker_queue_turn(session->worker, session);

        watch(session);
}

void session_sweep(struct session *session) {
        uint64_t now = session->worker->now_usec, last = MAX(session->input_usec, session->output_usec);

        if (session->n_streams > 0 || session->body_put)
                put_flush_stalled(session);

        if (session->output) {
                if (session->limits.write_timeout_usec > 0 && session->output_wait != OUTPUT_WAIT_BODY &&
                    now > session->output_usec + session->limits.write_timeout_usec)
                        session_drop(session, 0, "it takes no answers");
                return;
        }

        if (session->closing || session->n_pending > 0)
                return;

        if (!session->greeted) {
                if (now > session->input_usec + HELLO_TIMEOUT_USEC)
                        session_drop(session, 0, "it sent no hello in time");
                return;
        }

        if (session->limits.idle_timeout_usec > 0 && now > last + session->limits.idle_timeout_usec) {
                session_finish(session, PROTO_DRAINING, "the session was idle");
                return;
        }

        if (now > session->input_usec + USEC_PER_SEC && session->input_size == 0) {
                free(session->input);
                session->input = NULL;
                session->input_allocated = 0;
        }
}
