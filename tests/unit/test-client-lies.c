/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libobjmapper does when the daemon talks nonsense. */

#include <sys/socket.h>

#include "client-harness.h"

static void lie_garbage(struct mock *mock, _unused_ uint64_t id) {
        mock_send_raw(mock, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", 48);
}

static void lie_head(struct mock *mock, _unused_ uint64_t id) {
        uint8_t p[PROTO_HEAD_FIXED];

        memset(p, 0xff, sizeof(p));
        mock_send_raw(mock, p, sizeof(p));
}

static void lie_id(struct mock *mock, uint64_t id) {
        mock_reply_copy(mock, id + 1, "x");
}

static void lie_type(struct mock *mock, uint64_t id) {
        reply_to(mock, PROTO_STAT, id);
}

static void lie_range(struct mock *mock, uint64_t id) {
        struct proto_message message = mock_ok(PROTO_GET, id);

        message.head.mode = OP_COPY;
        message.head.body_size = 1;
        message.info.size = 10;
        message.range = (struct proto_range){ 3, 1 };
        message.has = PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_RANGE);
        mock_send(mock, &message, "x");
}

static void lie_size(struct mock *mock, uint64_t id) {
        struct proto_message message = mock_ok(PROTO_GET, id);

        message.head.mode = OP_COPY;
        message.head.body_size = 100;
        message.info.size = 10;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
}

static void lie_no_fd(struct mock *mock, uint64_t id) {
        struct proto_message message = mock_ok(PROTO_GET, id);

        message.head.mode = OP_FDPASS;
        message.head.fd_count = 1;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
}

static void lie_few_fds(struct mock *mock, uint64_t id) {
        struct proto_message message = mock_ok(PROTO_GET, id);
        _cleanup_close_ int fd = file_with("x");

        message.head.mode = OP_FDPASS;
        message.head.fd_count = 2;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send_fds(mock, &message, &fd, 1);
}

static void lie_unmodified(struct mock *mock, uint64_t id) {
        struct proto_message message = mock_ok(PROTO_GET, id);

        message.head.status = PROTO_NOT_MODIFIED;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
}

static void lie_notice(struct mock *mock, _unused_ uint64_t id) {
        mock_notice(mock, PROTO_BAD_REQUEST, "you are mad");
}

static void (*const lies[])(struct mock *mock, uint64_t id) = {
        lie_garbage, lie_head,  lie_id,      lie_type,       lie_range,
        lie_size,    lie_no_fd, lie_few_fds, lie_unmodified, lie_notice,
};

static void script_lies(struct mock *mock) {
        for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
                mock_greet(mock);
                lies[i](mock, mock_skip(mock, PROTO_GET));
                g_assert_true(mock_at_end(mock));
        }
}

static void test_lies(void) {
        struct mock *mock = mock_new(script_lies, NULL);
        _cleanup_client_ objmapper_client *client = connect_to(mock);

        for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
                objmapper_object *object;

                g_test_message("%u", i);
                assert_errno(objmapper_get(client, "x", &object), -EPROTO);
                assert_words(client, mock->path);
        }
        mock_free(mock);
}

/* A change that was sent whole, and then nonsense: it may have been made. One that waits has not been. */
static void lie_busy(struct mock *mock, _unused_ uint64_t id) {
        mock_notice(mock, PROTO_BUSY, "go away");
}

static void (*const excuses[])(struct mock *mock, uint64_t id) = { lie_garbage, lie_notice, lie_busy };

static void script_excuses(struct mock *mock) {
        mock->limits.depth = 1;
        for (unsigned i = 0; i < G_N_ELEMENTS(excuses); i++) {
                mock_greet(mock);
                excuses[i](mock, mock_skip(mock, PROTO_PUT));
                g_assert_true(mock_at_end(mock));
        }
}

static void test_excuses(void) {
        struct mock *mock = mock_new(script_excuses, NULL);
        _cleanup_client_ objmapper_client *client = connect_to(mock);

        for (unsigned i = 0; i < G_N_ELEMENTS(excuses); i++) {
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");
                struct answer sent = {}, waiting = {};

                assert_ok(objmapper_client_submit(client, request, take_answer, &sent));
                assert_ok(objmapper_client_submit(client, request, take_answer, &waiting));
                finish(client);
                assert_errno(sent.error, -EINPROGRESS);
                assert_errno(waiting.error, excuses[i] == lie_busy ? -EBUSY : -EPROTO);
        }
        mock_free(mock);
}

/* Sizes that can't be true, and what has no meaning yet. */
static void script_huge(struct mock *mock) {
        struct proto_message message;
        _cleanup_close_ int fd = file_with("short");
        uint64_t id;

        mock_greet(mock);
        id = mock_skip(mock, PROTO_GET);
        message = (struct proto_message){ .head = { .type = PROTO_NOTICE, .status = 777 } };
        mock_send(mock, &message, NULL);
        message = (struct proto_message){ .head = { .type = 4000, .body_size = 5 } };
        mock_send(mock, &message, "skip!");
        message = mock_ok(PROTO_GET, id);
        message.head.mode = OP_FDPASS;
        message.head.fd_count = 1;
        message.info.size = 1 << 20; /* the file is shorter: mapped, it would be a SIGBUS */
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send_fds(mock, &message, &fd, 1);

        message = mock_ok(PROTO_GET, mock_skip(mock, PROTO_GET));
        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = UINT64_C(1) << 60;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
        mock_send_raw(mock, "only this", 9);
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "good");

        /* A page whose entries are nonsense. */
        message = mock_ok(PROTO_LIST, mock_skip(mock, PROTO_LIST));
        message.head.body_size = 8;
        message.count = 1;
        message.has = PROTO_HAS(PROTO_TAG_COUNT);
        mock_send(mock, &message, "\xff\xff\xff\xff____");
        g_assert_true(mock_at_end(mock));
}

static int visit_nothing(_unused_ objmapper_object *object, _unused_ void *userdata) {
        return 0;
}

static void test_huge(void) {
        struct mock *mock = mock_new(script_huge, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_object_ objmapper_object *object = NULL, *second = NULL;
                const void *data;
                size_t size;

                assert_ok(objmapper_get(client, "x", &object));
                assert_errno(objmapper_object_get_data(object, &data, &size), -EPROTO);
                assert_ok(objmapper_get(client, "y", &second));
                assert_data(second, "good");
                assert_errno(objmapper_list(client, "", visit_nothing, NULL), -EPROTO);
        }
        mock_free(mock);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client-lies/lies", test_lies);
        harness_add("/client-lies/excuses", test_excuses);
        harness_add("/client-lies/huge", test_huge);
        return g_test_run();
}
