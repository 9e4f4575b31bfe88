/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How libobjmapper sends bodies, and what it does when that ends early. */

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "client-harness.h"

#define BIG_SIZE ((size_t) 5 << 19) /* bytes: two pieces and a half */

static char *big_body(void) {
        char *body = g_malloc(BIG_SIZE + 1);

        for (size_t i = 0; i < BIG_SIZE; i++)
                body[i] = (char) ('a' + (i / 11 + i / 65536) % 26);
        body[BIG_SIZE] = 0;
        return body;
}

static int file_to_read(const char *body, size_t size) {
        int fd = memfd_create("source", MFD_CLOEXEC);

        g_assert_cmpint(write(fd, body, size), ==, (ssize_t) size);
        g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
        return fd;
}

/* Reads a whole streamed put, END included; what it carried. */
static GByteArray *read_stream(struct mock *mock, uint64_t *ret_id, uint64_t *ret_announced) {
        GByteArray *got = g_byte_array_new();
        struct frame frame;

        mock_read(mock, PROTO_PUT, &frame);
        g_assert_true(frame.message.head.flags & PROTO_FLAG_STREAM);
        *ret_id = frame.message.head.id;
        *ret_announced = frame.message.has & PROTO_HAS(PROTO_TAG_SIZE) ? frame.message.size : UINT64_MAX;
        frame_done(&frame);

        for (;;) {
                mock_read(mock, 0, &frame);
                g_assert_cmpuint(frame.message.head.id, ==, *ret_id);
                if (frame.message.head.type == PROTO_END) {
                        frame_done(&frame);
                        return got;
                }
                g_assert_cmpuint(frame.message.head.type, ==, PROTO_DATA);
                g_byte_array_append(got, frame.body, (guint) frame.message.head.body_size);
                frame_done(&frame);
        }
}

/* ---- sources ---- */

struct source {
        const char *name;
        bool in_memory, pipe, stream, announced;
        size_t size, skip;
};

static const struct source sources[] = {
        { "nothing in memory", .in_memory = true },
        { "little in memory", .in_memory = true, .size = 1000 },
        { "a frame in memory", .in_memory = true, .size = 1 << 20 },
        { "much in memory", .in_memory = true, .size = BIG_SIZE, .stream = true, .announced = true },
        { "empty file", .stream = true },
        { "small file", .size = 50000 },
        { "small file's rest", .size = 50000, .skip = 49000 },
        { "big file", .size = BIG_SIZE, .stream = true, .announced = true },
        { "big file's rest", .size = BIG_SIZE, .skip = 100001, .stream = true, .announced = true },
        { "empty pipe", .pipe = true, .stream = true },
        { "pipe", .pipe = true, .size = BIG_SIZE, .stream = true },
};

static void script_sources(struct mock *mock) {
        g_autofree char *body = big_body();

        mock_greet(mock);
        for (unsigned i = 0; i < G_N_ELEMENTS(sources); i++) {
                const struct source *source = &sources[i];
                size_t size = source->size - source->skip;
                uint64_t id, announced;
                struct frame frame;

                if (source->stream) {
                        GByteArray *got = read_stream(mock, &id, &announced);

                        g_assert_cmpmem(got->data, got->len, body + source->skip, size);
                        g_assert_true(announced == (source->announced ? size : UINT64_MAX));
                        g_byte_array_unref(got);
                } else {
                        mock_read(mock, PROTO_PUT, &frame);
                        id = frame.message.head.id;
                        g_assert_cmpuint(frame.message.head.flags, ==, 0);
                        g_assert_cmpmem(frame.body, frame.message.head.body_size, body + source->skip, size);
                        frame_done(&frame);
                }
                mock_reply_put(mock, id, i + 1);
        }
        g_assert_true(mock_at_end(mock));
}

struct filler {
        int fd;
        const char *body;
        size_t size;
};

