/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many gets in one call, and objects whose memory is used again. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "client-harness.h"

#define N 5

/* The gets of one call come as one, and are answered from the last to the first. */
static void answer_round(struct mock *mock, const char *const bodies[N], const char *modes) {
        uint64_t ids[N];

        for (unsigned i = 0; i < N; i++)
                ids[i] = mock_skip(mock, PROTO_GET);
        for (unsigned i = N; i-- > 0;)
                switch (modes[i]) {
                case 'c':
                        mock_reply_copy(mock, ids[i], bodies[i]);
                        break;
                case 'f':
                        mock_reply_fd(mock, ids[i], bodies[i]);
                        break;
                default:
                        mock_reply_error(mock, PROTO_GET, ids[i], PROTO_ABSENT, NULL);
                }
}

static const char *const first[N] = { "a body of some size", "two", "", "four", "five" };
static const char *const second[N] = { "short", "longer than before", "now there is one", "", "f" };

static void script_reuse(struct mock *mock) {
        mock_greet(mock);
        answer_round(mock, first, "ccccf");
        answer_round(mock, second, "cfcfc");
        answer_round(mock, first, "cxfxc");
        g_assert_true(mock_at_end(mock));
}

static const char *const uris[N] = { "u/0", "u/1", "u/2", "u/3", "a longer uri than those before" };

static void check(objmapper_object *const objects[N], const char *const bodies[N], const char *modes) {
        for (unsigned i = 0; i < N; i++) {
                if (modes[i] == 'x') {
                        g_assert_null(objects[i]);
                        continue;
                }
                g_assert_cmpstr(objmapper_object_get_uri(objects[i], NULL), ==, uris[i]);
                g_assert_cmpint(objmapper_object_get_mode(objects[i]), ==,
                                modes[i] == 'c' ? OBJMAPPER_COPY : OBJMAPPER_FDPASS);
                g_assert_cmpuint(objmapper_object_get_body_size(objects[i]), ==, strlen(bodies[i]));
                assert_body(objects[i], bodies[i]);
                g_assert_cmpstr(objmapper_object_get_etag(objects[i]), !=, "");
        }
}

static void test_reuse(void) {
        struct mock *mock = mock_new(script_reuse, NULL);
        objmapper_client *client = connect_to(mock);
        objmapper_object *objects[N] = {};
        int errors[N];

        g_assert_cmpint(objmapper_get_many(client, uris, N, objects, NULL), ==, N);
        check(objects, first, "ccccf");

        /* One whose descriptor was taken, and one that was mapped. */
        (void) close_fd(objmapper_object_take_fd(objects[4]));
        g_assert_cmpint(objmapper_get_many(client, uris, N, objects, errors), ==, N);
        check(objects, second, "cfcfc");
        for (unsigned i = 0; i < N; i++)
                g_assert_cmpint(errors[i], ==, 0);

        g_assert_cmpint(objmapper_get_many(client, uris, N, objects, errors), ==, N - 2);
        assert_words(client, "get u/");
        check(objects, first, "cxfxc");
        for (unsigned i = 0; i < N; i++)
                g_assert_cmpint(errors[i], ==, i % 2 == 1 ? -ENOENT : 0);

        for (unsigned i = 0; i < N; i++)
                objmapper_object_free(objects[i]);
        objmapper_client_close(client);
        mock_free(mock);
}

#define MANY 700 /* more than the daemon takes at once, and than calls are kept */

static void script_many(struct mock *mock) {
        mock->limits.depth = 100;
        mock_greet(mock);
        for (unsigned i = 0; i < 2 * MANY; i++)
                mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "x");
        g_assert_true(mock_at_end(mock));
}

static void test_many(void) {
        struct mock *mock = mock_new(script_many, NULL);
        objmapper_client *client = connect_to(mock);
        g_autofree objmapper_object **objects = g_new0(objmapper_object *, MANY);
        g_autofree const char **many = g_new0(const char *, MANY);

        for (unsigned i = 0; i < MANY; i++)
                many[i] = uris[i % N];
        for (unsigned round = 0; round < 2; round++) {
                g_assert_cmpint(objmapper_get_many(client, many, MANY, objects, NULL), ==, MANY);
                for (unsigned i = 0; i < MANY; i++)
                        assert_data(objects[i], "x");
        }
        for (unsigned i = 0; i < MANY; i++)
                objmapper_object_free(objects[i]);
        objmapper_client_close(client);
        mock_free(mock);
}

static void script_refused(struct mock *mock) {
        mock_greet(mock);
        for (unsigned i = 0; i < 2; i++)
                mock_reply_copy(mock, mock_skip(mock, PROTO_GET), "body");
        g_assert_true(mock_at_end(mock));
}

