/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The dictionary's value for one object: what is known of it, its metadata, its body when that is small. */

#include <stdbool.h>

#include "storage.h"

#define QUEUE_NONE 255

#define KEY_MAX  511 /* what LMDB takes */
#define KEY_HEAD 492 /* bytes of a longer URI that its key begins with: NUL, hash and number follow */

struct key {
        size_t size;
        uint8_t data[KEY_MAX];
};

/* Whether the key stands for a URI longer than itself: no URI has a NUL. */
static inline bool key_is_long(const uint8_t *key, size_t key_size) {
        return key_size == KEY_MAX && key[KEY_HEAD] == 0;
}

struct record {
        struct storage_info info; /* but for the store's id */
        uint64_t blob;            /* the body's file; 0: the body is here */
        uint32_t account;         /* what it is counted in */
        uint8_t queue;            /* where in the account's queues it stands; QUEUE_NONE: nowhere */
        uint64_t position;
        const uint8_t *uri;
        size_t uri_size;
        const uint8_t *metadata;
        size_t metadata_size;
        const uint8_t *body; /* when blob is 0, of info.size bytes */
};

/* Bytes of record once it is encoded under key. */
size_t record_size(const struct key *key, const struct record *record);

/* Writes it to value, of record_size() bytes, which overlaps nothing that record points at. */
void record_encode(const struct key *key, const struct record *record, uint8_t *value);

/* Reads a value. *ret points into key and value. One of an older version is in account 0 and stands nowhere. 0,
 * or -EBADMSG: it is damaged, or not under its key. */
int record_decode(const void *key, size_t key_size, const void *value, size_t value_size, struct record *ret);