static void *fill(void *userdata) {
        struct filler *filler = userdata;

        for (size_t n = 0; n < filler->size;) {
                ssize_t r = write(filler->fd, filler->body + n, MIN(filler->size - n, (size_t) 70000));

                g_assert_cmpint(r, >, 0);
                n += (size_t) r;
        }
        (void) close_fd(filler->fd);
        return NULL;
}

static void put_source(objmapper_client *client,
                       const struct source *source,
                       const char *body,
                       unsigned number) {
        _cleanup_object_ objmapper_object *object = NULL;

        g_test_message("%s", source->name);
        if (source->in_memory)
                assert_ok(objmapper_put(client, "x", body, source->size, &object));
        else if (source->pipe) {
                struct filler filler = { .body = body, .size = source->size };
                pthread_t thread;
                int fds[2];

                assert_ok(pipe2(fds, O_CLOEXEC));
                filler.fd = fds[1];
                assert_ok(pthread_create(&thread, NULL, fill, &filler));
                assert_ok(objmapper_put_fd(client, "x", fds[0], &object));
                assert_ok(pthread_join(thread, NULL));
                (void) close_fd(fds[0]);
        } else {
                _cleanup_close_ int fd = file_to_read(body, source->size);

                g_assert_cmpint(lseek(fd, (off_t) source->skip, SEEK_SET), >=, 0);
                assert_ok(objmapper_put_fd(client, "x", fd, &object));
                g_assert_cmpint(lseek(fd, 0, SEEK_CUR), ==, (off_t) source->size);
        }
        g_assert_cmpuint(objmapper_object_get_generation(object), ==, number);
}

static void test_sources(void) {
        struct mock *mock = mock_new(script_sources, NULL);
        g_autofree char *body = big_body();

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                for (unsigned i = 0; i < G_N_ELEMENTS(sources); i++)
                        put_source(client, &sources[i], body, i + 1);
        }
        mock_free(mock);
}

/* All that a put can say. */
static void script_fields(struct mock *mock) {
        struct frame frame;
        struct proto_pair pair;
        size_t position = 0;

        mock_greet(mock);
        mock_read(mock, PROTO_PUT, &frame);
        g_assert_true(frame.message.has & PROTO_HAS(PROTO_TAG_IF_ABSENT));
        g_assert_false(frame.message.has & PROTO_HAS(PROTO_TAG_IF_GENERATION));
        g_assert_cmpuint(frame.message.ttl_msec, ==, 5000);
        g_assert_true(frame.message.checksum == UINT64_MAX);
        g_assert_cmpint(proto_metadata_next(frame.message.metadata, &position, &pair), ==, 1);
        g_assert_cmpmem(pair.key.data, pair.key.size, "k", 1);
        g_assert_cmpmem(pair.value.data, pair.value.size, "v", 1);
        g_assert_cmpint(proto_metadata_next(frame.message.metadata, &position, &pair), ==, 1);
        g_assert_cmpuint(pair.value.size, ==, 0);
        mock_reply_error(mock, PROTO_PUT, frame.message.head.id, PROTO_EXISTS, "generation 5 is\nthere");
        frame_done(&frame);

        mock_read(mock, PROTO_SET_METADATA, &frame);
        g_assert_true(frame.message.has & PROTO_HAS(PROTO_TAG_METADATA));
        g_assert_cmpuint(frame.message.metadata.size, ==, 0);
        g_assert_cmpuint(frame.message.if_generation, ==, 5);
        mock_reply_error(mock, PROTO_SET_METADATA, frame.message.head.id, PROTO_CONFLICT, NULL);
        frame_done(&frame);

        /* A status of a later version. */
        mock_reply_error(mock, PROTO_REMOVE, mock_skip(mock, PROTO_REMOVE), (enum proto_status) 999, "new");
        g_assert_true(mock_at_end(mock));
}

