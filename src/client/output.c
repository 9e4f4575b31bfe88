/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "client.h"
#include "connection.h"
#include "macro.h"

#define PARTS_MAX  128  /* of one send: heads and bodies of as many calls */
#define JOINED_MAX 8192 /* bytes */
#define ROUNDS_MAX 32   /* sends in one turn, so that answers are looked at, too */

static struct call *next_waiting(const struct connection *connection) {
        if (connection->state != CONNECTION_OPEN || connection->draining || connection->n_free == 0)
                return NULL;

        /* Streams first: there are never more than a few, and they would starve behind the others. */
        if (connection->n_streams < connection->streams && !TAILQ_EMPTY(&connection->waiting_streams))
                return TAILQ_FIRST(&connection->waiting_streams);

        return TAILQ_FIRST(&connection->waiting);
}

bool connection_has_output(const struct connection *connection) {
        if (connection->fd < 0 || connection->output_broken)
                return false;

        return connection->hello_sent < connection->hello_size || !TAILQ_EMPTY(&connection->output) ||
               next_waiting(connection);
}

bool connection_is_idle(const struct connection *connection) {
        return connection->state == CONNECTION_OPEN && connection->n_free == connection->depth;
}

static void park(struct connection *connection, struct call *call) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = call };

        if (call->sending)
                TAILQ_REMOVE(&connection->output, call, output_link);
        call->sending = false;

        if (!call->upload.source &&
            epoll_ctl(connection->client->epoll_fd, EPOLL_CTL_ADD, call->upload.fd, &event) < 0) {
                upload_give_up(&call->upload, -errno);
                (void) upload_next(&call->upload); /* ABORT */
                TAILQ_INSERT_TAIL(&connection->output, call, output_link);
                call->sending = true;
                return;
        }

        call->watched = !call->upload.source; /* objmapper_client_wake() tells of one */
        call_move(call, &connection->parked, false);
}

/* The call's frame is whole: what comes after it? */
static void next_frame(struct connection *connection, struct call *call) {
        int r = upload_next(&call->upload);

        if (r == 0)
                connection_sent(connection, call);
        else if (r == -EAGAIN)
                park(connection, call);
        else {
                /* Others have their turn between the frames of a stream. */
                if (call->sending)
                        TAILQ_REMOVE(&connection->output, call, output_link);
                TAILQ_INSERT_TAIL(&connection->output, call, output_link);
                call->sending = true;
        }
}

void connection_unpark(struct connection *connection, struct call *call) {
        if (call->watched)
                (void) epoll_ctl(connection->client->epoll_fd, EPOLL_CTL_DEL, call->upload.fd, NULL);
        call->watched = false;
        call_move(call, &connection->pending, false);
        connection_progress(connection, call);
        next_frame(connection, call);
}

void connection_wake_sources(struct connection *connection) {
        struct call *last = TAILQ_LAST(&connection->parked, call_list), *next;

        /* One that still has nothing goes behind the last. */
        for (struct call *call = TAILQ_FIRST(&connection->parked); call; call = next) {
                next = call == last ? NULL : TAILQ_NEXT(call, link);
                if (call->upload.source)
                        connection_unpark(connection, call);
        }
}

void connection_note_sent(struct connection *connection, uint64_t n) {
        uint64_t hello = MIN(n, connection->hello_size - connection->hello_sent);

        connection->hello_sent += (size_t) hello;
        n -= hello;

        while (n > 0) {
                struct call *call = TAILQ_FIRST(&connection->output);
                uint64_t taken = MIN(n, upload_left(&call->upload));

                n -= taken;
                connection_progress(connection, call);
                if (upload_advance(&call->upload, taken))
                        next_frame(connection, call);
        }
}

/* Many small parts are sent faster in one piece. Returns its size; 0: they are too large. */
static size_t join(const struct iovec *iov, size_t n_iov, uint8_t ret[static JOINED_MAX]) {
        size_t size = 0;

        for (size_t i = 0; i < n_iov; i++) {
                if (iov[i].iov_len > JOINED_MAX - size)
                        return 0;
                memcpy(ret + size, iov[i].iov_base, iov[i].iov_len);
                size += iov[i].iov_len;
        }

        return size;
}

/* Never with descriptors: the daemon takes none. */
static ssize_t send_now(int fd, struct iovec *iov, size_t n_iov) {
        struct msghdr message = { .msg_iov = iov, .msg_iovlen = n_iov };
        uint8_t joined[JOINED_MAX];
        struct iovec one = n_iov > 1 ? (struct iovec){ joined, join(iov, n_iov, joined) } : iov[0];

        for (;;) { /* send() is faster */
                ssize_t n = one.iov_len > 0 ? send(fd, one.iov_base, one.iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                                            : sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n >= 0)
                        return n;
                if (errno != EINTR)
                        return -errno;
        }
}

/* One send. The bytes, 0: nothing is left; or -errno. *ret_again: 0 means to try again. *ret_from_file: it may have
 * waited for one. */
static ssize_t send_once(struct connection *connection, bool *ret_again, bool *ret_from_file) {
        struct iovec iov[PARTS_MAX];
        struct call *call;
        bool from_fd = false;
        size_t n = 0;

        *ret_again = *ret_from_file = false;

        if (connection->hello_sent < connection->hello_size)
                iov[n++] = (struct iovec){ connection->hello + connection->hello_sent,
                                           connection->hello_size - connection->hello_sent };

        TAILQ_FOREACH(call, &connection->output, output_link) {
                size_t parts = upload_gather(&call->upload, iov + n, PARTS_MAX - n, &from_fd);

                n += parts;
                if (from_fd || n == PARTS_MAX)
                        break;
        }

        if (n > 0)
                return send_now(connection->fd, iov, n);
        if (!call)
                return 0;

        *ret_again = *ret_from_file = true;
        connection_never_wait(connection); /* sendfile() has no flag for it */
        return upload_sendfile(&call->upload, connection->fd);
}

void connection_flush(struct connection *connection) {
        bool again = true, left = true, from_file;

        if (!connection->output_armed && !connection_has_output(connection))
                return;

        for (unsigned round = 0; round < ROUNDS_MAX && again; round++) {
                struct call *call;
                ssize_t n;

                if (connection->fd < 0 || connection->output_broken) {
                        connection_arm_output(connection, false);
                        return;
                }

                while ((call = next_waiting(connection)))
                        connection_admit(connection, call);

                n = send_once(connection, &again, &from_file);
                if (n > 0) {
                        if (from_file)
                                (void) client_read_clock(connection->client);
                        connection_note_sent(connection, (uint64_t) n);
                        again = left = connection_has_output(connection);
                } else if (n == -EPIPE || n == -ECONNRESET) {
                        /* Nobody reads there any more. What was answered can still be received, and then the
                         * stream's end tells. */
                        connection->output_broken = true;
                        again = false;
                } else if (n < 0 && n != -EAGAIN) {
                        connection_lost(connection);
                        return;
                } else if (n < 0)
                        again = false;
        }

        connection_arm_output(connection, left && connection_has_output(connection));
}
