/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "extension.h"

#include <inttypes.h>
#include <stdbool.h>
#include <systemd/sd-daemon.h>

#include "clock.h"

#define INTERVAL_USEC USEC_PER_SEC        /* it is not told more often */
#define STEP_USEC     (30 * USEC_PER_SEC) /* what a step may take */

void extension_set(struct extension *extension, const char *status) {
        __atomic_store_n(&extension->status, status, __ATOMIC_RELEASE);
}

void extension_note_progress(struct extension *extension) {
        const char *status = __atomic_load_n(&extension->status, __ATOMIC_ACQUIRE);
        uint64_t told_usec, now_usec;

        if (!status)
                return;

        now_usec = clock_usec(CLOCK_MONOTONIC);
        told_usec = __atomic_load_n(&extension->told_usec, __ATOMIC_RELAXED);
        if (now_usec - told_usec < INTERVAL_USEC ||
            !__atomic_compare_exchange_n(&extension->told_usec, &told_usec, now_usec, false, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
                return;

        (void) sd_notifyf(false, "EXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=%s", STEP_USEC, status);
}
