/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mock-server.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fdpass.h"

static void *run(void *userdata) {
        struct mock *mock = userdata;

        mock->script(mock);
        return NULL;
}

void mock_listen(struct mock *mock) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        g_assert_cmpuint(strlen(mock->path), <, sizeof(address.sun_path));
        (void) stpcpy(address.sun_path, mock->path);

        mock->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(mock->listener, >=, 0);
        g_assert_cmpint(bind(mock->listener, (struct sockaddr *) &address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(mock->listener, 16), ==, 0);
}

void mock_unlisten(struct mock *mock) {
        mock->listener = close_fd(mock->listener);
        g_assert_cmpint(unlink(mock->path), ==, 0);
}

struct mock *mock_new(void (*script)(struct mock *mock), void *userdata) {
        struct mock *mock = g_new0(struct mock, 1);

        mock->directory = harness_make_dir();
        mock->path = g_strdup_printf("%s/s", mock->directory);
        mock->connection = -EBADF;
        mock->script = script;
        mock->userdata = userdata;
        mock->limits = (struct proto_limits){
                .version = PROTO_VERSION,
                .min_version = PROTO_VERSION,
                .mode = OP_AUTO,
                .store_id = 0x1234,
                .depth = 64,
                .streams = 4,
                .uri_max = PROTO_URI_MAX,
                .metadata_max = PROTO_METADATA_MAX,
                .object_max = UINT64_MAX,
                .inline_max = 16384,
                .fds_in_flight = 1024,
                .fds_per_batch = 253,
        };
        mock_listen(mock);
        g_assert_cmpint(pthread_create(&mock->thread, NULL, run, mock), ==, 0);

        return mock;
}

void mock_free(struct mock *mock) {
        g_assert_cmpint(pthread_join(mock->thread, NULL), ==, 0);
        mock_close(mock);
        (void) close_fd(mock->listener);
        g_free(mock->path);
        harness_remove_dir(mock->directory);
        g_free(mock);
}

void mock_close(struct mock *mock) {
        mock->connection = close_fd(mock->connection);
}

