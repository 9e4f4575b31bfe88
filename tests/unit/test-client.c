/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libobjmapper makes of a well-behaved daemon's answers. */

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "client-harness.h"
#include "fdpass.h"

/* ---- one at a time ---- */

static void script_simple(struct mock *mock) {
        struct proto_message message;
        struct frame frame;
        uint8_t metadata[256], page[1024];
        size_t size = 0;
        const struct proto_pair pairs[] = {
                { { (const uint8_t *) "k", 1 }, { (const uint8_t *) "v\0w", 3 } },
                { { (const uint8_t *) "empty", 5 }, { NULL, 0 } },
                { { (const uint8_t *) "k", 1 }, { (const uint8_t *) "second", 6 } },
        };

        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "copied");
        mock_reply_fd(mock, mock_skip(mock, PROTO_GET), "passed");
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "");
        mock_reply_fd(mock, mock_skip(mock, PROTO_GET), "");
        mock_reply_error(mock, PROTO_GET, mock_skip(mock, PROTO_GET), PROTO_ABSENT, NULL);

        message = mock_ok(PROTO_STAT, mock_skip(mock, PROTO_STAT));
        for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++)
                assert_ok(proto_metadata_append(metadata, sizeof(metadata), &size, &pairs[i]));
        message.metadata = (struct proto_bytes){ metadata, size };
        message.info = (struct proto_info){ { 0xabc, 0xdef, 2 }, 1000, 0x77, 11, 22 };
        message.usage = (struct proto_usage){ 33, 44 };
        message.has = PROTO_HAS(PROTO_TAG_METADATA) | PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_USAGE);
        mock_send(mock, &message, NULL);

        mock_read(mock, PROTO_GET, &frame);
        g_assert_true(frame.message.if_none_match.store_id == 0xabc);
        g_assert_true(frame.message.if_none_match.generation == 0xdef);
        g_assert_true(frame.message.if_none_match.metadata_version == 2);
        message = mock_ok(PROTO_GET, frame.message.head.id);
        message.head.status = PROTO_NOT_MODIFIED;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
        frame_done(&frame);

        mock_read(mock, PROTO_GET, &frame);
        g_assert_true(frame.message.range.offset == 10 && frame.message.range.size == 5);
        g_assert_true(frame.message.head.mode == OP_FDPASS);
        g_assert_true(frame.message.has & PROTO_HAS(PROTO_TAG_STALE_OK));
        message = mock_ok(PROTO_GET, frame.message.head.id);
        message.head.mode = OP_COPY;
        message.head.body_size = 3;
        message.info.size = 13;
        message.range = (struct proto_range){ 10, 3 };
        message.has = PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_RANGE);
        mock_send(mock, &message, "cde");
        frame_done(&frame);

        mock_read(mock, PROTO_REMOVE, &frame);
        message = mock_ok(PROTO_REMOVE, frame.message.head.id);
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
        frame_done(&frame);

        mock_read(mock, PROTO_PURGE, &frame);
        g_assert_cmpuint(frame.message.prefix.size, ==, 0);
        message = mock_ok(PROTO_PURGE, frame.message.head.id);
        message.has = PROTO_HAS(PROTO_TAG_COUNT);
        message.count = 99;
        mock_send(mock, &message, NULL);
        frame_done(&frame);

        /* Two pages. */
        for (unsigned i = 0; i < 2; i++) {
                struct proto_entry entry = { .info.size = i };

                mock_read(mock, PROTO_LIST, &frame);
                g_assert_cmpmem(frame.message.cursor.data, frame.message.cursor.size, "next", i == 0 ? 0 : 4);
                message = mock_ok(PROTO_LIST, frame.message.head.id);
                size = 0;
                entry.uri = (struct proto_bytes){ (const uint8_t *) (i == 0 ? "one" : "two"), 3 };
                assert_ok(proto_entry_append(page, sizeof(page), &size, &entry));
                message.head.body_size = size;
                message.has = PROTO_HAS(PROTO_TAG_COUNT) | (i == 0 ? PROTO_HAS(PROTO_TAG_CURSOR) : 0);
                message.count = 1;
                message.cursor = (struct proto_bytes){ (const uint8_t *) "next", 4 };
                mock_send(mock, &message, page);
                frame_done(&frame);
        }

        message = mock_ok(PROTO_STATS, mock_skip(mock, PROTO_STATS));
        size = 0;
        assert_ok(proto_counter_append(page, sizeof(page), &size,
                                       &(struct proto_counter){ { (const uint8_t *) "sessions", 8 }, 5 }));
        message.head.body_size = size;
        mock_send(mock, &message, page);

        g_assert_true(mock_at_end(mock));
}

