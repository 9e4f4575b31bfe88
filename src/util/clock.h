/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <time.h>

#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

static inline uint64_t clock_usec(clockid_t clock) {
        struct timespec ts;
        (void) clock_gettime(clock, &ts); /* cannot fail for the clocks used here */
        /* Nanoseconds fit into 32 bits, which are divided faster. */
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint32_t) ts.tv_nsec / 1000;
}

/* For poll() and epoll_wait(): waits so long at least; where that is weeks, until something comes. */
static inline int clock_wait_msec(uint64_t usec) {
        return usec >= (uint64_t) INT_MAX * USEC_PER_MSEC
                               ? -1
                               : (int) ((usec + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}
