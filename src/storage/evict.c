/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Evicts: which account has to give, which of its objects goes, and until when. */

#include <assert.h>

#include "macro.h"
#include "writer.h"

#define EXAMINE_MAX   1024 /* records looked at in one transaction */
#define EXAMINE_FEW   128  /* ... when the disk is as full as may be */
#define EXAMINE_PAGES 8    /* pages that each may take until those that it frees can be used again */
#define SLACK         1024 /* a full store is emptied by one part in so many more, not to be back at once */

/* How often all may be looked at without one going: a policy lets none stay longer that is not got. */
#define ROUNDS_MAX 4

/* Bytes in the dictionary that go at most where only files are wanted. */
#define VAIN_MAX (UINT64_C(1) << 20)

static_assert(EXAMINE_MAX <= BATCH_MAX && EXAMINE_MAX <= TOUCHED_MAX,
              "what goes in one transaction fits a batch");

static uint64_t add(uint64_t a, uint64_t b) {
        uint64_t sum;

        return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* How much is too much, with what is to come; 0: nothing. When it is, then by the slack more. */
static uint64_t excess(uint64_t there, uint64_t coming, uint64_t max, bool with_slack) {
        uint64_t sum = add(there, coming), limit = with_slack ? max - max / SLACK : max;

        return max != UINT64_MAX && sum > limit ? sum - limit : 0;
}

static bool account_is_over(const struct account *account, bool with_slack) {
        const struct storage_namespace *namespace = account->namespace;

        return account->id != ACCOUNT_REST && namespace &&
               (excess(account_bytes(account), account->plan.bytes_peak, namespace->bytes_max, with_slack) >
                                0 ||
                excess(account_objects(account), account->plan.objects_peak, namespace->objects_max,
                       with_slack) > 0);
}

static bool store_is_over(const struct writer *writer, bool with_slack) {
        const struct storage_limits *limits = &writer->storage->accounts->limits->value;

        return excess(writer->batch.state.bytes, writer->plan.bytes_peak, limits->bytes_max, with_slack) >
                               0 ||
               excess(writer->batch.state.objects, writer->plan.objects_peak, limits->objects_max,
                      with_slack) > 0;
}

/* How much of what it may have an account has; it may have what the store may when nothing is said. */
static double fullness(const struct account *account, const struct storage_limits *limits) {
        const struct storage_namespace *namespace = account->namespace;
        uint64_t bytes_max = namespace ? MIN(namespace->bytes_max, limits->bytes_max) : limits->bytes_max;
        uint64_t objects_max = namespace ? MIN(namespace->objects_max, limits->objects_max)
                                         : limits->objects_max;

        return MAX((double) account_bytes(account) / (double) bytes_max,
                   (double) account_objects(account) / (double) objects_max);
}

bool account_may_evict(const struct account *account) {
        return !account->namespace || account->namespace->evict;
}

static bool can_give(const struct account *account) {
        return account && account_may_evict(account) && policy_pick(account->policy) >= 0;
}

/* Those that are over their maxima are to give, until they are below them by the slack. */
static bool note_givers(struct writer *writer) {
        struct accounts *accounts = writer->storage->accounts;
        bool any;

        /* What was committed: the last transaction may have been given up. */
        accounts_begin(accounts);
        writer->batch.state = writer->state;
        any = writer->must_give = store_is_over(writer, false);

        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i]) {
                        accounts->list[i]->must_give = account_is_over(accounts->list[i], false);
                        any = any || accounts->list[i]->must_give;
                }

        return any;
}

/* The account that has to give next; NULL: none has to, or can. */
static struct account *find_giver(const struct writer *writer, bool more_wanted) {
        const struct accounts *accounts = writer->storage->accounts;
        const struct storage_limits *limits = &accounts->limits->value;
        struct account *fullest = NULL;
        double most = -1;

        for (size_t i = 0; i < accounts->n; i++)
                if (can_give(accounts->list[i]) && accounts->list[i]->must_give &&
                    account_is_over(accounts->list[i], true))
                        return accounts->list[i];

        if (!limits->evict || (!more_wanted && !(writer->must_give && store_is_over(writer, true))))
                return NULL;

        for (size_t i = 0; i < accounts->n; i++)
                if (can_give(accounts->list[i]) && fullness(accounts->list[i], limits) > most) {
                        fullest = accounts->list[i];
                        most = fullness(fullest, limits);
                }

        return fullest;
}

/* Who stands in a queue without a record that says so too: its record was damaged. */
static int drop_stray(struct writer *writer,
                      MDB_txn *txn,
                      struct account *account,
                      const struct order_entry *entry) {
        struct policy_place place = { (enum policy_queue) entry->queue, entry->position };

        policy_remove(account->policy, &place, entry->size);
        writer->batch.state.bytes -= MIN(writer->batch.state.bytes, entry->size);
        return dictionary_drop_queued(writer->storage->dictionary, txn, entry);
}

