/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "call.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"
#include "plain.h"
#include "words.h"

#define ROOM_MIN     512 /* bytes of head and URI, so that most calls can follow each other in the same memory */
#define ATTEMPTS_MAX 8 /* lost connections in a row that one request is carried over */

int call_new(struct call **ret, const objmapper_request *request) {
        _cleanup_(call_freep) struct call *call = NULL;
        struct proto_message message = request->message;
        struct proto_bytes uri = request->message.uri.size > 0 ? request->message.uri
                                                               : request->message.prefix;
        struct upload upload = { .fd = -EBADF };
        size_t size;
        int r;

        if (request->verb == OBJMAPPER_PUT) {
                r = upload_init(&upload, request);
                if (r < 0)
                        goto fail;

                if (upload.stream && upload.size != OBJMAPPER_TO_END) {
                        message.size = upload.size;
                        message.has |= PROTO_HAS(PROTO_TAG_SIZE);
                }
        }

        message.head.id = 1; /* some; the real one is filled in when it is sent */
        size = proto_message_size(&message);
        if (size > PROTO_HEAD_MAX) {
                r = -EINVAL;
                goto fail;
        }

        call = malloc(sizeof(*call) + size + uri.size);
        if (!call) {
                r = -ENOMEM;
                goto fail;
        }

        *call = (struct call){
                .watch = WATCH_SOURCE,
                .verb = (uint16_t) request->verb,
                .mode = request->message.head.mode,
                .conditional = request->message.has &
                               (PROTO_HAS(PROTO_TAG_IF_ABSENT) | PROTO_HAS(PROTO_TAG_IF_GENERATION)),
                .ranged = request->message.has & PROTO_HAS(PROTO_TAG_RANGE),
                .revalidates = request->message.has & PROTO_HAS(PROTO_TAG_IF_NONE_MATCH),
                .range = request->message.range,
                .output = request->output,
                .upload = upload,
                .head_size = size,
                .room = size + uri.size,
                .uri = { .data = call->head + size, .size = uri.size },
        };
        (void) proto_message_encode(&message, call->head, size);
        if (uri.size > 0)
                memcpy(call->head + size, uri.data, uri.size);

        *ret = TAKE_PTR(call);
        return 0;

fail:
        upload_done(&upload);
        return r;
}

struct call *call_new_spare(size_t size) {
        size_t room = MAX(size, (size_t) ROOM_MIN);
        struct call *call = malloc(sizeof(*call) + room);

        if (call)
                call->room = room;
        return call;
}

int call_new_get(struct call **ret, struct call *old, const void *uri, size_t uri_size) {
        size_t size = proto_plain_get_size(uri_size), room;
        struct call *call = old;

        if (proto_uri_check(uri, uri_size) < 0)
                return -EINVAL;

        if (!old || old->room < size) {
                call = call_new_spare(size);
                if (!call)
                        return -ENOMEM;
                free(old);
        }
        room = call->room;

        *call = (struct call){
                .watch = WATCH_SOURCE,
                .verb = OBJMAPPER_GET,
                .output = -EBADF,
                .upload.fd = -EBADF,
                .head_size = size,
                .room = room,
                /* The head ends with it. */
                .uri = { .data = call->head + size - uri_size, .size = uri_size },
        };
        proto_plain_get_encode(call->head, uri, uri_size);

        *ret = call;
        return 0;
}

void call_empty(struct call *call) {
        assert(!call->list && !call->sending && !call->watched);

        objmapper_object_free(call->object);
        objmapper_object_free(call->reused);
        upload_done(&call->upload);
        free(call->text);
}

void call_free(struct call *call) {
        if (!call)
                return;

        call_empty(call);
        free(call);
}

int call_check_retry(struct call *call, bool drained) {
        if (call->upload.error < 0)
                return call->upload.error;
        if (call->output_begun)
                return -ECONNRESET;

        if (!drained && verb_changes(call->verb) && upload_acted_on(&call->upload)) {
                if (call->conditional)
                        return -EINPROGRESS;
                call->maybe_done = true;
        }

        if (call->attempts >= ATTEMPTS_MAX || !upload_restartable(&call->upload))
                return call->maybe_done ? -EINPROGRESS : -ECONNRESET;

        return 0;
}

int call_fail(struct call *call, int error, const char *format, ...) {
        char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL; /* then the meaning of the error must do */
        va_end(ap);

        free(call->text);
        call->text = text;
        call->own_words = true;
        call->error = error;
        return error;
}

void call_fail_body(struct call *call, int error) {
        (void) call_fail(call, error, "can't %s the body: %s", call->output >= 0 ? "write" : "keep",
                         strerror(-error));
}

void call_conclude(struct call *call) {
        if (call->error == 0) {
                upload_move_source(&call->upload);
                return;
        }

        if (call->upload.error < 0)
                (void) call_fail(call, call->upload.error, "can't read what is to be put: %s",
                                 error_meaning(call->upload.error));

        /* An earlier connection may have done it, whatever is said now. */
        if (call->maybe_done && call->verb == OBJMAPPER_REMOVE && call->error == -ENOENT) {
                const struct proto_message nothing = {};

                call->error = object_new(&call->object, NULL, call->uri, &nothing);
        } else if (call->maybe_done && call->error != -EINPROGRESS)
                (void) call_fail(call, -EINPROGRESS,
                                 "outcome unknown: the daemon went away before it answered, and the second "
                                 "time: %s",
                                 call->text ?: error_meaning(call->error));
}

void call_explain(const struct call *call, char *buffer, size_t size) {
        char uri[256];

        (void) printable(uri, sizeof(uri), call->uri.data, call->uri.size);
        if (call->text && call->own_words)
                (void) snprintf(buffer, size, "%s %s: %s", proto_type_name(call->verb), uri, call->text);
        else
                (void) snprintf(buffer, size, "%s%s%s: %s%s%s%s", proto_type_name(call->verb),
                                uri[0] ? " " : "", uri, error_meaning(call->error), call->text ? " (" : "",
                                call->text ?: "", call->text ? ")" : "");
}
