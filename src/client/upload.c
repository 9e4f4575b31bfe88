/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "upload.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "transfer.h"

#define PIECE_MAX  (UINT64_C(1) << 20)   /* bytes of a DATA frame from memory or by sendfile */
#define BUFFER_MAX (UINT64_C(256) << 10) /* bytes of a DATA frame that is read first */

static const uint8_t zeros[32 * 1024];

/* Reads size bytes, or up to the end. Returns the bytes, or -errno. */
static ssize_t read_at(int fd, uint8_t *p, size_t size, uint64_t offset) {
        size_t n = 0;

        while (n < size) {
                ssize_t r = pread(fd, p + n, size - n, (off_t) (offset + n));

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (r == 0)
                        break;
                n += (size_t) r;
        }

        return (ssize_t) n;
}

static int init_small_file(struct upload *upload) {
        ssize_t n;

        upload->buffer = malloc(MAX(upload->size, 1U));
        if (!upload->buffer)
                return -ENOMEM;

        n = read_at(upload->fd, upload->buffer, (size_t) upload->size, upload->start);
        if (n < 0)
                return (int) n;
        if ((uint64_t) n < upload->size)
                return -ENODATA;

        upload->data = upload->buffer;
        return 0;
}

static int init_fd(struct upload *upload, uint64_t wanted) {
        struct stat st;
        off_t position;

        if (fstat(upload->fd, &st) < 0)
                return -errno;

        position = lseek(upload->fd, 0, SEEK_CUR);
        upload->start = position >= 0 ? (uint64_t) position : 0;
        upload->size = wanted;
        upload->stream = true;
        upload->polled = position < 0 || S_ISCHR(st.st_mode);

        /* A file of no size may be one of /proc, which has bytes all the same: it is read to its end. */
        if (S_ISREG(st.st_mode) && (uint64_t) st.st_size > upload->start) {
                uint64_t there = (uint64_t) st.st_size - upload->start;

                if (wanted != OBJMAPPER_TO_END && wanted > there)
                        return -ENODATA;
                upload->size = MIN(wanted, there);
                upload->sendfile = true;
        }

        if (upload->sendfile && upload->size <= UPLOAD_SMALL_FILE) {
                upload->stream = false;
                return init_small_file(upload);
        }

        return 0;
}

int upload_init(struct upload *upload, const objmapper_request *request) {
        *upload = (struct upload){ .fd = -EBADF };

        if (request->body_fd >= 0) {
                upload->fd = request->body_fd;
                return init_fd(upload, request->source_size);
        }

        if (request->source) {
                upload->source = request->source;
                upload->userdata = request->source_userdata;
                upload->size = request->source_size;
                upload->stream = upload->polled = true;
                return 0;
        }

        upload->data = request->data;
        upload->size = request->data_size;
        upload->stream = upload->size > UPLOAD_INLINE_MAX;
        return 0;
}

void upload_done(struct upload *upload) {
        free(upload->buffer);
        upload->buffer = NULL;
}

bool upload_restartable(const struct upload *upload) {
        return !upload->polled || upload->position == 0;
}

void upload_begin(struct upload *upload, uint8_t *head, size_t head_size, uint64_t id, enum proto_mode mode) {
        uint64_t body_size = upload->stream ? 0 : upload->size;

        proto_head_set_request(head, id, (uint8_t) mode, body_size);
        if (upload->stream)
                head[7] |= PROTO_FLAG_STREAM;
        else
                head[7] &= (uint8_t) ~PROTO_FLAG_STREAM;

        upload->step = UPLOAD_HEAD;
        upload->gave_up = false;
        upload->error = 0;
        upload->id = id;
        upload->head = head;
        upload->head_size = head_size;
        upload->body = upload->stream ? NULL : upload->data;
        upload->body_size = body_size;
        upload->position = body_size;
        upload->sent = 0;
}

bool upload_acted_on(const struct upload *upload) {
        return upload->step == UPLOAD_DONE && !upload->gave_up;
}

void upload_move_source(const struct upload *upload) {
        if (upload->fd >= 0 && !upload->polled)
                (void) lseek(upload->fd, (off_t) (upload->start + upload->position), SEEK_SET);
}

size_t upload_gather(const struct upload *upload, struct iovec *iov, size_t n_iov, bool *ret_more) {
        uint64_t in_body = upload->sent > upload->head_size ? upload->sent - upload->head_size : 0;
        uint64_t left = upload->body_size - in_body;
        size_t n = 0;

        *ret_more = false;

        if (upload->sent < upload->head_size && n < n_iov)
                iov[n++] = (struct iovec){ (void *) (upload->head + upload->sent),
                                           upload->head_size - (size_t) upload->sent };
        if (left == 0)
                return n;

        if (upload->body && n < n_iov)
                iov[n++] = (struct iovec){ (void *) (upload->body + in_body), (size_t) left };
        else if (!upload->body && upload->gave_up && n < n_iov)
                iov[n++] = (struct iovec){ (void *) zeros, (size_t) MIN(left, sizeof(zeros)) };
        *ret_more = !upload->body;

        return n;
}

