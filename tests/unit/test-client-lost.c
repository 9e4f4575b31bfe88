/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libobjmapper does when a connection is lost. */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "client-harness.h"

#define BIG_SIZE ((size_t) 3 << 20)

static objmapper_request *make(enum objmapper_verb verb) {
        return request_for(verb, verb == OBJMAPPER_STATS ? "" : "x");
}

/* What becomes of a request that was sent whole on a connection that then was lost. */
struct loss {
        const char *name;
        enum objmapper_verb verb;
        bool conditional;
        enum proto_status notice; /* that the daemon sent before; 0: none */
        enum proto_status second; /* the answer of the second connection, when it is asked again */
        int result;
};

static const struct loss losses[] = {
        { "get", .verb = OBJMAPPER_GET },
        { "stat", .verb = OBJMAPPER_STAT },
        { "list", .verb = OBJMAPPER_LIST },
        { "stats", .verb = OBJMAPPER_STATS },
        { "put", .verb = OBJMAPPER_PUT },
        { "set-metadata", .verb = OBJMAPPER_SET_METADATA },
        { "purge", .verb = OBJMAPPER_PURGE },
        { "remove", .verb = OBJMAPPER_REMOVE },
        { "remove, done the first time", .verb = OBJMAPPER_REMOVE, .second = PROTO_ABSENT },
        { "remove, absent all along", .verb = OBJMAPPER_REMOVE, .notice = PROTO_DRAINED,
          .second = PROTO_ABSENT, .result = -ENOENT },
        { "put, refused the second time", .verb = OBJMAPPER_PUT, .second = PROTO_NO_SPACE,
          .result = -EINPROGRESS },
        { "conditional put", .verb = OBJMAPPER_PUT, .conditional = true, .result = -EINPROGRESS },
        { "conditional set-metadata", .verb = OBJMAPPER_SET_METADATA, .conditional = true,
          .result = -EINPROGRESS },
        { "conditional remove", .verb = OBJMAPPER_REMOVE, .conditional = true, .result = -EINPROGRESS },
        { "drained put", .verb = OBJMAPPER_PUT, .notice = PROTO_DRAINED },
        { "drained, refused the second time", .verb = OBJMAPPER_PUT, .notice = PROTO_DRAINED,
          .second = PROTO_NO_SPACE, .result = -ENOSPC },
        { "drained conditional put", .verb = OBJMAPPER_PUT, .notice = PROTO_DRAINED, .conditional = true },
        { "killed while draining", .verb = OBJMAPPER_PUT, .notice = PROTO_DRAINING, .conditional = true,
          .result = -EINPROGRESS },
        { "drained conditional remove", .verb = OBJMAPPER_REMOVE, .notice = PROTO_DRAINED,
          .conditional = true },
};

static void script_losses(struct mock *mock) {
        for (unsigned i = 0; i < G_N_ELEMENTS(losses); i++) {
                const struct loss *loss = &losses[i];
                uint64_t id;

                mock_greet(mock);
                (void) mock_skip(mock, (uint16_t) loss->verb);
                if (loss->notice)
                        mock_notice(mock, loss->notice, "stopping");
                mock_close(mock);
                if (loss->result == -EINPROGRESS && loss->conditional)
                        continue;

                mock_greet(mock);
                id = mock_skip(mock, (uint16_t) loss->verb);
                if (loss->second)
                        mock_reply_error(mock, (uint16_t) loss->verb, id, loss->second, NULL);
                else
                        reply_to(mock, (uint16_t) loss->verb, id);
                g_assert_true(mock_at_end(mock));
        }
}

static void test_losses(void) {
        struct mock *mock = mock_new(script_losses, NULL);

        for (unsigned i = 0; i < G_N_ELEMENTS(losses); i++) {
                const struct loss *loss = &losses[i];
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = make(loss->verb);

                g_test_message("%s", loss->name);
                if (loss->verb == OBJMAPPER_PUT)
                        assert_ok(objmapper_request_set_body(request, "body", 4));
                if (loss->conditional)
                        assert_ok(objmapper_request_set_if_generation(request, 4));
                assert_errno(objmapper_client_call(client, request, NULL), loss->result);
                if (loss->result == -EINPROGRESS)
                        assert_words(client, "outcome unknown");
        }
        mock_free(mock);
}

/* Puts that were sent in part: certainly not stored. From memory and a file they are put again, from the
 * beginning; conditional ones, too. */
