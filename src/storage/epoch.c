/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "epoch.h"

#include <sched.h>

struct epoch_slot *epoch_enter(struct epoch *epoch) {
        for (unsigned first = thread_slot(), i = 0;; i++) {
                struct epoch_slot *slot = &epoch->slots[(first + i) % THREAD_SLOTS];
                uint64_t none = 0;

                /* Whoever looks for readers after this sees this one; whoever looked before had unlinked
                 * before, and that is seen from here on. */
                if (__atomic_compare_exchange_n(&slot->since, &none,
                                                __atomic_load_n(&epoch->now, __ATOMIC_SEQ_CST), false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
                        return slot;

                if (i % THREAD_SLOTS == THREAD_SLOTS - 1)
                        (void) sched_yield();
        }
}

void epoch_leave(struct epoch_slot *slot) {
        __atomic_store_n(&slot->since, 0, __ATOMIC_RELEASE);
}

uint64_t epoch_mark(struct epoch *epoch) {
        return __atomic_fetch_add(&epoch->now, 1, __ATOMIC_SEQ_CST);
}

bool epoch_has_passed(struct epoch *epoch, uint64_t mark) {
        for (unsigned i = 0; i < THREAD_SLOTS; i++) {
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
