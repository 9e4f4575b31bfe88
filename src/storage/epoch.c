/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "epoch.h"

#include <sched.h>

struct epoch_slot *epoch_enter_elsewhere(struct epoch *epoch) {
        for (unsigned i = 1;; i++) {
                struct epoch_slot *slot = epoch_try(epoch, i);

                if (slot)
                        return slot;
                if (i % EPOCH_SLOTS == EPOCH_SLOTS - 1)
                        (void) sched_yield();
        }
}

uint64_t epoch_mark(struct epoch *epoch) {
        return __atomic_fetch_add(&epoch->now, 1, __ATOMIC_SEQ_CST);
}

bool epoch_has_passed(struct epoch *epoch, uint64_t mark) {
        for (unsigned i = 0; i < EPOCH_SLOTS; i++) {
                uint64_t since = __atomic_load_n(&epoch->slots[i].since, __ATOMIC_SEQ_CST);

                if (since != 0 && since <= mark)
                        return false;
        }

        return true;
}

void epoch_wait(struct epoch *epoch, uint64_t mark) {
        while (!epoch_has_passed(epoch, mark))
                (void) sched_yield();
}
