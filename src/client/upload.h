/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What one request sends: its head, and a put's body, as a row of frames. A body is inline behind the head, or
 * a stream of DATA frames that END or ABORT ends. A frame that was begun is always sent to its end; where the
 * source fails in the middle of one, zeros take its place and ABORT follows. */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "protocol.h"
#include "request.h"

#define UPLOAD_INLINE_MAX (UINT64_C(1) << 20)  /* bytes of a body in memory that go as one frame */
#define UPLOAD_SMALL_FILE (UINT64_C(64) << 10) /* bytes of a file that is read and goes as one frame */

enum upload_step {
        UPLOAD_HEAD, /* the request, with an inline body */
        UPLOAD_DATA, /* a piece of a stream */
        UPLOAD_END,
        UPLOAD_ABORT,
        UPLOAD_DONE, /* all is sent */
};

struct upload {
        /* The source, until it is given up. */
        const uint8_t *data;        /* in memory: borrowed, or a small file's in buffer */
        int fd;                     /* or here, borrowed */
        objmapper_source_fn source; /* or from this */
        void *userdata;
        uint64_t size;  /* of the body; UINT64_MAX: to the end of fd */
        uint64_t start; /* where in a file it begins */
        bool stream, sendfile;
        bool polled; /* a source, or fd is no file: read once, when it has something */
        uint8_t *buffer;

        /* How far it is. */
        enum upload_step step;
        uint64_t id;
        bool gave_up;      /* no more is taken from the source: ABORT is next */
        int error;         /* why, when the source is to blame */
        uint64_t position; /* bytes of the body in frames so far, the present one included */

        /* The present frame. */
        const uint8_t *head;
        size_t head_size;
        const uint8_t *body; /* in memory; NULL: sent from fd, or zeros once the source is given up */
        uint64_t body_size;
        uint64_t sent; /* of head and body */
        uint8_t data_head[PROTO_HEAD_FIXED];
};

/* Looks at the request's body and decides how it goes; a small file is read. 0, or -errno of fd, -ENOMEM. */
int upload_init(struct upload *upload, const objmapper_request *request);
void upload_done(struct upload *upload);

/* Whether it can begin anew: nothing was taken from a source that can't give it again. */
bool upload_restartable(const struct upload *upload);
/* The first frame: the request's encoded head, borrowed, in which id, mode and body are filled in. */
void upload_begin(struct upload *upload, uint8_t *head, size_t head_size, uint64_t id, enum proto_mode mode);
/* Whether the daemon has, or may have, all that it needs to act. */
bool upload_acted_on(const struct upload *upload);
/* Sets a file's position behind what was sent. */
void upload_move_source(const struct upload *upload);

/* Appends what of the present frame can be sent from memory. Returns the parts added; *ret_more tells that the
 * frame goes on from fd. */
size_t upload_gather(const struct upload *upload, struct iovec *iov, size_t n_iov, bool *ret_more);
/* Sends from fd, when upload_gather() had nothing. Returns the bytes sent, or 0: try again, the source turned
 * out otherwise; or a negative errno of the socket. */
ssize_t upload_sendfile(struct upload *upload, int socket);
/* Bytes of the present frame that are still to be sent. */
static inline uint64_t upload_left(const struct upload *upload) {
        return upload->head_size + upload->body_size - upload->sent;
}

/* n of them were. Whether the frame is whole. */
static inline bool upload_advance(struct upload *upload, uint64_t n) {
        assert(n <= upload_left(upload));

        upload->sent += n;
        return upload_left(upload) == 0;
}

/* upload_next() where a stream has frames to come. */
int upload_next_of_stream(struct upload *upload);
/* The next frame. 1: there is one; 0: all is sent; -EAGAIN: the source has nothing yet. */
static inline int upload_next(struct upload *upload) {
        if (upload->stream && upload->step < UPLOAD_END)
                return upload_next_of_stream(upload);

        upload->step = UPLOAD_DONE;
        return 0;
}

/* The source must not be touched any more: the present frame ends in zeros, and ABORT follows. Only for a
 * stream, or before anything was sent. error: what to report, or 0. */
void upload_give_up(struct upload *upload, int error);
