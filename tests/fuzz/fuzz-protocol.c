/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An input's first byte says what the rest is: a head, a metadata block, a list's or a stats reply's body. What
 * is taken must come out of the encoder so that it is taken again, as the same. */

#include <errno.h>
#include <string.h>

#include "bytes.h"
#include "fuzz.h"
#include "plain.h"

static bool same_bytes(struct proto_bytes a, struct proto_bytes b) {
        return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

#define SAME(member)        (a->member == b->member)
#define SAME_STRUCT(member) (memcmp(&a->member, &b->member, sizeof(a->member)) == 0)

static bool same_message(const struct proto_message *a, const struct proto_message *b) {
        return SAME(has) && SAME(head.type) && SAME(head.mode) && SAME(head.flags) && SAME(head.id) &&
               SAME(head.body_size) && SAME(head.status) && SAME(head.fd_index) && SAME(head.fd_count) &&
               SAME(hello.min_version) && SAME(hello.max_version) && SAME(hello.mode) && SAME(hello.flags) &&
               SAME(hello.fds_per_batch) && SAME(hello.depth) && SAME(hello.features) &&
               SAME(limits.version) && SAME(limits.min_version) && SAME(limits.mode) && SAME(limits.flags) &&
               SAME(limits.role) && SAME(limits.features) && SAME(limits.store_id) && SAME(limits.depth) &&
               SAME(limits.streams) && SAME(limits.uri_max) && SAME(limits.metadata_max) &&
               SAME(limits.object_max) && SAME(limits.inline_max) && SAME(limits.fds_in_flight) &&
               SAME(limits.fds_per_batch) && SAME(limits.idle_usec) && same_bytes(a->uri, b->uri) &&
               same_bytes(a->prefix, b->prefix) && SAME_STRUCT(range) && SAME_STRUCT(if_none_match) &&
               SAME(if_generation) && same_bytes(a->metadata, b->metadata) && SAME(size) && SAME(checksum) &&
               SAME(ttl_msec) && SAME_STRUCT(info) && SAME_STRUCT(usage) &&
               same_bytes(a->cursor, b->cursor) && SAME(limit) && SAME(count) && same_bytes(a->text, b->text);
}

static void fuzz_metadata(struct proto_bytes block) {
        uint8_t *again = malloc(block.size + 1);
        size_t position = 0, end = 0;
        struct proto_pair pair;
        int r;

        CHECK(again);
        while ((r = proto_metadata_next(block, &position, &pair)) > 0) {
                CHECK(pair.key.size >= 1 && pair.key.size <= PROTO_KEY_MAX);
                CHECK(pair.value.data + pair.value.size == block.data + position);
                CHECK(proto_metadata_append(again, block.size, &end, &pair) == 0);
                CHECK(end == position);
        }
        CHECK(r == 0 ? position == block.size : r == -EBADMSG);
        CHECK(end == 0 || memcmp(again, block.data, end) == 0);
        CHECK((proto_metadata_check(block) == 0) == (r == 0 && block.size <= PROTO_METADATA_MAX));
        free(again);
}

static void fuzz_entries(struct proto_bytes body) {
        uint8_t *again = malloc(body.size + 1);
        size_t position = 0, end = 0;
        struct proto_entry entry;
        int r;

        CHECK(again);
        while ((r = proto_entry_next(body, &position, &entry)) > 0) {
                CHECK(entry.uri.data + entry.uri.size == body.data + position);
                CHECK(proto_entry_append(again, body.size, &end, &entry) == 0);
                CHECK(end == position);
        }
        CHECK(r == 0 ? position == body.size : r == -EBADMSG);
        CHECK(end == 0 || memcmp(again, body.data, end) == 0);
        free(again);
}

static void fuzz_counters(struct proto_bytes body) {
        uint8_t *again = malloc(body.size + 1);
        size_t position = 0, end = 0;
        struct proto_counter counter;
        int r;

        CHECK(again);
        while ((r = proto_counter_next(body, &position, &counter)) > 0) {
                CHECK(counter.name.data + counter.name.size == body.data + position);
                CHECK(proto_counter_append(again, body.size, &end, &counter) == 0);
                CHECK(end == position);
        }
        CHECK(r == 0 ? position == body.size : r == -EBADMSG);
        CHECK(end == 0 || memcmp(again, body.data, end) == 0);
        free(again);
}

static void fuzz_recode(const struct proto_message *message) {
        size_t size = proto_message_size(message);
        uint8_t *first = malloc(size), *second = malloc(size);
        struct proto_message again;
        const char *what = NULL;

        CHECK(first && second);
        CHECK(size <= message->head.head_size);
        CHECK(proto_message_encode(message, first, size - 1) == -ENOBUFS);
        CHECK(proto_message_encode(message, first, size) == (ssize_t) size);
        CHECK(proto_message_decode(first, size, &again, &what) == 0);
        CHECK(same_message(message, &again));
        CHECK(proto_message_encode(&again, second, size) == (ssize_t) size);
        CHECK(memcmp(first, second, size) == 0);

        proto_head_set_fd(second, 1, 2);
        CHECK(proto_message_decode(second, size, &again, &what) <= 0);
        CHECK(again.head.fd_index == 1 && again.head.fd_count == 2);
        free(first);
        free(second);
}

/* What the short way takes, the long one takes for the same; and the short reply is the long one, byte for byte. */
static void fuzz_plain(const uint8_t *p, size_t size, const struct proto_message *message, int error) {
        struct proto_plain_get plain;

        if (!proto_plain_get_decode(p, size, &plain))
                return;
        CHECK(error == 0 || proto_uri_check(plain.uri.data, plain.uri.size) < 0);
        CHECK(plain.id == message->head.id && plain.mode == message->head.mode);
        if (error == 0)
                CHECK(message->head.type == PROTO_GET && message->has == PROTO_HAS(PROTO_TAG_URI) &&
                      message->uri.data == plain.uri.data && message->uri.size == plain.uri.size);
}

static void fuzz_plain_reply_decode(const uint8_t *p,
                                    size_t size,
                                    const struct proto_message *message,
                                    int error) {
        struct proto_message plain;

        if (!proto_plain_reply_decode(p, size, &plain))
                return;
        CHECK(error == 0 && same_message(&plain, message));
        CHECK(plain.metadata.data == message->metadata.data);
}

static void fuzz_plain_reply(const struct proto_message *message) {
        struct proto_message reply = {
                .head = { .type = PROTO_GET | PROTO_REPLY,
                          .mode = OP_COPY,
                          .id = message->head.id,
                          .body_size = message->head.body_size },
                .has = message->has & (PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_METADATA)),
                .info = message->info,
                .metadata = message->metadata,
        };
        size_t size = proto_message_size(&reply), plain_size;
        uint8_t *first, *second;

        if (!(reply.has & PROTO_HAS(PROTO_TAG_INFO)))
                return;
        if (!(reply.has & PROTO_HAS(PROTO_TAG_METADATA)))
                reply.metadata.size = 0;
        if (reply.metadata.size == 0 && reply.has & PROTO_HAS(PROTO_TAG_METADATA))
                return; /* the short reply leaves it out */

        plain_size = proto_plain_reply_size(reply.metadata.size);
        CHECK(plain_size == size);
        first = malloc(size);
        second = malloc(size);
        CHECK(first && second);
        CHECK(proto_message_encode(&reply, first, size) == (ssize_t) size);
        proto_plain_reply_encode(second, OP_COPY, reply.head.id, &reply.info, reply.metadata,
                                 reply.head.body_size);
        CHECK(memcmp(first, second, size) == 0);
        free(first);
        free(second);
}