void mock_accept(struct mock *mock) {
        mock_close(mock);
        mock->connection = accept4(mock->listener, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(mock->connection, >=, 0);
}

void mock_greet(struct mock *mock) {
        struct proto_message message = {};

        mock_accept(mock);
        message = mock_ok(PROTO_HELLO, mock_skip(mock, PROTO_HELLO));
        message.has = PROTO_HAS(PROTO_TAG_LIMITS);
        message.limits = mock->limits;
        mock_send(mock, &message, NULL);
}

static gboolean read_all(int fd, uint8_t *p, size_t size) {
        for (size_t n = 0; n < size;) {
                ssize_t r = recv(fd, p + n, size - n, 0);

                if (r == 0 || (r < 0 && errno == ECONNRESET)) {
                        g_assert_cmpuint(n, ==, 0);
                        return FALSE;
                }
                if (r < 0 && errno == EINTR)
                        continue;
                g_assert_cmpint(r, >, 0);
                n += (size_t) r;
        }

        return TRUE;
}

gboolean mock_at_end(struct mock *mock) {
        uint8_t byte;

        return !read_all(mock->connection, &byte, 1);
}

void mock_read(struct mock *mock, uint16_t type, struct frame *ret) {
        uint8_t fixed[PROTO_HEAD_FIXED];
        const char *what = "";
        struct proto_head head;

        g_assert_true(read_all(mock->connection, fixed, sizeof(fixed)));
        assert_ok(proto_head_decode(fixed, &head));

        ret->head = g_malloc(head.head_size);
        memcpy(ret->head, fixed, sizeof(fixed));
        if (head.head_size > sizeof(fixed))
                g_assert_true(read_all(mock->connection, ret->head + sizeof(fixed),
                                       head.head_size - sizeof(fixed)));
        if (proto_message_decode(ret->head, head.head_size, &ret->message, &what) < 0)
                g_error("the client sends a bad %s: %s", proto_type_name(head.type), what);
        if (type != 0 && head.type != type)
                g_error("the client sends %s, not %s", proto_type_name(head.type), proto_type_name(type));

        ret->body = g_malloc(head.body_size + 1);
        if (head.body_size > 0)
                g_assert_true(read_all(mock->connection, ret->body, head.body_size));
        ret->body[head.body_size] = 0;
        mock->requests++;
}

void frame_done(struct frame *frame) {
        g_free(frame->head);
        g_free(frame->body);
}

uint64_t mock_skip(struct mock *mock, uint16_t type) {
        struct frame frame;

        mock_read(mock, type, &frame);
        frame_done(&frame);
        return frame.message.head.id;
}

void mock_send_raw(struct mock *mock, const void *p, size_t size) {
        for (size_t n = 0; n < size;) {
                ssize_t r = send(mock->connection, (const uint8_t *) p + n, size - n, MSG_NOSIGNAL);

                if (r < 0 &&
                    (errno == EPIPE || errno == ECONNRESET)) /* the client gave up: the test's matter */
                        return;
                g_assert_cmpint(r, >, 0);
                n += (size_t) r;
        }
}

static uint8_t *encode(const struct proto_message *message, size_t *ret_size) {
        size_t size = proto_message_size(message);
        uint8_t *p = g_malloc(size);

        g_assert_cmpint(proto_message_encode(message, p, size), ==, (ssize_t) size);
        *ret_size = size;
        return p;
}

void mock_send(struct mock *mock, const struct proto_message *message, const void *body) {
        g_autofree uint8_t *p = NULL;
        size_t size;

        p = encode(message, &size);
        mock_send_raw(mock, p, size);
        if (body)
                mock_send_raw(mock, body, message->head.body_size);
}

void mock_send_fds(struct mock *mock, const struct proto_message *message, const int *fds, size_t n_fds) {
        g_autofree uint8_t *p = NULL;
        struct iovec iov;

        p = encode(message, &iov.iov_len);
        iov.iov_base = p;
        g_assert_cmpint(fdpass_write(mock->connection, &iov, 1, fds, n_fds), ==, (ssize_t) iov.iov_len);
}

struct proto_message mock_ok(uint16_t type, uint64_t id) {
        return (struct proto_message){ .head = { .type = type | PROTO_REPLY, .id = id } };
}

void mock_reply_copy(struct mock *mock, uint64_t id, const char *body) {
        struct proto_message message = mock_ok(PROTO_GET, id);

        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = strlen(body);
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, body);
}

void mock_reply_fd(struct mock *mock, uint64_t id, const char *body) {
        struct proto_message message = mock_ok(PROTO_GET, id);
        _cleanup_close_ int fd = file_with(body);

        message.head.mode = OP_FDPASS;
        message.head.fd_count = 1;
        message.info.size = strlen(body);
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send_fds(mock, &message, &fd, 1);
}

void mock_reply_error(
                struct mock *mock, uint16_t type, uint64_t id, enum proto_status status, const char *text) {
        struct proto_message message = mock_ok(type, id);

        message.head.status = (uint16_t) status;
        if (text) {
                message.text = (struct proto_bytes){ (const uint8_t *) text, strlen(text) };
                message.has = PROTO_HAS(PROTO_TAG_TEXT);
        }
        mock_send(mock, &message, NULL);
}

void mock_reply_put(struct mock *mock, uint64_t id, uint64_t generation) {
        struct proto_message message = mock_ok(PROTO_PUT, id);

        message.info.etag.generation = generation;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
}

void mock_notice(struct mock *mock, enum proto_status status, const char *text) {
        struct proto_message message = { .head = { .type = PROTO_NOTICE, .status = (uint16_t) status } };

        if (text) {
                message.text = (struct proto_bytes){ (const uint8_t *) text, strlen(text) };
                message.has = PROTO_HAS(PROTO_TAG_TEXT);
        }
        mock_send(mock, &message, NULL);
}

int file_with(const char *body) {
        char path[64];
        int fd = memfd_create("body", MFD_CLOEXEC), reopened;

        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(write(fd, body, strlen(body)), ==, (ssize_t) strlen(body));
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
        reopened = open(path, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(reopened, >=, 0);
        (void) close_fd(fd);

        return reopened;
}