static void read_whole(struct mock *mock) {
        g_autoptr(GByteArray) got = g_byte_array_new();
        struct frame frame;
        uint64_t id;

        mock_read(mock, PROTO_PUT, &frame);
        id = frame.message.head.id;
        g_assert_cmpuint(frame.message.size, ==, BIG_SIZE);
        frame_done(&frame);
        for (;;) {
                mock_read(mock, 0, &frame);
                frame_done(&frame);
                if (frame.message.head.type == PROTO_END)
                        break;
                g_byte_array_set_size(got, got->len + (guint) frame.message.head.body_size);
        }
        g_assert_cmpuint(got->len, ==, BIG_SIZE);
        mock_reply_put(mock, id, 5);
}

static void script_partly(struct mock *mock) {
        for (unsigned i = 0; i < 2; i++) {
                mock_greet(mock);
                (void) mock_skip(mock, PROTO_PUT);
                (void) mock_skip(mock, PROTO_DATA);
                mock_greet(mock);
                read_whole(mock);
                g_assert_true(mock_at_end(mock));
        }

        /* An inline one, of which half a frame was read. */
        mock_greet(mock);
        {
                uint8_t p[1000];

                g_assert_cmpint(recv(mock->connection, p, sizeof(p), MSG_WAITALL), ==, sizeof(p));
        }
        mock_greet(mock);
        mock_reply_put(mock, mock_skip(mock, PROTO_PUT), 5);
        g_assert_true(mock_at_end(mock));

        /* A pipe can't be read again: before END, and after it. */
        mock_greet(mock);
        (void) mock_skip(mock, PROTO_PUT);
        (void) mock_skip(mock, PROTO_DATA);
        mock_greet(mock);
        (void) mock_skip(mock, PROTO_PUT);
        (void) mock_skip(mock, PROTO_DATA);
        (void) mock_skip(mock, PROTO_END);
        mock_close(mock);
}

static void test_partly(void) {
        struct mock *mock = mock_new(script_partly, NULL);
        g_autofree char *body = g_malloc0(BIG_SIZE);

        for (unsigned i = 0; i < 2; i++) {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");
                _cleanup_close_ int fd = memfd_create("source", MFD_CLOEXEC);

                g_assert_cmpint(pwrite(fd, body, BIG_SIZE, 0), ==, (ssize_t) BIG_SIZE);
                if (i == 0)
                        assert_ok(objmapper_request_set_body(request, body, BIG_SIZE));
                else
                        assert_ok(objmapper_request_set_body_fd(request, fd, OBJMAPPER_TO_END));
                assert_ok(objmapper_request_set_if_absent(request, 1));
                assert_ok(objmapper_client_call(client, request, NULL));
        }

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");

                assert_ok(objmapper_request_set_body(request, body, 1 << 20));
                assert_ok(objmapper_request_set_if_absent(request, 1));
                assert_ok(objmapper_client_call(client, request, NULL));
        }

        for (unsigned i = 0; i < 2; i++) {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                int fds[2];

                assert_ok(pipe2(fds, O_CLOEXEC));
                g_assert_cmpint(write(fds[1], "some", 4), ==, 4);
                if (i == 1)
                        fds[1] = close_fd(fds[1]);
                assert_errno(objmapper_put_fd(client, "x", fds[0], NULL),
                             i == 0 ? -ECONNRESET : -EINPROGRESS);
                (void) close_fd(fds[0]);
                (void) close_fd(fds[1]);
        }
        mock_free(mock);
}

/* A file that was put, perhaps, and is shorter when it is put again: that it can't be is not that it was not. */
static void script_shorter(struct mock *mock) {
        int *fd = mock->userdata;
        struct frame frame;
        uint64_t id;

        mock_greet(mock);
        do {
                mock_read(mock, 0, &frame);
                frame_done(&frame);
        } while (frame.message.head.type != PROTO_END);
        assert_ok(ftruncate(*fd, 0));
        mock_greet(mock);
        id = mock_skip(mock, PROTO_PUT);
        do {
                mock_read(mock, 0, &frame);
                frame_done(&frame);
        } while (frame.message.head.type != PROTO_ABORT);
        mock_reply_error(mock, PROTO_PUT, id, PROTO_ABORTED, NULL);
        g_assert_true(mock_at_end(mock));
}

static void test_shorter(void) {
        _cleanup_close_ int fd = memfd_create("source", MFD_CLOEXEC);
        struct mock *mock = mock_new(script_shorter, &fd);

        assert_ok(ftruncate(fd, (off_t) BIG_SIZE));
        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                assert_errno(objmapper_put_fd(client, "x", fd, NULL), -EINPROGRESS);
                assert_words(client, "outcome unknown");
                assert_words(client, "can't read what is to be put");
        }
        mock_free(mock);
}

