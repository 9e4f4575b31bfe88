/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A get that is alone, and everything that can be otherwise than it mostly is: each comes between two that are as they
 * mostly are, by either of the calls that wait. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "client-harness.h"
#include "fdpass.h"
#include "macro.h"

/* An answer with body, and what is behind it in the same piece, sent in pieces of so many bytes; with a descriptor, with
 * the first of them. */
static void send_pieces(struct mock *mock,
                        const uint8_t *p,
                        size_t size,
                        size_t piece,
                        const int *fds,
                        size_t n_fds) {
        for (size_t at = 0; at < size; at += piece) {
                struct iovec iov = { (void *) (p + at), MIN(piece, size - at) };

                g_assert_cmpint(fdpass_write(mock->connection, &iov, 1, fds, at == 0 ? n_fds : 0), ==,
                                iov.iov_len);
                if (at + piece < size)
                        g_usleep(100);
        }
}

static size_t encode_copy(uint8_t *p, size_t size, uint64_t id, const char *body) {
        struct proto_message message = mock_ok(PROTO_GET, id);
        ssize_t n;

        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = strlen(body);
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        n = proto_message_encode(&message, p, size);
        g_assert_cmpint(n, >, 0);
        (void) stpcpy((char *) p + n, body);
        return (size_t) n + strlen(body);
}

static size_t encode_notice(uint8_t *p, size_t size) {
        const struct proto_message message = { .head = { .type = PROTO_NOTICE, .status = 999 } };
        ssize_t n = proto_message_encode(&message, p, size);

        g_assert_cmpint(n, >, 0);
        return (size_t) n;
}

static void answer_by_bytes(struct mock *mock, uint64_t id) {
        uint8_t p[512];

        send_pieces(mock, p, encode_copy(p, sizeof(p), id, "body"), 1, NULL, 0);
}

static void answer_without_end(struct mock *mock, uint64_t id) {
        uint8_t p[512];
        size_t n = encode_copy(p, sizeof(p), id, "body");

        send_pieces(mock, p, n, n - 2, NULL, 0);
}

static void answer_behind_notice(struct mock *mock, uint64_t id) {
        uint8_t p[512];
        size_t n = encode_notice(p, sizeof(p));

        n += encode_copy(p + n, sizeof(p) - n, id, "body");
        send_pieces(mock, p, n, n, NULL, 0);
}

static void answer_before_notice(struct mock *mock, uint64_t id) {
        uint8_t p[512];
        size_t n = encode_copy(p, sizeof(p), id, "body");

        n += encode_notice(p + n, sizeof(p) - n);
        send_pieces(mock, p, n, n, NULL, 0);
}

static void answer_late(struct mock *mock, uint64_t id) {
        g_usleep(1200000); /* a wait in one piece is a second */
        mock_reply_copy(mock, id, "body");
}

static void answer_by_splice(struct mock *mock, uint64_t id) {
        struct proto_message message = mock_ok(PROTO_GET, id);

        message.head.mode = OP_SPLICE;
        message.head.body_size = message.info.size = 4;
        message.has = PROTO_HAS(PROTO_TAG_INFO);
        mock_send(mock, &message, "body");
}

static void answer_next_time(struct mock *mock, _unused_ uint64_t id) {
        mock_greet(mock); /* which closes the connection before */
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "body");
}

static void answer_draining(struct mock *mock, _unused_ uint64_t id) {
        mock_notice(mock, PROTO_DRAINING, "going");
        mock_greet(mock);
        mock_reply_fd(mock, mock_skip(mock, PROTO_GET), "body");
}

static void answer_large(struct mock *mock, uint64_t id) {
        g_autofree char *body = g_strnfill(300000, 'b');

        mock_reply_copy(mock, id, body);
}

static void answer_absent(struct mock *mock, uint64_t id) {
        mock_reply_error(mock, PROTO_GET, id, PROTO_ABSENT, "not here");
}

static void answer_metadata(struct mock *mock, uint64_t id) {
        struct proto_message message = mock_ok(PROTO_GET, id);
        uint8_t block[64];
        size_t size = 0;

        assert_ok(proto_metadata_append(
                        block, sizeof(block), &size,
                        &(struct proto_pair){ { (const uint8_t *) "k", 1 }, { (const uint8_t *) "v", 1 } }));
        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = 4;
        message.has = PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_METADATA);
        message.metadata = (struct proto_bytes){ block, size };
        mock_send(mock, &message, "body");
}

