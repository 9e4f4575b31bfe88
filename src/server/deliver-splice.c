/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include <errno.h>
#include <fcntl.h>

#include "cold.h"
#include "macro.h"
#include "session.h"
#include "worker.h"

void deliver_splice(struct delivery *delivery) {
        struct session *session = delivery->session;
        struct counters *counters = &session->worker->counters;
        struct storage_object *object = delivery->object;
        struct proto_message *reply = delivery->reply;

        /* Nothing to move, or nothing to move it from. */
        if (object->fd < 0 || delivery->size == 0) {
                deliver_copy(delivery);
                return;
        }

        reply->head.mode = OP_SPLICE;
        reply->head.body_size = delivery->size;
        count_add(&counters->replies[OP_SPLICE], 1);
        count_add(&counters->bytes[OP_SPLICE], delivery->size);

        deliver_raise_buffer(session);
        if (!cold_is_cached(object->fd, delivery->offset, MIN(delivery->size, WARM_WINDOW))) {
                cold_deliver(delivery, OUTPUT_SPLICE);
                return;
        }

        output_add_file_reply(session, reply, OUTPUT_SPLICE, TAKE_FD(object->fd), delivery->offset,
                              delivery->size, object->copy);
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

ssize_t deliver_splice_send(struct session *session, struct output_item *item) {
        struct worker *worker = session->worker;
        size_t room = MIN(worker->pipe_size, SEND_MAX), size = (size_t) MIN(item->size, (uint64_t) room);
        size_t filled, sent = 0;
        off_t offset = (off_t) item->offset;
        ssize_t n;
        int r;

        if (item->offset + size > item->warm) {
                uint64_t window = MIN(item->size, WARM_WINDOW);

                if (!cold_is_cached(item->fd, item->offset, window))
                        return cold_warm_output(session, item);
                item->warm = item->offset + window;
                size = (size_t) MIN((uint64_t) size, window);
        }

        n = splice(item->fd, &offset, worker->pipe_write, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n <= 0 && item->copy != 0)
                return cold_warm_output(session, item);
        if (n < 0)
                return -errno;
        if (n == 0)
                return -ESTALE; /* the file is shorter than the store said */

        for (filled = (size_t) n; sent < filled;) {
                n = splice(worker->pipe_read, NULL, session->fd, NULL, filled - sent,
                           SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE);
                if (n <= 0)
                        break;
                sent += (size_t) n;
        }
        r = n < 0 ? -errno : 0;

        if (sent < filled) {
                /* What the socket did not take is moved again when it has room: pages are only referred to. */
                int q = empty_pipe(worker, filled - sent);

                if (q < 0)
                        return q;
                if (r < 0 && r != -EAGAIN)
                        return r;
                if (sent == 0) {
                        session->output_wait = OUTPUT_WAIT_ROOM;
                        return 0;
                }
        }

        return (ssize_t) sent;
}