/* The daemon restarted while nothing was asked: a conditional change is simply asked on a new connection. */
static void script_idle(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "one");
        mock_close(mock);
        mock_greet(mock);
        mock_reply_put(mock, mock_skip(mock, PROTO_PUT), 2);
        mock_notice(mock, PROTO_DRAINING, NULL);
        mock_greet(mock);
        mock_reply_put(mock, mock_skip(mock, PROTO_PUT), 3);
        g_assert_true(mock_at_end(mock));
}

static void test_idle(void) {
        struct mock *mock = mock_new(script_idle, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");
                _cleanup_object_ objmapper_object *object = NULL;

                assert_ok(objmapper_get(client, "x", &object));
                assert_ok(objmapper_request_set_if_absent(request, 1));
                for (unsigned i = 0; i < 2; i++) {
                        g_usleep(20000); /* whether the end was seen before or is seen in sending: both work */
                        assert_ok(objmapper_client_call(client, request, NULL));
                }
        }
        mock_free(mock);
}

/* A daemon that drains and yet stays: once all is answered there, the client goes on elsewhere. */
static void script_drains(struct mock *mock) {
        uint64_t id[2];

        mock->limits.depth = 2;
        mock_greet(mock);
        id[0] = mock_skip(mock, PROTO_GET);
        id[1] = mock_skip(mock, PROTO_GET);
        mock_notice(mock, PROTO_DRAINING, NULL);
        mock_reply_copy(mock, id[1], "old");
        mock_reply_copy(mock, id[0], "old");
        g_assert_true(mock_at_end(mock));
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "new");
        g_assert_true(mock_at_end(mock));
}

static void test_drains(void) {
        struct mock *mock = mock_new(script_drains, NULL);
        struct answer answers[3] = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");

                for (unsigned i = 0; i < 3; i++)
                        assert_ok(objmapper_client_submit(client, request, take_answer, &answers[i]));
                finish(client);
        }
        for (unsigned i = 0; i < 3; i++) {
                assert_data(answers[i].object, i < 2 ? "old" : "new");
                answer_done(&answers[i]);
        }
        mock_free(mock);
}

/* Requests are left unread, but some were answered: the answers count although sending fails. */
static void script_unread(struct mock *mock) {
        uint64_t id;

        mock->limits.depth = 1000;
        mock_greet(mock);
        id = mock_skip(mock, PROTO_PUT);
        (void) mock_skip(mock, PROTO_PUT);
        mock_reply_put(mock, id, 1);
        mock_notice(mock, PROTO_DRAINED, NULL);
        mock_greet(mock);
        for (unsigned i = 1; i < 40; i++)
                mock_reply_put(mock, mock_skip(mock, PROTO_PUT), 1);
        g_assert_true(mock_at_end(mock));
}

static void test_unread(void) {
        struct mock *mock = mock_new(script_unread, NULL);
        g_autofree char *body = g_malloc0(100000);
        struct answer answers[40] = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");

                assert_ok(objmapper_request_set_if_absent(request, 1));
                assert_ok(objmapper_request_set_body(request, body, 100000));
                for (unsigned i = 0; i < 40; i++)
                        assert_ok(objmapper_client_submit(client, request, take_answer, &answers[i]));
                finish(client);
        }
        for (unsigned i = 0; i < 40; i++) {
                g_assert_cmpuint(answers[i].n, ==, 1);
                assert_ok(answers[i].error);
                answer_done(&answers[i]);
        }
        mock_free(mock);
}

/* Half a body is no body. */
static void script_half(struct mock *mock) {
        struct proto_message message;

        for (unsigned i = 0; i < 3; i++) {
                mock_greet(mock);
                message = mock_ok(PROTO_GET, mock_skip(mock, PROTO_GET));
                message.head.mode = OP_COPY;
                message.head.body_size = message.info.size = 100;
                message.has = PROTO_HAS(PROTO_TAG_INFO);
                mock_send(mock, &message, NULL);
                mock_send_raw(mock, "half", 4);
                mock_close(mock);
                if (i == 0) {
                        mock_greet(mock);
                        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "whole");
                }
        }
}

static void test_half(void) {
        struct mock *mock = mock_new(script_half, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");
                _cleanup_object_ objmapper_object *object = NULL;
                _cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
                _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

                assert_ok(objmapper_get(client, "x", &object));
                assert_data(object, "whole");

                /* An output that has got half can't be given the whole. */
                assert_ok(objmapper_request_set_output(request, out));
                assert_errno(objmapper_client_call(client, request, NULL), -ECONNRESET);

                /* One that could not even take that says why. */
                assert_ok(objmapper_request_set_output(request, full));
                assert_errno(objmapper_client_call(client, request, NULL), -ENOSPC);
                assert_words(client, "can't write");
        }
        mock_free(mock);
}

