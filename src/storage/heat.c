/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "heat.h"

#include <stdbool.h>
#include <sys/mman.h>

#define BUCKET_SLOTS 8 /* a cache line */
#define BITS_MIN     6 /* of the number of buckets: a page, for 1,024 objects */
#define BITS_MAX     29

/* A slot: fingerprint (16 bits), count (16), clock of the last hit, cut to 32 bits. 0: free, for a count is
 * at least 1. */
static uint64_t slot_make(uint64_t hash, uint64_t count, uint64_t last) {
        return hash << 48 | MIN(count, HEAT_COUNT_MAX) << 32 | (uint32_t) last;
}

static bool slot_is(uint64_t slot, uint64_t hash) {
        return slot != 0 && slot >> 48 == (hash & 0xffff);
}

static uint64_t slot_count(uint64_t slot) {
        return (slot >> 32) & HEAT_COUNT_MAX;
}

/* What was outgrown stays mapped, though empty, until the end: a thread may be in it. */
struct area {
        uint64_t *slots; /* each atomic */
        unsigned bits;
};

struct heat_table {
        uint64_t clock;       /* atomic */
        struct area *current; /* atomic: NULL or one of those below */
        struct area areas[BITS_MAX + 1];
};

int heat_table_new(struct heat_table **ret, uint64_t clock) {
        struct heat_table *table = calloc(1, sizeof(*table));

        if (!table)
                return -ENOMEM;

        table->clock = clock;
        *ret = table;
        return 0;
}

static size_t area_size(const struct area *area) {
        return (BUCKET_SLOTS * sizeof(*area->slots)) << area->bits;
}

void heat_table_free(struct heat_table *table) {
        for (size_t i = 0; i <= BITS_MAX; i++)
                if (table->areas[i].slots)
                        (void) munmap(table->areas[i].slots, area_size(&table->areas[i]));
        free(table);
}

uint64_t heat_table_clock(struct heat_table *table) {
        return __atomic_load_n(&table->clock, __ATOMIC_RELAXED);
}

uint64_t heat_table_tick(struct heat_table *table) {
        return __atomic_add_fetch(&table->clock, 1, __ATOMIC_RELAXED);
}

static uint64_t *bucket_of(const struct area *area, uint64_t hash) {
        return area->slots + (hash >> (64 - area->bits)) * BUCKET_SLOTS;
}

static struct area *current_area(struct heat_table *table) {
        return __atomic_load_n(&table->current, __ATOMIC_ACQUIRE);
}

/* The slot of the hash, or else the one to be replaced: a free one, or that of the oldest hit. */
static uint64_t *find_slot(uint64_t *bucket, uint64_t hash, uint32_t now, uint64_t *ret_slot) {
        uint64_t *found = bucket;
        uint32_t age_max = 0;

        *ret_slot = __atomic_load_n(found, __ATOMIC_RELAXED);
        for (size_t i = 0; i < BUCKET_SLOTS && !slot_is(*ret_slot, hash); i++) {
                uint64_t slot = __atomic_load_n(&bucket[i], __ATOMIC_RELAXED);
                uint32_t age = slot == 0 ? UINT32_MAX : now - (uint32_t) slot;

                if (slot_is(slot, hash) || age > age_max) {
                        found = &bucket[i];
                        *ret_slot = slot;
                        age_max = age;
                }
        }

        return found;
}

static void count(struct heat_table *table, uint64_t hash, uint64_t now) {
        struct area *area = current_area(table);
        uint64_t slot, *found;

        if (!area)
                return;

        /* Whoever loses a race looks once more; who loses again is one of many that hit. */
        for (unsigned i = 0; i < 2; i++) {
                found = find_slot(bucket_of(area, hash), hash, (uint32_t) now, &slot);
                if (__atomic_compare_exchange_n(
                                    found, &slot,
                                    slot_make(hash, slot_is(slot, hash) ? slot_count(slot) + 1 : 1, now),
                                    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                        return;
        }
}

void heat_table_touch(struct heat_table *table, uint64_t hash) {
        count(table, hash, heat_table_tick(table));
}

void heat_table_note(struct heat_table *table, uint64_t hash, uint64_t count_max) {
        const struct area *area = current_area(table);
        const uint64_t *bucket = area ? bucket_of(area, hash) : NULL;

        for (size_t i = 0; bucket && i < BUCKET_SLOTS; i++) {
                uint64_t slot = __atomic_load_n(&bucket[i], __ATOMIC_RELAXED);

                if (slot_is(slot, hash) && slot_count(slot) >= count_max)
                        return;
        }

        count(table, hash, heat_table_clock(table));
}

uint64_t heat_table_take(struct heat_table *table, uint64_t hash) {
        uint64_t now = heat_table_clock(table), count = 0, last = 0, *bucket;
        struct area *area = current_area(table);

        if (!area)
                return 0;

        bucket = bucket_of(area, hash);
        for (size_t i = 0; i < BUCKET_SLOTS; i++) {
                uint64_t slot = __atomic_load_n(&bucket[i], __ATOMIC_RELAXED), age;

                if (!slot_is(slot, hash))
                        continue;

                slot = __atomic_exchange_n(&bucket[i], 0, __ATOMIC_RELAXED);
                if (!slot_is(slot, hash))
                        continue; /* another object's, put there just now */

                age = (uint32_t) ((uint32_t) now - (uint32_t) slot);
                count += slot_count(slot);
                last = MAX(last, now > age ? now - age : 0);
        }

        return count == 0 ? 0 : heat_make(count, last);
}

/* A bucket of the old area becomes two. Which of them a slot belongs to can't be told any more: it goes into
 * both, and the wrong one ages. */
static void copy_slots(const struct area *from, const struct area *to) {
        for (size_t i = 0; i < (size_t) BUCKET_SLOTS << from->bits; i++) {
                uint64_t slot = __atomic_load_n(&from->slots[i], __ATOMIC_RELAXED);
                uint64_t *bucket = to->slots + i / BUCKET_SLOTS * 2 * BUCKET_SLOTS;

                bucket[i % BUCKET_SLOTS] = bucket[i % BUCKET_SLOTS + BUCKET_SLOTS] = slot;
        }
}

void heat_table_fit(struct heat_table *table, uint64_t objects) {
        struct area *old = current_area(table), *area;
        unsigned bits = old ? old->bits : BITS_MIN;

        while (bits < BITS_MAX && objects > (UINT64_C(2) * BUCKET_SLOTS) << bits)
                bits++;
        if (old && bits == old->bits)
                return;

        area = &table->areas[bits];
        area->bits = bits;
        area->slots = mmap(NULL, area_size(area), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (area->slots == MAP_FAILED) {
                area->slots = NULL;
                return;
        }

        if (old && bits == old->bits + 1)
                copy_slots(old, area);
        __atomic_store_n(&table->current, area, __ATOMIC_RELEASE);
        if (old)
                (void) madvise(old->slots, area_size(old), MADV_DONTNEED);
}
