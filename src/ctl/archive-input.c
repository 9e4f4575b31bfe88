/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-input.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "macro.h"

#define BUFFER_SIZE (64 * 1024)
#define STEP_MAX    (UINT64_C(1) << 20) /* bytes of one splice() */

struct archive_input {
        int fd;
        bool is_file;
        uint64_t begin, end; /* of a file: where reading began and where it ends */

        uint64_t position;
        uint64_t left;  /* bytes of the present file that were not read */
        size_t padding; /* that follow them */
        struct tar_header header;
        uint8_t records[MEMBER_RECORDS_MAX];
};

int archive_input_new(int fd, struct archive_input **ret, uint64_t *ret_size) {
        struct archive_input *input;
        off_t position;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;

        input = calloc(1, sizeof(*input));
        if (!input)
                return -ENOMEM;

        input->fd = fd;
        position = lseek(fd, 0, SEEK_CUR);
        /* A file of no size may be one of /proc, which has bytes all the same. */
        if (S_ISREG(st.st_mode) && position >= 0 && st.st_size > position) {
                input->is_file = true;
                input->begin = (uint64_t) position;
                input->end = (uint64_t) st.st_size;
        }

        *ret_size = input->end - input->begin;
        *ret = input;
        return 0;
}

void archive_input_free(struct archive_input *input) {
        free(input);
}

const char *archive_input_name(const struct archive_input *input) {
        return input->header.name;
}

uint64_t archive_input_position(const struct archive_input *input) {
        return input->position;
}

/* Reads size bytes, or fewer at the end: how many, or an errno. */
static ssize_t read_some(struct archive_input *input, void *data, size_t size) {
        uint8_t *p = data;
        size_t done = 0;

        while (done < size) {
                ssize_t n = read(input->fd, p + done, size - done);

                if (n < 0 && errno == EAGAIN) {
                        struct pollfd wait = { .fd = input->fd, .events = POLLIN };

                        if (poll(&wait, 1, -1) >= 0)
                                continue;
                }
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t) n;
        }

        input->position += done;
        return (ssize_t) done;
}

static int read_all(struct archive_input *input, void *data, size_t size) {
        ssize_t n = read_some(input, data, size);

        if (n < 0)
                return (int) n;

        return (size_t) n < size ? -ENODATA : 0;
}

static int skip(struct archive_input *input, uint64_t size) {
        uint8_t buffer[BUFFER_SIZE];

        if (input->is_file && size > sizeof(buffer)) {
                uint64_t rest = input->end - input->begin - MIN(input->position, input->end - input->begin);

                if (size > rest) {
                        input->position += rest;
                        return -ENODATA;
                }
                if (lseek(input->fd, (off_t) size, SEEK_CUR) < 0)
                        return -errno;
                input->position += size;
                return 0;
        }

        while (size > 0) {
                size_t n = (size_t) MIN(size, sizeof(buffer));
                int r;

                r = read_all(input, buffer, n);
                if (r < 0)
                        return r;
                size -= n;
        }

        return 0;
}

/* 1, or 0 at the end: behind the blocks that mark it nothing need follow, but more archives may. */
static int next_header(struct archive_input *input) {
        unsigned n_zeros = 0;

        for (;;) {
                uint8_t block[TAR_BLOCK];
                ssize_t n;
                int r;

                n = read_some(input, block, sizeof(block));
                if (n < 0)
                        return (int) n;
                if (n == 0 && n_zeros >= TAR_END_BLOCKS)
                        return 0;
                if ((size_t) n < sizeof(block))
                        return -ENODATA;

                r = tar_header_decode(block, &input->header);
                if (r < 0)
                        input->position -= sizeof(block);
                if (r != 0)
                        return r;
                n_zeros += n_zeros < TAR_END_BLOCKS;
        }
}

static const char *refusal_of(int error) {
        switch (error) {
        case 0:
                return NULL;
        case -ENODATA:
                return "is no object: it has none of the records that export writes";
        case -E2BIG:
                return "has more records than an object can have";
        default:
                return "is damaged: its records don't fit their checksum";
        }
}

