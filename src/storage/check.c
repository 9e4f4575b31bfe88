/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check.h"

#include "store.h"

struct checker {
        struct dictionary *dictionary;
        MDB_txn *txn;
        struct storage_check *result;
        struct accounts *accounts;    /* as they are said to be */
        struct account_sums *counted; /* as they are, by number */
        struct dictionary_state state;
        struct dictionary_notes notes;
};

static uint64_t difference(uint64_t a, uint64_t b) {
        return a > b ? a - b : b - a;
}

static int check_record(struct checker *checker, const struct key *key, const struct record *record) {
        struct storage_check *result = checker->result;
        bool is_queued = record->queue < POLICY_QUEUES;
        struct dictionary_notes notes;
        int r;

        r = dictionary_find_notes(checker->dictionary, checker->txn, key, record, &notes);
        if (r < 0)
                return r;

        if (accounts_get(checker->accounts, record->account))
                account_sums_add(&checker->counted[record->account], record);
        else
                result->accounts++;

        checker->state.objects_inline += record->blob == 0;
        checker->state.bytes += record->info.size;

        result->live += notes.live != (record->blob != 0);
        result->due += notes.due != (record->info.expires_usec != 0);
        result->order += notes.order != is_queued || is_queued == record->info.pinned;
        checker->notes.live += notes.live;
        checker->notes.due += notes.due;
        checker->notes.order += notes.order;
        return 0;
}

static int check_records(struct checker *checker) {
        struct dictionary_walk walk = {};
        struct record record;
        int r;

        r = dictionary_walk_begin(&walk, checker->dictionary, checker->txn, NULL, 0);
        if (r < 0)
                return r;

        while ((r = dictionary_walk_next(&walk, &record)) != 0) {
                checker->result->records++;
                if (r == -EBADMSG) {
                        checker->result->unreadable++;
                        continue;
                }
                if (r > 0)
                        r = check_record(checker, &walk.last, &record);
                if (r < 0)
                        break;
        }

        dictionary_walk_end(&walk);
        return r;
}

static int check_sums(struct checker *checker) {
        struct storage_check *result = checker->result;
        struct dictionary_state state;
        struct dictionary_notes notes;
        int r;

        r = dictionary_read_state(checker->dictionary, checker->txn, &state);
        if (r >= 0)
                r = dictionary_count_notes(checker->dictionary, checker->txn, &notes);
        if (r < 0)
                return r;

        result->sums += (state.objects != result->records) + (state.bytes != checker->state.bytes) +
                        (state.objects_inline != checker->state.objects_inline);
        for (uint32_t i = 0; i < checker->accounts->n; i++) {
                struct account_sums sums;

                if (!checker->accounts->list[i])
                        continue;
                account_get_sums(checker->accounts->list[i], &sums);
                result->sums += memcmp(&sums, &checker->counted[i], sizeof(sums)) != 0;
        }

        result->live += difference(notes.live, checker->notes.live);
        result->due += difference(notes.due, checker->notes.due);
        result->order += difference(notes.order, checker->notes.order);
        return 0;
}

static int check(struct checker *checker) {
        int r;

        r = accounts_load(checker->accounts, checker->dictionary, checker->txn);
        if (r < 0)
                return r;

        checker->counted = calloc(checker->accounts->n, sizeof(*checker->counted));
        if (!checker->counted)
                return -ENOMEM;

        r = check_records(checker);
        if (r >= 0)
                r = check_sums(checker);
        free(checker->counted);
        return r;
}

int storage_check(struct storage *storage, struct storage_check *ret) {
        _cleanup_(accounts_freep) struct accounts *accounts = NULL;
        struct checker checker = { .dictionary = storage->dictionary, .result = ret };
        int r;

        *ret = (struct storage_check){};

        r = accounts_new(&accounts, 0, 0);
        if (r >= 0)
                r = dictionary_read_begin(storage->dictionary, &checker.txn);
        if (r < 0)
                return r;

        checker.accounts = accounts;
        r = check(&checker);
        dictionary_read_end(storage->dictionary, checker.txn);
        return r;
}
