/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SHA-256 (FIPS 180-4), for names that nobody may make two requests share. */

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

struct sha256 {
        uint32_t state[8];
        uint64_t size; /* bytes added */
        uint8_t block[64];
};

void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t size);
/* Writes the digest; sha is to be initialised again before further use. */
void sha256_finish(struct sha256 *sha, uint8_t ret[SHA256_SIZE]);
