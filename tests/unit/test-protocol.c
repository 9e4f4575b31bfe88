/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the golden vectors (test-vectors.c) do not say: every field in every frame, limits of the encoder, the
 * blocks' errors, names. */

#include <string.h>

#include "bytes.h"
#include "harness.h"
#include "macro.h"
#include "plain.h"

/* A message with every field that it could have, so that any of them can be switched on. */
static struct proto_message full(uint16_t type) {
        static const uint8_t pair[] = { 1, 0, 1, 0, 0, 0, 'k', 'v' };
        static const struct proto_bytes a = { .data = (const uint8_t *) "a", .size = 1 };
        struct proto_message message = {
                .head = { .type = type, .id = 1 },
                .hello = { .min_version = 1, .max_version = 1, .mode = OP_AUTO },
                .limits = { .version = 1, .min_version = 1 },
                .uri = a,
                .prefix = a,
                .range = { .size = 5 },
                .if_generation = 1,
                .metadata = { .data = pair, .size = sizeof(pair) },
                .info = { .size = 5 },
                .cursor = a,
                .text = a,
        };

        if (type == PROTO_NOTICE)
                message.head.id = 0;
        if (type == (PROTO_GET | PROTO_REPLY)) {
                message.head.mode = OP_COPY;
                message.head.body_size = 5;
        }

        return message;
}

static int recode(const struct proto_message *message, struct proto_message *ret, const char **ret_what) {
        static uint8_t p[PROTO_HEAD_MAX];
        ssize_t n = proto_message_encode(message, p, sizeof(p));

        g_assert_cmpint(n, ==, (ssize_t) proto_message_size(message));
        return proto_message_decode(p, (size_t) n, ret, ret_what);
}

#define H(tag) PROTO_HAS(PROTO_TAG_##tag)

/* Each field alone beside what a frame needs: taken exactly where it has a place, missed exactly where it is
 * needed. */
