/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "clock.h"
#include "macro.h"
#include "output.h"
#include "session.h"
#include "worker.h"

void request_begin(struct request *request, struct session *session, uint64_t id, uint16_t type) {
        request->worker = session->worker;
        request->session = session;
        request->id = id;
        request->type = type;
        request->pending = false;
        request->reserved = 0;
        request->asked_usec = session->asked_usec;

        request->previous = NULL;
        request->next = session->requests;
        if (request->next)
                request->next->previous = request;
        session->requests = request;
        session->worker->n_requests++;
}

void request_set_pending(struct request *request, uint64_t reserved) {
        assert(!request->pending);

        request->pending = true;
        request->reserved = reserved;
        request->worker->reserved += reserved;
        if (request->session) {
                request->session->n_pending++;
                request->session->reserved += reserved;
        }
}

void request_resume(const struct request *request) {
        request->session->asked_usec = request->asked_usec;
}

void request_time(const struct request *request, enum timed timed) {
        histogram_add(&request->worker->counters.timed[timed],
                      clock_usec(CLOCK_MONOTONIC) - request->asked_usec, 1);
}

void request_detach(struct request *request) {
        struct session *session = TAKE_PTR(request->session);

        if (!session)
                return;

        if (request->previous)
                request->previous->next = request->next;
        else
                session->requests = request->next;
        if (request->next)
                request->next->previous = request->previous;

        if (request->pending) {
                session->n_pending--;
                session->reserved -= request->reserved;
        }

        /* What had to wait for this can be begun now, or the session closed. */
        worker_queue_turn(session->worker, session);
}

void request_end(struct request *request) {
        struct worker *worker = request->worker;

        request_detach(request);
        assert(worker->n_requests > 0);
        worker->n_requests--;
        worker->reserved -= request->reserved;
        worker_check_drained(worker);
}

struct proto_message reply_message(uint16_t type, uint64_t id, uint16_t status) {
        return (struct proto_message){
                .head = { .type = type | PROTO_REPLY, .id = id, .status = status },
        };
}

void reply_set_info(struct proto_message *reply, const struct storage_info *info) {
        reply->has |= PROTO_HAS(PROTO_TAG_INFO);
        reply->info = info_from(info);
}

void reply_set_text(struct proto_message *reply, const char *text) {
        reply->has |= PROTO_HAS(PROTO_TAG_TEXT);
        reply->text = (struct proto_bytes){ (const uint8_t *) text, strnlen(text, PROTO_TEXT_MAX) };
}

uint16_t status_from_error(int error) {
        switch (error) {
        case 0:
                return PROTO_OK;
        case -ENOENT:
                return PROTO_ABSENT;
        case -EEXIST:
                return PROTO_EXISTS;
        case -ESTALE:
                return PROTO_EXPIRED;
        case -EFBIG:
                return PROTO_TOO_LARGE;
        case -ENOSPC:
        case -EDQUOT:
                return PROTO_NO_SPACE;
        case -EROFS:
                return PROTO_READ_ONLY;
        case -EPERM:
                return PROTO_NOT_PERMITTED;
        case -ECANCELED:
                return PROTO_CONFLICT;
        case -EINVAL:
                return PROTO_BAD_REQUEST;
        case -EMFILE:
        case -ENFILE:
        case -ENOMEM:
        case -EAGAIN:
                return PROTO_BUSY;
        default:
                return PROTO_INTERNAL;
        }
}

const char *status_text(uint16_t status) {
        static const char *const texts[] = {
                [PROTO_ABSENT] = "there is no object with this URI",
                [PROTO_EXISTS] = "there is an object with this URI already",
                [PROTO_EXPIRED] = "the object has expired",
                [PROTO_TOO_LARGE] = "the body is larger than the store takes",
                [PROTO_NO_SPACE] = "there is no room for it in the store",
                [PROTO_BUSY] = "the server is short of memory or descriptors: try again later",
                [PROTO_NOT_PERMITTED] = "not permitted",
                [PROTO_BAD_REQUEST] = "the store does not take this request",
                [PROTO_INTERNAL] = "the store failed: the server's log says more",
                [PROTO_CONFLICT] = "the object is of another generation",
                [PROTO_BAD_RANGE] = "the range begins past the object's end",
                [PROTO_BAD_CHECKSUM] = "the body does not have the checksum that was said",
                [PROTO_ABORTED] = "the put was given up",
                [PROTO_READ_ONLY] = "the store can't be written at present",
        };

        return status < ARRAY_SIZE(texts) && texts[status] ? texts[status] : "refused";
}

void request_refuse(struct session *session, uint16_t type, uint64_t id, uint16_t status, const char *text) {
        struct proto_message reply = reply_message(type, id, status);

        reply_set_text(&reply, text ?: status_text(status));
        output_add(session, &reply);
}