/* The kernel can't send from fd: what is left of the frame is read. */
static void read_rest(struct upload *upload, uint64_t done) {
        ssize_t n;

        upload->sendfile = false;
        if (!upload->buffer)
                upload->buffer = malloc(PIECE_MAX);
        if (!upload->buffer) {
                upload_give_up(upload, -ENOMEM);
                return;
        }

        n = read_at(upload->fd, upload->buffer + done, (size_t) (upload->body_size - done),
                    upload->start + upload->position - upload->body_size + done);
        if (n < 0 || (uint64_t) n < upload->body_size - done)
                upload_give_up(upload, n < 0 ? (int) n : -ENODATA);
        else
                upload->body = upload->buffer;
}

ssize_t upload_sendfile(struct upload *upload, int socket) {
        uint64_t done = upload->sent - upload->head_size;
        off_t offset = (off_t) (upload->start + upload->position - upload->body_size + done);
        ssize_t n;

        {
                SIGPIPE_GUARD;
                n = sendfile(socket, upload->fd, &offset, (size_t) (upload->body_size - done));
        }

        if (n > 0)
                return n;

        if (n == 0)
                upload_give_up(upload, -ENODATA); /* the file became shorter */
        else if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
                read_rest(upload, done);
        else if (errno == EAGAIN || errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
                return -errno;
        else if (errno != EINTR)
                upload_give_up(upload, -errno);

        return 0;
}

/* A frame without fields, of the request's id. */
static void make_frame(struct upload *upload, enum upload_step step, uint16_t type, uint64_t body_size) {
        struct proto_message message = {
                .head.type = type,
                .head.id = upload->id,
                .head.body_size = body_size,
        };
        ssize_t n = proto_message_encode(&message, upload->data_head, sizeof(upload->data_head));

        assert(n == sizeof(upload->data_head));

        upload->step = step;
        upload->head = upload->data_head;
        upload->head_size = sizeof(upload->data_head);
        upload->body = NULL;
        upload->body_size = body_size;
        upload->position += body_size;
        upload->sent = 0;
}

/* Reads a piece into the buffer. Returns the bytes, 0 at the end, -EAGAIN, or another errno. */
static ssize_t read_piece(struct upload *upload, uint64_t size) {
        struct pollfd p = { .fd = upload->fd, .events = POLLIN };
        ssize_t n;

        /* At first all of the body is left: no later piece is larger. */
        size = MIN(size, BUFFER_MAX);
        if (!upload->buffer)
                upload->buffer = malloc(MAX(size, 1U));
        if (!upload->buffer)
                return -ENOMEM;

        if (upload->source) {
                int64_t given = upload->source(upload->buffer, (size_t) size, upload->userdata);

                return given <= (int64_t) size ? (ssize_t) given : -EINVAL;
        }
        if (upload->polled) {
                do
                        n = poll(&p, 1, 0);
                while (n < 0 && errno == EINTR);
                if (n == 0)
                        return -EAGAIN;
        }

        do /* a file is never waited for by epoll: only a pipe can say -EAGAIN */
                n = upload->polled ? read(upload->fd, upload->buffer, (size_t) size)
                                   : pread(upload->fd, upload->buffer, (size_t) size,
                                           (off_t) (upload->start + upload->position));
        while (n < 0 && errno == EINTR);

        return n < 0 ? -errno : n;
}

static int next_piece(struct upload *upload) {
        uint64_t left = upload->size - upload->position;
        ssize_t n;

        if (upload->size != OBJMAPPER_TO_END && left == 0) {
                make_frame(upload, UPLOAD_END, PROTO_END, 0);
                return 1;
        }

        if (upload->data || upload->sendfile) {
                const uint8_t *from = upload->data ? upload->data + upload->position : NULL;

                make_frame(upload, UPLOAD_DATA, PROTO_DATA, MIN(left, PIECE_MAX));
                upload->body = from;
                return 1;
        }

        n = read_piece(upload, left);
        if (n == -EAGAIN)
                return -EAGAIN;
        if (n > 0) {
                make_frame(upload, UPLOAD_DATA, PROTO_DATA, (uint64_t) n);
                upload->body = upload->buffer;
        } else if (n == 0 && upload->size == OBJMAPPER_TO_END)
                make_frame(upload, UPLOAD_END, PROTO_END, 0);
        else {
                upload_give_up(upload, n < 0 ? (int) n : -ENODATA);
                make_frame(upload, UPLOAD_ABORT, PROTO_ABORT, 0);
        }

        return 1;
}

int upload_next_of_stream(struct upload *upload) {
        if (upload->gave_up) {
                make_frame(upload, UPLOAD_ABORT, PROTO_ABORT, 0);
                return 1;
        }

        return next_piece(upload);
}

void upload_give_up(struct upload *upload, int error) {
        if (upload->step >= UPLOAD_END || upload->gave_up)
                return;

        upload->gave_up = true;
        upload->error = error;
        if (upload->step == UPLOAD_DATA)
                upload->body = NULL;
}