static void test_fields(void) {
        struct mock *mock = mock_new(script_fields, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *put = request_for(OBJMAPPER_PUT, "x"),
                                                    *set = request_for(OBJMAPPER_SET_METADATA, "x");

                assert_ok(objmapper_request_set_if_generation(put, 3));
                assert_ok(objmapper_request_set_if_absent(put, 1));
                assert_ok(objmapper_request_set_ttl(put, 5000));
                assert_ok(objmapper_request_set_checksum(put, UINT64_MAX));
                assert_ok(objmapper_request_add_metadata(put, "k", "v", 1));
                assert_ok(objmapper_request_add_metadata(put, "k2", NULL, 0));
                assert_errno(objmapper_client_call(client, put, NULL), -EEXIST);
                g_assert_cmpstr(objmapper_client_error(client), ==,
                                "put x: there is one already (generation 5 is?there)");

                assert_ok(objmapper_request_set_if_generation(set, 5));
                assert_errno(objmapper_client_call(client, set, NULL), -ECANCELED);
                assert_errno(objmapper_remove(client, "x"), -EREMOTEIO);
        }
        mock_free(mock);
}

/* ---- ended early ---- */

/* Refuses a stream in its middle; then the connection is good for more. */
static void script_refuse(struct mock *mock) {
        struct frame frame;
        uint64_t id;

        mock_greet(mock);
        id = mock_skip(mock, PROTO_PUT);
        g_assert_cmpuint(mock_skip(mock, PROTO_DATA), ==, id);
        mock_reply_error(mock, PROTO_PUT, id, PROTO_TOO_LARGE, NULL);
        for (;;) {
                mock_read(mock, 0, &frame);
                g_assert_cmpuint(frame.message.head.id, ==, id);
                frame_done(&frame);
                /* It may have been sent whole before the refusal was seen. */
                if (frame.message.head.type == PROTO_ABORT || frame.message.head.type == PROTO_END)
                        break;
                g_assert_cmpuint(frame.message.head.type, ==, PROTO_DATA);
        }

        mock_read(mock, PROTO_REMOVE, &frame);
        mock_reply_error(mock, PROTO_REMOVE, frame.message.head.id, PROTO_NOT_PERMITTED, NULL);
        frame_done(&frame);
        g_assert_true(mock_at_end(mock));
}

static void test_refuse(void) {
        struct mock *mock = mock_new(script_refuse, NULL);
        g_autofree char *body = g_malloc0(16 << 20);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                assert_errno(objmapper_put(client, "x", body, 16 << 20, NULL), -EFBIG);
                assert_errno(objmapper_remove(client, "x"), -EACCES);
        }
        mock_free(mock);
}

/* Refuses a stream before it is open: then its frames are refused one by one, and the session goes on. */
static void script_refuse_unopened(struct mock *mock) {
        struct frame frame;
        uint64_t id;

        mock_greet(mock);
        id = mock_skip(mock, PROTO_PUT);
        mock_reply_error(mock, PROTO_PUT, id, PROTO_BUSY, NULL);
        do {
                mock_read(mock, 0, &frame);
                g_assert_cmpuint(frame.message.head.id, ==, id);
                mock_reply_error(mock, frame.message.head.type, id, PROTO_BAD_REQUEST, NULL);
                frame_done(&frame);
        } while (frame.message.head.type == PROTO_DATA);

        mock_reply_error(mock, PROTO_REMOVE, mock_skip(mock, PROTO_REMOVE), PROTO_NOT_PERMITTED, NULL);
        g_assert_true(mock_at_end(mock));
}

static void test_refuse_unopened(void) {
        struct mock *mock = mock_new(script_refuse_unopened, NULL);
        g_autofree char *body = g_malloc0(16 << 20);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                assert_errno(objmapper_put(client, "x", body, 16 << 20, NULL), -EBUSY);
                assert_errno(objmapper_remove(client, "x"), -EACCES);
        }
        mock_free(mock);
}

/* The answer to a pipe that has nothing more to give comes at once. */
static void script_refuse_stalled(struct mock *mock) {
        uint64_t id;

        mock_greet(mock);
        id = mock_skip(mock, PROTO_PUT);
        (void) mock_skip(mock, PROTO_DATA);
        mock_reply_error(mock, PROTO_PUT, id, PROTO_NO_SPACE, NULL);
        g_assert_cmpuint(mock_skip(mock, PROTO_ABORT), ==, id);
        g_assert_true(mock_at_end(mock));
}

