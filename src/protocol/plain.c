/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The request and the reply that there are most of, without the tables of fields: faster by a few hundred
 * instructions. */

#include "bytes.h"
#include "protocol.h"

#define INFO_SIZE 56

static uint8_t *encode_field_head(uint8_t *p, uint32_t tag, size_t size) {
        store_le32(p, tag); /* and two reserved bytes */
        store_le32(p + 4, (uint32_t) size);
        return p + PROTO_FIELD_HEAD;
}

bool proto_plain_get_decode(const uint8_t *p, size_t size, struct proto_plain_get *ret) {
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

size_t proto_plain_get_size(size_t uri_size) {
        return PROTO_HEAD_FIXED + PROTO_FIELD_HEAD + uri_size;
}

void proto_plain_get_encode(uint8_t *p, const void *uri, size_t uri_size) {
        store_le32(p, (uint32_t) proto_plain_get_size(uri_size));
        store_le32(p + 4, PROTO_GET); /* mode and flags 0 */
        store_le64(p + 8, 0);
        store_le64(p + 16, 0);
        store_le64(p + 24, 0);
        p = encode_field_head(p + PROTO_HEAD_FIXED, PROTO_TAG_URI | PROTO_TAG_MUST, uri_size);
        memcpy(p, uri, uri_size);
}

size_t proto_plain_reply_size(size_t metadata_size) {
        return PROTO_HEAD_FIXED + PROTO_FIELD_HEAD + INFO_SIZE +
               (metadata_size > 0 ? PROTO_FIELD_HEAD + metadata_size : 0);
}

void proto_plain_reply_encode(uint8_t *p,
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
                p = encode_field_head(p, PROTO_TAG_METADATA | PROTO_TAG_MUST, metadata.size);
                p = (uint8_t *) memcpy(p, metadata.data, metadata.size) + metadata.size;
        }

        p = encode_field_head(p, PROTO_TAG_INFO, INFO_SIZE);
        store_le64(p, info->etag.store_id);
        store_le64(p + 8, info->etag.generation);
        store_le64(p + 16, info->etag.metadata_version);
        store_le64(p + 24, info->size);
        store_le64(p + 32, info->checksum);
        store_le64(p + 40, info->stored_usec);
        store_le64(p + 48, info->expires_usec);
}

static uint64_t whole_body(const struct proto_head *head, uint64_t size) {
        return head->mode == OP_FDPASS ? 0 : size;
}

bool proto_plain_reply_decode(const uint8_t *p, size_t size, struct proto_message *ret) {
        const uint8_t *end = p + size;
        struct proto_bytes metadata = {};
        struct proto_head head;

        /* No flag, no status, and one of the three ways in which a body can come. */
        if (size < PROTO_HEAD_FIXED + PROTO_FIELD_HEAD + INFO_SIZE || load_le32(p) != size ||
            load_le16(p + 4) != (PROTO_GET | PROTO_REPLY) || p[7] != 0 || load_le16(p + 24) != PROTO_OK ||
            proto_head_decode(p, &head) < 0 || head.mode < OP_FDPASS || head.mode > OP_SPLICE ||
            (head.mode == OP_FDPASS ? head.fd_index >= head.fd_count : head.fd_index + head.fd_count > 0))
                return false;

        p += PROTO_HEAD_FIXED;
        if (load_le16(p) == (PROTO_TAG_METADATA | PROTO_TAG_MUST)) {
                metadata = (struct proto_bytes){ p + PROTO_FIELD_HEAD, load_le32(p + 4) };
                if (metadata.size > (size_t) (end - metadata.data) || proto_metadata_check(metadata) < 0)
                        return false;
                p += PROTO_FIELD_HEAD + metadata.size;
        }

        if (end - p != PROTO_FIELD_HEAD + INFO_SIZE || load_le16(p) != PROTO_TAG_INFO ||
            load_le32(p + 4) != INFO_SIZE)
                return false;

        p += PROTO_FIELD_HEAD;
        *ret = (struct proto_message){
                .head = head,
                .has = PROTO_HAS(PROTO_TAG_INFO) | (metadata.data ? PROTO_HAS(PROTO_TAG_METADATA) : 0),
                .metadata = metadata,
                .info = { .etag = { load_le64(p), load_le64(p + 8), load_le64(p + 16) },
                          .size = load_le64(p + 24),
                          .checksum = load_le64(p + 32),
                          .stored_usec = load_le64(p + 40),
                          .expires_usec = load_le64(p + 48) },
        };
        return head.body_size == whole_body(&head, ret->info.size);
}