static void fuzz_message(const uint8_t *data, size_t size) {
        struct proto_message message;
        const char *what = NULL;
        struct proto_head head;
        uint8_t *p;
        int r;

        if (size < PROTO_HEAD_FIXED)
                return;
        r = proto_head_decode(data, &head);
        CHECK(r == 0 ? head.head_size >= PROTO_HEAD_FIXED && head.head_size <= PROTO_HEAD_MAX
                     : r == -EBADMSG);
        CHECK(proto_type_name(head.type) && proto_status_name(head.status));
        (void) proto_mode_name(head.mode);

        /* As the server does it, with what was announced; else with a size that is right, so that what mutates
         * the fields' sizes gets anywhere. */
        if (r == 0 && head.head_size < size)
                size = head.head_size;
        if (size > PROTO_HEAD_MAX)
                return;
        p = malloc(size);
        CHECK(p);
        memcpy(p, data, size);
        store_le32(p, (uint32_t) size);

        r = proto_message_decode(p, size, &message, &what);
        CHECK(r == 0 || r == -EBADMSG || r == -EOPNOTSUPP);
        CHECK((r < 0) == (what != NULL));
        CHECK(message.head.id == head.id && message.head.type == head.type &&
              message.head.body_size == head.body_size);
        fuzz_plain(p, size, &message, r);
        fuzz_plain_reply_decode(p, size, &message, r);
        if (r == 0) {
                fuzz_recode(&message);
                fuzz_plain_reply(&message);
                if (message.has & PROTO_HAS(PROTO_TAG_URI))
                        CHECK(proto_uri_check(message.uri.data, message.uri.size) == 0);
                if (message.has & PROTO_HAS(PROTO_TAG_METADATA))
                        fuzz_metadata(message.metadata);
        }
        free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct proto_bytes rest;

        if (size == 0)
                return 0;

        rest = (struct proto_bytes){ .data = data + 1, .size = size - 1 };
        switch (data[0] % 4) {
        case 0:
                fuzz_message(rest.data, rest.size);
                break;
        case 1:
                fuzz_metadata(rest);
                break;
        case 2:
                fuzz_entries(rest);
                break;
        default:
                fuzz_counters(rest);
        }

        return 0;
}