static int visit_uri(objmapper_object *object, void *userdata) {
        g_string_append(userdata, objmapper_object_get_uri(object, NULL));
        g_assert_cmpint(objmapper_object_get_fd(object), ==, -ENODATA);
        return 0;
}

static int visit_counter(const char *name, uint64_t value, void *userdata) {
        g_string_append_printf(userdata, " %s=%u", name, (unsigned) value);
        return 0;
}

static void check_stat(objmapper_client *client) {
        _cleanup_object_ objmapper_object *object = NULL;
        const char *key, *value;
        const void *data;
        size_t position = 0, size;

        assert_ok(objmapper_stat(client, "stat", &object));
        g_assert_cmpstr(objmapper_object_get_uri(object, &size), ==, "stat");
        g_assert_cmpuint(size, ==, 4);
        g_assert_cmpstr(objmapper_object_get_etag(object), ==, "0000000000000abc-def-2");
        g_assert_cmpuint(objmapper_object_get_size(object), ==, 1000);
        g_assert_cmpuint(objmapper_object_get_body_size(object), ==, 0);
        g_assert_cmpuint(objmapper_object_get_checksum(object), ==, 0x77);
        g_assert_cmpuint(objmapper_object_get_stored(object), ==, 11);
        g_assert_cmpuint(objmapper_object_get_expires(object), ==, 22);
        g_assert_cmpuint(objmapper_object_get_hits(object), ==, 33);
        g_assert_cmpuint(objmapper_object_get_used(object), ==, 44);
        g_assert_cmpint(objmapper_object_get_mode(object), ==, 0);
        assert_errno(objmapper_object_get_data(object, &data, &size), -ENODATA);
        assert_errno(objmapper_object_get_fd(object), -ENODATA);

        g_assert_cmpmem(objmapper_object_get_metadata(object, "k", &size), 4, "v\0w", 4);
        g_assert_cmpuint(size, ==, 3);
        g_assert_null(objmapper_object_get_metadata(object, "K", &size));
        g_assert_cmpint(objmapper_object_next_metadata(object, &position, &key, &value, &size), ==, 1);
        g_assert_cmpint(objmapper_object_next_metadata(object, &position, &key, &value, &size), ==, 1);
        g_assert_cmpstr(key, ==, "empty");
        g_assert_cmpstr(value, ==, "");
        g_assert_cmpint(objmapper_object_next_metadata(object, &position, &key, &value, &size), ==, 1);
        g_assert_cmpstr(key, ==, "k");
        g_assert_cmpstr(value, ==, "second");
        g_assert_cmpint(objmapper_object_next_metadata(object, &position, &key, &value, &size), ==, 0);
}

static void check_get(objmapper_client *client, const char *uri, int mode, const char *body) {
        _cleanup_object_ objmapper_object *object = NULL;
        int fd;

        assert_ok(objmapper_get(client, uri, &object));
        g_assert_cmpint(objmapper_object_get_mode(object), ==, mode);
        g_assert_cmpuint(objmapper_object_get_body_size(object), ==, strlen(body));
        assert_body(object, body);

        fd = objmapper_object_take_fd(object);
        g_assert_cmpint(fd, >=, 0);
        assert_errno(objmapper_object_take_fd(object), -EBADF);
        assert_data(object, body); /* copied or mapped before */
        (void) close_fd(fd);
}