static void test_refused(void) {
        struct mock *mock = mock_new(script_refused, NULL);
        objmapper_client *client = connect_to(mock);
        const char *bad[] = { "", NULL }, *mixed[] = { "good", "", "good" };
        objmapper_object *objects[3] = {}, *kept;
        int errors[3];

        g_assert_cmpint(objmapper_get_many(client, NULL, 0, NULL, NULL), ==, 0);
        assert_errno(objmapper_get_many(client, NULL, 1, objects, NULL), -EINVAL);
        assert_errno(objmapper_get_many(client, bad, 1, NULL, NULL), -EINVAL);
        assert_errno(objmapper_get_many(client, bad, 2, objects, NULL), -EINVAL);
        assert_words(client, "not a URI");

        /* What can't be asked for does not hold up the others. */
        g_assert_cmpint(objmapper_get_many(client, mixed, 3, objects, errors), ==, 2);
        assert_words(client, "not a URI");
        g_assert_cmpint(errors[1], ==, -EINVAL);
        g_assert_null(objects[1]);
        assert_data(objects[0], "body");
        assert_data(objects[2], "body");

        /* Nothing is asked for: the objects are as they were. */
        kept = objects[0];
        assert_errno(objmapper_get_many(client, bad, 1, objects, errors), -EINVAL);
        g_assert_true(objects[0] == kept);
        assert_data(kept, "body");

        for (unsigned i = 0; i < 3; i++)
                objmapper_object_free(objects[i]);
        objmapper_client_close(client);
        mock_free(mock);
}

static void test_nobody_there(void) {
        objmapper_client *client;
        objmapper_object *object = NULL;
        const char *uri = "u";

        assert_ok(objmapper_client_new(&client));
        assert_ok(objmapper_client_set_sockets(client, "/nonexistent/socket", NULL));
        assert_errno(objmapper_get_many(client, &uri, 1, &object, NULL), -EHOSTDOWN);
        g_assert_null(object);
        objmapper_client_close(client);
}

#define LARGE ((size_t) 5 << 20)

static char *large_body(char c, size_t size) {
        char *body = g_strnfill(size, c);

        body[size / 2] = 'm';
        body[size - 1] = 'e';
        return body;
}

static const struct {
        char c;
        size_t size;
} large[] = { { 'a', LARGE }, { 'b', 300000 }, { 'c', LARGE + 12345 }, { 'd', 9 }, { 'e', LARGE - 5 } };

#define VALUE_SIZE \
        ((size_t) 9000) /* of the last: a head that is longer than what is read at once behind a large body */

static void script_large(struct mock *mock) {
        static uint8_t metadata[VALUE_SIZE + 100], value[VALUE_SIZE];
        const struct proto_pair pair = { { (const uint8_t *) "k", 1 }, { value, sizeof(value) } };
        struct proto_message message;
        size_t size = 0;

        mock_greet(mock);
        for (size_t i = 0; i < G_N_ELEMENTS(large); i++) {
                g_autofree char *body = large_body(large[i].c, large[i].size);

                mock_reply_copy(mock, mock_skip(mock, PROTO_GET), body);
        }

        message = mock_ok(PROTO_GET, mock_skip(mock, PROTO_GET));
        assert_ok(proto_metadata_append(metadata, sizeof(metadata), &size, &pair));
        message.head.mode = OP_COPY;
        message.head.body_size = message.info.size = 3;
        message.metadata = (struct proto_bytes){ metadata, size };
        message.has = PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_METADATA);
        mock_send(mock, &message, "end");
}

/* Whether the kernel was asked for large pages at p. */
static bool has_large_pages(const void *p) {
        g_autofree char *all = NULL;
        g_auto(GStrv) lines = NULL;
        bool found = false;

        g_assert_true(g_file_get_contents("/proc/self/smaps", &all, NULL, NULL));
        lines = g_strsplit(all, "\n", -1);
        for (char **line = lines; *line; line++) {
                uintptr_t begin, end;

                if (sscanf(*line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2)
                        found = begin <= (uintptr_t) p && (uintptr_t) p < end;
                else if (found && g_str_has_prefix(*line, "VmFlags:"))
                        return strstr(*line, " hg");
        }
        return false;
}

/* The memory of one that is too small for the next, too large, and so on. */
static void test_large(void) {
        const bool are_there = access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0;
        const char *const uri = "large";
        size_t value_size;
        struct mock *mock = mock_new(script_large, NULL);
        objmapper_client *client = connect_to(mock);
        objmapper_object *object = NULL;

        for (size_t i = 0; i < G_N_ELEMENTS(large); i++) {
                g_autofree char *body = large_body(large[i].c, large[i].size);
                const void *data;
                size_t size;

                g_assert_cmpint(objmapper_get_many(client, &uri, 1, &object, NULL), ==, 1);
                assert_ok(objmapper_object_get_data(object, &data, &size));
                g_assert_cmpmem(data, size, body, large[i].size);
                if (are_there && large[i].size >= LARGE - 5)
                        g_assert_true(has_large_pages((const char *) data + size / 2));
        }

        g_assert_cmpint(objmapper_get_many(client, &uri, 1, &object, NULL), ==, 1);
        assert_body(object, "end");
        g_assert_nonnull(objmapper_object_get_metadata(object, "k", &value_size));
        g_assert_cmpuint(value_size, ==, VALUE_SIZE);

        objmapper_object_free(object);
        objmapper_client_close(client);
        mock_free(mock);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/client/many/reuse", test_reuse);
        harness_add("/client/many/many", test_many);
        harness_add("/client/many/refused", test_refused);
        harness_add("/client/many/large", test_large);
        harness_add("/client/many/nobody-there", test_nobody_there);
        return g_test_run();
}
