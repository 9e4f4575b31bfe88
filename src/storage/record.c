/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "record.h"

#include <assert.h>
#include <xxhash.h>

#include "bytes.h"

#define RECORD_VERSION     3
#define RECORD_VERSION_OLD 1 /* of the first two versions of the store */
#define FLAG_INLINE        (1U << 0)
#define FLAG_LONG          (1U << 1)
#define FLAG_PINNED        (1U << 2)

/* Little-endian, at any address; URI (when the key is not it), metadata and body follow. */
enum {
        AT_CHECK = 0, /* XXH3-64 of all that follows, seeded with that of the key */
        AT_VERSION = 8,
        AT_FLAGS = 9,
        AT_URI_SIZE = 10,
        AT_METADATA_SIZE = 12,
        AT_GENERATION = 16,
        AT_METADATA_VERSION = 24,
        AT_SIZE = 32,
        AT_CHECKSUM = 40,
        AT_STORED = 48,
        AT_EXPIRES = 56,
        AT_HITS = 64,
        AT_USED = 72,
        AT_BLOB = 80,
        HEAD_SIZE_OLD = 88,
        AT_ACCOUNT = 88,
        AT_QUEUE = 92, /* and three bytes of nothing */
        AT_POSITION = 96,
        HEAD_SIZE = 104,
};

static uint64_t check_of(const void *key, size_t key_size, const uint8_t *value, size_t value_size) {
        return XXH3_64bits_withSeed(value + AT_VERSION, value_size - AT_VERSION, XXH3_64bits(key, key_size));
}

size_t record_size(const struct key *key, const struct record *record) {
        return HEAD_SIZE + (key_is_long(key->data, key->size) ? record->uri_size : 0) +
               record->metadata_size + (record->blob == 0 ? record->info.size : 0);
}

static uint8_t *append(uint8_t *p, const void *data, size_t size) {
        if (size > 0)
                memcpy(p, data, size);

        return p + size;
}

void record_encode(const struct key *key, const struct record *record, uint8_t *value) {
        bool is_long = key_is_long(key->data, key->size);
        uint8_t *p = value + HEAD_SIZE;

        assert(record->uri_size <= STORAGE_URI_MAX);
        assert(record->metadata_size <= STORAGE_METADATA_MAX);

        value[AT_VERSION] = RECORD_VERSION;
        value[AT_FLAGS] = (record->blob == 0 ? FLAG_INLINE : 0) | (is_long ? FLAG_LONG : 0) |
                          (record->info.pinned ? FLAG_PINNED : 0);
        store_le16(value + AT_URI_SIZE, is_long ? (uint16_t) record->uri_size : 0);
        store_le32(value + AT_METADATA_SIZE, (uint32_t) record->metadata_size);
        store_le64(value + AT_GENERATION, record->info.etag.generation);
        store_le64(value + AT_METADATA_VERSION, record->info.etag.metadata_version);
        store_le64(value + AT_SIZE, record->info.size);
        store_le64(value + AT_CHECKSUM, record->info.checksum);
        store_le64(value + AT_STORED, record->info.stored_usec);
        store_le64(value + AT_EXPIRES, record->info.expires_usec);
        store_le64(value + AT_HITS, record->info.hits);
        store_le64(value + AT_USED, record->info.used_usec);
        store_le64(value + AT_BLOB, record->blob);
        store_le32(value + AT_ACCOUNT, record->account);
        store_le32(value + AT_QUEUE, record->queue);
        store_le64(value + AT_POSITION, record->position);

        if (is_long)
                p = append(p, record->uri, record->uri_size);
        p = append(p, record->metadata, record->metadata_size);
        if (record->blob == 0)
                p = append(p, record->body, record->info.size);

        store_le64(value + AT_CHECK, check_of(key->data, key->size, value, (size_t) (p - value)));
}

int record_decode(
                const void *key, size_t key_size, const void *value, size_t value_size, struct record *ret) {
        const uint8_t *p = value;
        bool is_long = key_is_long(key, key_size);
        size_t head_size = HEAD_SIZE, uri_size, metadata_size, rest;
        uint64_t size, blob;

        if (value_size > AT_VERSION && p[AT_VERSION] == RECORD_VERSION_OLD)
                head_size = HEAD_SIZE_OLD;
        if (value_size < head_size || (p[AT_VERSION] != RECORD_VERSION && head_size == HEAD_SIZE) ||
            load_le64(p + AT_CHECK) != check_of(key, key_size, p, value_size))
                return -EBADMSG;

        uri_size = load_le16(p + AT_URI_SIZE);
        metadata_size = load_le32(p + AT_METADATA_SIZE);
        size = load_le64(p + AT_SIZE);
        blob = load_le64(p + AT_BLOB);
        rest = value_size - head_size;

        if (((p[AT_FLAGS] & FLAG_LONG) != 0) != is_long || ((p[AT_FLAGS] & FLAG_INLINE) != 0) != (blob == 0))
                return -EBADMSG;
        if (is_long ? uri_size <= KEY_MAX || uri_size > STORAGE_URI_MAX || uri_size > rest : uri_size != 0)
                return -EBADMSG;
        rest -= uri_size;
        if (metadata_size > STORAGE_METADATA_MAX || metadata_size > rest)
                return -EBADMSG;
        rest -= metadata_size;
        if (blob == 0 ? size != rest : rest != 0)
                return -EBADMSG;

        *ret = (struct record){
                .info.etag.generation = load_le64(p + AT_GENERATION),
                .info.etag.metadata_version = load_le64(p + AT_METADATA_VERSION),
                .info.size = size,
                .info.checksum = load_le64(p + AT_CHECKSUM),
                .info.stored_usec = load_le64(p + AT_STORED),
                .info.expires_usec = load_le64(p + AT_EXPIRES),
                .info.hits = load_le64(p + AT_HITS),
                .info.used_usec = load_le64(p + AT_USED),
                .blob = blob,
                .uri = is_long ? p + head_size : key,
                .uri_size = is_long ? uri_size : key_size,
                .metadata = p + head_size + uri_size,
                .metadata_size = metadata_size,
                .body = blob == 0 ? p + head_size + uri_size + metadata_size : NULL,
                .queue = QUEUE_NONE,
        };
        if (head_size == HEAD_SIZE) {
                ret->account = load_le32(p + AT_ACCOUNT);
                ret->info.pinned = (p[AT_FLAGS] & FLAG_PINNED) != 0;
                ret->queue = p[AT_QUEUE];
                ret->position = load_le64(p + AT_POSITION);
        }
        return 0;
}