static void test_refuse_stalled(void) {
        struct mock *mock = mock_new(script_refuse_stalled, NULL);
        int fds[2];

        assert_ok(pipe2(fds, O_CLOEXEC));
        g_assert_cmpint(write(fds[1], "some", 4), ==, 4);
        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                assert_errno(objmapper_put_fd(client, "x", fds[0], NULL), -ENOSPC);
        }
        (void) close_fd(fds[0]);
        (void) close_fd(fds[1]);
        mock_free(mock);
}

/* A file becomes shorter while it is sent. */
static void script_shrink(struct mock *mock) {
        int fd = GPOINTER_TO_INT(mock->userdata);
        struct frame frame;
        uint64_t id;

        mock_greet(mock);
        id = mock_skip(mock, PROTO_PUT);
        g_assert_cmpint(ftruncate(fd, 100), ==, 0);
        for (;;) {
                mock_read(mock, 0, &frame);
                frame_done(&frame);
                if (frame.message.head.type == PROTO_ABORT)
                        break;
                g_assert_cmpuint(frame.message.head.type, ==, PROTO_DATA);
        }
        mock_reply_error(mock, PROTO_PUT, id, PROTO_ABORTED, NULL);
        mock_reply_put(mock, mock_skip(mock, PROTO_PUT), 1);
        g_assert_true(mock_at_end(mock));
}

static void test_shrink(void) {
        g_autofree char *body = g_malloc0(16 << 20);
        _cleanup_close_ int fd = file_to_read(body, 16 << 20);
        struct mock *mock = mock_new(script_shrink, GINT_TO_POINTER(fd));

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");

                assert_errno(objmapper_put_fd(client, "x", fd, NULL), -ENODATA);
                assert_words(client, "ended before its announced size");

                /* Known beforehand. */
                assert_ok(objmapper_request_set_body_fd(request, fd, 200));
                assert_errno(objmapper_client_call(client, request, NULL), -ENODATA);
                assert_ok(objmapper_put(client, "x", "good", 4, NULL));
        }
        mock_free(mock);
}

/* "Done" can't be before the body is there. */
static void script_too_early(struct mock *mock) {
        struct pollfd hung_up = {};

        mock_greet(mock);
        mock_reply_put(mock, mock_skip(mock, PROTO_PUT), 1);
        /* Nothing is read: what does not fit into the socket is not sent when the answer is seen. */
        hung_up.fd = mock->connection;
        g_assert_cmpint(poll(&hung_up, 1, -1), ==, 1);
}

static void test_too_early(void) {
        struct mock *mock = mock_new(script_too_early, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                g_autofree char *body = g_malloc0(16 << 20); /* more than any socket's buffer */

                assert_errno(objmapper_put(client, "x", body, 16 << 20, NULL), -EPROTO);
                assert_words(client, "before it has the whole body");
        }
        mock_free(mock);
}

/* A pipe ends before its announced size, and one goes on behind it. */
static void script_pipe_size(struct mock *mock) {
        GByteArray *got;
        uint64_t id, announced;

        mock_greet(mock);
        id = mock_skip(mock, PROTO_PUT);
        (void) mock_skip(mock, PROTO_DATA);
        g_assert_cmpuint(mock_skip(mock, PROTO_ABORT), ==, id);
        mock_reply_error(mock, PROTO_PUT, id, PROTO_ABORTED, NULL);

        got = read_stream(mock, &id, &announced);
        g_assert_cmpmem(got->data, got->len, "so", 2);
        g_assert_cmpuint(announced, ==, 2);
        g_byte_array_unref(got);
        mock_reply_put(mock, id, 1);
        g_assert_true(mock_at_end(mock));
}

