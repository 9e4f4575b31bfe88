/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the dictionary keeps beside the records, where it is not seen from a record: entries that belong to none, and
 * the sums. */

#include "audit.h"
#include "clock.h"
#include "macro.h"
#include "verify.h"

#define STEP_ENTRIES 256
#define WRONG_MAX    16 /* entries that are repaired at once */

/* The sums are compared in one transaction. While it lasts, no page that is replaced can be used again: it ends
 * when it takes too long, or too much. */
#define COUNT_USEC  (10 * USEC_PER_SEC)
#define COUNT_BYTES (UINT64_C(64) << 20)
#define COUNT_TRIES 3

struct wrong_entry {
        struct audit_entry entry;
        struct key key; /* of the record that it names; of size 0 when that can't be read */
};

/* 1: there may be more; 0: there are none; or an errno. */
static int step(struct storage_verify *verify,
                enum audit_table table,
                struct audit_entry *last,
                struct wrong_entry wrong[static WRONG_MAX],
                size_t *ret_n_wrong) {
        struct dictionary *dictionary = verify->storage->dictionary;
        MDB_txn *txn;
        int r;

        *ret_n_wrong = 0;
        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = 1;
        for (size_t i = 0; i < STEP_ENTRIES && *ret_n_wrong < WRONG_MAX; i++) {
                struct wrong_entry *entry = &wrong[*ret_n_wrong];

                r = audit_next(dictionary, txn, table, last, &entry->key);
                if (r <= 0 && r != -EBADMSG)
                        break;
                if (r == -EBADMSG) {
                        entry->entry = *last;
                        (*ret_n_wrong)++;
                }
                r = 1;
        }

        dictionary_read_end(dictionary, txn);
        return r;
}

struct entry_task {
        struct writer_task task;
        enum audit_table table;
        const struct audit_entry *entry;
};

static int mend_entry(struct writer *writer, MDB_txn *txn, struct writer_task *task) {
        const struct entry_task *t = container_of(task, struct entry_task, task);
        int r = audit_mend_entry(writer->storage->dictionary, txn, t->table, t->entry);

        writer->batch.n_written += r > 0;
        return r < 0 ? r : 0;
}

static void found_entry(struct storage_verify *verify,
                        enum audit_table table,
                        const struct wrong_entry *wrong) {
        struct storage_finding finding = {
                .problem = table == AUDIT_TABLE_DUE ? STORAGE_PROBLEM_DUE : STORAGE_PROBLEM_ORDER,
        };
        int r;

        if (wrong->key.size > 0) {
                finding.uri = wrong->key.data;
                finding.uri_size = key_is_long(wrong->key.data, wrong->key.size) ? KEY_HEAD : wrong->key.size;
        }
        if (verify->config.repair) {
                struct entry_task task = { .task.run = mend_entry, .table = table, .entry = &wrong->entry };

                r = writer_run_task(verify->storage->writer, &task.task);
                if (r >= 0 && verify->has_dropped)
                        return; /* of a record that could not be read, and was told of: no news */
                finding.repair = r < 0 ? r : 1;
        }

        verify_found(verify, &finding, NULL);
}

static int verify_table(struct storage_verify *verify, enum audit_table table, struct wrong_entry *wrong) {
        struct audit_entry last = {};
        size_t n_wrong;
        int more;

        do {
                more = step(verify, table, &last, wrong, &n_wrong);
                for (size_t i = 0; i < n_wrong; i++)
                        found_entry(verify, table, &wrong[i]);
                if (verify_is_stopped(verify))
                        return -ECANCELED;
        } while (more > 0);

        return more;
}

int verify_entries(struct storage_verify *verify) {
        _cleanup_free_ struct wrong_entry *wrong = calloc(WRONG_MAX, sizeof(*wrong));
        int r = wrong ? 0 : -ENOMEM;

        for (enum audit_table table = 0; table < AUDIT_TABLES && r >= 0; table++)
                r = verify_table(verify, table, wrong);

        return r;
}

/* ---- sums ---- */

struct count {
        struct storage_verify *verify;
        uint64_t until_usec; /* CLOCK_MONOTONIC */
        uint64_t extent;     /* of the dictionary at the start */
};

static bool count_goes_on(void *userdata) {
        struct count *count = userdata;

        return !verify_is_stopped(count->verify) && clock_usec(CLOCK_MONOTONIC) < count->until_usec &&
               dictionary_extent(count->verify->storage->dictionary) < count->extent + COUNT_BYTES;
}

/* Whether the sums are right: 1, 0; -ECANCELED: it took too long; or an errno. */
static int compare(struct storage_verify *verify) {
        struct dictionary *dictionary = verify->storage->dictionary;
        struct count count = {
                .verify = verify,
                .until_usec = clock_usec(CLOCK_MONOTONIC) + COUNT_USEC,
        };
        _cleanup_(audit_sums_done) struct audit_sums sums = {};
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        count.extent = dictionary_extent(dictionary);
        r = audit_count(dictionary, txn, count_goes_on, &count, &sums);
        if (r >= 0) /* what can't be read adds up to nothing that is known */
                r = sums.unreadable > 0 ? 1 : audit_compare(dictionary, txn, &sums);
        dictionary_read_end(dictionary, txn);
        return r;
}

static bool mend_goes_on(void *userdata) {
        return !verify_is_stopped(userdata);
}

struct sums_task {
        struct writer_task task;
        struct storage_verify *verify;
};

static int mend_sums(struct writer *writer, MDB_txn *txn, struct writer_task *task) {
        struct storage_verify *verify = container_of(task, struct sums_task, task)->verify;
        struct accounts *accounts = writer->storage->accounts;
        _cleanup_(audit_sums_done) struct audit_sums sums = {};
        int r;

        r = audit_count(writer->storage->dictionary, txn, mend_goes_on, verify, &sums);
        if (r == -ECANCELED) {
                task->change.result = r;
                return 0;
        }
        if (r < 0)
                return r;

        writer->batch.state.objects = sums.objects;
        writer->batch.state.objects_inline = sums.objects_inline;
        writer->batch.state.bytes = sums.bytes;
        for (uint32_t id = 0; id < accounts->n; id++)
                if (accounts_get(accounts, id))
                        account_mend_sums(accounts_get(accounts, id),
                                          id < sums.n_accounts ? &sums.accounts[id]
                                                               : &(struct account_sums){});
        writer->batch.n_written++;
        return 0;
}

int verify_sums(struct storage_verify *verify) {
        struct storage_finding finding = { .problem = STORAGE_PROBLEM_SUMS };
        int right, r;

        for (unsigned tries = COUNT_TRIES; tries > 0; tries--) {
                right = compare(verify);
                if (verify_is_stopped(verify))
                        return -ECANCELED;
                if (right != -ECANCELED)
                        break;
        }
        if (right == -ECANCELED) {
                stats_add(&verify->progress.uncounted, 1);
                return 0;
        }
        if (right != 0)
                return right < 0 ? right : 0;

        if (verify->config.repair) {
                struct sums_task task = { .task.run = mend_sums, .verify = verify };

                r = writer_run_task(verify->storage->writer, &task.task);
                if (r >= 0 && verify->has_dropped)
                        return 0; /* likewise */
                finding.repair = r < 0 ? r : 1;
        }

        verify_found(verify, &finding, NULL);
        return 0;
}
