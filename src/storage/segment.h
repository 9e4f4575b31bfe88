/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Memory in segments: things are appended to the current one and released one by one, and a segment is used
 * again as a whole, when nothing in it is alive and no reader can see it (epoch.h). So memory does not
 * fragment, its amount is known, and what is not used can be given back. Its user moves what is alive out of
 * segments that are mostly dead. One thread at a time. */

#include <stddef.h>
#include <stdint.h>

#include "epoch.h"

#define SEGMENT_NONE  UINT32_MAX
#define SEGMENT_ALIGN 16

struct segment {
        uint32_t used; /* bytes appended; 0: it is free */
        uint32_t live; /* bytes of them that are not released */
        uint64_t mark; /* of a free one: when nobody sees what was in it */
        bool is_resident;
};

struct segments {
        struct epoch *epoch;
        uint8_t *memory; /* n times size */
        size_t size;     /* of each */
        uint32_t n;
        uint32_t n_allowed; /* to be used at once; the user's to set */
        uint32_t n_used;
        uint32_t n_resident; /* that take memory */
        uint32_t current;
        size_t live; /* in all */
        struct segment *segments;
};

/* memory: n times size bytes, zeroed, from mmap(); stays the caller's. -ENOMEM. */
int segments_init(struct segments *segments, struct epoch *epoch, void *memory, size_t size, uint32_t n);
void segments_done(struct segments *segments);

/* Room for size bytes, a multiple of SEGMENT_ALIGN. NULL: there is none in the current segment, nor a free one.
 * The last free one is for what is moved. */
void *segments_append(struct segments *segments, size_t size, bool is_moved);
void segments_release(struct segments *segments, const void *p, size_t size);

/* The one with the least that is alive, but for the current one. SEGMENT_NONE. */
uint32_t segments_emptiest(const struct segments *segments);

static inline uint8_t *segment_at(const struct segments *segments, uint32_t i) {
        return segments->memory + i * segments->size;
}

/* Gives the memory of free ones back to the system. */
void segments_give_back(struct segments *segments);