int archive_input_next(struct archive_input *input, struct member *ret, const char **ret_refusal) {
        int found = -ENODATA, r;

        *ret = (struct member){};

        for (;;) {
                const struct tar_header *header = &input->header;

                r = skip(input, input->left);
                if (r >= 0)
                        r = skip(input, input->padding);
                if (r < 0)
                        return r;
                input->left = input->padding = 0;

                r = next_header(input);
                if (r <= 0)
                        return r;

                input->left = tar_has_no_bytes(header->type) ? 0 : header->size;

                if (header->type == TAR_TYPE_RECORDS) {
                        input->padding = tar_padding(input->left);
                        *ret = (struct member){};
                        found = -E2BIG;
                        if (header->size <= sizeof(input->records)) {
                                r = archive_input_read(input, input->records, (size_t) header->size);
                                if (r < 0)
                                        return r;
                                found = member_decode(input->records, (size_t) header->size, ret);
                                if (found == -ENOMEM)
                                        return found;
                        }
                        continue;
                }

                if (ret->has_size && !tar_has_no_bytes(header->type))
                        input->left = ret->size;
                input->padding = tar_padding(input->left);
                ret->size = input->left;

                switch (header->type) {
                case TAR_TYPE_FILE:
                case '\0': /* of old, the same */
                        *ret_refusal = refusal_of(found);
                        return 1;
                case '5': /* a folder */
                case 'g': /* records that hold for all files */
                case 'L': /* long names, as GNU tar has them */
                case 'K':
                        break;
                default:
                        *ret_refusal = "is neither a file nor a folder";
                        return 1;
                }

                *ret = (struct member){};
                found = -ENODATA;
        }
}

int archive_input_read(struct archive_input *input, void *data, size_t size) {
        assert(size <= input->left);

        input->left -= size;
        return read_all(input, data, size);
}

/* ---- large bodies ---- */

/* From a file the library sends them by itself, and can begin anew after the daemon's restart. */
static int put_from_file(struct archive_input *input,
                         struct bulk *bulk,
                         objmapper_request *request,
                         objmapper_reply_fn reply,
                         void *userdata) {
        uint64_t size = input->left;
        off_t begin;
        int r;

        begin = lseek(input->fd, 0, SEEK_CUR);
        if (begin < 0)
                return -errno;
        if ((uint64_t) begin > input->end || size > input->end - (uint64_t) begin)
                return skip(input, size); /* which says so */

        r = objmapper_request_set_body_fd(request, input->fd, size);
        if (r < 0)
                return r;

        if (bulk_submit(bulk, request, reply, userdata) >= 0) {
                r = bulk_wait(bulk, 0);
                if (r < 0)
                        return r;
        }

        /* After a failure the position is anywhere. */
        input->left = 0;
        if (lseek(input->fd, begin, SEEK_SET) < 0)
                return -errno;
        return skip(input, size);
}

/* Moves what is there from the input into pipe: 1, 0: pipe is full; -ENODATA: the input ended; or an errno. */
static int feed(struct archive_input *input, int pipe) {
        ssize_t n;

        n = splice(input->fd, NULL, pipe, NULL, (size_t) MIN(input->left, STEP_MAX), SPLICE_F_NONBLOCK);
        if (n < 0)
                return errno == EAGAIN ? 0 : errno == EINTR ? 1 : -errno;
        if (n == 0)
                return -ENODATA;

        input->left -= (uint64_t) n;
        input->position += (uint64_t) n;
        return 1;
}

static int msec_until(uint64_t deadline) {
        uint64_t now = clock_usec(CLOCK_MONOTONIC);

        if (deadline == UINT64_MAX)
                return -1;

        return deadline <= now ? 0 : (int) MIN((deadline - now) / USEC_PER_MSEC + 1, (uint64_t) INT_MAX);
}

/* From a pipe they go through one more: so it is known how much was taken for a put that the daemon refused. */
static int put_from_pipe(struct archive_input *input,
                         struct bulk *bulk,
                         objmapper_request *request,
                         objmapper_reply_fn reply,
                         void *userdata) {
        objmapper_client *client = bulk->ctl->client;
        _cleanup_close_ int read_end = -EBADF, write_end = -EBADF;
        bool full = false;
        int ends[2], r;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        read_end = ends[0];
        write_end = ends[1];

        r = objmapper_request_set_body_fd(request, read_end, input->left);
        if (r < 0)
                return r;
        if (bulk_submit(bulk, request, reply, userdata) < 0)
                return 0;

        r = 1;
        while (objmapper_client_process(client), objmapper_client_get_pending(client) > 0) {
                struct pollfd p[] = {
                        { .fd = objmapper_client_get_fd(client), .events = POLLIN },
                        { .fd = input->fd, .events = POLLIN },
                };

                if (full)
                        p[1] = (struct pollfd){ .fd = write_end, .events = POLLOUT };
                else if (write_end < 0)
                        p[1].fd = -EBADF;

                if (poll(p, ARRAY_SIZE(p), msec_until(objmapper_client_get_deadline(client))) < 0 &&
                    errno != EINTR)
                        return -errno;

                if (full && p[1].revents)
                        full = false;
                else if (p[1].revents) {
                        r = feed(input, write_end);
                        full = r == 0;
                        if (r < 0 || input->left == 0)
                                write_end = close_fd(write_end);
                }
        }

        return MIN(r, 0);
}

int archive_input_put(struct archive_input *input,
                      struct bulk *bulk,
                      objmapper_request *request,
                      objmapper_reply_fn reply,
                      void *userdata) {
        return input->is_file ? put_from_file(input, bulk, request, reply, userdata)
                              : put_from_pipe(input, bulk, request, reply, userdata);
}
