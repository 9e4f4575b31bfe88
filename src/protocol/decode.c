/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "bytes.h"
#include "fields.h"

int proto_head_decode(const uint8_t p[static PROTO_HEAD_FIXED], struct proto_head *ret) {
        *ret = (struct proto_head){
                .head_size = load_le32(p),
                .type = load_le16(p + 4),
                .mode = p[6],
                .flags = p[7],
                .id = load_le64(p + 8),
                .body_size = load_le64(p + 16),
                .status = load_le16(p + 24),
                .reserved = load_le16(p + 26),
                .fd_index = load_le16(p + 28),
                .fd_count = load_le16(p + 30),
        };

        return ret->head_size < PROTO_HEAD_FIXED || ret->head_size > PROTO_HEAD_MAX ? -EBADMSG : 0;
}

static void decode_members(const struct field *field, const uint8_t *value, uint8_t *at) {
        for (unsigned i = 0; i < field->n; i++) {
                const struct field_member *member = &field->members[i];
                const uint8_t *from = value + member->place;
                void *to = at + member->offset;

                switch (member->width) {
                case 1:
                        *(uint8_t *) to = *from;
                        break;
                case 2:
                        *(uint16_t *) to = load_le16(from);
                        break;
                case 4:
                        *(uint32_t *) to = load_le32(from);
                        break;
                default:
                        *(uint64_t *) to = load_le64(from);
                }
        }
}

static void decode_value(const struct field *field,
                         const uint8_t *value,
                         size_t size,
                         struct proto_message *ret) {
        void *at = (uint8_t *) ret + field->offset;

        switch ((enum field_kind) field->kind) {
        case FIELD_WORDS:
                for (unsigned i = 0; i < field->n; i++)
                        ((uint64_t *) at)[i] = load_le64(value + (size_t) i * 8);
                break;
        case FIELD_MEMBERS:
                decode_members(field, value, at);
                break;
        case FIELD_BYTES:
                *(struct proto_bytes *) at = (struct proto_bytes){ .data = value, .size = size };
        }
}

/* Checks and decodes the fields at p. */
static int decode_fields(const uint8_t *p, size_t size, struct proto_message *ret, const char **ret_what) {
        while (size > 0) {
                const struct field *field;
                size_t value_size;
                unsigned tag;
                int r;

                if (size < PROTO_FIELD_HEAD) {
                        *ret_what = "the head ends inside a field";
                        return -EBADMSG;
                }
                tag = load_le16(p);
                value_size = load_le32(p + 4);
                p += PROTO_FIELD_HEAD;
                size -= PROTO_FIELD_HEAD;
                if (value_size > size) {
                        *ret_what = "a field is longer than the head";
                        return -EBADMSG;
                }

                field = &proto_fields[0];
                if ((tag & ~PROTO_TAG_MUST) < PROTO_TAG_MAX)
                        field += tag & ~PROTO_TAG_MUST;
                if (!field->malformed) {
                        if (tag & PROTO_TAG_MUST) {
                                *ret_what = "an unknown field that must be understood";
                                return -EOPNOTSUPP;
                        }
                } else {
                        tag &= ~PROTO_TAG_MUST;
                        if (ret->has & PROTO_HAS(tag)) {
                                *ret_what = field->repeated;
                                return -EBADMSG;
                        }

                        r = value_size < field->size_min || value_size > field->size_max ||
                                                            (field->magic && load_le32(p) != field->magic)
                                            ? -EBADMSG
                                            : 0;
                        if (r == 0 && field->check)
                                r = field->check(p, value_size);
                        if (r < 0) {
                                *ret_what = r == -EOPNOTSUPP ? WHAT_UNKNOWN_MODE : field->malformed;
                                return r;
                        }

                        decode_value(field, p, value_size, ret);
                        ret->has |= PROTO_HAS(tag);
                }

                p += value_size;
                size -= value_size;
        }

        return 0;
}

int proto_message_decode(const uint8_t *p, size_t size, struct proto_message *ret, const char **ret_what) {
        int r;

        *ret = (struct proto_message){};
        if (size < PROTO_HEAD_FIXED || proto_head_decode(p, &ret->head) < 0 || ret->head.head_size != size) {
                *ret_what = "the head's size is wrong";
                return -EBADMSG;
        }

        r = decode_fields(p + PROTO_HEAD_FIXED, size - PROTO_HEAD_FIXED, ret, ret_what);
        if (r < 0)
                return r;

        return proto_rules_check(ret, ret_what);
}