static void test_simple(void) {
        struct mock *mock = mock_new(script_simple, NULL);
        g_autoptr(GString) seen = g_string_new(NULL);
        uint64_t count;

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = NULL;
                _cleanup_object_ objmapper_object *object = NULL;
                const void *data;
                size_t size;

                check_get(client, "a", OBJMAPPER_COPY, "copied");
                check_get(client, "b", OBJMAPPER_FDPASS, "passed");
                check_get(client, "c", OBJMAPPER_COPY, "");
                check_get(client, "d", OBJMAPPER_FDPASS, "");
                assert_errno(objmapper_get(client, "e\n", &object), -ENOENT);
                g_assert_cmpstr(objmapper_client_error(client), ==, "get e?: absent");
                check_stat(client);

                request = request_for(OBJMAPPER_GET, "f");
                assert_errno(objmapper_request_set_if_modified(request, "abc-def"), -EINVAL);
                assert_errno(objmapper_request_set_if_modified(request, "abc-def-2-"), -EINVAL);
                assert_errno(objmapper_request_set_if_modified(request, "00000000000000abc-def-2"), -EINVAL);
                assert_ok(objmapper_request_set_if_modified(request, "0000000000000abc-def-2"));
                assert_ok(objmapper_client_call(client, request, &object));
                g_assert_cmpint(objmapper_object_is_unmodified(object), !=, 0);
                assert_errno(objmapper_object_get_data(object, &data, &size), -ENODATA);
                objmapper_object_free(TAKE_PTR(object));
                objmapper_request_free(TAKE_PTR(request));

                request = request_for(OBJMAPPER_GET, "g");
                assert_ok(objmapper_request_set_range(request, 10, 5));
                assert_ok(objmapper_request_set_mode(request, OBJMAPPER_FDPASS));
                assert_ok(objmapper_request_set_stale_ok(request, 1));
                assert_ok(objmapper_client_call(client, request, &object));
                g_assert_cmpuint(objmapper_object_get_size(object), ==, 13);
                g_assert_cmpuint(objmapper_object_get_body_size(object), ==, 3);
                g_assert_cmpuint(objmapper_object_get_offset(object), ==, 10);
                assert_body(object, "cde");

                assert_ok(objmapper_remove(client, "h"));
                assert_ok(objmapper_purge(client, "", &count));
                g_assert_cmpuint(count, ==, 99);
                assert_ok(objmapper_list(client, "", visit_uri, seen));
                assert_ok(objmapper_stats(client, visit_counter, seen));
                g_assert_cmpstr(seen->str, ==, "onetwo sessions=5");
        }

        mock_free(mock);
}

/* ---- many in flight ---- */

#define DEPTH 64

/* Reads all, then answers in reverse: copies and descriptors, the latter in batches of up to four. */
static void script_depth(struct mock *mock) {
        uint64_t id[DEPTH];

        mock_greet(mock);
        for (unsigned i = 0; i < DEPTH; i++)
                id[i] = mock_skip(mock, PROTO_GET);

        for (unsigned i = DEPTH; i-- > 0;) {
                g_autofree char *body = g_strdup_printf("body %u", i);

                if (i % 8 >= 4)
                        mock_reply_copy(mock, id[i], body);
                else {
                        g_autoptr(GByteArray) bytes = g_byte_array_new();
                        int fds[4];

                        /* One send of four heads and their descriptors. */
                        for (unsigned k = 0; k < 4; k++, i -= k < 4) {
                                g_autofree char *one = g_strdup_printf("body %u", i);
                                struct proto_message message = mock_ok(PROTO_GET, id[i]);
                                uint8_t p[256];
                                ssize_t n;

                                fds[k] = file_with(one);
                                message.head.mode = OP_FDPASS;
                                message.head.fd_count = 4;
                                message.head.fd_index = (uint16_t) k;
                                message.info.size = strlen(one);
                                message.has = PROTO_HAS(PROTO_TAG_INFO);
                                n = proto_message_encode(&message, p, sizeof(p));
                                g_assert_cmpint(n, >, 0);
                                g_byte_array_append(bytes, p, (guint) n);
                        }
                        g_assert_cmpint(fdpass_write(mock->connection,
                                                     &(struct iovec){ bytes->data, bytes->len }, 1, fds, 4),
                                        ==, (ssize_t) bytes->len);
                        for (unsigned k = 0; k < 4; k++)
                                (void) close_fd(fds[k]);
                }
        }

        g_assert_true(mock_at_end(mock));
}

static void test_depth(void) {
        struct mock *mock = mock_new(script_depth, NULL);
        struct answer answers[DEPTH] = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                struct pollfd p = { .fd = objmapper_client_get_fd(client), .events = POLLIN };

                for (unsigned i = 0; i < DEPTH; i++) {
                        g_autofree char *uri = g_strdup_printf("uri %u", i);
                        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, uri);

                        assert_ok(objmapper_client_submit(client, request, take_answer, &answers[i]));
                }
                g_assert_cmpuint(objmapper_client_get_pending(client), ==, DEPTH);

                while (objmapper_client_get_pending(client) > 0) {
                        g_assert_cmpint(poll(&p, 1, 20000), ==, 1);
                        g_assert_cmpint(objmapper_client_process(client), >=, 0);
                }
                g_assert_cmpint(objmapper_client_wait(client, UINT64_MAX), ==, 0);
        }

        for (unsigned i = 0; i < DEPTH; i++) {
                g_autofree char *body = g_strdup_printf("body %u", i);

                g_assert_cmpuint(answers[i].n, ==, 1);
                assert_body(answers[i].object, body);
                answer_done(&answers[i]);
        }
        mock_free(mock);
}

