/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "cleanup.h"
#include "deliver.h"
#include "macro.h"
#include "request.h"
#include "session.h"
#include "worker.h"

static void set_metadata(struct proto_message *reply, const struct storage_object *object) {
        if (object->metadata_size == 0)
                return;

        reply->has |= PROTO_HAS(PROTO_TAG_METADATA);
        reply->metadata = (struct proto_bytes){ object->metadata, object->metadata_size };
}

/* What of the body is asked for. -ERANGE: nothing of it. */
static int apply_range(const struct proto_message *message, struct delivery *delivery) {
        uint64_t size = delivery->object->info.size;

        delivery->offset = 0;
        delivery->size = size;
        if (!(message->has & PROTO_HAS(PROTO_TAG_RANGE)))
                return 0;

        if (message->range.offset >= size && message->range.offset > 0)
                return -ERANGE;

        delivery->offset = message->range.offset;
        delivery->size = MIN(message->range.size, size - delivery->offset);
        delivery->reply->has |= PROTO_HAS(PROTO_TAG_RANGE);
        delivery->reply->range = (struct proto_range){ delivery->offset, delivery->size };
        return 0;
}

static void refuse_get(struct session *session, const struct proto_message *message, int error) {
        struct proto_message reply = reply_message(message->head.type, message->head.id,
                                                   status_from_error(error));

        if (error == -ESTALE)
                reply_set_info(&reply, &session->worker->object.info);
        reply_set_text(&reply, status_text(reply.head.status));
        output_add(session, &reply);
}

void request_get(struct session *session, const struct proto_message *message) {
        struct worker *worker = session->worker;
        struct storage_object *object = &worker->object;
        bool range = message->has & PROTO_HAS(PROTO_TAG_RANGE);
        uint8_t mode = message->head.mode == OP_DEFAULT ? session->mode : message->head.mode;
        struct storage_etag known;
        int r;

        if (message->has & PROTO_HAS(PROTO_TAG_IF_NONE_MATCH))
                known = (struct storage_etag){ message->if_none_match.store_id,
                                               message->if_none_match.generation,
                                               message->if_none_match.metadata_version };

        r = storage_get(worker->storage, message->uri.data, message->uri.size,
                        STORAGE_GET_OPEN | (message->has & PROTO_HAS(PROTO_TAG_STALE_OK) ? STORAGE_GET_STALE
                                                                                         : 0),
                        message->has & PROTO_HAS(PROTO_TAG_IF_NONE_MATCH) ? &known : NULL, object);
        if (r < 0) {
                refuse_get(session, message, r);
                return;
        }

        struct proto_message reply = reply_message(PROTO_GET, message->head.id,
                                                   r > 0 ? PROTO_NOT_MODIFIED : PROTO_OK);
        struct delivery delivery = {
                .session = session, .uri = message->uri, .reply = &reply, .object = object
        };

        reply_set_info(&reply, &object->info);
        if (r > 0) {
                set_metadata(&reply, object);
                output_add(session, &reply);
                return;
        }

        if (apply_range(message, &delivery) < 0) {
                object->fd = close_fd(object->fd);
                reply.head.status = PROTO_BAD_RANGE;
                reply_set_text(&reply, status_text(PROTO_BAD_RANGE));
                output_add(session, &reply);
                return;
        }

        set_metadata(&reply, object);

        if (mode == OP_SPLICE)
                deliver_splice(&delivery);
        else if (mode == OP_COPY || range || object->fd < 0)
                deliver_copy(&delivery);
        else if (mode == OP_FDPASS)
                deliver_fdpass(&delivery);
        else
                deliver_auto(&delivery);
}

void request_stat(struct session *session, const struct proto_message *message) {
        struct worker *worker = session->worker;
        struct storage_object *object = &worker->object;
        struct proto_message reply;
        int r = storage_get(worker->storage, message->uri.data, message->uri.size,
                            message->has & PROTO_HAS(PROTO_TAG_STALE_OK) ? STORAGE_GET_STALE : 0, NULL,
                            object);

        if (r < 0) {
                refuse_get(session, message, r);
                return;
        }

        reply = reply_message(PROTO_STAT, message->head.id, PROTO_OK);
        reply_set_info(&reply, &object->info);
        reply.has |= PROTO_HAS(PROTO_TAG_USAGE);
        reply.usage = (struct proto_usage){ object->info.hits, object->info.used_usec };
        set_metadata(&reply, object);
        output_add(session, &reply);
}
