/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Objects whose time to live is over are cleared, the first to expire first, some in a transaction, between
 * other changes. */

#include "clock.h"
#include "macro.h"
#include "writer.h"

#define EXPIRE_MAX      256                 /* objects in one transaction */
#define INTERVAL_USEC   USEC_PER_SEC        /* ... and so long until the next, when there are no more */
#define RETRY_INTERVALS 10                  /* ... or it failed */
#define CLOCK_LOOK_USEC (60 * USEC_PER_SEC) /* how late it is seen that the clock was set forward */

void writer_expect_expiry(struct writer *writer, uint64_t expires_usec) {
        if (expires_usec != 0)
                writer->expires_usec = MIN(writer->expires_usec, expires_usec);
}

uint64_t writer_next_expiry(const struct writer *writer) {
        const struct storage *storage = writer->storage;
        uint64_t look_usec = storage->hooks.clock_look_usec ?: CLOCK_LOOK_USEC;
        uint64_t keep_usec = __atomic_load_n(&storage->expired_keep_usec, __ATOMIC_RELAXED);
        uint64_t now_usec, due_usec, wait_usec;

        if (__builtin_add_overflow(writer->expires_usec, keep_usec, &due_usec) || due_usec == UINT64_MAX)
                return 0;

        now_usec = storage_now(storage);
        wait_usec = due_usec > now_usec ? MIN(due_usec - now_usec, look_usec) : 0;
        return MAX(clock_usec(CLOCK_MONOTONIC) + wait_usec, writer->expiry_pause_usec);
}

static int expire(struct writer *writer, MDB_txn *txn) {
        struct dictionary *dictionary = writer->storage->dictionary;
        struct purge *purge;
        struct record record;
        uint64_t generation;
        struct key key;
        int r;

        r = dictionary_take_due(dictionary, txn, &key, &generation);
        if (r <= 0)
                return r;

        writer->batch.n_written++;
        if (key.size == 0)
                return 0;

        r = dictionary_find_key(dictionary, txn, key.data, key.size, &record);
        if (r == -ENOENT || r == -EBADMSG || (r >= 0 && record.info.etag.generation != generation))
                return 0; /* not that object any more */
        if (r < 0)
                return r;

        purge = writer_find_purge(writer, &record);
        if (purge)
                purge->early++;

        r = writer_drop(writer, txn, &record);
        if (r < 0)
                return r;

        writer->batch.n_expired++;
        return dictionary_delete(dictionary, txn, &key);
}

/* *ret_next_usec becomes when the first of those left expires. */
static int expire_some(struct writer *writer, MDB_txn *txn, uint64_t *ret_next_usec) {
        struct storage *storage = writer->storage;
        uint64_t keep_usec = __atomic_load_n(&storage->expired_keep_usec, __ATOMIC_RELAXED);
        uint64_t now_usec = storage_now(storage), next_usec;
        int r;

        for (;;) {
                r = dictionary_peek_due(storage->dictionary, txn, &next_usec);
                if (r < 0)
                        return r;
                *ret_next_usec = r > 0 ? next_usec : UINT64_MAX;

                if (r == 0 || now_usec < keep_usec || next_usec > now_usec - keep_usec ||
                    writer->batch.n_written >= EXPIRE_MAX)
                        return 0;

                r = expire(writer, txn);
                if (r < 0)
                        return r;
        }
}

static int step(struct writer *writer, uint64_t *ret_next_usec) {
        MDB_txn *txn;
        int r;

        r = writer_begin(writer, &txn);
        if (r < 0)
                return r;

        r = expire_some(writer, txn, ret_next_usec);
        if (r < 0) {
                dictionary_write_abort(txn);
                return r;
        }

        r = writer_commit(writer, txn);
        if (r < 0)
                return r;

        writer_unlink(writer);
        return 0;
}

void writer_step_expiry(struct writer *writer) {
        uint64_t interval_usec = writer->storage->hooks.expiry_interval_usec ?: INTERVAL_USEC;
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC), next_usec;
        int r;

        r = step(writer, &next_usec);
        writer_note_result(writer, r);
        if (r < 0) {
                writer->expiry_pause_usec = now_usec + RETRY_INTERVALS * interval_usec;
                return;
        }

        writer->expires_usec = next_usec;
        writer->expiry_pause_usec = writer->batch.n_written < EXPIRE_MAX ? now_usec + interval_usec : 0;
}