/* Never more in flight than the daemon allows. */
static void script_shallow(struct mock *mock) {
        mock->limits.depth = 2;
        mock_greet(mock);

        for (unsigned i = 0; i < 5; i++) {
                uint64_t a = mock_skip(mock, PROTO_GET), b = mock_skip(mock, PROTO_GET);
                uint8_t byte;

                g_assert_cmpint(recv(mock->connection, &byte, 1, MSG_DONTWAIT), <, 0);
                mock_reply_copy(mock, b, "b");
                mock_reply_copy(mock, a, "a");
        }
        g_assert_true(mock_at_end(mock));
}

static void submit_more(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "more");
        unsigned *left = userdata;

        assert_ok(error);
        objmapper_object_free(object);
        assert_errno(objmapper_client_process(client), -EDEADLK);
        assert_errno(objmapper_client_wait(client, 0), -EDEADLK);
        assert_errno(objmapper_client_call(client, request, NULL), -EDEADLK);
        if (*left > 0) {
                (*left)--;
                assert_ok(objmapper_client_submit(client, request, submit_more, left));
        }
}

static void test_shallow(void) {
        struct mock *mock = mock_new(script_shallow, NULL);
        unsigned left = 5;

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                for (unsigned i = 0; i < 5; i++) {
                        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "some");

                        assert_ok(objmapper_client_submit(client, request, submit_more, &left));
                }
                finish(client);
        }
        g_assert_cmpuint(left, ==, 0);
        mock_free(mock);
}

/* Closing a client forgets what is under way. */
static void script_forget(struct mock *mock) {
        mock_greet(mock);
        (void) mock_skip(mock, PROTO_GET);
        (void) mock_skip(mock, PROTO_GET);
        g_assert_true(mock_at_end(mock));
}

static void test_forget(void) {
        struct mock *mock = mock_new(script_forget, NULL);
        struct answer answer = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");

                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                for (unsigned i = 0; i < 3; i++)
                        g_assert_cmpint(objmapper_client_wait(client, G_USEC_PER_SEC / 20), ==, 0);
                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
        }
        g_assert_cmpuint(answer.n, ==, 0);
        mock_free(mock);
}

/* A byte at a time. */
static void script_trickle(struct mock *mock) {
        struct proto_message message;
        _cleanup_close_ int fd = file_with("passed");
        uint8_t p[512];
        uint64_t id, passed;
        ssize_t n;

        mock_greet(mock);
        passed = mock_skip(mock, PROTO_GET);
        id = mock_skip(mock, PROTO_GET);

        message = mock_ok(PROTO_GET, passed);
        message.head.mode = OP_FDPASS;
        message.head.fd_count = 1;
        message.info.size = 6;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        n = proto_message_encode(&message, p, sizeof(p));
        g_assert_cmpint(fdpass_write(mock->connection, &(struct iovec){ p, 1 }, 1, &fd, 1), ==, 1);
        for (ssize_t i = 1; i < n; i++) {
                mock_send_raw(mock, p + i, 1);
                g_usleep(20);
        }

        message = mock_ok(PROTO_GET, id);
        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = 5;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        n = proto_message_encode(&message, p, sizeof(p));
        (void) stpcpy((char *) p + n, "slow!");
        for (ssize_t i = 0; i < n + 5; i++) {
                mock_send_raw(mock, p + i, 1);
                g_usleep(20);
        }
        g_assert_true(mock_at_end(mock));
}

static void test_trickle(void) {
        struct mock *mock = mock_new(script_trickle, NULL);
        struct answer answers[2] = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");

                for (unsigned i = 0; i < 2; i++)
                        assert_ok(objmapper_client_submit(client, request, take_answer, &answers[i]));
                finish(client);
        }
        assert_body(answers[0].object, "passed");
        assert_body(answers[1].object, "slow!");
        answer_done(&answers[0]);
        answer_done(&answers[1]);
        mock_free(mock);
}

