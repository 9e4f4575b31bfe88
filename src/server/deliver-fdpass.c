/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include "cleanup.h"
#include "session.h"
#include "worker.h"

void deliver_fdpass(struct delivery *delivery) {
        struct session *session = delivery->session;
        struct counters *counters = &session->worker->counters;

        delivery->reply->head.mode = OP_FDPASS;
        /* That it has one; its place is known when the batch is sent. */
        delivery->reply->head.fd_count = 1;
        count_add(&counters->replies[OP_FDPASS], 1);
        count_add(&counters->bytes[OP_FDPASS], delivery->size);
        output_add_fd(session, delivery->reply, TAKE_FD(delivery->object->fd));
}