static void answer_empty(struct mock *mock, uint64_t id) {
        mock_reply_copy(mock, id, "");
}

static const struct {
        void (*answer)(struct mock *mock, uint64_t id);
        int error;
        size_t size; /* of the body; 0: it is "body", or there is none */
        bool is_empty;
} cases[] = {
        { answer_by_bytes },
        { answer_without_end },
        { answer_behind_notice },
        { answer_before_notice },
        { answer_late },
        { answer_by_splice },
        { answer_next_time },
        { answer_draining },
        { answer_large, .size = 300000 },
        { answer_metadata },
        { answer_absent, -ENOENT },
        { answer_empty, .is_empty = true },
};

static void script(struct mock *mock) {
        mock_greet(mock);
        for (size_t i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
                uint64_t id, passed;

                cases[i / 2].answer(mock, mock_skip(mock, PROTO_GET));
                id = mock_skip(mock, PROTO_GET);
                mock_reply_copy(mock, id, "as mostly");
                passed = mock_skip(mock, PROTO_GET);
                g_assert_cmpuint(passed, >, id);
                mock_reply_fd(mock, passed, "passed");
        }
        g_assert_true(mock_at_end(mock));
}

static int get(objmapper_client *client, bool by_many, objmapper_object **object) {
        int r, error;

        if (!by_many) {
                objmapper_object_free(*object);
                *object = NULL;
                return objmapper_get(client, "x", object);
        }

        r = objmapper_get_many(client, &(const char *){ "x" }, 1, object, &error);
        g_assert_cmpint(r, ==, error == 0);
        return error;
}

static void check(objmapper_client *client, bool by_many, size_t i, objmapper_object **object) {
        int r = get(client, by_many, object);

        assert_errno(r, cases[i].error);
        if (r < 0) {
                g_assert_cmpstr(objmapper_client_error(client), ==, "get x: absent (not here)");
                g_assert_null(*object);
        } else if (cases[i].size > 0)
                g_assert_cmpuint(objmapper_object_get_body_size(*object), ==, cases[i].size);
        else
                assert_body(*object, cases[i].is_empty ? "" : "body");
        if (cases[i].answer == answer_metadata)
                g_assert_nonnull(objmapper_object_get_metadata(*object, "k", NULL));
}

static void test_between(void) {
        struct mock *mock = mock_new(script, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;

                for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                        for (unsigned by_many = 0; by_many < 2; by_many++) {
                                check(client, by_many, i, &object);
                                assert_ok(get(client, by_many, &object));
                                assert_body(object, "as mostly");
                                assert_ok(get(client, by_many, &object));
                                assert_body(object, "passed");
                        }
                objmapper_object_free(object);
        }
        mock_free(mock);
}

/* Beside another that is under way it is a call like others. */
static void script_beside(struct mock *mock) {
        uint64_t other;

        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "alone");
        other = mock_skip(mock, PROTO_GET);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "beside");
        mock_reply_copy(mock, other, "other");
        g_assert_true(mock_at_end(mock));
}

static void test_beside(void) {
        struct mock *mock = mock_new(script_beside, NULL);
        struct answer answer = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "other");
                objmapper_object *object = NULL;

                assert_ok(get(client, true, &object));
                assert_body(object, "alone");
                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                assert_ok(get(client, true, &object));
                assert_body(object, "beside");
                finish(client);
                assert_body(answer.object, "other");
                objmapper_object_free(object);
        }
        answer_done(&answer);
        mock_free(mock);
}

/* The answer to what was not asked is none. */
static void script_other(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET) + 1, "of somebody else");
        g_assert_true(mock_at_end(mock));
}

static void test_other(void) {
        struct mock *mock = mock_new(script_other, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;

                assert_ok(get(client, false, &object));
                assert_errno(get(client, false, &object), -EPROTO);
        }
        mock_free(mock);
}

/* Nothing comes: the time-out is kept, and what comes after it is nobody's. */
static void script_silent(struct mock *mock) {
        uint64_t late, next;

        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        late = mock_skip(mock, PROTO_GET);
        next = mock_skip(mock, PROTO_GET); /* the client has given the one before up */
        mock_reply_copy(mock, late, "too late");
        mock_reply_copy(mock, next, "next");
        g_assert_true(mock_at_end(mock));
}

