/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The blocks of a POSIX pax archive: a header of 512 bytes before each file, whose bytes are padded to whole
 * blocks; in front of it, where a header can't hold what there is to say, a header of type 'x' with records.
 * Pure. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TAR_BLOCK        512
#define TAR_END_BLOCKS   2 /* of zeros: the end of an archive */
#define TAR_NAME_MAX     100
#define TAR_SIZE_MAX     (UINT64_C(1) << 62)       /* bytes of a file that are believed */
#define TAR_SIZE_OCTAL   ((UINT64_C(1) << 33) - 1) /* above, a record says it */
#define TAR_TYPE_FILE    '0'
#define TAR_TYPE_RECORDS 'x'

struct tar_header {
        char type;
        char name[TAR_NAME_MAX + 1];
        uint64_t size;  /* bytes that follow; of a file above TAR_SIZE_OCTAL: 0, and a record "size" */
        uint64_t mtime; /* seconds since 1970 */
};

/* Bytes that fill the last block of size bytes. */
static inline size_t tar_padding(uint64_t size) {
        return (size_t) (-size % TAR_BLOCK);
}

/* Whether type is one of a link, device or pipe, after which no bytes follow, whatever its size says. */
static inline int tar_has_no_bytes(char type) {
        return type >= '1' && type <= '6';
}

/* A regular file that anybody may read, or records. */
void tar_header_encode(uint8_t block[static TAR_BLOCK], const struct tar_header *header);
/* 1, 0: all zeros, or -EBADMSG: no header, or a damaged one, or a size above TAR_SIZE_MAX. */
int tar_header_decode(const uint8_t block[static TAR_BLOCK], struct tar_header *ret);

/* Writes "LENGTH KEY=VALUE\n", where value may be any bytes. Errors stay with out. */
void tar_record_write(FILE *out, const char *key, const void *value, size_t value_size);

struct tar_record {
        const char *key, *value; /* borrowed; no NUL follows */
        size_t key_size, value_size;
};

/* *position is 0 at first. 1, 0 at the end, or -EBADMSG. */
int tar_record_next(const void *data, size_t size, size_t *position, struct tar_record *ret);
