/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>

#include "thread.h"
#include "writer.h"

#define REMOVE_MAX        1000  /* objects in one transaction */
#define VISIT_MAX         10000 /* ... looked at */
#define OBJECTS_PER_YIELD 8     /* ... until others may have the processor */

static_assert(REMOVE_MAX <= BATCH_MAX, "a step's blobs fit a batch");

static bool covers(const struct purge *purge, const struct record *record) {
        const struct storage_change *change = purge->change;

        return record->info.etag.generation <= change->mark && record->uri_size >= change->uri_size &&
               (change->uri_size == 0 || memcmp(record->uri, change->uri, change->uri_size) == 0);
}

struct purge *writer_find_purge(struct writer *writer, const struct record *record) {
        for (struct purge *purge = writer->purges; purge; purge = purge->next)
                if (covers(purge, record))
                        return purge;

        return NULL;
}

int writer_start_purge(struct writer *writer, struct storage_change *change) {
        struct purge *purge, **end = &writer->purges;

        if (change->uri_size > STORAGE_URI_MAX ||
            (change->uri_size > 0 && !is_uri(change->uri, change->uri_size)))
                return -EINVAL;

        purge = calloc(1, sizeof(*purge));
        if (!purge)
                return -ENOMEM;

        purge->change = change;
        change->count = 0;
        while (*end)
                end = &(*end)->next;
        *end = purge;
        return 0;
}

/* A record that can't be read is nothing to keep, when its key is enough to know that it is meant. */
static bool is_covered_by_key(const struct dictionary_walk *walk) {
        return walk->prefix_size <= KEY_HEAD || !key_is_long(walk->last.data, walk->last.size);
}

static int remove_some(struct writer *writer, MDB_txn *txn, struct purge *purge) {
        const struct storage_change *change = purge->change;
        struct dictionary_walk walk = { .last = purge->last };
        struct record record;
        unsigned n_done = 0;
        int r;

        r = dictionary_walk_begin(&walk, writer->storage->dictionary, txn, change->uri, change->uri_size);
        if (r < 0)
                return r;

        for (size_t n_visited = 0; n_visited < VISIT_MAX && writer->batch.n_written < REMOVE_MAX;
             n_visited++) {
                thread_give_way(&n_done, OBJECTS_PER_YIELD);
                r = dictionary_walk_next(&walk, &record);
                if (r == 0)
                        break;

                if (r == -EBADMSG && is_covered_by_key(&walk))
                        writer_drop_unreadable(writer, &walk.last);
                else if (r > 0 && covers(purge, &record)) {
                        r = writer_drop(writer, txn, &record);
                        if (r < 0)
                                break;
                        writer->batch.n_removed++;
                        writer->batch.n_changes++;
                } else if (r > 0 || r == -EBADMSG || r == -EAGAIN) {
                        r = 1;
                        continue;
                } else
                        break;

                writer->batch.n_written++;
                r = dictionary_walk_delete(&walk);
                if (r < 0)
                        break;
                r = 1;
        }

        purge->last = walk.last;
        dictionary_walk_end(&walk);
        return r;
}

/* 1: there is more to do; 0: done; or an errno. */
static int step(struct writer *writer, struct purge *purge) {
        MDB_txn *txn;
        int more, r;

        r = writer_begin(writer, &txn);
        if (r < 0)
                return r;

        more = remove_some(writer, txn, purge);
        if (more < 0) {
                dictionary_write_abort(txn);
                return more;
        }

        r = writer_commit(writer, txn);
        if (r < 0)
                return r;

        purge->change->count += writer->batch.n_removed;
        writer_unlink(writer);
        return more;
}

void writer_step_purge(struct writer *writer) {
        struct purge *purge = writer->purges;
        struct storage_change *change = purge->change;
        int r;

        r = step(writer, purge);
        writer_note_result(writer, r < 0 ? r : 0);
        if (r > 0)
                return;

        writer->purges = purge->next;
        free(purge);
        change->result = r;
        change->done(change);
}
