/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "audit.h"

#include <string.h>

#include "due.h"
#include "environment.h"
#include "macro.h"

#define ASK_EVERY    1024 /* records */
#define ACCOUNTS_MAX 65536

/* ---- beside a record ---- */

int audit_record(struct dictionary *dictionary,
                 MDB_txn *txn,
                 const struct key *key,
                 const struct record *record,
                 unsigned *ret) {
        bool is_queued = record->queue < POLICY_QUEUES;
        struct dictionary_notes notes;
        int r;

        r = dictionary_find_notes(dictionary, txn, key, record, &notes);
        if (r < 0)
                return r;

        *ret = (notes.live != (record->blob != 0) ? AUDIT_LIVE : 0) |
               (notes.due != (record->info.expires_usec != 0) ? AUDIT_DUE : 0) |
               (notes.order != is_queued || is_queued == record->info.pinned ? AUDIT_ORDER : 0);
        return 0;
}

int audit_mend_record(struct dictionary *dictionary,
                      MDB_txn *txn,
                      struct accounts *accounts,
                      const struct key *key,
                      struct record *record) {
        struct dictionary_tables tables = dictionary_get_tables(dictionary);
        int r = 0;

        /* The record itself says nothing that could be: it comes in anew. */
        if ((record->queue < POLICY_QUEUES) == record->info.pinned) {
                r = dictionary_keep(dictionary, record);
                if (r < 0)
                        return r;

                accounts_enter(accounts, accounts_of(accounts, record->uri, record->uri_size), record);
                r = dictionary_put(dictionary, txn, key, record);
        }

        if (r >= 0 && record->blob != 0)
                r = live_add(tables.live, txn, record->blob);
        if (r >= 0)
                r = due_add(tables.due, txn, key, record);
        return r < 0 ? r : order_add(tables.order, txn, key, record);
}

/* ---- entries ---- */

static MDB_dbi table_of(struct dictionary *dictionary, enum audit_table table) {
        struct dictionary_tables tables = dictionary_get_tables(dictionary);

        return table == AUDIT_TABLE_DUE ? tables.due : tables.order;
}

struct claim {
        struct key key;
        uint64_t expires_usec;
        struct order_entry order;
};

static bool is_true(enum audit_table table,
                    const struct claim *claim,
                    uint64_t generation,
                    const struct record *record) {
        if (record->info.etag.generation != generation)
                return false;
        if (table == AUDIT_TABLE_DUE)
                return record->info.expires_usec == claim->expires_usec;

        return !record->info.pinned && record->account == claim->order.account &&
               record->queue == claim->order.queue && record->position == claim->order.position &&
               record->info.size == claim->order.size;
}

/* Whether an entry is its record's: 1, 0 or an errno. */
static int check_entry(struct dictionary *dictionary,
                       MDB_txn *txn,
                       enum audit_table table,
                       const MDB_val *k,
                       const MDB_val *v,
                       struct key *ret_key) {
        struct claim claim = {};
        uint64_t generation = 0;
        struct record record;
        int r;

        if (table == AUDIT_TABLE_DUE)
                (void) due_parse(k, v, ret_key, &claim.expires_usec, &generation);
        else {
                (void) order_parse(k, v, &claim.order);
                *ret_key = claim.order.key;
                generation = claim.order.generation;
        }
        if (ret_key->size == 0)
                return 0;

        r = dictionary_find_key(dictionary, txn, ret_key->data, ret_key->size, &record);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r == -EBADMSG ? 1 : r; /* nobody knows what it says */

        return is_true(table, &claim, generation, &record);
}

/* The first entry from *entry on, or behind it: as audit_next(). */
static int find_entry(struct dictionary *dictionary,
                      MDB_txn *txn,
                      enum audit_table table,
                      struct audit_entry *entry,
                      bool behind,
                      struct key *ret_key) {
        MDB_val k = { entry->size, entry->data }, v;
        MDB_cursor *cursor;
        int r;

        r = mdb_cursor_open(txn, table_of(dictionary, table), &cursor);
        if (r != 0)
                return environment_errno(r);

        r = mdb_cursor_get(cursor, &k, &v, entry->size > 0 ? MDB_SET_RANGE : MDB_FIRST);
        if (r == 0 && behind && k.mv_size == entry->size && memcmp(k.mv_data, entry->data, entry->size) == 0)
                r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
        mdb_cursor_close(cursor);
        if (r != 0)
                return r == MDB_NOTFOUND ? 0 : environment_errno(r);

        entry->size = k.mv_size;
        memcpy(entry->data, k.mv_data, k.mv_size);
        r = check_entry(dictionary, txn, table, &k, &v, ret_key);
        return r == 0 ? -EBADMSG : r;
}