static void test_silent(void) {
        struct mock *mock = mock_new(script_silent, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;

                assert_ok(get(client, false, &object));
                objmapper_client_set_timeout(client, 1500000);
                assert_errno(get(client, false, &object), -ETIMEDOUT);
                objmapper_client_set_timeout(client, 0);
                assert_ok(get(client, false, &object));
                assert_body(object, "next");
                objmapper_object_free(object);
        }
        mock_free(mock);
}

/* The daemon takes each request, and answers, while the client sleeps. */
#define SLEEPS     10
#define SLEEP_USEC 10000

static void script_slow(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        for (unsigned i = 0; i < SLEEPS; i++) {
                uint64_t ids[3];

                g_usleep(SLEEP_USEC);
                ids[0] = mock_skip(mock, PROTO_GET);
                g_usleep(SLEEP_USEC);
                mock_reply_copy(mock, ids[0], "alone");

                g_usleep(SLEEP_USEC);
                for (size_t j = 0; j < ARRAY_SIZE(ids); j++)
                        ids[j] = mock_skip(mock, PROTO_GET);
                g_usleep(SLEEP_USEC);
                for (size_t j = 0; j < ARRAY_SIZE(ids); j++)
                        mock_reply_copy(mock, ids[j], "of some");
        }
        g_assert_true(mock_at_end(mock));
}

static long times_slept(void) {
        struct rusage usage;

        g_assert_no_errno(getrusage(RUSAGE_THREAD, &usage));
        return usage.ru_nvcsw;
}

/* That the daemon takes a request wakes nobody who waits for the answer. */
static void test_woken_once(void) {
        static const char *const some[3] = { "x", "y", "z" };
        struct mock *mock = mock_new(script_slow, NULL);
        long alone = 0, of_some = 0;

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL, *objects[ARRAY_SIZE(some)] = {};
                int errors[ARRAY_SIZE(some)];

                assert_ok(get(client, false, &object));
                for (unsigned i = 0; i < SLEEPS; i++) {
                        long before = times_slept();

                        assert_ok(get(client, false, &object));
                        alone += times_slept() - before;

                        before = times_slept();
                        g_assert_cmpint(objmapper_get_many(client, some, ARRAY_SIZE(some), objects, errors),
                                        ==, ARRAY_SIZE(some));
                        /* Each answer is a wake-up, if there was time to fall asleep before it. */
                        of_some += times_slept() - before;
                }
                objmapper_object_free(object);
                for (size_t j = 0; j < ARRAY_SIZE(objects); j++)
                        objmapper_object_free(objects[j]);
        }
        mock_free(mock);
        g_assert_cmpint(alone, <, 2 * SLEEPS);
        g_assert_cmpint(of_some, <, (long) (1 + ARRAY_SIZE(some)) * SLEEPS);
}

/* In place of the C library's: how often the client gives way, and what others make of it. */
static unsigned n_yields, yield_usec;

__attribute__((visibility("default"))) int sched_yield(void) {
        n_yields++;
        if (yield_usec > 0)
                g_usleep(yield_usec);
        return (int) syscall(SYS_sched_yield);
}

#define LOOKS 50

static void script_looks(struct mock *mock) {
        mock_greet(mock);
        for (unsigned i = 0; i < 1 + LOOKS; i++) {
                uint64_t id = mock_skip(mock, PROTO_GET);

                g_usleep(*(const unsigned *) mock->userdata);
                mock_reply_copy(mock, id, "body");
        }
        g_assert_true(mock_at_end(mock));
}

/* Whoever loses more than is won by looking for an answer again, does not for a while. */
static void look(unsigned takes_usec) {
        struct mock *mock = mock_new(script_looks, &takes_usec);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;

                assert_ok(get(client, false, &object));
                n_yields = 0;
                for (unsigned i = 0; i < LOOKS; i++)
                        assert_ok(get(client, false, &object));
                objmapper_object_free(object);
        }
        mock_free(mock);
}

static void test_looks(void) {
        /* Others take the processor for long. */
        yield_usec = 2000;
        look(0);
        g_assert_cmpuint(n_yields, <=, 1);
        yield_usec = 0;

        /* The daemon takes its time: of nine times it is looked once, for some microseconds. */
        yield_usec = 10;
        look(1000);
        g_assert_cmpuint(n_yields, <=, 5 * (LOOKS / 9 + 1));
        yield_usec = 0;
}

