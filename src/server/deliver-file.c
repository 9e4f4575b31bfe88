/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cold.h"
#include "fdpass.h"
#include "macro.h"
#include "recent.h"
#include "session.h"
#include "worker.h"

#define BUFFER_SIZE (4 << 20) /* as net.core.wmem_max allows */

/* The client begins to take the first piece while the next one is on its way; later ones cost less by the byte. */
#define PIECE_FIRST ((uint32_t) 128 << 10)

#define PAGE UINT64_C(4096)

/* What sendfile() moves in one round, through a pipe of its own. */
#define SMALL_MAX (UINT64_C(64) << 10)

/* Of a body that was sent a moment ago one byte is looked at in so many. */
#define RECENT_WINDOW ((uint64_t) 4 << 20)

#define ROOM_SOON_USEC UINT64_C(50) /* about what it takes to be woken */
#define LATE_MAX       8            /* times that it is not tried, where it was in vain */

/* Large bodies go out in few turns when the socket takes much at once. */
static void raise_buffer(struct session *session) {
        if (session->big_buffer)
                return;

        session->big_buffer = true;
        (void) setsockopt(session->fd, SOL_SOCKET, SO_SNDBUF, &(int){ BUFFER_SIZE }, sizeof(int));
}

void deliver_file(struct delivery *delivery, enum timed timed) {
        struct session *session = delivery->session;
        struct storage_object *object = delivery->object;
        struct output_file file = {
                .fd = object->fd,
                .offset = delivery->offset,
                .size = delivery->size,
                .copy = object->copy,
                .generation = object->info.etag.generation,
        };
        bool is_recent = recent_has(session->worker, &file);
        uint64_t window = MIN(file.size, WARM_WINDOW);

        raise_buffer(session);
        if (!cold_is_cached(file.fd, file.offset, is_recent ? 1 : window)) {
                cold_deliver(delivery, timed);
                return;
        }

        object->fd = -EBADF;
        file.warm = file.offset + (is_recent ? RECENT_WINDOW : window);
        output_add_file_reply(session, delivery->reply, timed, &file);
}

/* How much of max may be moved now without waiting for the disk, in whole pages; 0: nothing. */
static size_t warm_size(const struct worker *worker, struct output_item *item, uint64_t max) {
        uint64_t size = MAX(max & ~(PAGE - 1), PAGE), looked_at;

        item->piece = MAX(item->piece, PIECE_FIRST);
        size = MIN(size, worker->pipe_size);
        size = MIN(size, item->size);
        size = MIN(size, (uint64_t) item->piece);
        if (item->offset + size <= item->warm)
                return (size_t) size;

        looked_at = item->is_recent ? 1 : MIN(item->size, WARM_WINDOW);
        if (!cold_is_cached(item->fd, item->offset, looked_at))
                return 0;

        item->warm = item->offset + (item->is_recent ? RECENT_WINDOW : looked_at);
        return (size_t) MIN(size, item->warm - item->offset);
}

/* The pipe is the worker's: it must be empty when another session has its turn. */
static int empty_pipe(struct worker *worker, size_t size) {
        while (size > 0) {
                ssize_t n = splice(worker->pipe_read, NULL, worker->null_fd, NULL, size,
                                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                size -= (size_t) n;
        }

        return 0;
}

/* From the pipe to the socket. Returns the bytes sent, -EAGAIN for none, or an error. */
static ssize_t send_pipe(struct session *session, size_t size) {
        struct worker *worker = session->worker;
        size_t sent = 0;
        ssize_t n = 0;
        int r, q;

        while (sent < size) {
                n = splice(worker->pipe_read, NULL, session->fd, NULL, size - sent,
                           SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE);
                if (n <= 0)
                        break;
                sent += (size_t) n;
        }
        if (sent == size)
                return (ssize_t) sent;

        /* What the socket did not take is moved again when it has room: pages are only referred to. */
        r = n < 0 ? -errno : -EIO;
        q = empty_pipe(worker, size - sent);
        if (q < 0)
                return q;

        return sent > 0 && r == -EAGAIN ? (ssize_t) sent : r;
}

/* To where it is sent from. Returns the bytes, 0 at the end of the file, or an error. */
static ssize_t fill(struct worker *worker, struct output_item *item, size_t size) {
        off_t offset = (off_t) item->offset;
        ssize_t n;

        if (!item->is_read) {
                n = splice(item->fd, &offset, worker->pipe_write, NULL, size,
                           SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
                if (n >= 0 || errno != EINVAL)
                        return n < 0 ? -errno : n;
                item->is_read = true; /* its file system has no splice() */
        }

        n = pread(item->fd, worker->copied, MIN(size, COPY_MAX), offset);
        return n < 0 ? -errno : n;
}

/* All of a small one by one call. Returns the bytes sent; 0: by the longer way, where it shows why not. */
static ssize_t send_small(struct session *session, struct output_item *item) {
        off_t offset = (off_t) item->offset;

        return MAX(sendfile(session->fd, item->fd, &offset, (size_t) item->size), (ssize_t) 0);
}

/* A client who takes what comes has made room before a worker that sleeps could be woken. As long as that may be so, and
 * nobody else has a turn to come, the session has another turn, after who else wants the processor. Where that was in
 * vain, since the client is slow or has to wait for this processor, it is not tried again soon. */
static void wait_for_room(struct session *session) {
        struct worker *worker = session->worker;

        if (session->full_usec == 0)
                session->full_usec = worker->now_usec;

        if (worker->now_usec >= session->full_usec + ROOM_SOON_USEC)
                session->n_room_late = LATE_MAX;
        else if (session->n_room_late > 0)
                session->n_room_late--;
        else if (!worker->turns) {
                (void) sched_yield();
                worker->may_send = worker->may_send_alone = 0;
                return;
        }

        session->full_usec = 0;
        session->output_wait = OUTPUT_WAIT_ROOM;
}

ssize_t deliver_file_send(struct session *session, struct output_item *item, uint64_t max) {
        struct worker *worker = session->worker;
        bool is_small = item->piece == 0 && item->size <= SMALL_MAX;
        size_t size = warm_size(worker, item, max);
        ssize_t filled, n;

        if (size == 0)
                return cold_warm_output(session, item);

        if (is_small && size == item->size) {
                n = send_small(session, item);
                if (n > 0)
                        return n;
        }

        filled = fill(worker, item, size);
        if (filled <= 0 && item->copy != 0)
                return cold_warm_output(session, item);
        if (filled < 0)
                return filled;
        if (filled == 0)
                return -ESTALE; /* the file is shorter than the store said */

        n = item->is_read ? fdpass_write_bytes(session->fd, worker->copied, (size_t) filled)
                          : send_pipe(session, (size_t) filled);
        if (n == -EAGAIN)
                n = 0;
        if (n < 0)
                return n;

        item->piece = n < filled ? PIECE_FIRST : MIN(2 * item->piece, (uint32_t) ALONE_SEND_MAX);
        if (n == 0)
                wait_for_room(session);
        else
                session->full_usec = 0;
        return n;
}
