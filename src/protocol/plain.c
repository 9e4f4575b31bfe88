/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "plain.h"

size_t proto_plain_get_size(size_t uri_size) {
        return PROTO_HEAD_FIXED + PROTO_FIELD_HEAD + uri_size;
}

void proto_plain_get_encode(uint8_t *p, const void *uri, size_t uri_size) {
        store_le32(p, (uint32_t) proto_plain_get_size(uri_size));
        store_le32(p + 4, PROTO_GET); /* mode and flags 0 */
        store_le64(p + 8, 0);
        store_le64(p + 16, 0);
        store_le64(p + 24, 0);
        p = proto_field_head_encode(p + PROTO_HEAD_FIXED, PROTO_TAG_URI | PROTO_TAG_MUST, uri_size);
        memcpy(p, uri, uri_size);
}

static uint64_t whole_body(const struct proto_head *head, uint64_t size) {
        return head->mode == OP_FDPASS ? 0 : size;
}

bool proto_plain_reply_decode(const uint8_t *p, size_t size, struct proto_message *ret) {
        const uint8_t *end = p + size;
        struct proto_bytes metadata = {};
        struct proto_head head;

        /* No flag, no status, and one of the three ways in which a body can come. */
        if (size < PROTO_HEAD_FIXED + PROTO_FIELD_HEAD + PROTO_INFO_SIZE || load_le32(p) != size ||
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

        if (end - p != PROTO_FIELD_HEAD + PROTO_INFO_SIZE || load_le16(p) != PROTO_TAG_INFO ||
            load_le32(p + 4) != PROTO_INFO_SIZE)
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
