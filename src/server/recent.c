/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recent.h"

#include "clock.h"
#include "macro.h"
#include "worker.h"

#define MOMENT_USEC USEC_PER_SEC

bool recent_has(const struct worker *worker, const struct output_file *file) {
        const struct recent *recent = &worker->recent[file->generation % RECENT_MAX];

        return recent->generation == file->generation && recent->generation != 0 &&
               recent->copy == file->copy && file->offset + file->size <= recent->size &&
               worker->now_usec < recent->sent_usec + MOMENT_USEC;
}

void recent_note(struct worker *worker, const struct output_item *item) {
        if (!item->is_whole || item->generation == 0)
                return;

        worker->recent[item->generation % RECENT_MAX] = (struct recent){
                .generation = item->generation,
                .copy = item->copy,
                .size = item->offset + item->size,
                .sent_usec = worker->now_usec,
        };
}
