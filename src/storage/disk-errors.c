/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the disk refuses for bodies is told when it begins and when it ends, not each time. */

#include "disk-errors.h"

#include "store.h"

/* Where it is space that lacks, smaller bodies may still find some: that ends nothing. */
void storage_note_body_written(struct storage *storage, uint64_t size, int error) {
        struct disk_errors *errors = &storage->disk_errors;
        uint64_t failed = __atomic_load_n(&errors->failed_size, __ATOMIC_RELAXED);
        uint64_t now = error == 0 ? NOTHING_FAILED : error == -ENOSPC || error == -EDQUOT ? size : 0;

        if (error == -ENOMEM || error == -EMFILE || error == -ENFILE) /* not the disk's */
                return;
        if (error == 0 ? failed == NOTHING_FAILED || size < failed : now >= failed)
                return;
        if (!__atomic_compare_exchange_n(&errors->failed_size, &failed, now, false, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
                return; /* another thread's says as much */

        if (error == 0)
                storage_tell(storage, STORAGE_EVENT_BODY_WRITE_RECOVERED, NULL, 0, 0);
        else if (failed == NOTHING_FAILED)
                storage_tell(storage, STORAGE_EVENT_BODY_WRITE_FAILED, NULL, 0, error);
}

void storage_note_writes(struct storage *storage, bool of_bodies, int error) {
        struct disk_errors *errors = &storage->disk_errors;

        __atomic_store_n(of_bodies ? &errors->body_error : &errors->write_error, error, __ATOMIC_RELAXED);

        (void) pthread_mutex_lock(&errors->watch_mutex);
        if (errors->changed)
                errors->changed(errors->userdata);
        (void) pthread_mutex_unlock(&errors->watch_mutex);
}

int storage_get_write_error(struct storage *storage) {
        struct disk_errors *errors = &storage->disk_errors;
        int error = __atomic_load_n(&errors->write_error, __ATOMIC_RELAXED);

        /* Of bodies the size is what counts: two threads may tell in another order. */
        if (error == 0 && __atomic_load_n(&errors->failed_size, __ATOMIC_RELAXED) != NOTHING_FAILED)
                error = __atomic_load_n(&errors->body_error, __ATOMIC_RELAXED) ?: -EIO;

        return error;
}

void storage_watch_writes(struct storage *storage, void (*changed)(void *userdata), void *userdata) {
        struct disk_errors *errors = &storage->disk_errors;

        (void) pthread_mutex_lock(&errors->watch_mutex);
        errors->changed = changed;
        errors->userdata = userdata;
        (void) pthread_mutex_unlock(&errors->watch_mutex);
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