static void test_fields(void) {
        static const struct {
                uint16_t type, status;
                uint32_t needs, takes;
        } frames[] = {
                { PROTO_HELLO, 0, H(HELLO), 0 },
                { PROTO_GET, 0, H(URI), H(RANGE) | H(IF_NONE_MATCH) | H(STALE_OK) },
                { PROTO_STAT, 0, H(URI), H(STALE_OK) },
                { PROTO_PUT, 0, H(URI),
                  H(IF_ABSENT) | H(IF_GENERATION) | H(METADATA) | H(SIZE) | H(CHECKSUM) | H(TTL) },
                { PROTO_DATA, 0, 0, 0 },
                { PROTO_END, 0, 0, H(METADATA) | H(CHECKSUM) },
                { PROTO_ABORT, 0, 0, 0 },
                { PROTO_SET_METADATA, 0, H(URI) | H(METADATA), H(IF_GENERATION) },
                { PROTO_REMOVE, 0, H(URI), H(IF_GENERATION) },
                { PROTO_PURGE, 0, H(PREFIX), 0 },
                { PROTO_LIST, 0, H(PREFIX), H(CURSOR) | H(LIMIT) },
                { PROTO_STATS, 0, 0, 0 },
                { PROTO_NOTICE, PROTO_DRAINING, 0, H(TEXT) },
                { PROTO_NOTICE, PROTO_DRAINED, 0, H(TEXT) },
                { PROTO_REPLY | PROTO_HELLO, 0, H(LIMITS), H(TEXT) },
                { PROTO_REPLY | PROTO_GET, 0, H(INFO), H(METADATA) | H(RANGE) | H(TEXT) },
                { PROTO_REPLY | PROTO_STAT, 0, H(INFO) | H(USAGE), H(METADATA) | H(TEXT) },
                { PROTO_REPLY | PROTO_PUT, 0, H(INFO), H(TEXT) },
                { PROTO_REPLY | PROTO_SET_METADATA, 0, H(INFO), H(TEXT) },
                { PROTO_REPLY | PROTO_REMOVE, 0, H(INFO), H(TEXT) },
                { PROTO_REPLY | PROTO_PURGE, 0, H(COUNT), H(TEXT) },
                { PROTO_REPLY | PROTO_LIST, 0, H(COUNT), H(CURSOR) | H(TEXT) },
                { PROTO_REPLY | PROTO_STATS, 0, 0, H(TEXT) },
                { PROTO_REPLY | PROTO_GET, PROTO_NOT_MODIFIED, H(INFO), H(METADATA) | H(TEXT) },
                { PROTO_REPLY | PROTO_HELLO, PROTO_UNSUPPORTED, 0, H(LIMITS) | H(TEXT) },
                { PROTO_REPLY | PROTO_GET, PROTO_EXPIRED, 0, H(INFO) | H(TEXT) },
                { PROTO_REPLY | PROTO_STAT, PROTO_ABSENT, 0, H(INFO) | H(TEXT) },
                { PROTO_REPLY | PROTO_PUT, PROTO_TOO_LARGE, 0, H(INFO) | H(TEXT) },
                { PROTO_REPLY | PROTO_DATA, PROTO_BAD_REQUEST, 0, H(TEXT) },
                { PROTO_REPLY | PROTO_END, PROTO_BAD_REQUEST, 0, H(TEXT) },
                { PROTO_REPLY | PROTO_ABORT, PROTO_BAD_REQUEST, 0, H(TEXT) },
                { PROTO_REPLY | PROTO_PURGE, PROTO_BUSY, 0, H(TEXT) },
                { PROTO_REPLY | PROTO_LIST, PROTO_BAD_REQUEST, 0, H(TEXT) },
                { PROTO_REPLY | PROTO_STATS, 12345, 0, H(TEXT) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
                struct proto_message message = full(frames[i].type), got;
                const char *what;

                message.head.status = frames[i].status;
                if (frames[i].status != PROTO_OK)
                        message.head.mode = message.head.body_size = 0;

                message.has = frames[i].needs;
                assert_ok(recode(&message, &got, &what));
                g_assert_cmpuint(got.has, ==, message.has);

                for (unsigned tag = 1; tag < PROTO_TAG_MAX; tag++) {
                        uint32_t bit = PROTO_HAS(tag);
                        bool needed = frames[i].needs & bit, taken = frames[i].takes & bit;

                        message.has = needed ? frames[i].needs & ~bit : frames[i].needs | bit;
                        what = NULL;
                        assert_errno(recode(&message, &got, &what), !needed && taken ? 0 : -EBADMSG);
                        if (needed)
                                g_assert_true(strstr(what, "missing"));
                        else if (!taken && what)
                                g_assert_true(strstr(what, "no place"));
                        g_assert_cmpuint(got.head.type, ==, frames[i].type);
                }
        }
}

/* A head cut anywhere is refused, wherever the cut says that it ends. */
static void test_cut(void) {
        static uint8_t p[PROTO_HEAD_MAX];
        static const uint16_t types[] = { PROTO_HELLO, PROTO_GET, PROTO_PUT, PROTO_REPLY | PROTO_STAT };
        static const uint32_t has[] = { H(HELLO), H(URI) | H(RANGE), H(URI) | H(METADATA) | H(TTL),
                                        H(INFO) | H(USAGE) | H(METADATA) };

        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                struct proto_message message = full(types[i]), got;
                const char *what;
                ssize_t n;

                message.has = has[i];
                n = proto_message_encode(&message, p, sizeof(p));
                g_assert_cmpint(n, >, PROTO_HEAD_FIXED);
                assert_ok(proto_message_decode(p, (size_t) n, &got, &what));

                for (size_t cut = 0; cut < (size_t) n; cut++) {
                        uint8_t *tight = g_memdup2(p, MAX(cut, (size_t) 1));
                        int r;

                        /* What was announced is not there. */
                        assert_errno(proto_message_decode(tight, cut, &got, &what), -EBADMSG);
                        if (cut >= 4) {
                                store_le32(tight, (uint32_t) cut);
                                r = proto_message_decode(tight, cut, &got, &what);
                                /* A cut between fields can leave a valid message. */
                                g_assert_true(r == -EBADMSG || (r == 0 && cut >= PROTO_HEAD_FIXED));
                        }
                        g_free(tight);
                }
        }
}