/* An answer that has begun to come has made progress, and has all of the time-out again. */
static void script_in_two(struct mock *mock) {
        uint8_t p[512];
        size_t n;

        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        n = encode_copy(p, sizeof(p), mock_skip(mock, PROTO_GET), "body");
        g_usleep(1600000);
        mock_send_raw(mock, p, n - 2);
        g_usleep(1600000);
        mock_send_raw(mock, p + n - 2, 2);
        g_assert_true(mock_at_end(mock));
}

static void test_in_two(void) {
        struct mock *mock = mock_new(script_in_two, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;

                assert_ok(get(client, false, &object));
                objmapper_client_set_timeout(client, 3000000);
                assert_ok(get(client, false, &object));
                assert_body(object, "body");
                objmapper_object_free(object);
        }
        mock_free(mock);
}

static void script_later(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        for (unsigned i = 0; i < 2; i++) {
                uint64_t id = mock_skip(mock, PROTO_GET);

                g_usleep(50000);
                mock_reply_copy(mock, id, "body");
        }
        g_assert_true(mock_at_end(mock));
}

/* Who may open no descriptor any more can't poll(), and sleeps all the same. */
static void test_no_more_fds(void) {
        struct mock *mock = mock_new(script_later, NULL);
        struct rlimit before, none;

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;
                long slept;

                assert_ok(get(client, false, &object));
                g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &before));
                none = (struct rlimit){ 0, before.rlim_max };
                g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &none));
                slept = times_slept();
                assert_ok(get(client, false, &object));
                assert_ok(get(client, true, &object));
                g_assert_cmpint(times_slept() - slept, >=, 10);
                g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &before));
                assert_body(object, "body");
                objmapper_object_free(object);
        }
        mock_free(mock);
}

static void on_alarm(_unused_ int number) {
}

static void script_deaf(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        (void) mock_skip(mock, PROTO_GET);
        g_assert_true(mock_at_end(mock));
}

/* Signals end no wait, and make none longer. */
static void test_signals(void) {
        struct sigaction action = { .sa_handler = on_alarm }, old;
        struct itimerval often = { .it_interval.tv_usec = 20000, .it_value.tv_usec = 20000 }, never = {};
        struct mock *mock = mock_new(script_deaf, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;
                gint64 begun;

                assert_ok(get(client, false, &object));
                objmapper_client_set_timeout(client, 300000);
                g_assert_no_errno(sigaction(SIGALRM, &action, &old));
                begun = g_get_monotonic_time();
                g_assert_no_errno(setitimer(ITIMER_REAL, &often, NULL));
                assert_errno(get(client, false, &object), -ETIMEDOUT);
                g_assert_no_errno(setitimer(ITIMER_REAL, &never, NULL));
                g_assert_cmpint(g_get_monotonic_time() - begun, >=, 300000);
                g_assert_no_errno(sigaction(SIGALRM, &old, NULL));
        }
        mock_free(mock);
}

/* The URI of the object whose memory is used again, for an answer that needs more. */
static void script_own_uri(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        answer_metadata(mock, mock_skip(mock, PROTO_GET));
        g_assert_true(mock_at_end(mock));
}

static void test_own_uri(void) {
        struct mock *mock = mock_new(script_own_uri, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;
                const char *uri = "u";

                for (unsigned i = 0; i < 2; i++) {
                        g_assert_cmpint(objmapper_get_many(client, &uri, 1, &object, NULL), ==, 1);
                        uri = objmapper_object_get_uri(object, NULL);
                        g_assert_cmpstr(uri, ==, "u");
                }
                objmapper_object_free(object);
        }
        mock_free(mock);
}

/* No URI is none here either, and one after the other may be longer than all before. */
static void script_uris(struct mock *mock) {
        mock_greet(mock);
        for (unsigned i = 0; i < 30; i++)
                mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "body");
        g_assert_true(mock_at_end(mock));
}

static void test_uris(void) {
        struct mock *mock = mock_new(script_uris, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;

                for (unsigned i = 0; i < 30; i++) {
                        g_autofree char *uri = g_strnfill(1 + 100 * i, 'u');

                        assert_ok(objmapper_get(client, uri, &object));
                        g_assert_cmpstr(objmapper_object_get_uri(object, NULL), ==, uri);
                        objmapper_object_free(object);
                        assert_errno(objmapper_client_request(client, NULL, 5, &object), -EINVAL);
                }
        }
        mock_free(mock);
}

