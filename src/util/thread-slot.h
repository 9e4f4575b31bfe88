/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A small number that a thread keeps, so that it comes back to the same place of a table, which most often
 * no other thread uses: the address of one of its variables tells it. */

#include <stdint.h>

#define THREAD_SLOTS 64

static inline unsigned thread_slot(void) {
        static __thread char here;

        return (unsigned) (((uintptr_t) &here >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 58);
}
