/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ghost.h"

#include <stdlib.h>

#include "macro.h"

#define BUCKET_SLOTS 8
#define BUCKETS_MAX  (UINT64_C(1) << 28) /* 4 GiB */

/* The lowest bits of the hash are what is kept, 0 being free. All bits tell the bucket: for a part of a cache
 * hashes may have some in common. */
static uint16_t *bucket_of(const struct ghost_half *half, uint64_t hash) {
        uint64_t mixed = (hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32;

        return half->slots + (size_t) ((mixed * half->n_buckets) >> 32) * BUCKET_SLOTS;
}

static uint16_t fingerprint_of(uint64_t hash) {
        return (uint16_t) hash ?: 1;
}

static void half_done(struct ghost_half *half) {
        free(half->slots);
        *half = (struct ghost_half){};
}

static void half_note(struct ghost_half *half, uint64_t hash) {
        uint16_t *bucket = bucket_of(half, hash), fingerprint = fingerprint_of(hash);
        size_t i = (hash >> 16) % BUCKET_SLOTS; /* who is replaced when all are taken */

        for (size_t j = 0; j < BUCKET_SLOTS; j++)
                if (bucket[j] == 0 || bucket[j] == fingerprint) {
                        i = j;
                        break;
                }

        bucket[i] = fingerprint;
}

static bool half_take(struct ghost_half *half, uint64_t hash) {
        uint16_t *bucket;

        if (!half->slots)
                return false;

        bucket = bucket_of(half, hash);
        for (size_t i = 0; i < BUCKET_SLOTS; i++)
                if (bucket[i] == fingerprint_of(hash)) {
                        bucket[i] = 0;
                        return true;
                }

        return false;
}

void ghost_done(struct ghost *ghost) {
        half_done(&ghost->current);
        half_done(&ghost->previous);
}

void ghost_note(struct ghost *ghost, uint64_t hash, uint64_t size, uint64_t bytes_max, uint64_t objects) {
        struct ghost_half *half = &ghost->current;

        /* With the previous half kept whole, two thirds each are bytes_max on average. */
        if (!half->slots || half->bytes >= bytes_max / 3 * 2) {
                half_done(&ghost->previous);
                ghost->previous = *half;
                *half = (struct ghost_half){};

                half->n_buckets = MIN(objects / BUCKET_SLOTS + 1, BUCKETS_MAX);
                half->slots = calloc(half->n_buckets, BUCKET_SLOTS * sizeof(*half->slots));
                if (!half->slots)
                        return;
        }

        half_note(half, hash);
        if (__builtin_add_overflow(half->bytes, size, &half->bytes))
                half->bytes = UINT64_MAX;
}

bool ghost_take(struct ghost *ghost, uint64_t hash) {
        bool was_current = half_take(&ghost->current, hash);

        return half_take(&ghost->previous, hash) || was_current;
}