static void test_encode_limits(void) {
        static uint8_t big[PROTO_HEAD_MAX], p[PROTO_HEAD_MAX];
        struct proto_message message = full(PROTO_PUT);

        memset(big, 'x', sizeof(big));
        message.has = H(URI);
        message.uri = (struct proto_bytes){ .data = big,
                                            .size = PROTO_HEAD_MAX - PROTO_HEAD_FIXED - PROTO_FIELD_HEAD };
        g_assert_cmpuint(proto_message_size(&message), ==, PROTO_HEAD_MAX);
        g_assert_cmpint(proto_message_encode(&message, p, sizeof(p)), ==, PROTO_HEAD_MAX);
        g_assert_cmpint(proto_message_encode(&message, p, sizeof(p) - 1), ==, -ENOBUFS);
        message.uri.size++;
        g_assert_cmpint(proto_message_encode(&message, p, sizeof(p)), ==, -EMSGSIZE);

        /* Sizes whose sum can't be said. */
        message.uri.size = SIZE_MAX - 8;
        g_assert_cmpuint(proto_message_size(&message), ==, SIZE_MAX);
        message.has |= H(METADATA);
        message.uri.size = message.metadata.size = SIZE_MAX / 2;
        g_assert_cmpuint(proto_message_size(&message), ==, SIZE_MAX);
        g_assert_cmpint(proto_message_encode(&message, p, sizeof(p)), ==, -EMSGSIZE);

        message = full(PROTO_STATS);
        g_assert_cmpint(proto_message_encode(&message, p, 0), ==, -ENOBUFS);
        g_assert_cmpint(proto_message_encode(&message, p, PROTO_HEAD_FIXED), ==, PROTO_HEAD_FIXED);
        proto_head_set_fd(p, 0x0102, 0x0304);
        g_assert_cmpmem(p + 28, 4, "\2\1\4\3", 4);
}

static void test_uri(void) {
        static uint8_t uri[PROTO_URI_MAX + 1];

        memset(uri, 0xff, sizeof(uri));
        assert_errno(proto_uri_check(NULL, 0), -EINVAL);
        assert_ok(proto_uri_check(uri, 1));
        assert_ok(proto_uri_check(uri, PROTO_URI_MAX));
        assert_errno(proto_uri_check(uri, PROTO_URI_MAX + 1), -EINVAL);
        uri[0] = '\0';
        assert_errno(proto_uri_check(uri, 10), -EINVAL);
        uri[0] = 'x';
        uri[PROTO_URI_MAX - 1] = '\0';
        assert_errno(proto_uri_check(uri, PROTO_URI_MAX), -EINVAL);
        assert_ok(proto_uri_check(uri, PROTO_URI_MAX - 1));
}

static void test_blocks(void) {
        static uint8_t block[PROTO_METADATA_MAX + 1], key[256];
        struct proto_pair pair = { .key = { .data = key, .size = 255 } };
        struct proto_entry entry = { .uri = { .data = (const uint8_t *) "a", .size = 0 } };
        struct proto_counter counter = { .name = { .data = (const uint8_t *) "a b", .size = 3 } };
        struct proto_bytes bytes = { .data = block };
        size_t position = 0;

        memset(key, 'k', sizeof(key));
        assert_ok(proto_metadata_append(block, sizeof(block), &position, &pair));
        g_assert_cmpuint(position, ==, 6 + 255);
        pair.key.size = 256;
        assert_errno(proto_metadata_append(block, sizeof(block), &position, &pair), -EINVAL);
        pair.key.size = 0;
        assert_errno(proto_metadata_append(block, sizeof(block), &position, &pair), -EINVAL);
        pair = (struct proto_pair){ .key = { .data = key, .size = 1 },
                                    .value = { .data = key, .size = SIZE_MAX } };
        assert_errno(proto_metadata_append(block, sizeof(block), &position, &pair), -ENOBUFS);
        g_assert_cmpuint(position, ==, 6 + 255);

        /* The largest block, and one byte more. */
        bytes.size = PROTO_METADATA_MAX;
        store_le16(block, 1);
        store_le32(block + 2, PROTO_METADATA_MAX - 7);
        assert_ok(proto_metadata_check(bytes));
        bytes.size++;
        store_le32(block + 2, PROTO_METADATA_MAX - 6);
        assert_errno(proto_metadata_check(bytes), -EBADMSG);

        position = 0;
        assert_errno(proto_entry_append(block, sizeof(block), &position, &entry), -EINVAL);
        assert_errno(proto_counter_append(block, sizeof(block), &position, &counter), -EINVAL);
        g_assert_cmpuint(position, ==, 0);
}