/* ---- near the descriptor limit ---- */

#define N_LOST 12

struct lost {
        pthread_barrier_t barrier;
        bool fallback;
};

static void script_lost(struct mock *mock) {
        struct lost *lost = mock->userdata;
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        uint64_t id[N_LOST];
        int fds[N_LOST];

        mock_greet(mock);
        for (unsigned i = 0; i < N_LOST; i++) {
                g_autofree char *body = g_strdup_printf("body %u", i);
                struct proto_message message;
                uint8_t p[256];
                ssize_t n;

                id[i] = mock_skip(mock, PROTO_GET);
                fds[i] = file_with(body);
                message = mock_ok(PROTO_GET, id[i]);
                message.head.mode = OP_FDPASS;
                message.head.fd_count = N_LOST;
                message.head.fd_index = (uint16_t) i;
                message.info.size = strlen(body);
                message.has = PROTO_HAS(PROTO_TAG_INFO);
                n = proto_message_encode(&message, p, sizeof(p));
                g_assert_cmpint(n, >, 0);
                g_byte_array_append(bytes, p, (guint) n);
        }

        (void) pthread_barrier_wait(&lost->barrier);
        (void) pthread_barrier_wait(&lost->barrier); /* the limit is set */
        g_assert_cmpint(fdpass_write(mock->connection, &(struct iovec){ bytes->data, bytes->len }, 1, fds,
                                     N_LOST),
                        ==, (ssize_t) bytes->len);

        /* A later batch: its descriptor must not go to an earlier object. It is a get of "late". */
        if (lost->fallback)
                for (;;) {
                        g_autofree char *body = NULL;
                        struct frame frame;

                        mock_read(mock, PROTO_GET, &frame);
                        body = g_strndup((const char *) frame.message.uri.data, frame.message.uri.size);
                        if (strcmp(body, "end") == 0) {
                                mock_reply_copy(mock, frame.message.head.id, body);
                                frame_done(&frame);
                                break;
                        }
                        g_assert_cmpint(frame.message.head.mode, ==, OP_COPY);
                        mock_reply_copy(mock, frame.message.head.id, body);
                        frame_done(&frame);
                }

        g_assert_true(mock_at_end(mock));
        for (unsigned i = 0; i < N_LOST; i++)
                (void) close_fd(fds[i]);
}

static void check_lost(bool fallback) {
        struct lost lost = { .fallback = fallback };
        struct answer answers[N_LOST] = {};
        struct rlimit before, limit;
        unsigned n_passed = 0, n_other = 0;
        struct mock *mock;

        assert_ok(pthread_barrier_init(&lost.barrier, NULL, 2));
        assert_ok(getrlimit(RLIMIT_NOFILE, &before));
        mock = mock_new(script_lost, &lost);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                int highest;

                objmapper_client_set_fd_fallback(client, fallback);
                for (unsigned i = 0; i < N_LOST; i++) {
                        g_autofree char *uri = g_strdup_printf("body %u", i);
                        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, uri);

                        assert_ok(objmapper_client_submit(client, request, take_answer, &answers[i]));
                }
                for (unsigned i = 0; i < 5; i++) /* the greeting, then all are sent */
                        g_assert_cmpint(objmapper_client_wait(client, G_USEC_PER_SEC / 50), ==, 0);

                (void) pthread_barrier_wait(&lost.barrier);
                highest = dup(STDERR_FILENO); /* the lowest that is free */
                g_assert_cmpint(highest, >=, 0);
                (void) close_fd(highest);
                limit = before;
                limit.rlim_cur = (rlim_t) highest + 3;
                assert_ok(setrlimit(RLIMIT_NOFILE, &limit));
                (void) pthread_barrier_wait(&lost.barrier);

                finish(client);
                if (fallback) {
                        _cleanup_object_ objmapper_object *object = NULL;

                        assert_ok(objmapper_get(client, "end", &object));
                }
                assert_ok(setrlimit(RLIMIT_NOFILE, &before));
        }

        for (unsigned i = 0; i < N_LOST; i++) {
                g_autofree char *body = g_strdup_printf("body %u", i);

                if (answers[i].error == -ENOLINK) {
                        g_assert_false(fallback);
                        n_other++;
                        continue;
                }
                assert_ok(answers[i].error);
                if (objmapper_object_get_mode(answers[i].object) == OBJMAPPER_FDPASS)
                        n_passed++;
                else
                        n_other++;
                assert_body(answers[i].object, body);
                answer_done(&answers[i]);
        }
        g_assert_cmpuint(n_passed, >=, 1);
        g_assert_cmpuint(n_other, >=, 1);

        mock_free(mock);
        assert_ok(pthread_barrier_destroy(&lost.barrier));
}

