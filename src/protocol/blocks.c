/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "bytes.h"
#include "fields.h"

/* What is repeated inside a field or a body: pairs of metadata, entries of a list, counters. Every reader
 * compares a size with what is left, never a sum with the end: sizes are the peer's. */

#define PAIR_HEAD    6
#define ENTRY_HEAD   (4 + 56)
#define COUNTER_HEAD 10

int proto_uri_check(const void *uri, size_t size) {
        return size < 1 || size > PROTO_URI_MAX || memchr(uri, 0, size) ? -EINVAL : 0;
}

int proto_metadata_next(struct proto_bytes block, size_t *position, struct proto_pair *ret) {
        const uint8_t *p;
        size_t left = block.size - *position, key, value;

        if (left == 0)
                return 0;
        p = block.data + *position;
        if (left < PAIR_HEAD)
                return -EBADMSG;
        key = load_le16(p);
        value = load_le32(p + 2);
        left -= PAIR_HEAD;
        if (key < 1 || key > PROTO_KEY_MAX || key > left || value > left - key)
                return -EBADMSG;

        *ret = (struct proto_pair){
                .key = { .data = p + PAIR_HEAD, .size = key },
                .value = { .data = p + PAIR_HEAD + key, .size = value },
        };
        *position += PAIR_HEAD + key + value;
        return 1;
}

int proto_metadata_check(struct proto_bytes block) {
        struct proto_pair pair;
        size_t position = 0;
        int r;

        if (block.size > PROTO_METADATA_MAX)
                return -EBADMSG;

        do
                r = proto_metadata_next(block, &position, &pair);
        while (r > 0);

        return r;
}

int proto_metadata_append(uint8_t *buffer, size_t size, size_t *position, const struct proto_pair *pair) {
        size_t left = size - *position;
        uint8_t *p = buffer + *position;

        if (pair->key.size < 1 || pair->key.size > PROTO_KEY_MAX)
                return -EINVAL;
        if (left < PAIR_HEAD + pair->key.size || pair->value.size > left - PAIR_HEAD - pair->key.size ||
            pair->value.size > UINT32_MAX)
                return -ENOBUFS;

        store_le16(p, (uint16_t) pair->key.size);
        store_le32(p + 2, (uint32_t) pair->value.size);
        memcpy(p + PAIR_HEAD, pair->key.data, pair->key.size);
        if (pair->value.size > 0)
                memcpy(p + PAIR_HEAD + pair->key.size, pair->value.data, pair->value.size);
        *position += PAIR_HEAD + pair->key.size + pair->value.size;
        return 0;
}

int proto_entry_next(struct proto_bytes body, size_t *position, struct proto_entry *ret) {
        const uint8_t *p;
        size_t left = body.size - *position, size;
        uint64_t *words = (uint64_t *) &ret->info;

        if (left == 0)
                return 0;
        p = body.data + *position;
        if (left < ENTRY_HEAD)
                return -EBADMSG;
        size = load_le32(p);
        if (size > left - 4 || size < ENTRY_HEAD - 4 ||
            proto_uri_check(p + ENTRY_HEAD, size - (ENTRY_HEAD - 4)) < 0)
                return -EBADMSG;

        for (unsigned i = 0; i < 7; i++)
                words[i] = load_le64(p + 4 + (size_t) i * 8);
        ret->uri = (struct proto_bytes){ .data = p + ENTRY_HEAD, .size = size - (ENTRY_HEAD - 4) };
        *position += 4 + size;
        return 1;
}

int proto_entry_append(uint8_t *buffer, size_t size, size_t *position, const struct proto_entry *entry) {
        const uint64_t *words = (const uint64_t *) &entry->info;
        uint8_t *p = buffer + *position;

        if (proto_uri_check(entry->uri.data, entry->uri.size) < 0)
                return -EINVAL;
        if (size - *position < ENTRY_HEAD + entry->uri.size)
                return -ENOBUFS;

        store_le32(p, (uint32_t) (ENTRY_HEAD - 4 + entry->uri.size));
        for (unsigned i = 0; i < 7; i++)
                store_le64(p + 4 + (size_t) i * 8, words[i]);
        memcpy(p + ENTRY_HEAD, entry->uri.data, entry->uri.size);
        *position += ENTRY_HEAD + entry->uri.size;
        return 0;
}

/* Printable ASCII without a space: names are shown and split by people's scripts as they come. */
static bool counter_name_valid(const uint8_t *name, size_t size) {
        if (size < 1 || size > PROTO_COUNTER_NAME_MAX)
                return false;

        for (size_t i = 0; i < size; i++)
                if (name[i] <= ' ' || name[i] > '~')
                        return false;

        return true;
}

int proto_counter_next(struct proto_bytes body, size_t *position, struct proto_counter *ret) {
        const uint8_t *p;
        size_t left = body.size - *position, size;

        if (left == 0)
                return 0;
        p = body.data + *position;
        if (left < COUNTER_HEAD)
                return -EBADMSG;
        size = load_le16(p);
        if (size > left - COUNTER_HEAD || !counter_name_valid(p + COUNTER_HEAD, size))
                return -EBADMSG;

        *ret = (struct proto_counter){
                .name = { .data = p + COUNTER_HEAD, .size = size },
                .value = load_le64(p + 2),
        };
        *position += COUNTER_HEAD + size;
        return 1;
}

int proto_counter_append(uint8_t *buffer,
                         size_t size,
                         size_t *position,
                         const struct proto_counter *counter) {
        uint8_t *p;

        if (!counter_name_valid(counter->name.data, counter->name.size))
                return -EINVAL;
        if (size - *position < COUNTER_HEAD + counter->name.size)
                return -ENOBUFS;

        p = buffer + *position; /* there is one */
        store_le16(p, (uint16_t) counter->name.size);
        store_le64(p + 2, counter->value);
        memcpy(p + COUNTER_HEAD, counter->name.data, counter->name.size);
        *position += COUNTER_HEAD + counter->name.size;
        return 0;
}
