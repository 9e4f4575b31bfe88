/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cold.h"
#include "macro.h"
#include "session.h"
#include "worker.h"

#define AT_ONCE_MAX ((size_t) 32 << 10) /* a body up to this goes out together with its head */
#define BUFFER_SIZE (4 << 20)           /* as net.core.wmem_max allows */

void deliver_raise_buffer(struct session *session) {
        if (session->big_buffer)
                return;

        session->big_buffer = true;
        (void) setsockopt(session->fd, SOL_SOCKET, SO_SNDBUF, &(int){ BUFFER_SIZE }, sizeof(int));
}

/* Reads a small body to where it is sent from. Returns false when it is not in memory. */
static bool copy_at_once(struct delivery *delivery) {
        struct session *session = delivery->session;
        struct storage_object *object = delivery->object;
        size_t head = proto_message_size(delivery->reply);
        uint8_t *p = output_reserve(session, head + delivery->size);

        if (!p)
                return true; /* the session is broken */

        if (delivery->size > 0 &&
            cold_read(object->fd, p + head, delivery->size, delivery->offset) != (ssize_t) delivery->size)
                return false;

        (void) proto_message_encode(delivery->reply, p, head);
        count_add(&session->worker->counters.statuses[delivery->reply->head.status], 1);
        object->fd = close_fd(object->fd);
        output_commit(session, p, head + delivery->size, -EBADF, TIMED_GET_INLINE, 1);
        return true;
}

void deliver_copy(struct delivery *delivery) {
        struct session *session = delivery->session;
        struct counters *counters = &session->worker->counters;
        struct storage_object *object = delivery->object;
        struct proto_message *reply = delivery->reply;

        reply->head.mode = OP_COPY;
        reply->head.body_size = delivery->size;
        count_add(&counters->replies[OP_COPY], 1);
        count_add(&counters->bytes[OP_COPY], delivery->size);

        if (object->fd < 0) {
                output_add_data(session, reply, object->body ? object->body + delivery->offset : NULL,
                                (size_t) delivery->size);
                return;
        }

        if (delivery->size <= AT_ONCE_MAX) {
                if (!copy_at_once(delivery))
                        cold_deliver(delivery, OUTPUT_COPY);
                return;
        }

        deliver_raise_buffer(session);
        if (!cold_is_cached(object->fd, delivery->offset, MIN(delivery->size, WARM_WINDOW))) {
                cold_deliver(delivery, OUTPUT_COPY);
                return;
        }

        output_add_file_reply(session, reply, OUTPUT_COPY, TAKE_FD(object->fd), delivery->offset,
                              delivery->size, object->copy);
}

ssize_t deliver_copy_fill(struct session *session, struct output_item *item, size_t max, struct iovec *ret) {
        uint8_t *buffer = session->worker->copied;
        size_t size = (size_t) MIN(item->size, (uint64_t) max);
        ssize_t n;

        if (item->offset + size <= item->warm) {
                n = pread(item->fd, buffer, size, (off_t) item->offset);
                if (n < 0)
                        n = -errno;
        } else
                n = cold_read(item->fd, buffer, size, item->offset);

        if (n == -EAGAIN || (n <= 0 && item->copy != 0))
                return cold_warm_output(session, item);
        if (n < 0)
                return n;
        if (n == 0)
                return -ESTALE; /* the file is shorter than the store said */

        *ret = (struct iovec){ buffer, (size_t) n };
        return n;
}