static void test_lost_fallback(void) {
        check_lost(true);
}

static void test_lost_error(void) {
        check_lost(false);
}

/* ---- spliced bodies and outputs ---- */

#define BIG_SIZE ((size_t) 3 << 20)

static char *big_body(void) {
        char *body = g_malloc(BIG_SIZE + 1);

        for (size_t i = 0; i < BIG_SIZE; i++)
                body[i] = (char) ('a' + (i / 7 + i / 4096) % 26);
        body[BIG_SIZE] = 0;
        return body;
}

static void reply_big(struct mock *mock, uint64_t id, enum proto_mode mode, const char *body) {
        struct proto_message message = mock_ok(PROTO_GET, id);
        _cleanup_close_ int fd = -EBADF;

        message.head.mode = (uint8_t) mode;
        message.info.size = strlen(body);
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        if (mode == OP_FDPASS) {
                fd = file_with(body);
                message.head.fd_count = 1;
                mock_send_fds(mock, &message, &fd, 1);
                return;
        }

        message.head.body_size = strlen(body);
        mock_send(mock, &message, body);
}

static void script_big(struct mock *mock) {
        g_autofree char *body = big_body();
        struct frame frame;
        bool more = true;

        mock_greet(mock);
        while (more) {
                mock_read(mock, PROTO_GET, &frame);
                reply_big(mock, frame.message.head.id, frame.message.head.mode, body);
                more = frame.message.uri.data[0] != '.';
                frame_done(&frame);
        }
        g_assert_true(mock_at_end(mock));
}

static void assert_sealed(int fd) {
        const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

        g_assert_cmpint(fcntl(fd, F_GET_SEALS) & seals, ==, seals);
        g_assert_cmpint(fcntl(fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
        g_assert_cmpint(ftruncate(fd, 0), <, 0);
        g_assert_true(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
        g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, !=, 0);
}

static void test_modes(void) {
        static const enum objmapper_mode modes[] = { OBJMAPPER_FDPASS, OBJMAPPER_COPY, OBJMAPPER_SPLICE };
        struct mock *mock = mock_new(script_big, NULL);
        g_autofree char *body = big_body();

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
                        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET,
                                                                                   i == 2 ? "." : "x");
                        _cleanup_object_ objmapper_object *object = NULL;
                        _cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
                        g_autofree char *written = g_malloc0(BIG_SIZE + 1);

                        assert_ok(objmapper_request_set_mode(request, modes[i]));
                        assert_ok(objmapper_client_call(client, request, &object));
                        g_assert_cmpint(objmapper_object_get_mode(object), ==, (int) modes[i]);
                        assert_body(object, body);
                        if (modes[i] != OBJMAPPER_FDPASS)
                                assert_sealed(objmapper_object_get_fd(object));

                        assert_ok(objmapper_object_write_to(object, out));
                        g_assert_cmpint(pread(out, written, BIG_SIZE + 1, 0), ==, (ssize_t) BIG_SIZE);
                        g_assert_true(memcmp(written, body, BIG_SIZE) == 0);
                }
        }
        mock_free(mock);
}

static void *drain(void *userdata) {
        GByteArray *got = g_byte_array_new();
        int fd = GPOINTER_TO_INT(userdata);
        uint8_t p[65536];
        ssize_t n;

        while ((n = read(fd, p, sizeof(p))) > 0)
                g_byte_array_append(got, p, (guint) n);
        (void) close_fd(fd);
        return got;
}

