/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libobjmapper does when a connection is lost, refused or silent, and when the daemon talks nonsense. */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "client-harness.h"

/* ---- lost in the middle of a request ---- */

#define BIG_SIZE ((size_t) 3 << 20)

static objmapper_request *make(enum objmapper_verb verb) {
        return request_for(verb, verb == OBJMAPPER_STATS ? "" : "x");
}

static void reply_to(struct mock *mock, uint16_t verb, uint64_t id) {
        struct proto_message message = mock_ok(verb, id);

        switch (verb) {
        case PROTO_GET:
                mock_reply_copy(mock, id, "again");
                return;
        case PROTO_STAT:
                message.has = PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_USAGE);
                break;
        case PROTO_PURGE:
        case PROTO_LIST:
                message.has = PROTO_HAS(PROTO_TAG_COUNT);
                break;
        case PROTO_STATS:
                break;
        default:
                message.has = PROTO_HAS(PROTO_TAG_INFO);
        }
        mock_send(mock, &message, NULL);
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

/* ---- nonsense ---- */

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
        harness_add("/client-lost/connect", test_connect);
        harness_add("/client-lost/backlog", test_backlog);
        harness_add("/client-lost/busy", test_busy);
        harness_add("/client-lost/late", test_late);
        harness_add("/client-lost/prompt", test_prompt);
        harness_add("/client-lost/stalled", test_stalled);
        harness_add("/client-lost/lies", test_lies);
        harness_add("/client-lost/excuses", test_excuses);
        harness_add("/client-lost/huge", test_huge);
        return g_test_run();
}
