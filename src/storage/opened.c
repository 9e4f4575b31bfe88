/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "opened.h"

#include <errno.h>
#include <stdlib.h>

#include "clock.h"

#define PLACES \
        UINT64_C(65536) /* memory only for those that are used: blobs are numbered one after the other */
#define PERIOD_BITS 24
#define PERIOD_USEC (16 * USEC_PER_SEC)

/* In each place the low 40 bits of a blob's number and the period in which it was opened. Written once in a period: the
 * place is shared by all that open it. */
struct opened {
        uint64_t places[PLACES]; /* atomic; 0: none */
};

int opened_new(struct opened **ret) {
        *ret = calloc(1, sizeof(**ret));
        return *ret ? 0 : -ENOMEM;
}

void opened_free(struct opened *opened) {
        free(opened);
}

static uint64_t now_period(void) {
        return clock_usec(CLOCK_MONOTONIC_COARSE) / PERIOD_USEC + 1;
}

static uint64_t pack(uint64_t blob, uint64_t period) {
        return blob << PERIOD_BITS | (period & ((UINT64_C(1) << PERIOD_BITS) - 1));
}

void opened_note(struct opened *opened, uint64_t blob) {
        uint64_t *place = &opened->places[blob % PLACES], value = pack(blob, now_period());

        if (__atomic_load_n(place, __ATOMIC_RELAXED) != value)
                __atomic_store_n(place, value, __ATOMIC_RELAXED);
}

uint64_t opened_age(struct opened *opened, uint64_t blob) {
        uint64_t value = __atomic_load_n(&opened->places[blob % PLACES], __ATOMIC_RELAXED);

        if (value == 0 || pack(value >> PERIOD_BITS, 0) != pack(blob, 0))
                return UINT64_MAX;

        return pack(0, now_period()) - pack(0, value);
}
