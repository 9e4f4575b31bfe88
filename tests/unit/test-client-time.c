/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libobjmapper does when a connection is refused, or nobody answers in time. */

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "client-harness.h"

/* ---- connecting ---- */

static void script_nothing(_unused_ struct mock *mock) {
}

static void test_connect(void) {
        struct mock *mock = mock_new(script_nothing, NULL);
        _cleanup_client_ objmapper_client *client = connect_to(mock);
        g_autofree char *missing = g_strdup_printf("%s/missing", mock->directory);
        objmapper_client *none = NULL;
        objmapper_object *object;

        assert_ok(objmapper_client_set_sockets(client, missing, NULL));
        assert_errno(objmapper_get(client, "x", &object), -EHOSTDOWN);
        assert_words(client, "there is no socket");
        assert_errno(objmapper_client_connect(&none, missing, OBJMAPPER_AUTO), -EHOSTDOWN);

        /* The remedies name the units. */
        assert_ok(objmapper_client_set_sockets(client, "/run/objmapper-test.none/objmapper.sock",
                                               "/run/objmapper-test.none/publish.sock"));
        assert_errno(objmapper_get(client, "x", &object), -EHOSTDOWN);
        assert_words(client, "systemctl start objmapper@test.none.socket");
        assert_errno(objmapper_remove(client, "x"), -EHOSTDOWN);
        assert_words(client, "systemctl start objmapper-publish@test.none.socket");
        (void) g_setenv("XDG_RUNTIME_DIR", mock->directory, TRUE);
        assert_ok(objmapper_client_set_instance(client, NULL, 1));
        assert_errno(objmapper_get(client, "x", &object), -EHOSTDOWN);
        assert_words(client, "systemctl --user start objmapper.socket");
        g_unsetenv("XDG_RUNTIME_DIR");
        assert_errno(objmapper_client_set_instance(client, NULL, 1), -ENXIO);

        /* Nobody listens; not permitted. */
        assert_ok(objmapper_client_set_sockets(client, mock->path, NULL));
        mock->listener = close_fd(mock->listener);
        assert_errno(objmapper_get(client, "x", &object), -EHOSTDOWN);
        assert_words(client, "nobody listens");

        if (geteuid() == 0) {
                assert_ok(chmod(mock->directory, 0755));
                assert_ok(chmod(mock->path, 0660));
                assert_ok(chown(mock->path, 0, 8));
                assert_ok(seteuid(65534));
                assert_errno(objmapper_get(client, "x", &object), -EACCES);
                assert_words(client, "of the group mail");
                assert_ok(seteuid(0));
                assert_ok(chmod(mock->path, 0600));
                assert_ok(seteuid(65534));
                assert_errno(objmapper_get(client, "x", &object), -EACCES);
                assert_words(client, "only its owner is");
                assert_ok(seteuid(0));
                assert_ok(chmod(mock->directory, 0700));
                assert_ok(seteuid(65534));
                assert_errno(objmapper_get(client, "x", &object), -EACCES);
                assert_words(client, "enter the folder");
                assert_ok(seteuid(0));
        }
        mock_free(mock);
}

/* A backlog that is full is waited for. */
static void script_backlog(struct mock *mock) {
        pthread_barrier_t *barrier = mock->userdata;

        (void) pthread_barrier_wait(barrier);
        g_usleep(50000);
        for (unsigned i = 0; i < 2; i++) /* those that fill it */
                mock_accept(mock);
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "at last");
        g_assert_true(mock_at_end(mock));
}

static void test_backlog(void) {
        pthread_barrier_t barrier;
        struct mock *mock;
        int fill[2];

        assert_ok(pthread_barrier_init(&barrier, NULL, 2));
        mock = mock_new(script_backlog, &barrier);
        assert_ok(listen(mock->listener, 1));
        for (unsigned i = 0; i < 2; i++) {
                struct sockaddr_storage address;
                socklen_t size = sizeof(address);

                assert_ok(getsockname(mock->listener, (struct sockaddr *) &address, &size));
                fill[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                assert_ok(connect(fill[i], (struct sockaddr *) &address, size));
        }

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_object_ objmapper_object *object = NULL;

                objmapper_client_set_timeout(client, G_USEC_PER_SEC / 20);
                assert_errno(objmapper_get(client, "x", &object), -ETIMEDOUT);
                (void) pthread_barrier_wait(&barrier);
                objmapper_client_set_timeout(client, 20 * G_USEC_PER_SEC);
                assert_ok(objmapper_get(client, "x", &object));
                assert_data(object, "at last");
        }
        mock_free(mock);
        (void) close_fd(fill[0]);
        (void) close_fd(fill[1]);
        assert_ok(pthread_barrier_destroy(&barrier));
}