/* Every mode into every kind of output. */
static void test_output(void) {
        static const enum objmapper_mode modes[] = { OBJMAPPER_FDPASS, OBJMAPPER_COPY, OBJMAPPER_SPLICE };
        struct mock *mock = mock_new(script_big, NULL);
        g_autofree char *body = big_body(), *directory = harness_make_dir();

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);

                for (unsigned i = 0; i < 9; i++) {
                        _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET,
                                                                                   i == 8 ? "." : "x");
                        g_autofree char *path = g_strdup_printf("%s/%u", directory, i), *written = NULL;
                        _cleanup_object_ objmapper_object *object = NULL;
                        _cleanup_close_ int out = -EBADF;
                        const void *data;
                        gsize size;

                        assert_ok(objmapper_request_set_mode(request, modes[i % 3]));
                        if (i / 3 < 2) {
                                out = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (i / 3 == 1 ? O_APPEND : 0),
                                           0600);
                                g_assert_cmpint(write(out, "before", 6), ==, 6);
                                assert_ok(objmapper_request_set_output(request, out));
                                assert_ok(objmapper_client_call(client, request, &object));
                                g_assert_true(g_file_get_contents(path, &written, &size, NULL));
                                g_assert_cmpuint(size, ==, BIG_SIZE + 6);
                                g_assert_true(memcmp(written, "before", 6) == 0);
                                g_assert_true(memcmp(written + 6, body, BIG_SIZE) == 0);
                        } else {
                                GByteArray *got;
                                pthread_t thread;
                                int fds[2];

                                assert_ok(pipe2(fds, O_CLOEXEC));
                                assert_ok(pthread_create(&thread, NULL, drain, GINT_TO_POINTER(fds[0])));
                                if (i % 2) /* a non-blocking one is waited for, too */
                                        g_assert_cmpint(fcntl(fds[1], F_SETFL, O_NONBLOCK), ==, 0);
                                assert_ok(objmapper_request_set_output(request, fds[1]));
                                assert_ok(objmapper_client_call(client, request, &object));
                                (void) close_fd(fds[1]);
                                assert_ok(pthread_join(thread, (void **) &got));
                                g_assert_cmpmem(got->data, got->len, body, BIG_SIZE);
                                g_byte_array_unref(got);
                        }
                        g_assert_cmpuint(objmapper_object_get_body_size(object), ==, BIG_SIZE);
                        assert_errno(objmapper_object_get_data(object, &data, NULL), -ENODATA);
                }
        }
        harness_remove_dir(TAKE_PTR(directory));
        mock_free(mock);
}

/* An output that fails raises no signal, and the client goes on. */
static void script_output_fails(struct mock *mock) {
        g_autofree char *body = big_body();

        mock_greet(mock);
        reply_big(mock, mock_skip(mock, PROTO_GET), OP_FDPASS, body);
        reply_big(mock, mock_skip(mock, PROTO_GET), OP_COPY, body); /* given up half way */
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "good");
        g_assert_true(mock_at_end(mock));
}

static void test_output_fails(void) {
        struct mock *mock = mock_new(script_output_fails, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");
                _cleanup_object_ objmapper_object *object = NULL;
                int fds[2];

                assert_ok(pipe2(fds, O_CLOEXEC));
                (void) close_fd(fds[0]);
                assert_ok(objmapper_request_set_output(request, fds[1]));
                assert_errno(objmapper_client_submit(client, request, take_answer, NULL), -EINVAL);
                assert_errno(objmapper_client_call(client, request, &object), -EPIPE);
                assert_errno(objmapper_client_call(client, request, &object), -EPIPE);
                (void) close_fd(fds[1]);
                assert_ok(objmapper_get(client, "y", &object));
                assert_data(object, "good");
        }
        mock_free(mock);
}

/* A descriptor that comes with the last bytes of a body that could be spliced away. */
static void script_mixed(struct mock *mock) {
        struct proto_message message;
        _cleanup_close_ int fd = file_with("passed");
        uint64_t passed, copied;
        uint8_t p[512];
        ssize_t n;

        mock_greet(mock);
        passed = mock_skip(mock, PROTO_GET);
        copied = mock_skip(mock, PROTO_GET);

        message = mock_ok(PROTO_GET, copied);
        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = 6;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, NULL);
        mock_send_raw(mock, "cop", 3);

        message = mock_ok(PROTO_GET, passed);
        message.head.mode = OP_FDPASS;
        message.head.fd_count = 1;
        message.info.size = 6;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        (void) stpcpy((char *) p, "ied");
        n = proto_message_encode(&message, p + 3, sizeof(p) - 3);
        g_assert_cmpint(fdpass_write(mock->connection, &(struct iovec){ p, (size_t) n + 3 }, 1, &fd, 1), ==,
                        n + 3);
        g_assert_true(mock_at_end(mock));
}

