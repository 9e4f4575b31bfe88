/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fields.h"

#include <errno.h>

#include "bytes.h"
#include "cleanup.h"
#include "macro.h"

#define MEMBER(type, member, place_) \
        { .offset = offsetof(type, member), .place = (place_), .width = sizeof(((type *) NULL)->member) }

static const struct field_member hello_members[] = {
        MEMBER(struct proto_hello, min_version, 4),    MEMBER(struct proto_hello, max_version, 6),
        MEMBER(struct proto_hello, mode, 8),           MEMBER(struct proto_hello, flags, 9),
        MEMBER(struct proto_hello, fds_per_batch, 10), MEMBER(struct proto_hello, depth, 12),
        MEMBER(struct proto_hello, features, 16),
};

static const struct field_member limits_members[] = {
        MEMBER(struct proto_limits, version, 0),        MEMBER(struct proto_limits, min_version, 2),
        MEMBER(struct proto_limits, mode, 4),           MEMBER(struct proto_limits, flags, 5),
        MEMBER(struct proto_limits, role, 6),           MEMBER(struct proto_limits, features, 8),
        MEMBER(struct proto_limits, store_id, 16),      MEMBER(struct proto_limits, depth, 24),
        MEMBER(struct proto_limits, streams, 28),       MEMBER(struct proto_limits, uri_max, 32),
        MEMBER(struct proto_limits, metadata_max, 36),  MEMBER(struct proto_limits, object_max, 40),
        MEMBER(struct proto_limits, inline_max, 48),    MEMBER(struct proto_limits, fds_in_flight, 52),
        MEMBER(struct proto_limits, fds_per_batch, 56), MEMBER(struct proto_limits, idle_usec, 64),
};

static const struct field_member limit_members[] = {
        { .offset = 0, .place = 0, .width = sizeof(uint32_t) },
};

static int check_hello(const uint8_t *value, _unused_ size_t size) {
        if (load_le16(value + 4) > load_le16(value + 6))
                return -EBADMSG;

        return value[8] < OP_MODE_MAX ? 0 : -EOPNOTSUPP;
}

static int check_limits(const uint8_t *value, _unused_ size_t size) {
        if (load_le16(value + 2) > load_le16(value))
                return -EBADMSG;

        return value[4] < OP_MODE_MAX ? 0 : -EOPNOTSUPP;
}

static int check_no_nul(const uint8_t *value, size_t size) {
        return memchr(value, 0, size) ? -EBADMSG : 0;
}

/* No object has generation 0: as a condition it would read as "none". */
static int check_not_zero(const uint8_t *value, _unused_ size_t size) {
        return load_le64(value) == 0 ? -EBADMSG : 0;
}

static int check_metadata(const uint8_t *value, size_t size) {
        return proto_metadata_check((struct proto_bytes){ .data = value, .size = size });
}

#define WHAT(name)                                                                                    \
        .malformed = "the " name " field is malformed", .repeated = "the " name " field comes twice", \
        .missing = "the " name " field is missing",                                                   \
        .misplaced = "the " name " field has no place in this frame"

#define WORDS(name, member, n_)                                                           \
        .kind = FIELD_WORDS, .n = (n_), .offset = offsetof(struct proto_message, member), \
        .size_min = (n_) *8, WHAT(name)
#define MEMBERS(name, member, size)                                                            \
        .kind = FIELD_MEMBERS, .n = ARRAY_SIZE(member##_members), .members = member##_members, \
        .offset = offsetof(struct proto_message, member), .size_min = (size), WHAT(name)
#define BYTES(name, member, min, max)                                                             \
        .kind = FIELD_BYTES, .offset = offsetof(struct proto_message, member), .size_min = (min), \
        .size_max = (max), WHAT(name)

/* The size of a field that later versions may make longer. */
#define OR_LONGER   .size_max = PROTO_HEAD_MAX
#define EXACTLY(n_) .size_max = (n_) *8

const struct field proto_fields[PROTO_TAG_MAX] = {
        [PROTO_TAG_HELLO] = { MEMBERS("HELLO", hello, 32), OR_LONGER, .must = true, .magic = PROTO_MAGIC,
                              .check = check_hello },
        [PROTO_TAG_LIMITS] = { MEMBERS("LIMITS", limits, 72), OR_LONGER, .check = check_limits },
        [PROTO_TAG_URI] = { BYTES("URI", uri, 1, PROTO_URI_MAX), .must = true, .check = check_no_nul },
        [PROTO_TAG_PREFIX] = { BYTES("PREFIX", prefix, 0, PROTO_URI_MAX), .must = true,
                               .check = check_no_nul },
        [PROTO_TAG_RANGE] = { WORDS("RANGE", range, 2), EXACTLY(2), .must = true },
        [PROTO_TAG_IF_NONE_MATCH] = { WORDS("IF_NONE_MATCH", if_none_match, 3), EXACTLY(3), .must = true },
        [PROTO_TAG_IF_ABSENT] = { WORDS("IF_ABSENT", head, 0), EXACTLY(0), .must = true },
        [PROTO_TAG_IF_GENERATION] = { WORDS("IF_GENERATION", if_generation, 1), EXACTLY(1), .must = true,
                                      .check = check_not_zero },
        [PROTO_TAG_STALE_OK] = { WORDS("STALE_OK", head, 0), EXACTLY(0) },
        [PROTO_TAG_METADATA] = { BYTES("METADATA", metadata, 0, PROTO_METADATA_MAX), .must = true,
                                 .check = check_metadata },
        [PROTO_TAG_SIZE] = { WORDS("SIZE", size, 1), EXACTLY(1), .must = true },
        [PROTO_TAG_CHECKSUM] = { WORDS("CHECKSUM", checksum, 1), EXACTLY(1), .must = true },
        [PROTO_TAG_TTL] = { WORDS("TTL", ttl_msec, 1), EXACTLY(1), .must = true },
        [PROTO_TAG_INFO] = { WORDS("INFO", info, 7), OR_LONGER },
        [PROTO_TAG_USAGE] = { WORDS("USAGE", usage, 2), OR_LONGER },
        [PROTO_TAG_CURSOR] = { BYTES("CURSOR", cursor, 1, PROTO_CURSOR_MAX), .must = true },
        [PROTO_TAG_LIMIT] = { MEMBERS("LIMIT", limit, 4), .size_max = 4, .must = true },
        [PROTO_TAG_COUNT] = { WORDS("COUNT", count, 1), EXACTLY(1) },
        [PROTO_TAG_TEXT] = { BYTES("TEXT", text, 0, PROTO_TEXT_MAX) },
};

/* FIELD_WORDS copies these structs number by number. */
_Static_assert(sizeof(struct proto_range) == 2 * 8, "no padding");
_Static_assert(sizeof(struct proto_etag) == 3 * 8, "no padding");
_Static_assert(sizeof(struct proto_info) == 7 * 8, "no padding");
_Static_assert(sizeof(struct proto_usage) == 2 * 8, "no padding");
_Static_assert(PROTO_TAG_MAX <= 32, "a bit per tag");