static void script_busy(struct mock *mock) {
        mock_accept(mock);
        mock_notice(mock, PROTO_BUSY, "MaxConnectionsPerUser=4 are open");
        mock_close(mock);
        mock_accept(mock);
        {
                struct proto_message message = mock_ok(PROTO_HELLO, mock_skip(mock, PROTO_HELLO));

                message.head.status = PROTO_UNSUPPORTED;
                message.has = PROTO_HAS(PROTO_TAG_LIMITS);
                message.limits = mock->limits;
                message.limits.min_version = message.limits.version = 2;
                mock_send(mock, &message, NULL);
        }
        mock_close(mock);
}

static void test_busy(void) {
        struct mock *mock = mock_new(script_busy, NULL);
        _cleanup_client_ objmapper_client *client = connect_to(mock);
        objmapper_object *object;

        assert_errno(objmapper_get(client, "x", &object), -EBUSY);
        assert_words(client, "MaxConnectionsPerUser=4 are open");
        assert_errno(objmapper_get(client, "x", &object), -EPROTO);
        assert_words(client, "versions 2 to 2");
        mock_free(mock);
}

/* ---- time ---- */

/* The late answers, one with a body and one with a descriptor, are skipped. */
static void script_late(struct mock *mock) {
        pthread_barrier_t *barrier = mock->userdata;
        uint64_t id[3];

        mock_greet(mock);
        for (unsigned i = 0; i < 3; i++)
                id[i] = mock_skip(mock, i < 2 ? PROTO_GET : PROTO_PUT);
        (void) pthread_barrier_wait(barrier);
        mock_reply_copy(mock, id[0], "late");
        mock_reply_fd(mock, id[1], "late");
        mock_reply_put(mock, id[2], 1);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "in time");
        g_assert_true(mock_at_end(mock));
}

static void test_late(void) {
        pthread_barrier_t barrier;
        struct mock *mock;

        assert_ok(pthread_barrier_init(&barrier, NULL, 2));
        mock = mock_new(script_late, &barrier);
        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_object_ objmapper_object *object = NULL;
                struct answer answer = {};
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");

                objmapper_client_set_timeout(client, G_USEC_PER_SEC / 5);
                g_assert_true(objmapper_client_get_deadline(client) == UINT64_MAX);
                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                g_assert_true(objmapper_client_get_deadline(client) <=
                              (uint64_t) g_get_monotonic_time() + G_USEC_PER_SEC / 5);
                assert_errno(objmapper_get(client, "y", &object), -ETIMEDOUT);
                assert_words(client, "get y: no answer from");
                assert_errno(answer.error, -ETIMEDOUT);
                assert_errno(objmapper_put(client, "z", "b", 1, NULL), -ETIMEDOUT);
                assert_words(client, "whether it was done is unknown");

                (void) pthread_barrier_wait(&barrier);
                objmapper_client_set_timeout(client, UINT64_MAX);
                assert_ok(objmapper_get(client, "x", &object));
                assert_data(object, "in time");
                g_assert_cmpuint(answer.n, ==, 1);
        }
        mock_free(mock);
        assert_ok(pthread_barrier_destroy(&barrier));
}

/* A caller that is busy with something else for longer than the time-out: the answer was there in time. */
static void script_prompt(struct mock *mock) {
        uint64_t id;

        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        id = mock_skip(mock, PROTO_GET);
        (void) pthread_barrier_wait(mock->userdata);
        mock_reply_copy(mock, id, "prompt");
        (void) pthread_barrier_wait(mock->userdata);
        g_assert_true(mock_at_end(mock));
}

