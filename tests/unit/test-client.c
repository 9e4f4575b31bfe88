/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "harness.h"
#include "mock-server.h"
#include "objmapper.h"

DEFINE_CLEANUP(objmapper_client, objmapper_client_close)
DEFINE_CLEANUP(objmapper_request, objmapper_request_free)
DEFINE_CLEANUP(objmapper_object, objmapper_object_free)

static objmapper_client *connect_to(struct mock *mock) {
        objmapper_client *client;

        assert_ok(objmapper_client_new(&client));
        assert_ok(objmapper_client_set_sockets(client, mock->path, NULL));
        objmapper_client_set_timeout(client, 20 * G_USEC_PER_SEC);
        return client;
}

static void assert_body(objmapper_object *object, const char *body) {
        g_autofree char *read_back = g_malloc0(strlen(body) + 2);
        const void *data;
        size_t size;
        int fd;

        assert_ok(objmapper_object_get_data(object, &data, &size));
        g_assert_cmpmem(data, size, body, strlen(body));
        fd = objmapper_object_get_fd(object);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pread(fd, read_back, strlen(body) + 1, 0), ==, (ssize_t) strlen(body));
        g_assert_cmpstr(read_back, ==, body);
        g_assert_cmpint(write(fd, "x", 1), <, 0);
}

static void script_basic(struct mock *mock) {
        struct frame frame;

        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "copied");
        mock_reply_fd(mock, mock_skip(mock, PROTO_GET), "passed");
        mock_reply_error(mock, PROTO_GET, mock_skip(mock, PROTO_GET), PROTO_ABSENT, NULL);
        mock_read(mock, PROTO_PUT, &frame);
        g_assert_cmpstr((char *) frame.body, ==, "body");
        mock_reply_put(mock, frame.message.head.id, 7);
        frame_done(&frame);
        g_assert_true(mock_at_end(mock));
}

static void test_basic(void) {
        struct mock *mock = mock_new(script_basic, NULL);
        objmapper_client *client = connect_to(mock);
        objmapper_object *object;

        assert_ok(objmapper_get(client, "a", &object));
        g_assert_cmpint(objmapper_object_get_mode(object), ==, OBJMAPPER_COPY);
        assert_body(object, "copied");
        objmapper_object_free(object);

        assert_ok(objmapper_get(client, "b", &object));
        g_assert_cmpint(objmapper_object_get_mode(object), ==, OBJMAPPER_FDPASS);
        assert_body(object, "passed");
        objmapper_object_free(object);

        assert_errno(objmapper_get(client, "c", &object), -ENOENT);
        g_assert_cmpstr(objmapper_client_error(client), ==, "get c: absent");

        assert_ok(objmapper_put(client, "d", "body", 4, &object));
        g_assert_cmpuint(objmapper_object_get_generation(object), ==, 7);
        objmapper_object_free(object);

        objmapper_client_close(client);
        mock_free(mock);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client/basic", test_basic);
        return g_test_run();
}
