/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>

#include "bytes.h"
#include "fields.h"

/* The fields that are there, in the order of their tags. */
#define FOREACH_FIELD(tag, has)                                                                       \
        for (uint32_t _left = (has), tag; _left > 0 && (tag = (uint32_t) __builtin_ctz(_left), true); \
             _left &= _left - 1)

static const struct proto_bytes *field_bytes(const struct field *field, const struct proto_message *message) {
        return (const void *) ((const uint8_t *) message + field->offset);
}

static size_t value_size(const struct field *field, const struct proto_message *message) {
        return field->kind == FIELD_BYTES ? field_bytes(field, message)->size : field->size_min;
}

size_t proto_message_size(const struct proto_message *message) {
        size_t size = PROTO_HEAD_FIXED;

        assert((message->has & ~PROTO_FIELDS_ALL) == 0);

        FOREACH_FIELD(tag, message->has) {
                size_t value = value_size(&proto_fields[tag], message);

                if (value > SIZE_MAX - size - PROTO_FIELD_HEAD)
                        return SIZE_MAX;
                size += PROTO_FIELD_HEAD + value;
        }

        return size;
}

static void encode_members(const struct field *field, const uint8_t *at, uint8_t *value) {
        memset(value, 0, field->size_min);

        for (unsigned i = 0; i < field->n; i++) {
                const struct field_member *member = &field->members[i];
                const void *from = at + member->offset;
                uint8_t *to = value + member->place;

                switch (member->width) {
                case 1:
                        *to = *(const uint8_t *) from;
                        break;
                case 2:
                        store_le16(to, *(const uint16_t *) from);
                        break;
                case 4:
                        store_le32(to, *(const uint32_t *) from);
                        break;
                default:
                        store_le64(to, *(const uint64_t *) from);
                }
        }

        if (field->magic)
                store_le32(value, field->magic);
}

static void encode_value(const struct field *field, const struct proto_message *message, uint8_t *value) {
        const void *at = (const uint8_t *) message + field->offset;

        switch ((enum field_kind) field->kind) {
        case FIELD_WORDS:
                for (unsigned i = 0; i < field->n; i++)
                        store_le64(value + (size_t) i * 8, ((const uint64_t *) at)[i]);
                break;
        case FIELD_MEMBERS:
                encode_members(field, at, value);
                break;
        case FIELD_BYTES:
                if (field_bytes(field, message)->size > 0)
                        memcpy(value, field_bytes(field, message)->data, field_bytes(field, message)->size);
        }
}

ssize_t proto_message_encode(const struct proto_message *message, uint8_t *p, size_t size) {
        size_t head_size = proto_message_size(message);

        if (head_size > PROTO_HEAD_MAX)
                return -EMSGSIZE;
        if (head_size > size)
                return -ENOBUFS;

        store_le32(p, (uint32_t) head_size);
        store_le16(p + 4, message->head.type);
        p[6] = message->head.mode;
        p[7] = message->head.flags;
        store_le64(p + 8, message->head.id);
        store_le64(p + 16, message->head.body_size);
        store_le16(p + 24, message->head.status);
        store_le16(p + 26, 0);
        proto_head_set_fd(p, message->head.fd_index, message->head.fd_count);
        p += PROTO_HEAD_FIXED;

        FOREACH_FIELD(tag, message->has) {
                const struct field *field = &proto_fields[tag];
                size_t value = value_size(field, message);

                store_le16(p, (uint16_t) (tag | (field->must ? PROTO_TAG_MUST : 0)));
                store_le16(p + 2, 0);
                store_le32(p + 4, (uint32_t) value);
                encode_value(field, message, p + PROTO_FIELD_HEAD);
                p += PROTO_FIELD_HEAD + value;
        }

        return (ssize_t) head_size;
}

void proto_head_set_fd(uint8_t p[static PROTO_HEAD_FIXED], uint16_t index, uint16_t count) {
        store_le16(p + 28, index);
        store_le16(p + 30, count);
}

void proto_head_set_request(uint8_t p[static PROTO_HEAD_FIXED],
                            uint64_t id,
                            uint8_t mode,
                            uint64_t body_size) {
        p[6] = mode;
        store_le64(p + 8, id);
        store_le64(p + 16, body_size);
}

void proto_head_set_body(uint8_t p[static PROTO_HEAD_FIXED], uint8_t mode, uint64_t size) {
        p[6] = mode;
        store_le64(p + 16, size);
}