int audit_next(struct dictionary *dictionary,
               MDB_txn *txn,
               enum audit_table table,
               struct audit_entry *entry,
               struct key *ret_key) {
        return find_entry(dictionary, txn, table, entry, true, ret_key);
}

int audit_mend_entry(struct dictionary *dictionary,
                     MDB_txn *txn,
                     enum audit_table table,
                     const struct audit_entry *entry) {
        MDB_val k = { entry->size, (void *) entry->data };
        struct audit_entry found = *entry;
        struct key key;
        int r;

        r = find_entry(dictionary, txn, table, &found, false, &key);
        if (r != -EBADMSG)
                return r < 0 ? r : 0;
        if (found.size != entry->size || memcmp(found.data, entry->data, entry->size) != 0)
                return 0;

        r = mdb_del(txn, table_of(dictionary, table), &k, NULL);
        return r != 0 ? environment_errno(r) : 1;
}

/* ---- sums ---- */

void audit_sums_done(struct audit_sums *sums) {
        free(sums->accounts);
}

static int count_in_account(struct audit_sums *sums, const struct record *record) {
        if (record->account >= sums->n_accounts) {
                size_t n = (size_t) record->account + 1;
                struct account_sums *accounts;

                if (n > ACCOUNTS_MAX)
                        return -EUCLEAN;

                accounts = reallocarray(sums->accounts, n, sizeof(*accounts));
                if (!accounts)
                        return -ENOMEM;

                memset(accounts + sums->n_accounts, 0, (n - sums->n_accounts) * sizeof(*accounts));
                sums->accounts = accounts;
                sums->n_accounts = n;
        }

        account_sums_add(&sums->accounts[record->account], record);
        return 0;
}

int audit_count(struct dictionary *dictionary,
                MDB_txn *txn,
                bool (*go_on)(void *userdata),
                void *userdata,
                struct audit_sums *ret) {
        struct dictionary_walk walk = {};
        struct record record;
        int r;

        *ret = (struct audit_sums){};
        r = dictionary_walk_begin(&walk, dictionary, txn, NULL, 0);
        if (r < 0)
                return r;

        while ((r = dictionary_walk_next(&walk, &record)) > 0 || r == -EBADMSG) {
                ret->objects++;
                if (r > 0) {
                        ret->objects_inline += record.blob == 0;
                        ret->bytes += record.info.size;
                        r = count_in_account(ret, &record);
                        if (r < 0)
                                break;
                } else
                        ret->unreadable++;

                if (ret->objects % ASK_EVERY == 0 && !go_on(userdata)) {
                        r = -ECANCELED;
                        break;
                }
        }

        dictionary_walk_end(&walk);
        return r;
}

static bool is_account_right(const struct account *account, const struct audit_sums *sums, size_t id) {
        struct account_sums kept = {},
                            counted = id < sums->n_accounts ? sums->accounts[id] : (struct account_sums){};

        if (account)
                account_get_sums(account, &kept);
        return memcmp(&kept, &counted, sizeof(kept)) == 0;
}

int audit_compare(struct dictionary *dictionary, MDB_txn *txn, const struct audit_sums *sums) {
        _cleanup_(accounts_freep) struct accounts *accounts = NULL;
        struct dictionary_state state;
        bool is_right;
        int r;

        r = dictionary_read_state(dictionary, txn, &state);
        if (r >= 0)
                r = accounts_new(&accounts, 0, 0);
        if (r >= 0)
                r = accounts_load(accounts, dictionary, txn);
        if (r < 0)
                return r;

        is_right = state.objects == sums->objects && state.bytes == sums->bytes &&
                   state.objects_inline == sums->objects_inline;
        for (size_t id = 0; id < MAX(accounts->n, sums->n_accounts); id++)
                is_right = is_right && is_account_right(accounts_get(accounts, (uint32_t) id), sums, id);

        return is_right;
}