static void test_prompt(void) {
        pthread_barrier_t barrier;
        struct mock *mock;

        assert_ok(pthread_barrier_init(&barrier, NULL, 2));
        mock = mock_new(script_prompt, &barrier);
        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_object_ objmapper_object *first = NULL;
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");
                struct answer answer = {};

                assert_ok(objmapper_get(client, "x", &first));
                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                g_assert_cmpint(objmapper_client_process(client), ==, 0);
                (void) pthread_barrier_wait(&barrier);
                (void) pthread_barrier_wait(&barrier); /* the answer is in the socket */
                objmapper_client_set_timeout(client, 1);
                g_assert_cmpint(objmapper_client_process(client), ==, 1);
                assert_ok(answer.error);
                assert_data(answer.object, "prompt");
                answer_done(&answer);
        }
        mock_free(mock);
        assert_ok(pthread_barrier_destroy(&barrier));
}

/* Bodies that stop half way, in both directions: neither side's bytes are mistaken for another's. */
static void script_stalled(struct mock *mock) {
        struct proto_message message;
        struct frame frame;
        uint64_t id, get = 0;
        bool aborted = false;

        mock_greet(mock);
        message = mock_ok(PROTO_GET, mock_skip(mock, PROTO_GET));
        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = 8;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
        mock_send_raw(mock, "half", 4);

        /* A stream that is not read ends in ABORT once it is. */
        id = mock_skip(mock, PROTO_PUT);
        (void) pthread_barrier_wait(mock->userdata);
        (void) pthread_barrier_wait(mock->userdata);
        while (!aborted || get == 0) {
                mock_read(mock, 0, &frame);
                if (frame.message.head.type == PROTO_GET)
                        get = frame.message.head.id;
                else
                        g_assert_cmpuint(frame.message.head.id, ==, id);
                aborted |= frame.message.head.type == PROTO_ABORT;
                g_assert_cmpuint(frame.message.head.type, !=, PROTO_END);
                frame_done(&frame);
        }
        mock_send_raw(mock, "half", 4);
        mock_reply_error(mock, PROTO_PUT, id, PROTO_ABORTED, NULL);
        mock_reply_copy(mock, get, "good");

        /* An inline put that is not read: nothing but the end of the connection can stop it. */
        (void) pthread_barrier_wait(mock->userdata);
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "new");
        g_assert_true(mock_at_end(mock));
}

static void test_stalled(void) {
        pthread_barrier_t barrier;
        struct mock *mock;

        assert_ok(pthread_barrier_init(&barrier, NULL, 2));
        mock = mock_new(script_stalled, &barrier);
        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_object_ objmapper_object *object = NULL, *second = NULL;
                char *body = g_malloc0(8 << 20);

                objmapper_client_set_timeout(client, G_USEC_PER_SEC / 10);
                assert_errno(objmapper_get(client, "x", &object), -ETIMEDOUT);
                assert_errno(objmapper_put(client, "x", body, 8 << 20, NULL), -ETIMEDOUT);
                g_free(body); /* it is not touched any more */
                (void) pthread_barrier_wait(&barrier);
                objmapper_client_set_timeout(client, 20 * G_USEC_PER_SEC);
                (void) pthread_barrier_wait(&barrier);
                assert_ok(objmapper_get(client, "x", &object));
                assert_data(object, "good");

                objmapper_client_set_timeout(client, G_USEC_PER_SEC / 10);
                body = g_malloc0(1 << 20);
                assert_errno(objmapper_put(client, "x", body, 1 << 20, NULL), -ETIMEDOUT);
                g_free(body);
                (void) pthread_barrier_wait(&barrier);
                objmapper_client_set_timeout(client, 20 * G_USEC_PER_SEC);
                assert_ok(objmapper_get(client, "x", &second));
                assert_data(second, "new");
        }
        mock_free(mock);
        assert_ok(pthread_barrier_destroy(&barrier));
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client-time/connect", test_connect);
        harness_add("/client-time/backlog", test_backlog);
        harness_add("/client-time/busy", test_busy);
        harness_add("/client-time/late", test_late);
        harness_add("/client-time/prompt", test_prompt);
        harness_add("/client-time/stalled", test_stalled);
        return g_test_run();
}
