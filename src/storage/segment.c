/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "segment.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int segments_init(struct segments *segments, struct epoch *epoch, void *memory, size_t size, uint32_t n) {
        struct segment *all = calloc(n, sizeof(*all));

        if (!all)
                return -ENOMEM;

        *segments = (struct segments){
                .epoch = epoch,
                .memory = memory,
                .size = size,
                .n = n,
                .n_allowed = n,
                .current = SEGMENT_NONE,
                .segments = all,
        };
        return 0;
}

void segments_done(struct segments *segments) {
        free(segments->segments);
        *segments = (struct segments){ .current = SEGMENT_NONE };
}

static void set_free(struct segments *segments, uint32_t i) {
        struct segment *segment = &segments->segments[i];

        segment->used = 0;
        segment->mark = epoch_mark(segments->epoch);
        segments->n_used--;
}

/* One that takes memory already, if there is one. */
static uint32_t find_free(const struct segments *segments) {
        uint32_t found = SEGMENT_NONE;

        for (uint32_t i = 0; i < segments->n; i++) {
                const struct segment *segment = &segments->segments[i];

                if (segment->used > 0)
                        continue;
                if (!segment->is_resident)
                        found = i;
                else if (epoch_has_passed(segments->epoch, segment->mark))
                        return i;
        }

        return found;
}

static bool take(struct segments *segments, bool is_moved) {
        uint32_t before = segments->current, i;

        if (segments->n_used + (is_moved ? 0 : 1) >= segments->n_allowed)
                return false;

        i = find_free(segments);
        if (i == SEGMENT_NONE)
                return false;

        if (!segments->segments[i].is_resident) {
                segments->segments[i].is_resident = true;
                segments->n_resident++;
        }
        segments->current = i;
        segments->n_used++;
        if (before != SEGMENT_NONE && segments->segments[before].live == 0)
                set_free(segments, before);
        return true;
}

void *segments_append(struct segments *segments, size_t size, bool is_moved) {
        struct segment *segment;
        uint8_t *p;

        assert(size > 0 && size % SEGMENT_ALIGN == 0);

        if (size > segments->size)
                return NULL;
        if ((segments->current == SEGMENT_NONE ||
             segments->size - segments->segments[segments->current].used < size) &&
            !take(segments, is_moved))
                return NULL;

        segment = &segments->segments[segments->current];
        p = segment_at(segments, segments->current) + segment->used;
        segment->used += (uint32_t) size;
        segment->live += (uint32_t) size;
        segments->live += size;
        return p;
}

void segments_release(struct segments *segments, const void *p, size_t size) {
        uint32_t i = (uint32_t) ((size_t) ((const uint8_t *) p - segments->memory) / segments->size);
        struct segment *segment = &segments->segments[i];

        assert(i < segments->n && segment->live >= size);

        segment->live -= (uint32_t) size;
        segments->live -= size;
        if (segment->live == 0 && i != segments->current)
                set_free(segments, i);
}

uint32_t segments_emptiest(const struct segments *segments) {
        uint32_t best = SEGMENT_NONE;

        for (uint32_t i = 0; i < segments->n; i++)
                if (segments->segments[i].used > 0 && i != segments->current &&
                    (best == SEGMENT_NONE || segments->segments[i].live < segments->segments[best].live))
                        best = i;

        return best;
}

void segments_give_back(struct segments *segments) {
        for (uint32_t i = 0; i < segments->n; i++) {
                struct segment *segment = &segments->segments[i];

                if (segment->used > 0 || !segment->is_resident)
                        continue;

                epoch_wait(segments->epoch, segment->mark);
                if (madvise(segment_at(segments, i), segments->size, MADV_DONTNEED) < 0)
                        continue;
                segment->is_resident = false;
                segments->n_resident--;
        }
}