static void test_pipe_size(void) {
        struct mock *mock = mock_new(script_pipe_size, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                for (unsigned i = 0; i < 2; i++) {
                        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");
                        int fds[2];

                        assert_ok(pipe2(fds, O_CLOEXEC));
                        g_assert_cmpint(write(fds[1], "some", 4), ==, 4);
                        (void) close_fd(fds[1]);
                        assert_ok(objmapper_request_set_body_fd(request, fds[0], i == 0 ? 5 : 2));
                        assert_errno(objmapper_client_call(client, request, NULL), i == 0 ? -ENODATA : 0);
                        (void) close_fd(fds[0]);
                }
        }
        mock_free(mock);
}

/* ---- the non-blocking face ---- */

/* A pipe that has nothing holds up nobody. */
static void script_slow_pipe(struct mock *mock) {
        GByteArray *got = g_byte_array_new();
        struct frame frame;
        uint64_t put = 0;

        mock_greet(mock);
        for (;;) {
                mock_read(mock, 0, &frame);
                if (frame.message.head.type == PROTO_GET)
                        mock_reply_copy(mock, frame.message.head.id, "quick");
                else if (frame.message.head.type == PROTO_PUT)
                        put = frame.message.head.id;
                else if (frame.message.head.type == PROTO_DATA)
                        g_byte_array_append(got, frame.body, (guint) frame.message.head.body_size);
                frame_done(&frame);
                if (frame.message.head.type == PROTO_END)
                        break;
        }
        g_assert_cmpmem(got->data, got->len, "0123", 4);
        g_byte_array_unref(got);
        mock_reply_put(mock, put, 9);
        g_assert_true(mock_at_end(mock));
}

static void test_slow_pipe(void) {
        struct mock *mock = mock_new(script_slow_pipe, NULL);
        struct answer answer = {};
        int fds[2];

        assert_ok(pipe2(fds, O_CLOEXEC));
        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");
                struct pollfd p = { .fd = objmapper_client_get_fd(client), .events = POLLIN };

                objmapper_client_set_timeout(client, G_USEC_PER_SEC / 5);
                assert_ok(objmapper_request_set_body_fd(request, fds[0], OBJMAPPER_TO_END));
                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                for (unsigned i = 0; i < 4; i++) {
                        _cleanup_object_ objmapper_object *object = NULL;
                        char digit = (char) ('0' + i);

                        assert_ok(objmapper_get(client, "y", &object));
                        assert_data(object, "quick");
                        /* Longer than the time-out: the source's slowness is not the daemon's. */
                        g_assert_cmpint(poll(&p, 1, i == 0 ? 400 : 0), ==, 0);
                        g_assert_cmpint(objmapper_client_process(client), ==, 0);
                        g_assert_cmpint(write(fds[1], &digit, 1), ==, 1);
                        g_assert_cmpint(poll(&p, 1, 20000), ==, 1);
                }
                (void) close_fd(fds[1]);
                finish(client);
        }
        assert_ok(answer.error);
        answer_done(&answer);
        (void) close_fd(fds[0]);
        mock_free(mock);
}

/* What a function gives: in pieces, with pauses, to its end or to a failure. */
struct given {
        const char *left;
        int end;  /* what it says after the last piece */
        bool has; /* a piece; else it has nothing at present */
        bool big; /* asked for, it is a lie: more than there is room for */
        unsigned asked;
};

static int64_t give(void *data, size_t size, void *userdata) {
        struct given *given = userdata;

        given->asked++;
        if (given->big)
                return (int64_t) size + 1;
        if (!*given->left)
                return given->end;
        if (!given->has)
                return -EAGAIN;

        given->has = false;
        *(char *) data = *given->left++;
        return 1;
}

static void script_given(struct mock *mock) {
        GByteArray *got;
        uint64_t id, announced;

        mock_greet(mock);
        got = read_stream(mock, &id, &announced);
        g_assert_cmpmem(got->data, got->len, "0123", 4);
        g_assert_cmpuint(announced, ==, UINT64_MAX);
        g_byte_array_unref(got);
        mock_reply_put(mock, id, 9);

        for (unsigned i = 0; i < 3; i++) {
                struct frame frame;

                id = mock_skip(mock, PROTO_PUT);
                do {
                        mock_read(mock, 0, &frame);
                        g_assert_cmpuint(frame.message.head.id, ==, id);
                        g_assert_cmpuint(frame.message.head.type, !=, PROTO_END);
                        frame_done(&frame);
                } while (frame.message.head.type != PROTO_ABORT);
                mock_reply_error(mock, PROTO_PUT, id, PROTO_ABORTED, NULL);
        }
        g_assert_true(mock_at_end(mock));
}

