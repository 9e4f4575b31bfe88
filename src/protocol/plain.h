/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The request and the reply that there are most of, without the tables of fields: faster by a few hundred instructions.
 * What each request goes through is here, for its caller's loop. */

#include "bytes.h"
#include "protocol.h"

#define PROTO_INFO_SIZE 56

static inline uint8_t *proto_field_head_encode(uint8_t *p, uint32_t tag, size_t size) {
        store_le32(p, tag); /* and two reserved bytes */
        store_le32(p + 4, (uint32_t) size);
        return p + PROTO_FIELD_HEAD;
}

/* A get of a whole object that asks for nothing more. */
struct proto_plain_get {
        uint64_t id;
        uint8_t mode;
        struct proto_bytes uri;
};

/* Decodes one, p being a head of size bytes, its head_size. true: proto_message_decode() says the same, unless there
 * is a NUL in the URI. false: the head is malformed, or it is another frame. */
static inline bool proto_plain_get_decode(const uint8_t *p, size_t size, struct proto_plain_get *ret) {
        size_t uri_size = size - PROTO_HEAD_FIXED - PROTO_FIELD_HEAD;

        if (size <= PROTO_HEAD_FIXED + PROTO_FIELD_HEAD || uri_size > PROTO_URI_MAX)
                return false;

        /* Type, mode and flags; body; status and what is reserved, the descriptor; the field's head. */
        if (load_le16(p + 4) != PROTO_GET || p[6] >= OP_MODE_MAX || p[7] != 0 || load_le64(p + 16) != 0 ||
            load_le64(p + 24) != 0 || load_le32(p + PROTO_HEAD_FIXED) != (PROTO_TAG_URI | PROTO_TAG_MUST) ||
            load_le32(p + PROTO_HEAD_FIXED + 4) != uri_size)
                return false;

        ret->id = load_le64(p + 8);
        ret->mode = p[6];
        ret->uri = (struct proto_bytes){ p + PROTO_HEAD_FIXED + PROTO_FIELD_HEAD, uri_size };
        return ret->id != 0;
}

/* Bytes of the head of one, and that head, but for its id and mode, which are 0. */
size_t proto_plain_get_size(size_t uri_size);
void proto_plain_get_encode(uint8_t *p, const void *uri, size_t uri_size);

/* Bytes of the head of the reply to it that brings the whole body, and that head, as proto_message_encode() would write
 * it, without a descriptor's place. metadata: empty: the reply has none. body_size: bytes that follow the head. */
static inline size_t proto_plain_reply_size(size_t metadata_size) {
        return PROTO_HEAD_FIXED + PROTO_FIELD_HEAD + PROTO_INFO_SIZE +
               (metadata_size > 0 ? PROTO_FIELD_HEAD + metadata_size : 0);
}

static inline void proto_plain_reply_encode(uint8_t *p,
                                            enum proto_mode mode,
                                            uint64_t id,
                                            const struct proto_info *info,
                                            struct proto_bytes metadata,
                                            uint64_t body_size) {
        store_le32(p, (uint32_t) proto_plain_reply_size(metadata.size));
        store_le32(p + 4, (PROTO_GET | PROTO_REPLY) | (uint32_t) mode << 16);
        store_le64(p + 8, id);
        store_le64(p + 16, body_size);
        store_le64(p + 24, PROTO_OK); /* and no descriptor */
        p += PROTO_HEAD_FIXED;

        if (metadata.size > 0) {
                p = proto_field_head_encode(p, PROTO_TAG_METADATA | PROTO_TAG_MUST, metadata.size);
                p = (uint8_t *) memcpy(p, metadata.data, metadata.size) + metadata.size;
        }

        p = proto_field_head_encode(p, PROTO_TAG_INFO, PROTO_INFO_SIZE);
        store_le64(p, info->etag.store_id);
        store_le64(p + 8, info->etag.generation);
        store_le64(p + 16, info->etag.metadata_version);
        store_le64(p + 24, info->size);
        store_le64(p + 32, info->checksum);
        store_le64(p + 40, info->stored_usec);
        store_le64(p + 48, info->expires_usec);
}

/* Decodes one such reply, or the one with a descriptor, p being a head of size bytes. true: proto_message_decode() says
 * the same. false: the head is malformed, or it is another frame. */
bool proto_plain_reply_decode(const uint8_t *p, size_t size, struct proto_message *ret);