static int evict_record(struct writer *writer,
                        MDB_txn *txn,
                        const struct key *key,
                        const struct record *record) {
        struct purge *purge = writer_find_purge(writer, record);
        uint64_t size = record->info.size;
        bool is_file = record->blob != 0;
        int r;

        if (purge)
                purge->early++;
        if (writer_is_planned(writer, record->uri, record->uri_size))
                writer->is_plan_stale = true;

        r = writer_drop_counted(writer, txn, record);
        if (r < 0)
                return r;

        writer->batch.n_evicted++;
        writer->batch.evicted.bytes += size;
        writer->batch.evicted.bytes_unlinked += is_file ? size : 0;
        return dictionary_delete(writer->storage->dictionary, txn, key);
}

/* Examines the first of the queue that the policy picks: it goes, or finds another place. */
static int evict_first(struct writer *writer, MDB_txn *txn, struct account *account) {
        struct dictionary *dictionary = writer->storage->dictionary;
        struct accounts *accounts = writer->storage->accounts;
        int queue = policy_pick(account->policy), r;
        struct record record, moved;
        struct order_entry entry;

        assert(queue >= 0);
        account->is_dirty = true;

        r = dictionary_first_queued(dictionary, txn, account->id, (uint8_t) queue, &entry);
        if (r < 0)
                return r;
        if (r == 0) {
                policy_forget_queue(account->policy, (enum policy_queue) queue);
                return 0;
        }

        writer->batch.n_written++;
        r = entry.key.size == 0
                            ? -EBADMSG
                            : dictionary_find_key(dictionary, txn, entry.key.data, entry.key.size, &record);
        if (r < 0 && r != -ENOENT && r != -EBADMSG)
                return r;
        if (r < 0 || record.account != account->id || record.queue != entry.queue ||
            record.position != entry.position || record.info.etag.generation != entry.generation)
                return drop_stray(writer, txn, account, &entry);

        /* Gets go on meanwhile: they are not to keep everything here. */
        moved = record;
        if (accounts_examine(accounts, account, &moved,
                             writer->n_spared > ROUNDS_MAX * account_objects(account))) {
                writer->n_spared = 0;
                return evict_record(writer, txn, &entry.key, &record);
        }

        writer->n_spared++;
        return dictionary_requeue(dictionary, txn, &entry.key, &record, &moved);
}

static size_t examine_max(const struct writer *writer) {
        uint64_t keep = __atomic_load_n(&writer->storage->keep_free, __ATOMIC_RELAXED);

        if (keep == 0 || storage_get_free(writer->storage) >= keep + EXAMINE_MAX * EXAMINE_PAGES * 4096)
                return EXAMINE_MAX;

        return EXAMINE_FEW;
}

/* Whether what went by now is not enough for the file system or the dictionary. */
static bool is_more_wanted(const struct evicted *wanted,
                           const struct evicted *before,
                           const struct evicted *batch) {
        uint64_t bytes = before->bytes + batch->bytes,
                 bytes_unlinked = before->bytes_unlinked + batch->bytes_unlinked;

        return bytes < wanted->bytes ||
               (bytes_unlinked < wanted->bytes_unlinked && bytes - bytes_unlinked < VAIN_MAX);
}

static int evict_until_enough(struct writer *writer,
                              MDB_txn *txn,
                              const struct evicted *wanted,
                              const struct evicted *before) {
        struct batch *batch = &writer->batch;
        size_t max = examine_max(writer);

        while (batch->n_written < max) {
                struct account *account = find_giver(writer, is_more_wanted(wanted, before, &batch->evicted));
                int r;

                if (!account)
                        return 0;
                r = evict_first(writer, txn, account);
                if (r < 0)
                        return r;
        }

        return 1;
}

/* One transaction. 1: there is more to do; 0: that was all. *evicted grows by what went. */
static int evict_some(struct writer *writer, const struct evicted *wanted, struct evicted *evicted) {
        MDB_txn *txn;
        int more, r;

        r = writer_begin(writer, &txn);
        if (r < 0)
                return r;

        more = evict_until_enough(writer, txn, wanted, evicted);
        if (more < 0) {
                dictionary_write_abort(txn);
                return more;
        }

        r = writer_commit(writer, txn);
        if (r < 0)
                return r;

        evicted->bytes += writer->batch.evicted.bytes;
        evicted->bytes_unlinked += writer->batch.evicted.bytes_unlinked;
        writer_unlink(writer);
        return more;
}

int writer_evict(struct writer *writer, const struct evicted *wanted, struct evicted *ret) {
        int r = 1;

        *ret = (struct evicted){};
        if (!note_givers(writer) && wanted->bytes == 0 && wanted->bytes_unlinked == 0)
                return 0;

        while (r > 0 && !writer->is_plan_stale)
                r = evict_some(writer, wanted, ret);

        if (r < 0)
                writer_note_result(writer, r);
        return r < 0 ? r : writer->is_plan_stale;
}

bool writer_has_space(struct writer *writer) {
        return !note_givers(writer);
}

int writer_trim(struct writer *writer) {
        struct evicted evicted = {};

        writer_forget_plan(writer);
        return note_givers(writer) ? evict_some(writer, &(struct evicted){}, &evicted) : 0;
}