static void test_names(void) {
        for (enum proto_mode mode = OP_FDPASS; mode < OP_MODE_MAX; mode++)
                g_assert_cmpint(proto_mode_from_name(proto_mode_name(mode)), ==, mode);
        g_assert_cmpstr(proto_mode_name(OP_SPLICE), ==, "splice");
        g_assert_null(proto_mode_name(OP_DEFAULT));
        g_assert_null(proto_mode_name(OP_MODE_MAX));
        g_assert_null(proto_mode_name((enum proto_mode) - 1));
        assert_errno(proto_mode_from_name("default"), -EINVAL);
        assert_errno(proto_mode_from_name(""), -EINVAL);

        for (unsigned type = PROTO_HELLO; type <= PROTO_NOTICE; type++) {
                g_assert_cmpstr(proto_type_name(type), !=, "unknown");
                g_assert_cmpstr(proto_type_name(type), ==, proto_type_name(type | PROTO_REPLY));
        }
        g_assert_cmpstr(proto_type_name(PROTO_SET_METADATA), ==, "set-metadata");
        g_assert_cmpstr(proto_type_name(0), ==, "unknown");
        g_assert_cmpstr(proto_type_name(PROTO_NOTICE + 1), ==, "unknown");
        g_assert_cmpstr(proto_type_name(0xffff), ==, "unknown");

        for (unsigned status = PROTO_ABSENT; status <= PROTO_DRAINED; status++)
                g_assert_cmpstr(proto_status_name(status), !=, "unknown");
        g_assert_cmpstr(proto_status_name(PROTO_OK), ==, "ok");
        g_assert_cmpstr(proto_status_name(2), ==, "unknown");
        g_assert_cmpstr(proto_status_name(0xffff), ==, "unknown");
}

/* A reply that is changed in each byte to each value, and cut: what the short way takes, the long one takes too. */
static void check_plain_reply(const uint8_t *p, size_t size) {
        struct proto_message plain, decoded;
        uint8_t q[256], again[256];
        unsigned n_plain = 0;
        const char *what;

        g_assert_true(proto_plain_reply_decode(p, size, &plain));
        for (size_t i = 4; i < size; i++)
                for (unsigned value = 0; value < 256; value++) {
                        memcpy(q, p, size);
                        q[i] = (uint8_t) value;
                        if (!proto_plain_reply_decode(q, size, &plain))
                                continue;

                        n_plain++;
                        g_assert_cmpint(proto_message_decode(q, size, &decoded, &what), ==, 0);
                        g_assert_cmpint(proto_message_encode(&plain, again, sizeof(again)), ==, size);
                        g_assert_cmpint(proto_message_encode(&decoded, q, sizeof(q)), ==, size);
                        g_assert_cmpmem(again, size, q, size);
                }
        g_assert_cmpuint(n_plain, >, 56 * 255); /* those of the id and of INFO, but for the size, at least */

        for (size_t i = 0; i < size; i++)
                g_assert_false(proto_plain_reply_decode(p, i, &plain));
}