/* A daemon that dies of every request is not asked for ever. */
static void script_crash(struct mock *mock) {
        unsigned *n = mock->userdata;

        for (;;) {
                mock_greet(mock);
                if (mock_at_end(mock))
                        return;
                (*n)++;
        }
}

static void test_crash(void) {
        unsigned n = 0;
        struct mock *mock = mock_new(script_crash, &n);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object;

                assert_errno(objmapper_get(client, "x", &object), -ECONNRESET);
                assert_words(client, mock->path);
                assert_errno(objmapper_put(client, "x", "y", 1, NULL), -EINPROGRESS);
        }
        {
                _cleanup_client_ objmapper_client *client = NULL;

                assert_ok(objmapper_client_connect(&client, mock->path, OBJMAPPER_AUTO));
        }
        mock_free(mock);
        g_assert_cmpuint(n, ==, 16);
}

/* One that dies before it greets. */
static void script_no_greeting(struct mock *mock) {
        for (unsigned i = 0; i < 9; i++)
                mock_accept(mock);
        mock_close(mock);
}

static void test_no_greeting(void) {
        struct mock *mock = mock_new(script_no_greeting, NULL);
        _cleanup_client_ objmapper_client *client = connect_to(mock);
        objmapper_object *object;

        assert_errno(objmapper_get(client, "x", &object), -EHOSTDOWN);
        assert_words(client, "closes the connection");
        mock_free(mock);
}

/* The socket is away for a while. */
static void script_away(struct mock *mock) {
        mock_greet(mock);
        (void) mock_skip(mock, PROTO_GET);
        mock_unlisten(mock);
        mock_close(mock);
        g_usleep(100000);
        mock_listen(mock);
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "back");
        g_assert_true(mock_at_end(mock));
}

static void test_away(void) {
        struct mock *mock = mock_new(script_away, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_object_ objmapper_object *object = NULL;

                assert_ok(objmapper_get(client, "x", &object));
                assert_data(object, "back");
        }
        mock_free(mock);
}

/* A stream was lost there, and something new is asked meanwhile: both wait. */
static void script_away_mixed(struct mock *mock) {
        struct frame frame;
        unsigned n = 0;

        mock_greet(mock);
        (void) mock_skip(mock, PROTO_PUT);
        mock_unlisten(mock);
        mock_close(mock);
        g_usleep(300000);
        mock_listen(mock);
        mock_greet(mock);
        while (n < 2) {
                mock_read(mock, 0, &frame);
                if (frame.message.head.type == PROTO_END ||
                    (frame.message.head.type == PROTO_PUT && frame.message.head.flags == 0)) {
                        mock_reply_put(mock, frame.message.head.id, 1);
                        n++;
                }
                frame_done(&frame);
        }
        g_assert_true(mock_at_end(mock));
}

static void test_away_mixed(void) {
        struct mock *mock = mock_new(script_away_mixed, NULL);
        g_autofree char *body = g_malloc0(BIG_SIZE);
        struct answer big = {}, small = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");

                assert_ok(objmapper_request_set_body(request, body, BIG_SIZE));
                assert_ok(objmapper_client_submit(client, request, take_answer, &big));
                while (access(mock->path, F_OK) == 0)
                        (void) objmapper_client_wait(client, 10000);
                (void) objmapper_client_wait(client, 50000);

                assert_ok(objmapper_request_set_body(request, "small", 5));
                assert_ok(objmapper_client_submit(client, request, take_answer, &small));
                finish(client);
        }
        assert_ok(big.error);
        assert_ok(small.error);
        answer_done(&big);
        answer_done(&small);
        mock_free(mock);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client-lost/losses", test_losses);
        harness_add("/client-lost/partly", test_partly);
        harness_add("/client-lost/shorter", test_shorter);
        harness_add("/client-lost/idle", test_idle);
        harness_add("/client-lost/drains", test_drains);
        harness_add("/client-lost/unread", test_unread);
        harness_add("/client-lost/half", test_half);
        harness_add("/client-lost/crash", test_crash);
        harness_add("/client-lost/no-greeting", test_no_greeting);
        harness_add("/client-lost/away", test_away);
        harness_add("/client-lost/away-mixed", test_away_mixed);
        return g_test_run();
}
