/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Who may ask a daemon that hangs: after some requests without an answer in time nobody is asked for a while, so that it
 * costs few threads their time. Any thread. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct turn {
        atomic_uint timeouts_in_a_row;
        atomic_uint_fast64_t asked_again_usec; /* CLOCK_MONOTONIC: until then nobody is asked; 0: all ask */
        atomic_int_fast64_t changed_usec;      /* CLOCK_REALTIME: when that last became or ceased to be 0 */
};

void turn_init(struct turn *turn);
/* Whether it would be this thread's turn, as far as is known. */
bool turn_may_take(const struct turn *turn);
/* While there is a pause nobody asks; when it ends, one thread does, and the others once that had an answer. */
bool turn_take(struct turn *turn, uint64_t timeout_usec);
/* What came of a turn: -ETIMEDOUT, or anything else. */
void turn_note(struct turn *turn, int error);