static void test_given(void) {
        struct mock *mock = mock_new(script_given, NULL);
        static const struct {
                struct given given;
                uint64_t size;
                int error;
        } rounds[] = {
                { { .left = "0123" }, OBJMAPPER_TO_END, 0 },
                { { .left = "01", .end = -ECANCELED }, OBJMAPPER_TO_END, -ECANCELED },
                { { .left = "01" }, 3, -ENODATA },
                { { .left = "", .big = true }, OBJMAPPER_TO_END, -EINVAL },
        };

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                objmapper_client_set_timeout(client, G_USEC_PER_SEC / 5);
                for (unsigned i = 0; i < G_N_ELEMENTS(rounds); i++) {
                        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");
                        struct given given = rounds[i].given;
                        struct answer answer = {};
                        unsigned asked;

                        assert_errno(objmapper_request_set_body_source(request, NULL, NULL, 0), -EINVAL);
                        assert_ok(objmapper_request_set_body_source(request, give, &given, rounds[i].size));
                        assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                        if (i == 0) {
                                /* Longer than the time-out, and asked once: it said that it has nothing. */
                                g_assert_cmpint(objmapper_client_wait(client, 2 * G_USEC_PER_SEC / 5), ==, 0);
                                g_assert_cmpuint(given.asked, ==, 1);
                        }
                        while (*given.left || !answer.n) {
                                given.has = true;
                                objmapper_client_wake(client);
                                g_assert_cmpuint(objmapper_client_get_deadline(client), ==, 0);
                                g_assert_cmpint(objmapper_client_wait(client, G_USEC_PER_SEC / 100), >=, 0);
                        }
                        assert_errno(answer.error, rounds[i].error);
                        asked = given.asked;
                        objmapper_client_wake(client);
                        assert_ok(objmapper_client_process(client));
                        g_assert_cmpuint(given.asked, ==, asked);
                        answer_done(&answer);
                }
        }
        mock_free(mock);
}

/* No more streams at a time than the daemon allows, and other requests in between. */
static void script_streams(struct mock *mock) {
        g_autofree char *body = big_body();

        mock->limits.streams = 1;
        mock_greet(mock);
        for (unsigned i = 0; i < 3; i++) {
                uint64_t id, announced;
                GByteArray *got = read_stream(mock, &id, &announced);

                g_assert_cmpmem(got->data, got->len, body, BIG_SIZE);
                g_byte_array_unref(got);
                mock_reply_put(mock, id, 1);
        }
        g_assert_true(mock_at_end(mock));
}

static void test_streams(void) {
        struct mock *mock = mock_new(script_streams, NULL);
        g_autofree char *body = big_body();
        struct answer answer = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x");

                assert_ok(objmapper_request_set_body(request, body, BIG_SIZE));
                for (unsigned i = 0; i < 3; i++)
                        assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                finish(client);
        }
        g_assert_cmpuint(answer.n, ==, 3);
        answer_done(&answer);
        mock_free(mock);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client-put/sources", test_sources);
        harness_add("/client-put/fields", test_fields);
        harness_add("/client-put/refuse", test_refuse);
        harness_add("/client-put/refuse-unopened", test_refuse_unopened);
        harness_add("/client-put/refuse-stalled", test_refuse_stalled);
        harness_add("/client-put/shrink", test_shrink);
        harness_add("/client-put/too-early", test_too_early);
        harness_add("/client-put/pipe-size", test_pipe_size);
        harness_add("/client-put/slow-pipe", test_slow_pipe);
        harness_add("/client-put/given", test_given);
        harness_add("/client-put/streams", test_streams);
        return g_test_run();
}