static void test_mixed(void) {
        struct mock *mock = mock_new(script_mixed, NULL);
        struct answer answer = {};
        char written[16] = "";

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *passed = request_for(OBJMAPPER_GET, "passed"),
                                                    *copied = request_for(OBJMAPPER_GET, "copied");
                _cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);

                assert_ok(objmapper_request_set_mode(copied, OBJMAPPER_COPY));
                assert_ok(objmapper_request_set_output(copied, out));
                assert_ok(objmapper_client_submit(client, passed, take_answer, &answer));
                assert_ok(objmapper_client_call(client, copied, NULL));
                finish(client);
                g_assert_cmpint(pread(out, written, sizeof(written), 0), ==, 6);
        }
        g_assert_cmpstr(written, ==, "copied");
        assert_body(answer.object, "passed");
        answer_done(&answer);
        mock_free(mock);
}

/* ---- what is refused before anything is asked ---- */

static void test_refused(void) {
        _cleanup_client_ objmapper_client *client = NULL;
        _cleanup_request_ objmapper_request *get = request_for(OBJMAPPER_GET, "x"),
                                            *put = request_for(OBJMAPPER_PUT, "x"),
                                            *list = request_for(OBJMAPPER_LIST, "");
        objmapper_request *none = NULL;
        g_autofree char *long_uri = g_strnfill(OBJMAPPER_URI_MAX + 1, 'x');
        objmapper_object *object = NULL;

        assert_ok(objmapper_client_new(&client));
        assert_errno(objmapper_get(client, "", &object), -EINVAL);
        assert_words(client, "not a URI");
        assert_errno(objmapper_get(client, long_uri, &object), -EINVAL);
        assert_errno(objmapper_client_request(client, "a\0b", 3, &object), -EINVAL);
        assert_errno(objmapper_request_new(&none, (enum objmapper_verb) 5, "x", 1), -EINVAL);
        assert_errno(objmapper_request_new(&none, OBJMAPPER_STATS, "x", 1), -EINVAL);

        assert_errno(objmapper_request_set_mode(get, (enum objmapper_mode) 0), -EINVAL);
        assert_errno(objmapper_request_set_mode(put, OBJMAPPER_COPY), -EINVAL);
        assert_errno(objmapper_request_set_range(put, 0, 1), -EINVAL);
        assert_errno(objmapper_request_set_body(get, "", 0), -EINVAL);
        assert_errno(objmapper_request_set_if_generation(put, 0), -EINVAL);
        assert_errno(objmapper_request_set_if_absent(get, 1), -EINVAL);
        assert_errno(objmapper_request_set_ttl(get, 1), -EINVAL);
        assert_errno(objmapper_request_set_limit(get, 1), -EINVAL);
        assert_errno(objmapper_request_add_metadata(put, "", "v", 1), -EINVAL);
        assert_errno(objmapper_request_add_metadata(put, "k", long_uri, PROTO_METADATA_MAX), -EINVAL);
        assert_ok(objmapper_request_add_metadata(put, "k", long_uri, OBJMAPPER_URI_MAX));
        assert_errno(objmapper_request_set_cursor(list, long_uri, PROTO_CURSOR_MAX + 1), -EINVAL);

        assert_errno(objmapper_client_set_sockets(client, NULL, NULL), -EINVAL);
        assert_errno(objmapper_client_set_sockets(client, long_uri, NULL), -EINVAL);
        assert_errno(objmapper_client_set_instance(client, "a/b", 0), -EINVAL);
        assert_errno(objmapper_client_set_instance(client, "..", 0), -EINVAL);
        assert_errno(objmapper_client_set_instance(client, NULL, 0), -EINVAL);
        assert_errno(objmapper_client_set_mode(client, (enum objmapper_mode) 7), -EINVAL);
        assert_ok(objmapper_client_set_instance(client, &"a@b"[2], 0));
        objmapper_client_close(NULL);
        objmapper_object_free(NULL);
        objmapper_request_free(NULL);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client/simple", test_simple);
        harness_add("/client/depth", test_depth);
        harness_add("/client/shallow", test_shallow);
        harness_add("/client/forget", test_forget);
        harness_add("/client/trickle", test_trickle);
        harness_add("/client/lost-fallback", test_lost_fallback);
        harness_add("/client/lost-error", test_lost_error);
        harness_add("/client/modes", test_modes);
        harness_add("/client/output", test_output);
        harness_add("/client/output-fails", test_output_fails);
        harness_add("/client/mixed", test_mixed);
        harness_add("/client/refused", test_refused);
        return g_test_run();
}
