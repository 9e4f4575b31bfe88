/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* After other limits were set the store comes to keep to them, step by step and between other changes: every record
 * is counted in the namespace that its URI belongs to (what is put meanwhile is counted there at once), then what
 * is too much goes. */

#include "writer.h"

#define MOVE_MAX   1000  /* records in one transaction */
#define VISIT_MAX  10000 /* ... looked at */
#define RETRY_USEC (10 * USEC_PER_SEC)

static int move_record(struct writer *writer,
                       MDB_txn *txn,
                       const struct key *key,
                       const struct record *found,
                       struct account *account) {
        struct accounts *accounts = writer->storage->accounts;
        struct record record = *found;
        int r;

        r = dictionary_keep(writer->storage->dictionary, &record);
        if (r < 0)
                return r;

        accounts_leave(accounts, found);
        accounts_enter(accounts, account, &record);
        writer->batch.n_written++;
        return dictionary_requeue(writer->storage->dictionary, txn, key, found, &record);
}

/* 1: there is more to do; 0: that was all. */
static int move_some(struct writer *writer, MDB_txn *txn) {
        struct dictionary_walk walk = { .last = writer->recounted };
        struct record record;
        int r;

        r = dictionary_walk_begin(&walk, writer->storage->dictionary, txn, NULL, 0);
        if (r < 0)
                return r;

        for (unsigned n = 0; n < VISIT_MAX && writer->batch.n_written < MOVE_MAX; n++) {
                struct account *account;

                r = dictionary_walk_next(&walk, &record);
                if (r == 0 || (r < 0 && r != -EBADMSG))
                        break;

                account = r > 0 ? accounts_of(writer->storage->accounts, record.uri, record.uri_size) : NULL;
                if (account && account->id != record.account) {
                        r = move_record(writer, txn, &walk.last, &record, account);
                        if (r < 0)
                                break;
                        walk.positioned = false; /* the record was written elsewhere */
                }
                r = 1;
        }

        writer->recounted = walk.last;
        dictionary_walk_end(&walk);
        return r;
}

static int note_done(struct writer *writer, MDB_txn *txn) {
        struct accounts *accounts = writer->storage->accounts;
        struct dictionary *dictionary = writer->storage->dictionary;
        int r;

        for (uint32_t i = 0; i < accounts->n; i++)
                if (accounts->list[i] && account_is_unused(accounts->list[i])) {
                        accounts->list[i]->is_dirty = false;
                        r = dictionary_write_account(dictionary, txn, i, NULL, 0);
                        if (r < 0)
                                return r;
                }

        writer->batch.n_written++;
        return dictionary_set_layout(dictionary, txn, accounts_layout(accounts));
}

static void forget_unused(struct accounts *accounts) {
        for (uint32_t i = 0; i < accounts->n; i++)
                if (accounts->list[i] && account_is_unused(accounts->list[i]))
                        accounts_forget(accounts, i);
}

/* 1: there is more to do; 0: done; or an errno. */
static int step_recount(struct writer *writer) {
        struct key before = writer->recounted;
        MDB_txn *txn;
        int more, r;

        r = writer_begin(writer, &txn);
        if (r < 0)
                return r;

        more = r = move_some(writer, txn);
        if (r == 0)
                r = note_done(writer, txn);
        if (r < 0)
                dictionary_write_abort(txn);
        else
                r = writer_commit(writer, txn);
        if (r < 0) {
                writer->recounted = before;
                return r;
        }

        writer->is_recounting = more > 0;
        if (more == 0)
                forget_unused(writer->storage->accounts);
        return more;
}

int storage_apply_limits(struct storage *storage, struct limits *limits) {
        uint64_t bytes_max = limits->value.bytes_max, keep_free = limits->value.keep_free;
        int r;

        r = accounts_configure(storage->accounts, limits);
        if (r < 0)
                return r;

        __atomic_store_n(&storage->bytes_max, bytes_max, __ATOMIC_RELAXED);
        __atomic_store_n(&storage->keep_free, keep_free, __ATOMIC_RELAXED);
        return 0;
}

void writer_take_limits(struct writer *writer, struct limits *limits) {
        if (storage_apply_limits(writer->storage, limits) >= 0)
                writer_adapt(writer);
        else
                writer_try_limits_again(writer, limits);
}

void writer_adapt(struct writer *writer) {
        uint64_t layout;

        /* When that can't be read it is done anew. */
        writer->is_recounting = dictionary_get_layout(writer->storage->dictionary, &layout) < 0 ||
                                layout != accounts_layout(writer->storage->accounts);
        writer->recounted.size = 0;
        writer->adapt_usec = 1; /* at once */
}

void writer_step_adapt(struct writer *writer) {
        bool is_recounting = writer->is_recounting;
        int r;

        r = is_recounting ? step_recount(writer) : writer_trim(writer);
        writer_note_result(writer, r < 0 ? r : 0);

        if (r < 0)
                writer->adapt_usec = clock_usec(CLOCK_MONOTONIC) + RETRY_USEC;
        else if (r == 0 && !is_recounting)
                writer->adapt_usec = 0;
}
