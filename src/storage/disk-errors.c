/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the disk refuses for bodies is told when it begins and when it ends, not each time. */

#include "disk-errors.h"

#include "store.h"

void storage_note_body_written(struct storage *storage, int error) {
        struct disk_errors *errors = &storage->disk_errors;
        bool is_failing = error < 0;

        if (error == -ENOMEM || error == -EMFILE || error == -ENFILE) /* not the disk's */
                return;
        if (__atomic_load_n(&errors->is_write_failing, __ATOMIC_RELAXED) != is_failing &&
            __atomic_exchange_n(&errors->is_write_failing, is_failing, __ATOMIC_RELAXED) != is_failing)
                storage_tell(storage,
                             is_failing ? STORAGE_EVENT_BODY_WRITE_FAILED
                                        : STORAGE_EVENT_BODY_WRITE_RECOVERED,
                             NULL, 0, error);
}

void storage_note_body_read(
                struct storage *storage, const void *uri, size_t uri_size, uint64_t generation, int error) {
        struct disk_errors *errors = &storage->disk_errors;
        size_t n = __atomic_load_n(&errors->n_unreadable, __ATOMIC_RELAXED), i;
        bool is_news;

        if (error == 0 && n == 0)
                return;

        (void) pthread_mutex_lock(&errors->mutex);
        n = errors->n_unreadable;
        for (i = 0; i < n && errors->unreadable[i] != generation;)
                i++;

        is_news = (i == n) == (error < 0);
        if (is_news && error == 0) {
                errors->unreadable[i] = errors->unreadable[n - 1];
                __atomic_store_n(&errors->n_unreadable, n - 1, __ATOMIC_RELAXED);
        } else if (is_news && n < UNREADABLE_MAX) {
                errors->unreadable[n] = generation;
                __atomic_store_n(&errors->n_unreadable, n + 1, __ATOMIC_RELAXED);
        } else if (is_news) /* the one that waits longest is forgotten */
                errors->unreadable[errors->n_forgotten++ % UNREADABLE_MAX] = generation;
        (void) pthread_mutex_unlock(&errors->mutex);

        if (is_news)
                storage_tell(storage, error < 0 ? STORAGE_EVENT_READ_FAILED : STORAGE_EVENT_READ_RECOVERED,
                             uri, uri_size, error);
}
