/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Gets of small objects that are in memory, from the received bytes to the answer without a detour. What is not as
 * plain as that goes the way of request-get.c, which answers the same. */

#include <string.h>

#include "macro.h"
#include "output.h"
#include "plain.h"
#include "request.h"
#include "session.h"
#include "worker.h"

/* Answers that follow each other in memory, and are not committed yet. */
struct run {
        struct session *session;
        struct storage_viewer *viewer;
        enum { VIEWER_NONE, VIEWER_OPEN, VIEWER_UNUSABLE } viewer_state;
        uint8_t *begin, *end; /* NULL: there are none */
        size_t room;          /* behind them */
        uint64_t bytes_max;
        unsigned n;
        uint64_t n_bytes; /* of bodies */
};

static bool may_view(struct run *run) {
        struct worker *worker = run->session->worker;

        if (run->viewer_state == VIEWER_NONE)
                run->viewer_state = storage_viewer_begin(worker->storage, worker->wall_usec, run->viewer)
                                                    ? VIEWER_OPEN
                                                    : VIEWER_UNUSABLE;

        return run->viewer_state == VIEWER_OPEN;
}

/* Whether bodies come as a copy in any case, for all this session knows, and up to which size. */
static bool is_copied(const struct session *session, uint8_t mode, uint64_t *ret_body_max) {
        if (mode == OP_DEFAULT)
                mode = session->mode;

        *ret_body_max = mode == OP_COPY ? UINT64_MAX : session->limits.inline_max;
        return mode == OP_COPY || mode == OP_AUTO;
}

static bool make_room(struct run *run, size_t size) {
        size_t room;

        if (run->begin)
                return run->room >= size;

        run->begin = run->end = output_reserve(run->session, size);
        if (!run->begin)
                return false;

        room = (size_t) MIN(run->bytes_max, (uint64_t) output_room(run->session));
        run->room = MAX(size, room);
        return true;
}

enum outcome {
        ANSWERED,
        NOT_IN_MEMORY,
        NO_ROOM, /* behind the answers so far */
};

/* From the hot table to where it is sent from. */
static enum outcome answer(struct run *run, const struct proto_plain_get *get) {
        uint64_t body_max;
        size_t head_size, size;
        struct storage_view view;
        struct proto_info info;

        if (!is_copied(run->session, get->mode, &body_max) || !may_view(run) ||
            !storage_view(run->viewer, get->uri.data, get->uri.size, body_max, &view))
                return NOT_IN_MEMORY;

        head_size = proto_plain_reply_size(view.metadata_size);
        if (view.info->size > OUTPUT_CHUNK_SIZE - head_size)
                return NOT_IN_MEMORY;

        size = head_size + (size_t) view.info->size;
        if (!make_room(run, size))
                return NO_ROOM;

        info = info_from(view.info);
        proto_plain_reply_encode(run->end, OP_COPY, get->id, &info,
                                 (struct proto_bytes){ view.metadata, view.metadata_size }, info.size);
        memcpy(run->end + head_size, view.body, (size_t) info.size);
        storage_view_count(run->viewer, &view);

        run->end += size;
        run->room -= size;
        run->n_bytes += info.size;
        run->n++;
        return ANSWERED;
}

static void commit(struct run *run) {
        struct counters *counters = &run->session->worker->counters;

        if (run->n == 0)
                return;

        output_commit(run->session, run->begin, (size_t) (run->end - run->begin), -EBADF, TIMED_GET_INLINE,
                      run->n);
        count_add(&counters->requests[PROTO_GET], run->n);
        count_add(&counters->statuses[PROTO_OK], run->n);
        count_add(&counters->replies[OP_COPY], run->n);
        count_add(&counters->bytes[OP_COPY], run->n_bytes);
}

/* The frame at p, when it is whole and a get that the session may make. */
static bool decode(struct session *session,
                   bool has_rules,
                   const uint8_t *p,
                   size_t size,
                   struct proto_plain_get *ret,
                   size_t *ret_size) {
        *ret_size = size < PROTO_HEAD_FIXED ? SIZE_MAX : load_le32(p);

        return *ret_size <= size && proto_plain_get_decode(p, *ret_size, ret) &&
               (!has_rules || permission_may_get(session, ret->uri));
}

unsigned request_plain_gets(struct session *session,
                            const uint8_t *p,
                            size_t size,
                            unsigned n_max,
                            uint64_t bytes_max,
                            size_t *ret_size) {
        bool has_rules = worker_rules(session->worker);
        enum outcome outcome = ANSWERED;
        struct storage_viewer viewer;
        struct proto_plain_get get;
        struct run run = { .session = session, .viewer = &viewer, .bytes_max = bytes_max };
        size_t at = 0, head_size = 0;

        while (run.n < n_max && decode(session, has_rules, p + at, size - at, &get, &head_size)) {
                outcome = answer(&run, &get);
                if (outcome != ANSWERED)
                        break;
                at += head_size;
        }

        if (run.viewer_state == VIEWER_OPEN)
                storage_viewer_end(run.viewer);
        commit(&run);

        *ret_size = at;
        if (run.n > 0 || outcome != NOT_IN_MEMORY)
                return run.n;

        *ret_size = head_size;
        return request_whole_get(session, &get);
}
