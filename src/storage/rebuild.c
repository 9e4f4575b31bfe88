/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rebuild.h"

#include <fcntl.h>
#include <stdio.h>

#include "store.h"

#define STEP_RECORDS 2048 /* in one transaction */

static void on_copied(void *userdata) {
        storage_note_progress(userdata);
}

static int copy_synced(struct storage *storage, int dir_fd, const char *temporary, const char *name) {
        const struct storage_hooks *hooks = &storage->hooks;
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;

        r = dictionary_copy(storage->dictionary, fd, on_copied, storage);
        if (r < 0)
                return r;
        if (hooks->before_commit) {
                r = hooks->before_commit(hooks->userdata);
                if (r < 0)
                        return r;
        }
        if (fsync(fd) < 0 || renameat(dir_fd, temporary, dir_fd, name) < 0 || fsync(dir_fd) < 0)
                return -errno;

        return 0;
}

int rebuild_copy(struct storage *storage, int dir_fd, unsigned version) {
        char name[32], temporary[sizeof(name) + 4];
        int r;

        (void) snprintf(name, sizeof(name), "data.mdb.%u", version);
        (void) snprintf(temporary, sizeof(temporary), "%s.new", name);

        r = copy_synced(storage, dir_fd, temporary, name);
        if (r < 0)
                (void) unlinkat(dir_fd, temporary, 0);
        return r;
}

static int commit(struct storage *storage, MDB_txn *txn, int r) {
        const struct storage_hooks *hooks = &storage->hooks;

        if (r >= 0 && hooks->before_commit)
                r = hooks->before_commit(hooks->userdata);
        if (r < 0) {
                dictionary_write_abort(txn);
                return r;
        }

        r = dictionary_write_commit(storage->dictionary, txn);
        if (r >= 0)
                storage_note_progress(storage);
        return r;
}

int rebuild_begin(struct storage *storage, struct dictionary_state *state) {
        struct dictionary *dictionary = storage->dictionary;
        MDB_txn *txn;
        uint64_t used;
        int r;

        /* What is to come is about as much as there was, at most: not to break off on a full disk. */
        r = dictionary_used(dictionary, &used);
        if (r >= 0)
                r = dictionary_make_room(dictionary, used, UINT64_MAX);
        if (r >= 0)
                r = dictionary_write_begin(dictionary, &txn);
        if (r < 0)
                return r;

        state->objects = state->objects_inline = state->bytes = 0;
        r = dictionary_clear_notes(dictionary, txn);
        if (r >= 0)
                r = dictionary_set_layout(dictionary, txn, 0); /* all is in the rest */
        if (r >= 0)
                r = dictionary_write_rebuild(dictionary, txn, &(struct key){});
        if (r >= 0)
                r = dictionary_write_state(dictionary, txn, state);
        return commit(storage, txn, r);
}

static int rebuild_record(struct dictionary *dictionary,
                          MDB_txn *txn,
                          struct accounts *accounts,
                          struct dictionary_state *state,
                          const struct key *key,
                          struct record *record) {
        int r;

        r = dictionary_keep(dictionary, record);
        if (r < 0)
                return r;

        accounts_enter(accounts, accounts_get(accounts, ACCOUNT_REST), record);
        state->objects_inline += record->blob == 0;
        state->bytes += record->info.size;
        return dictionary_insert(dictionary, txn, key, record);
}

/* 1: there is more to do; 0: that was all. */
static int rebuild_some(struct dictionary *dictionary,
                        MDB_txn *txn,
                        struct accounts *accounts,
                        struct dictionary_state *state,
                        unsigned max,
                        struct key *last) {
        struct dictionary_walk walk = { .last = *last };
        struct record record;
        int r;

        r = dictionary_walk_begin(&walk, dictionary, txn, NULL, 0);
        if (r < 0)
                return r;

        for (unsigned n = 0; n < max; n++) {
                r = dictionary_walk_next(&walk, &record);
                if (r == 0 || (r < 0 && r != -EBADMSG))
                        break;

                state->objects++;
                if (r > 0) {
                        r = rebuild_record(dictionary, txn, accounts, state, &walk.last, &record);
                        if (r < 0)
                                break;
                        walk.positioned = false; /* the record was written elsewhere */
                }
                r = 1;
        }

        *last = walk.last;
        dictionary_walk_end(&walk);
        return r;
}

static int step(struct storage *storage, struct dictionary_state *state, struct key *last) {
        struct dictionary *dictionary = storage->dictionary;
        struct accounts *accounts = storage->accounts;
        unsigned max = storage->hooks.rebuild_step ?: STEP_RECORDS;
        MDB_txn *txn;
        int more, r;

        r = dictionary_write_begin(dictionary, &txn);
        if (r < 0)
                return r;

        accounts_begin(accounts);
        more = r = rebuild_some(dictionary, txn, accounts, state, max, last);
        state->clock = heat_table_clock(accounts->heat);
        if (r >= 0)
                r = accounts_write(accounts, dictionary, txn);
        if (r >= 0)
                r = dictionary_write_state(dictionary, txn, state);
        if (r >= 0)
                r = dictionary_write_rebuild(dictionary, txn, more > 0 ? last : NULL);
        r = commit(storage, txn, r);
        if (r < 0)
                return r;

        accounts_commit(accounts);
        return more;
}

int rebuild_run(struct storage *storage, struct dictionary_state *state) {
        struct dictionary *dictionary = storage->dictionary;
        struct key last;
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_read_rebuild(dictionary, txn, &last);
        dictionary_read_end(dictionary, txn);
        if (r <= 0)
                return r;

        do
                r = step(storage, state, &last);
        while (r > 0);

        return r < 0 ? r : 1;
}
