/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Keeps part of the file system free: for puts that are made, and for uploads on their way, which ask before they
 * write on. What was evicted is not free as long as clients have it open: that much is owed, and no more goes for
 * it, or the store would be emptied for nothing. */

#include <sys/statvfs.h>
#include <time.h>

#include "clock.h"
#include "macro.h"
#include "writer.h"

#define TRIES_MAX       8
#define OWED_USEC       (60 * USEC_PER_SEC) /* after this time an eighth of it is not believed any more */
#define FREEING_USEC    (100 * USEC_PER_MSEC)
#define REST_USEC       (2 * USEC_PER_MSEC)
#define DICTIONARY_GOAL (UINT64_C(8) << 20) /* what goes at once when the dictionary needs room */

static uint64_t subtract(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

static uint64_t free_now(struct storage *storage) {
        struct statvfs fs;
        uint64_t bytes;

        if (storage->hooks.get_free)
                return storage->hooks.get_free(storage->hooks.userdata);
        if (fstatvfs(storage->blobs.fd, &fs) < 0 ||
            __builtin_mul_overflow((uint64_t) fs.f_bavail, (uint64_t) fs.f_frsize, &bytes))
                return UINT64_MAX;

        return bytes;
}

static uint64_t less_granted(struct storage *storage, uint64_t free) {
        return free == UINT64_MAX ? free
                                  : subtract(free, __atomic_load_n(&storage->granted, __ATOMIC_RELAXED));
}

uint64_t storage_get_free(struct storage *storage) {
        return less_granted(storage, free_now(storage));
}

/* What has become free since the last look, but for what the store itself took. */
static uint64_t look_what_came(struct writer *writer) {
        uint64_t written = __atomic_load_n(&writer->storage->written, __ATOMIC_RELAXED);
        uint64_t free = free_now(writer->storage), came;

        came = subtract(free + (written - writer->last_written), writer->last_free);
        writer->last_free = free;
        writer->last_written = written;
        return came;
}

/* What becomes free was owed. */
static uint64_t look(struct writer *writer) {
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);

        writer->owed = subtract(writer->owed, look_what_came(writer));
        for (; now_usec - writer->owed_usec >= OWED_USEC && writer->owed > 0; writer->owed_usec += OWED_USEC)
                writer->owed -= writer->owed / 8 + 1;
        if (writer->owed == 0)
                writer->owed_usec = now_usec;

        return less_granted(writer->storage, writer->last_free);
}

/* -ENOSPC: it would not help, or nothing more can go. */
static int evict(struct writer *writer, const struct evicted *wanted) {
        struct evicted evicted;
        int r;

        (void) look(writer);
        writer_forget_plan(writer);
        r = writer_evict(writer, wanted, &evicted);
        if (r < 0)
                return r;
        if (evicted.bytes == 0)
                return -ENOSPC;

        writer->evicted_usec = clock_usec(CLOCK_MONOTONIC);
        writer->owed += subtract(evicted.bytes_unlinked, look_what_came(writer));

        /* Where there are no files to go nothing more goes for a while. */
        if (wanted->bytes_unlinked > 0 && evicted.bytes_unlinked == 0)
                writer->owed += wanted->bytes_unlinked;
        return 0;
}

/* What was unlinked a moment ago may be free in a moment: there are file systems that see to it in the background.
 * Returns false when it is too late for that. */
static bool wait_for_unlinked(const struct writer *writer) {
        if (writer->owed == 0 || clock_usec(CLOCK_MONOTONIC) - writer->evicted_usec >= FREEING_USEC)
                return false;

        (void) nanosleep(&(struct timespec){ .tv_nsec = REST_USEC * 1000 }, NULL);
        return true;
}

int writer_keep_free(struct writer *writer, uint64_t coming) {
        uint64_t keep = __atomic_load_n(&writer->storage->keep_free, __ATOMIC_RELAXED);

        if (keep == 0)
                return 0;

        for (unsigned try = 0;;) {
                uint64_t wanted = subtract(keep + coming, look(writer));
                int r;

                if (wanted == 0)
                        return 0;
                if (writer->owed >= wanted && wait_for_unlinked(writer))
                        continue;
                if (try++ == TRIES_MAX || writer->owed >= wanted)
                        return -ENOSPC;
                r = evict(writer, &(struct evicted){ .bytes_unlinked = wanted - writer->owed });
                if (r < 0)
                        return r;
        }
}

int writer_make_room(struct writer *writer, uint64_t weight) {
        uint64_t keep = __atomic_load_n(&writer->storage->keep_free, __ATOMIC_RELAXED);

        for (unsigned try = 0;;) {
                uint64_t growth_max = keep == 0 ? UINT64_MAX : subtract(look(writer), keep);
                int r;

                r = dictionary_make_room(writer->storage->dictionary, weight, growth_max);
                if (r != -ENOSPC || keep == 0)
                        return r;
                if (wait_for_unlinked(writer))
                        continue;
                if (try++ == TRIES_MAX || writer->owed >= DICTIONARY_GOAL)
                        return r;
                r = evict(writer, &(struct evicted){ .bytes = DICTIONARY_GOAL });
                if (r < 0)
                        return r;
        }
}

int writer_ask_free(struct writer *writer, uint64_t bytes) {
        struct free_request request = { .bytes = bytes };

        (void) pthread_mutex_lock(&writer->mutex);
        request.next = writer->requests;
        writer->requests = &request;
        (void) pthread_cond_signal(&writer->wake);
        while (!request.is_answered)
                (void) pthread_cond_wait(&writer->answered, &writer->mutex);
        (void) pthread_mutex_unlock(&writer->mutex);

        return request.result;
}

void writer_answer_requests(struct writer *writer) {
        struct free_request *request;

        (void) pthread_mutex_lock(&writer->mutex);
        while ((request = writer->requests)) {
                writer->requests = request->next;
                (void) pthread_mutex_unlock(&writer->mutex);

                request->result = writer_keep_free(writer, request->bytes);
                if (request->result >= 0)
                        stats_add(&writer->storage->granted, request->bytes);

                (void) pthread_mutex_lock(&writer->mutex);
                request->is_answered = true;
                (void) pthread_cond_broadcast(&writer->answered);
        }
        (void) pthread_mutex_unlock(&writer->mutex);
}
