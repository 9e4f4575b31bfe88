/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Gets of small objects that are in memory, from the received bytes to the answer without a detour. What is not as
 * plain as that goes the way of request-get.c, which answers the same. */

#include <string.h>

#include "macro.h"
#include "output.h"
#include "request.h"
#include "session.h"
#include "worker.h"

/* Bodies up to this size come as a copy in any case, for all this session knows. */
static bool takes_copy(const struct session *session, uint8_t mode, uint64_t *ret_max) {
        if (mode == OP_DEFAULT)
                mode = session->mode;

        *ret_max = mode == OP_COPY ? UINT64_MAX : session->limits.inline_max;
        return mode == OP_COPY || mode == OP_AUTO;
}

static void answer(struct session *session,
                   uint64_t id,
                   const struct storage_view *view,
                   uint8_t *p,
                   size_t head_size) {
        struct counters *counters = &session->worker->counters;
        size_t size = (size_t) view->info->size;

        proto_plain_reply_encode(
                        p, id,
                        &(struct proto_info){
                                        .etag = { view->info->etag.store_id, view->info->etag.generation,
                                                  view->info->etag.metadata_version },
                                        .size = size,
                                        .checksum = view->info->checksum,
                                        .stored_usec = view->info->stored_usec,
                                        .expires_usec = view->info->expires_usec,
                        },
                        (struct proto_bytes){ view->metadata, view->metadata_size }, size);
        memcpy(p + head_size, view->body, size);
        output_commit(session, p, head_size + size, -EBADF, TIMED_GET_INLINE, false);

        count_add(&counters->requests[PROTO_GET], 1);
        count_add(&counters->statuses[PROTO_OK], 1);
        count_add(&counters->replies[OP_COPY], 1);
        count_add(&counters->bytes[OP_COPY], size);
}

bool request_plain_get(struct session *session, const uint8_t *p, size_t size) {
        struct worker *worker = session->worker;
        struct storage_view view;
        struct proto_plain_get get;
        uint64_t body_max;
        size_t head_size;
        uint8_t *to;

        if (!proto_plain_get_decode(p, size, &get) || !takes_copy(session, get.mode, &body_max) ||
            !permission_may_get(session, get.uri) ||
            !storage_view_begin(worker->storage, get.uri.data, get.uri.size, body_max, worker->wall_usec,
                                &view))
                return false;

        head_size = proto_plain_reply_size(view.metadata_size);
        to = view.info->size <= OUTPUT_CHUNK_SIZE - head_size
                             ? output_reserve(session, head_size + (size_t) view.info->size)
                             : NULL;
        if (to)
                answer(session, get.id, &view, to, head_size);
        storage_view_end(&view, to);
        return to;
}
