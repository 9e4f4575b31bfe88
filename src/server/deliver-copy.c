/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include "cold.h"
#include "macro.h"
#include "session.h"
#include "worker.h"

#define AT_ONCE_MAX ((size_t) 32 << 10) /* a body up to this goes out together with its head */

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

        if (delivery->size > AT_ONCE_MAX)
                deliver_file(delivery, TIMED_GET_COPY);
        else if (!copy_at_once(delivery))
                cold_deliver(delivery, TIMED_GET_COPY);
}
