/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include "session.h"
#include "worker.h"

void deliver_splice(struct delivery *delivery) {
        struct counters *counters = &delivery->session->worker->counters;
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

        deliver_file(delivery, TIMED_GET_SPLICE);
}
