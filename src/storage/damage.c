/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <xxhash.h>

#include "store.h"

static bool note_damage(struct storage *storage, uint64_t mark) {
        bool is_known = false;

        (void) pthread_mutex_lock(&storage->damaged_mutex);
        for (size_t i = 0; i < DAMAGED_MAX && i < storage->n_damaged; i++)
                is_known = is_known || storage->damaged[i] == mark;
        if (!is_known)
                storage->damaged[storage->n_damaged++ % DAMAGED_MAX] = mark;
        (void) pthread_mutex_unlock(&storage->damaged_mutex);

        return !is_known;
}

struct removal {
        struct storage_change change;
        uint8_t uri[];
};

static void removal_done(struct storage_change *change) {
        free(change->userdata);
}

void storage_report_damage(
                struct storage *storage, const void *uri, size_t uri_size, uint64_t generation, int error) {
        struct removal *removal;

        /* A record that can't be read has no generation: its URI's hash stands for it, the highest bit set.
         */
        if (!note_damage(storage,
                         generation != 0 ? generation : XXH3_64bits(uri, uri_size) | UINT64_C(1) << 63))
                return;

        stats_add(&storage->stats.damaged, 1);
        storage_tell(storage, STORAGE_EVENT_DAMAGED, uri, uri_size, error);
        if (generation == 0)
                return;

        removal = malloc(sizeof(*removal) + uri_size);
        if (!removal)
                return; /* it stays and is found again */

        memcpy(removal->uri, uri, uri_size);
        removal->change = (struct storage_change){
                .kind = STORAGE_REMOVE,
                .uri = removal->uri,
                .uri_size = uri_size,
                .if_generation = generation,
                .done = removal_done,
                .userdata = removal,
        };
        storage_submit(storage, &removal->change);
}
