/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include "cleanup.h"
#include "plain.h"
#include "request.h"
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

void deliver_fdpass_whole(struct session *session, uint64_t id, struct storage_object *object) {
        struct counters *counters = &session->worker->counters;
        size_t size = proto_plain_reply_size(object->metadata_size);
        struct proto_info info = info_from(&object->info);
        uint8_t *p = output_reserve(session, size);

        if (!p)
                return; /* the session is broken, and the descriptor is closed with the next get */

        proto_plain_reply_encode(p, OP_FDPASS, id, &info,
                                 (struct proto_bytes){ object->metadata, object->metadata_size }, 0);
        output_commit(session, p, size, TAKE_FD(object->fd), TIMED_GET_FDPASS, 1);

        count_add(&counters->statuses[PROTO_OK], 1);
        count_add(&counters->replies[OP_FDPASS], 1);
        count_add(&counters->bytes[OP_FDPASS], object->info.size);
}