/* The second that is waited for first is part of the time-out. */
static void script_between(struct mock *mock) {
        uint64_t late;

        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        late = mock_skip(mock, PROTO_GET);
        g_usleep(1900000);
        mock_reply_copy(mock, late, "too late");
        (void) mock_at_end(mock);
}

static void test_timeout(void) {
        struct mock *mock = mock_new(script_between, NULL);

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                objmapper_object *object = NULL;

                assert_ok(get(client, false, &object));
                objmapper_client_set_timeout(client, 1100000);
                assert_errno(get(client, false, &object), -ETIMEDOUT);
        }
        mock_free(mock);
}

static int64_t take_source(_unused_ void *data, _unused_ size_t size, void *userdata) {
        ++*(unsigned *) userdata;
        return 0;
}

/* A source is asked when the client is processed, and not before; nor when a get is submitted behind its put. */
static void script_source(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        (void) mock_at_end(mock);
}

static void test_source(void) {
        struct mock *mock = mock_new(script_source, NULL);
        struct answer answers[2] = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_PUT, "x"),
                                                    *behind = request_for(OBJMAPPER_GET, "y");
                objmapper_object *object = NULL;
                struct pollfd p;
                unsigned n = 0;

                assert_ok(get(client, false, &object));
                objmapper_object_free(object);
                assert_ok(objmapper_request_set_body_source(request, take_source, &n, OBJMAPPER_TO_END));
                assert_ok(objmapper_client_submit(client, request, take_answer, &answers[0]));
                assert_ok(objmapper_client_submit(client, behind, take_answer, &answers[1]));
                g_assert_cmpuint(n, ==, 0);
                p = (struct pollfd){ .fd = objmapper_client_get_fd(client), .events = POLLIN };
                g_assert_cmpint(poll(&p, 1, 20000), ==, 1);
                g_assert_cmpint(objmapper_client_process(client), >=, 0);
                g_assert_cmpuint(n, >, 0);
        }
        mock_free(mock);
}

static bool is_short;

/* In the place of the C library's. */
__attribute__((visibility("default"))) int epoll_ctl(int epoll,
                                                     int operation,
                                                     int fd,
                                                     struct epoll_event *event) {
        if (is_short && operation == EPOLL_CTL_ADD) {
                errno = ENOSPC;
                return -1;
        }
        return (int) syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

/* The descriptor to poll could not have the socket at first: the next turn has it there. */
static void script_short(struct mock *mock) {
        mock_greet(mock);
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "first");
        mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "heard of");
        g_assert_true(mock_at_end(mock));
}

static void test_short(void) {
        struct mock *mock = mock_new(script_short, NULL);
        struct answer answer = {};

        {
                _cleanup_client_ objmapper_client *client = connect_to(mock);
                _cleanup_request_ objmapper_request *request = request_for(OBJMAPPER_GET, "x");
                objmapper_object *object = NULL;
                struct pollfd p;

                assert_ok(get(client, false, &object));
                objmapper_object_free(object);
                is_short = true;
                p = (struct pollfd){ .fd = objmapper_client_get_fd(client), .events = POLLIN };
                is_short = false;
                g_assert_cmpint(objmapper_client_process(client), ==, 0);
                assert_ok(objmapper_client_submit(client, request, take_answer, &answer));
                g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
                finish(client);
        }
        assert_body(answer.object, "heard of");
        answer_done(&answer);
        mock_free(mock);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client-at-once/between", test_between);
        harness_add("/client-at-once/beside", test_beside);
        harness_add("/client-at-once/in-two", test_in_two);
        harness_add("/client-at-once/looks", test_looks);
        harness_add("/client-at-once/no-more-fds", test_no_more_fds);
        harness_add("/client-at-once/other", test_other);
        harness_add("/client-at-once/own-uri", test_own_uri);
        harness_add("/client-at-once/short", test_short);
        harness_add("/client-at-once/signals", test_signals);
        harness_add("/client-at-once/silent", test_silent);
        harness_add("/client-at-once/source", test_source);
        harness_add("/client-at-once/timeout", test_timeout);
        harness_add("/client-at-once/uris", test_uris);
        harness_add("/client-at-once/woken-once", test_woken_once);
        return g_test_run();
}
