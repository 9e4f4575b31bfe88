/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One request under way: from objmapper_client_submit() to its answer, over as many connections as it takes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cleanup.h"
#include "object.h"
#include "objmapper.h"
#include "protocol.h"
#include "upload.h"

/* What an epoll event is about. */
enum watch {
        WATCH_CONNECTION,
        WATCH_SOURCE, /* of a call's upload */
};

struct call;
struct connection;

TAILQ_HEAD(call_list, call);

struct call {
        enum watch watch; /* first: events point here */
        struct connection *connection;
        struct call_list *list; /* the one that link is in: waiting, pending, parked, done; or NULL */
        TAILQ_ENTRY(call) link;
        TAILQ_ENTRY(call) output_link; /* in its connection's output, while sending */

        objmapper_reply_fn reply;
        void *userdata;
        uint64_t progress_usec; /* when it last came on, or was submitted */
        uint64_t id;            /* on its present connection; 0: none */
        int output;             /* where a get's body goes, or negative */
        unsigned attempts;      /* connections on which it was sent, if only in part */
        uint16_t verb;
        enum proto_mode mode; /* of a get; OP_DEFAULT: the session's */
        struct proto_range range;
        bool conditional, ranged, revalidates;
        bool expects_fd, expects_splice; /* counted by its connection */
        bool sending;                    /* in its connection's output */
        bool watched;                    /* the upload's source is in the epoll set */
        bool maybe_done;   /* sent whole on a connection that was lost: the change may have been made */
        bool output_begun; /* bytes may have gone to the output */
        bool replied;      /* the answer is known; it is told when nothing is being sent any more */
        bool abandoned;    /* the answer was told (a time-out): what still comes is for nobody */
        bool own_words;    /* text is the whole story; else the daemon's remark */

        /* The answer. */
        int error;
        objmapper_object *object;
        objmapper_object *reused; /* whose memory the answer may take; owned */
        char *text;

        struct upload upload;
        struct proto_bytes uri; /* or prefix, behind head */
        size_t head_size, room; /* room: bytes of head and uri that there is memory for */
        uint8_t head[];         /* encoded */
};

/* -ENOMEM, -EINVAL (does not fit into a frame), -ENODATA (the body's file is too short), or an errno of the
 * body's descriptor. */
int call_new(struct call **ret, const objmapper_request *request);
/* A get of a whole object, that asks for nothing more. old: NULL, or one whose memory is used when it suffices: it is
 * consumed on success. -ENOMEM, -EINVAL: not a URI. */
int call_new_get(struct call **ret, struct call *old, const void *uri, size_t uri_size);
/* Memory for one whose head and URI have size bytes, to be old above; only its room is filled, free() frees it. NULL: no
 * memory. */
struct call *call_new_spare(size_t size);
void call_free(struct call *call);
/* Frees what it holds, but for its own memory. */
void call_empty(struct call *call);
DEFINE_CLEANUP(struct call, call_free)

/* Puts it at the tail (or head) of list, out of the one that it was in; NULL: of none. */
static inline void call_move(struct call *call, struct call_list *list, bool head) {
        if (call->list)
                TAILQ_REMOVE(call->list, call, link);

        call->list = list;
        if (list && head)
                TAILQ_INSERT_HEAD(list, call, link);
        else if (list)
                TAILQ_INSERT_TAIL(list, call, link);
}

/* Whether it can be asked again on a new connection after this one was lost; drained: it certainly was not
 * executed. If not, the errno to report. */
int call_check_retry(struct call *call, bool drained);

/* Formats its text; error is what to report. Returns error. */
int call_fail(struct call *call, int error, const char *format, ...) _printf_(3, 4);
/* The same for a body that came and found no place: the caller's output, or memory. */
void call_fail_body(struct call *call, int error);
/* The last word on its answer, with what is known here and not to the daemon. */
void call_conclude(struct call *call);
/* What went wrong, in words. */
void call_explain(const struct call *call, char *buffer, size_t size);