/* The short ways say what the long ones say. */
static void test_plain(void) {
        struct proto_message get = full(PROTO_GET), reply = full(PROTO_GET | PROTO_REPLY), decoded;
        uint8_t p[256], q[256];
        struct proto_plain_get plain;
        unsigned n_plain = 0;
        const char *what;
        size_t size;

        get.has = H(URI);
        get.uri = (struct proto_bytes){ (const uint8_t *) "a/uri", 5 };
        get.head.mode = OP_COPY;
        size = (size_t) proto_message_encode(&get, p, sizeof(p));
        g_assert_true(proto_plain_get_decode(p, size, &plain));
        get.head.mode = OP_DEFAULT;
        get.head.id = 0;
        size = (size_t) proto_message_encode(&get, q, sizeof(q));
        g_assert_cmpuint(proto_plain_get_size(5), ==, size);
        proto_plain_get_encode(p, "a/uri", 5);
        g_assert_cmpmem(p, size, q, size);
        get.head.mode = OP_COPY;
        get.head.id = 1;
        size = (size_t) proto_message_encode(&get, p, sizeof(p));

        /* Each byte with each value. */
        for (size_t i = 4; i < size; i++)
                for (unsigned value = 0; value < 256; value++) {
                        memcpy(q, p, size);
                        q[i] = (uint8_t) value;
                        if (!proto_plain_get_decode(q, size, &plain))
                                continue;

                        n_plain++;
                        if (memchr(plain.uri.data, 0, plain.uri.size))
                                continue;
                        g_assert_cmpint(proto_message_decode(q, size, &decoded, &what), ==, 0);
                        g_assert_cmpuint(decoded.head.type, ==, PROTO_GET);
                        g_assert_cmpuint(decoded.has, ==, H(URI));
                        g_assert_cmpuint(decoded.head.flags, ==, 0);
                        g_assert_cmpuint(decoded.head.id, ==, plain.id);
                        g_assert_cmpuint(decoded.head.mode, ==, plain.mode);
                        g_assert_true(decoded.uri.data == plain.uri.data);
                        g_assert_cmpuint(decoded.uri.size, ==, plain.uri.size);
                }
        g_assert_cmpuint(n_plain, >, 12 * 255); /* those of the id and the URI at least */

        for (size_t i = 0; i < size; i++)
                g_assert_false(proto_plain_get_decode(p, i, &plain));
        get.has |= H(STALE_OK);
        size = (size_t) proto_message_encode(&get, p, sizeof(p));
        g_assert_false(proto_plain_get_decode(p, size, &plain));

        for (unsigned with_metadata = 0; with_metadata < 2; with_metadata++) {
                reply.has = H(INFO) | (with_metadata ? H(METADATA) : 0);
                reply.info = (struct proto_info){ { 1, 2, 3 }, 4, 5, 6, 7 };
                if (!with_metadata)
                        reply.metadata.size = 0;
                size = (size_t) proto_message_encode(&reply, p, sizeof(p));
                g_assert_cmpuint(proto_plain_reply_size(reply.metadata.size), ==, size);
                proto_plain_reply_encode(q, reply.head.mode, reply.head.id, &reply.info, reply.metadata,
                                         reply.head.body_size);
                g_assert_cmpmem(q, size, p, size);
                for (unsigned mode = OP_FDPASS; mode <= OP_SPLICE; mode++) {
                        reply.head.mode = (uint8_t) mode;
                        reply.head.fd_index = mode == OP_FDPASS;
                        reply.head.fd_count = mode == OP_FDPASS ? 3 : 0;
                        reply.head.body_size = mode == OP_FDPASS ? 0 : reply.info.size;
                        g_assert_cmpint(proto_message_encode(&reply, p, sizeof(p)), ==, size);
                        check_plain_reply(p, size);
                }
                reply = full(PROTO_GET | PROTO_REPLY);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/protocol/fields", test_fields);
        harness_add("/protocol/cut", test_cut);
        harness_add("/protocol/encode-limits", test_encode_limits);
        harness_add("/protocol/uri", test_uri);
        harness_add("/protocol/blocks", test_blocks);
        harness_add("/protocol/names", test_names);
        harness_add("/protocol/plain", test_plain);
        return g_test_run();
}
