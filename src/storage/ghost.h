/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Names of objects that were evicted not long ago, as fingerprints: who returns soon should have stayed. It
 * remembers about as many evicted bytes as it is told to, in two halves that replace each other, and is wrong
 * about once in eight thousand questions. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ghost_half {
        uint16_t *slots;
        size_t n_buckets;
        uint64_t bytes; /* evicted, of those noted here */
};

/* Zeroed: empty. */
struct ghost {
        struct ghost_half current, previous;
};

void ghost_done(struct ghost *ghost);

/* An object went. bytes_max: how many evicted bytes are worth remembering; objects: about as many objects those
 * are. Without memory nothing is noted. */
void ghost_note(struct ghost *ghost, uint64_t hash, uint64_t size, uint64_t bytes_max, uint64_t objects);

/* Whether it went not long ago. It is forgotten. */
bool ghost_take(struct ghost *ghost, uint64_t hash);
