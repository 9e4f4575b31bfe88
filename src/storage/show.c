/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Visible puts: shown to gets and reported before their commit. */

#include "writer.h"

static int copy_info(const struct record *record, void *userdata) {
        *(struct storage_info *) userdata = record->info;
        return 0;
}

/* As gets see it now. Only what is shown was gathered before: nothing that they don't see is still to come. */
static int find_present(struct writer *writer,
                        const struct storage_change *change,
                        struct storage_info *ret) {
        struct storage *storage = writer->storage;
        struct record record;
        struct key key;
        MDB_txn *txn;
        int r;

        r = overlay_find(storage->overlay, change->uri, change->uri_size, copy_info, ret);
        if (r != -ENOENT)
                return r;

        r = dictionary_read_begin(storage->dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_find(storage->dictionary, txn, change->uri, change->uri_size, &key, &record);
        if (r >= 0 && writer_find_purge(writer, &record))
                r = -ENOENT;
        if (r >= 0)
                *ret = record.info;
        dictionary_read_end(storage->dictionary, txn);
        return r;
}

static bool do_conditions_hold(struct writer *writer,
                               const struct storage_change *change,
                               uint64_t now_usec) {
        struct storage_info info;
        int r;

        if (!change->if_absent && change->if_generation == 0)
                return true;
        if (writer->is_waited_for)
                return false; /* it may depend on a change that is yet to be made */

        r = find_present(writer, change, &info);
        return (r >= 0 || r == -ENOENT) && change_check(change, r >= 0 ? &info : NULL, now_usec) >= 0;
}

static void on_committed(struct storage_change *change) {
        struct overlay_put *put = overlay_put_of(change);

        if (change->result < 0)
                stats_add(&put->upload.storage->stats.puts_lost, 1);
        overlay_put_free(put);
}

bool writer_show(struct writer *writer, struct storage_change **change) {
        struct storage *storage = writer->storage;
        struct storage_change *asked = *change;
        uint64_t now_usec = storage_now(storage);
        struct overlay_put *put;

        if (asked->kind != STORAGE_PUT || !asked->visible || asked->error < 0 || !change_is_sound(asked) ||
            !do_conditions_hold(writer, asked, now_usec) || writer_prepare_put(writer, asked, now_usec) < 0 ||
            overlay_put_new(&put, asked) < 0)
                return false;

        put->change.is_shown = true;
        put->change.done = on_committed;
        overlay_add(storage->overlay, put);
        stats_add(&storage->stats.puts_visible, 1);
        *change = &put->change;

        asked->done(asked);
        return true;
}

void writer_hide(struct writer *writer, struct storage_change *change) {
        if (change->is_shown)
                overlay_drop(writer->storage->overlay, overlay_put_of(change));
}
