/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "clock.h"
#include "turn.h"

#define TIMEOUTS_MAX 3
#define PAUSE_USEC   1000000

void turn_init(struct turn *turn) {
        atomic_store(&turn->timeouts_in_a_row, 0);
        atomic_store(&turn->asked_again_usec, 0);
        atomic_store(&turn->changed_usec, clock_usec(CLOCK_REALTIME));
}

bool turn_may_take(const struct turn *turn) {
        return (uint64_t) clock_usec(CLOCK_MONOTONIC) >= atomic_load(&turn->asked_again_usec);
}

bool turn_take(struct turn *turn, uint64_t timeout_usec) {
        uint_fast64_t until = atomic_load(&turn->asked_again_usec);
        uint_fast64_t now = (uint_fast64_t) clock_usec(CLOCK_MONOTONIC);

        if (until == 0)
                return true;
        if (now < until)
                return false;
        return atomic_compare_exchange_strong(&turn->asked_again_usec, &until,
                                              now + timeout_usec + PAUSE_USEC);
}

static void set_pause(struct turn *turn, uint_fast64_t until) {
        bool paused = atomic_exchange(&turn->asked_again_usec, until) != 0;

        if (paused != (until != 0))
                atomic_store(&turn->changed_usec, clock_usec(CLOCK_REALTIME));
}

void turn_note(struct turn *turn, int error) {
        if (error != -ETIMEDOUT) {
                atomic_store(&turn->timeouts_in_a_row, 0);
                set_pause(turn, 0);
        } else if (atomic_fetch_add(&turn->timeouts_in_a_row, 1) + 1 >= TIMEOUTS_MAX)
                set_pause(turn, (uint_fast64_t) clock_usec(CLOCK_MONOTONIC) + PAUSE_USEC);
}
