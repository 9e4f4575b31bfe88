/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writer.h"

#include <assert.h>
#include <fcntl.h>
#include <time.h>

#include "clock.h"
#include "macro.h"
#include "thread.h"
#include "upload.h"

#define NUMBERS_BLOCK       65536U /* generations and blobs reserved at once */
#define BATCH_BYTES_MAX     (8U << 20)
#define BATCH_UNSYNCED_MAX  (64U << 20)
#define GATHER_USEC         (5 * USEC_PER_MSEC)
#define USAGE_INTERVAL_USEC (60 * USEC_PER_SEC)
#define NO_MEMORY_REST_NSEC (10 * 1000 * 1000)
#define UNLINKS_PER_YIELD   4
#define USAGE_STEP_MIN      512 /* objects whose use is written in one transaction, at least */

int writer_begin(struct writer *writer, MDB_txn **ret) {
        int r;

        writer->batch.state = writer->state;
        writer->batch.n_unlinked = writer->batch.n_emptied = writer->batch.n_touched = 0;
        writer->batch.has_sync_failed = writer->batch.has_touched_unknown = false;
        writer->batch.n_written = writer->batch.n_changes = writer->batch.n_removed = 0;
        writer->batch.n_expired = writer->batch.n_put = writer->batch.bytes_put = 0;
        writer->batch.n_evicted = 0;
        writer->batch.evicted = (struct evicted){};
        for (struct purge *purge = writer->purges; purge; purge = purge->next)
                purge->early = 0;
        accounts_begin(writer->storage->accounts);

        r = dictionary_write_begin(writer->storage->dictionary, ret);
        writer->batch.has_begun = r >= 0;
        return r;
}

static void publish_stats(struct writer *writer) {
        struct storage_stats *stats = &writer->storage->stats;

        __atomic_store_n(&stats->objects, writer->state.objects, __ATOMIC_RELAXED);
        __atomic_store_n(&stats->objects_inline, writer->state.objects_inline, __ATOMIC_RELAXED);
        __atomic_store_n(&stats->bytes, writer->state.bytes, __ATOMIC_RELAXED);
        __atomic_store_n(&stats->generation, writer->next_generation - 1, __ATOMIC_RELAXED);
}

static void take_unlink_turn(struct writer *writer) {
        (void) __atomic_or_fetch(&writer->unlink_turn, 1, __ATOMIC_SEQ_CST);
}

static void end_unlink_turn(struct writer *writer) {
        if (writer->unlink_turn % 2 == 1) /* nobody else writes it */
                (void) __atomic_add_fetch(&writer->unlink_turn, 1, __ATOMIC_SEQ_CST);
}

uint64_t writer_unlink_turn(struct writer *writer) {
        return __atomic_load_n(&writer->unlink_turn, __ATOMIC_SEQ_CST);
}

int writer_commit(struct writer *writer, MDB_txn *txn) {
        struct storage *storage = writer->storage;
        struct batch *batch = &writer->batch;
        const uint64_t *touched = batch->has_touched_unknown ? NULL : batch->touched;
        uint64_t begin_usec;
        int r = 0;

        if (batch->n_written == 0) {
                dictionary_write_abort(txn);
                return 0;
        }

        begin_usec = clock_usec(CLOCK_MONOTONIC);

        /* A body is on the disk (its upload saw to that) under its name before a record speaks of it. */
        if (batch->n_put > 0) {
                r = blobs_sync(&storage->blobs);
                batch->has_sync_failed = r < 0;
        }
        batch->state.clock = heat_table_clock(storage->accounts->heat);
        if (r >= 0)
                r = accounts_write(storage->accounts, storage->dictionary, txn);
        if (r >= 0)
                r = dictionary_write_state(storage->dictionary, txn, &batch->state);
        if (r >= 0 && storage->hooks.before_commit)
                r = storage->hooks.before_commit(storage->hooks.userdata);
        if (r < 0) {
                dictionary_write_abort(txn);
                return r;
        }

        if (batch->n_unlinked > 0)
                take_unlink_turn(writer);
        hot_suspend(storage->hot, touched, batch->n_touched);
        r = dictionary_write_commit(storage->dictionary, txn);
        hot_resume(storage->hot, touched, batch->n_touched);
        if (r < 0) {
                end_unlink_turn(writer);
                return r;
        }
        if (storage->hooks.after_commit)
                storage->hooks.after_commit(storage->hooks.userdata);

        writer->state = batch->state;
        accounts_commit(storage->accounts);
        accounts_fit_heat(storage->accounts, writer->state.objects);
        storage_note_progress(storage);
        for (struct purge *purge = writer->purges; purge; purge = purge->next)
                purge->change->count += purge->early;

        publish_stats(writer);
        histogram_add(&storage->stats.commit_times, clock_usec(CLOCK_MONOTONIC) - begin_usec, 1);
        stats_add(&storage->stats.commits, 1);
        stats_add(&storage->stats.changes, batch->n_changes);
        stats_add(&storage->stats.puts, batch->n_put);
        stats_add(&storage->stats.removes, batch->n_removed);
        stats_add(&storage->stats.expired, batch->n_expired);
        stats_add(&storage->stats.evictions, batch->n_evicted);
        stats_add(&storage->stats.evicted_bytes, batch->evicted.bytes);
        stats_add(&storage->stats.bytes_put, batch->bytes_put);
        return 0;
}

/* In this order: once the file is gone nobody can begin to copy it. */
static void unlink_blob(struct storage *storage, uint64_t blob) {
        blob_unlink(&storage->blobs, blob);
        if (storage->fast)
                fast_drop(storage->fast, blob);
}

void writer_unlink(struct writer *writer) {
        struct batch *batch = &writer->batch;
        struct blobs *blobs = &writer->storage->blobs;
        unsigned n_done = 0;

        for (size_t i = 0; i < batch->n_unlinked; i++) {
                unlink_blob(writer->storage, batch->unlinked[i]);
                thread_give_way(&n_done, UNLINKS_PER_YIELD);
        }

        /* Those that still get names stay. */
        for (size_t i = 0; i < batch->n_emptied; i++)
                if (batch->emptied[i] < writer->next_blob >> BLOB_FOLDER_BITS)
                        blob_remove_folder(blobs, batch->emptied[i]);

        batch->n_unlinked = batch->n_emptied = 0;
        end_unlink_turn(writer);
}

void writer_note_result(struct writer *writer, int r) {
        bool was_failing = writer->is_failing || writer->is_put_failing;

        if (r < 0)
                writer->is_failing = true;
        else if (writer->put_error < 0) {
                writer->is_put_failing = true;
                r = writer->put_error;
        } else if (writer->batch.n_put > 0)
                writer->is_failing = writer->is_put_failing = false;
        else if (writer->batch.n_written > 0)
                writer->is_failing = false;

        if ((writer->is_failing || writer->is_put_failing) != was_failing)
                storage_tell(writer->storage,
                             was_failing ? STORAGE_EVENT_WRITE_RECOVERED : STORAGE_EVENT_WRITE_FAILED, NULL,
                             0, r);
}

/* Numbers are reserved durably before one of them is used, so that none is used twice whatever happens. */
static int reserve_numbers(struct writer *writer) {
        uint64_t block = writer->storage->hooks.numbers_block ?: NUMBERS_BLOCK;
        MDB_txn *txn;
        int r;

        if (writer->state.generations - writer->next_generation >= BATCH_MAX &&
            writer->state.blobs - writer->next_blob >= BATCH_MAX)
                return 0;

        r = writer_begin(writer, &txn);
        if (r < 0)
                return r;

        writer->batch.state.generations = writer->next_generation + block;
        writer->batch.state.blobs = writer->next_blob + block;
        writer->batch.n_written = 1;
        return writer_commit(writer, txn);
}

/* Makes changes in one transaction. On failure *ret_failed is the index of the change that it failed at, or n
 * when it was at the end. */
static int try_changes(struct writer *writer, struct storage_change **changes, size_t n, size_t *ret_failed) {
        MDB_txn *txn;
        int r;

        *ret_failed = n;
        r = writer_begin(writer, &txn);
        if (r < 0)
                return r;

        for (size_t i = 0; i < n; i++) {
                r = writer_apply(writer, txn, changes[i]);
                if (r < 0) {
                        dictionary_write_abort(txn);
                        *ret_failed = i;
                        return r;
                }
        }

        return writer_commit(writer, txn);
}

/* Its file is closed here: by the time its owner does it the next put may have removed its name, and whoever closes a file
 * without one waits until the disk has its space back. */
static void release_body(const struct storage_change *change) {
        if (change->kind == STORAGE_PUT && change->result >= 0 && !change->is_shown)
                storage_upload_release(change->upload);
}

static void report_changes(struct writer *writer, struct storage_change **changes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                writer_hide(writer, changes[i]);
                release_body(changes[i]);
        }

        /* After an I/O error nobody knows what the dictionary holds: better a blob too many. */
        for (size_t i = 0; i < n; i++)
                if (changes[i]->result < 0 && changes[i]->result != -EIO && changes[i]->blob != 0)
                        unlink_blob(writer->storage, changes[i]->blob);
        writer_unlink(writer);

        for (size_t i = 0; i < n; i++)
                changes[i]->done(changes[i]);
}

static struct storage_upload *unsynced_body(const struct storage_change *change) {
        bool is_put = change->kind == STORAGE_PUT && change->error >= 0;

        return is_put && storage_upload_is_unsynced(change->upload) ? change->upload : NULL;
}

/* Bodies whose upload left that to the store. The disk is given all of them before the first is waited for. A
 * sync that fails is not tried again: it may succeed though what it was for is lost. */
static void sync_bodies(struct writer *writer) {
        for (size_t i = 0; i < writer->n_changes; i++) {
                struct storage_upload *upload = unsynced_body(writer->changes[i]);

                if (upload)
                        (void) sync_file_range(upload->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        }

        for (size_t i = 0; i < writer->n_changes; i++) {
                struct storage_upload *upload = unsynced_body(writer->changes[i]);

                if (upload)
                        writer->changes[i]->error = upload_sync(upload);
        }
}

/* One change that can't be made must not fail the others: the transaction is tried with fewer of them, down
 * to one; but not when it could not even be begun, nor after a sync that failed: that may succeed though what it was
 * for is lost. */
static void make_changes(struct writer *writer) {
        struct storage_change **changes = writer->changes;
        size_t n = writer->n_changes, limit = n, failed;
        int r;

        if (writer->unsynced > 0)
                sync_bodies(writer);

        while (n > 0) {
                size_t some = MIN(n, limit);

                r = try_changes(writer, changes, some, &failed);
                if (r < 0 && some > 1 && writer->batch.has_begun && !writer->batch.has_sync_failed) {
                        limit = failed < some ? MAX(failed, 1U) : some / 2;
                        continue;
                }

                if (r < 0) {
                        for (size_t i = 0; i < some; i++)
                                changes[i]->result = r;
                        writer->batch.n_unlinked = writer->batch.n_emptied = 0;
                } else
                        limit = some * 2;

                writer_note_result(writer, r);
                report_changes(writer, changes, some);
                changes += some;
                n -= some;
        }

        writer->n_changes = writer->weight = writer->unsynced = 0;
        writer->is_waited_for = false;
        writer->put_error = 0;
}

/* Bytes that a change may add to the dictionary: its record, and a page or two that are copied for it. */
static size_t weight_of(const struct storage_change *change) {
        return (change->ttl_msec != 0 ? 3 : 2) * 4096 + change->uri_size + change->metadata_size +
               (change->upload && change->upload->fd < 0 ? change->upload->size : 0);
}

static bool is_full(const struct writer *writer) {
        return writer->n_changes == BATCH_MAX || writer->weight >= BATCH_BYTES_MAX ||
               writer->unsynced >= BATCH_UNSYNCED_MAX;
}

/* What puts need before they can be tried, those that were gathered before included. */
static int make_room(struct writer *writer) {
        int r;

        r = writer_make_room(writer, writer->weight);
        return r < 0 ? r : reserve_numbers(writer);
}

/* *ret_n: of how many; the others are to wait. Returns whether there is room for all that are not refused yet. */
static bool number_changes(struct writer *writer, size_t from, size_t *ret_n) {
        bool has_put = false, has_file = false, may_show;
        int error = 0, file_error = 0;

        for (size_t i = from; i < writer->n_changes; i++) {
                const struct storage_change *change = writer->changes[i];

                has_put = has_put || change->kind == STORAGE_PUT;
                has_file = has_file || (change->kind == STORAGE_PUT && change->upload->fd >= 0);
        }

        if (has_put)
                error = make_room(writer);
        if (error >= 0 && has_file)
                file_error = writer_keep_free(writer, 0);

        for (size_t i = from; i < writer->n_changes; i++) {
                struct storage_change *change = writer->changes[i];
                bool is_put = change->kind == STORAGE_PUT;

                change->result = 0;
                change->blob = 0;
                change->is_shown = false;
                change->error = !is_put ? 0 : error < 0 ? error : change->upload->fd >= 0 ? file_error : 0;
                change->mark = is_put && change->error >= 0 ? writer->next_generation++ : 0;
        }

        *ret_n = writer->n_changes;
        may_show = writer_make_space(writer, writer->changes, ret_n, from);

        /* Not before it is known which of them wait. */
        for (size_t i = from; i < *ret_n; i++) {
                const struct storage_change *change = writer->changes[i];

                if (change->kind == STORAGE_PUT && (error < 0 || (file_error < 0 && change->upload->fd >= 0)))
                        writer->put_error = error < 0 ? error : file_error;
        }
        return may_show;
}

static uint64_t unsynced_of(const struct storage_change *change) {
        return change->kind == STORAGE_PUT && storage_upload_is_unsynced(change->upload)
                               ? change->upload->size
                               : 0;
}

/* What was gathered from the one numbered n on waits until those before it are committed. */
static void put_back(struct writer *writer, size_t n) {
        while (writer->n_changes > n) {
                struct storage_change *change = writer->changes[--writer->n_changes];

                writer->weight -= weight_of(change);
                writer->unsynced -= unsynced_of(change);
                change->next = writer->pending;
                if (!writer->pending)
                        writer->pending_last = change;
                writer->pending = change;
        }
}

static void count_wait(struct writer *writer, const struct storage_change *change, uint64_t now_usec) {
        struct storage_stats *stats = &writer->storage->stats;

        (void) __atomic_fetch_sub(&stats->changes_waiting, 1, __ATOMIC_RELAXED);
        histogram_add(&stats->waits, now_usec - change->submitted_usec, 1);
}

/* Adds what is pending to the changes that go into the next transaction, in order and up to the next purge: a
 * purge is not to hide from a change what was still there when the change was submitted. */
static void gather(struct writer *writer) {
        uint64_t gather_usec = writer->storage->hooks.gather_usec ?: GATHER_USEC;
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);
        size_t from = writer->n_changes, n;
        bool may_show;

        while (writer->pending && writer->pending->kind != STORAGE_PURGE && !is_full(writer)) {
                struct storage_change *change = writer->pending;

                writer->pending = change->next;
                writer->changes[writer->n_changes++] = change;
                writer->weight += weight_of(change);
                writer->unsynced += unsynced_of(change);
        }
        if (from == writer->n_changes)
                return;

        if (from == 0)
                writer->commit_usec = now_usec + gather_usec;
        may_show = number_changes(writer, from, &n);
        put_back(writer, n);
        for (size_t i = from; i < n; i++) {
                count_wait(writer, writer->changes[i], now_usec);
                if (!may_show || !writer_show(writer, &writer->changes[i]))
                        writer->is_waited_for = true;
        }
}

/* What waits for nobody gathers for a while; not when something waits for it. */
static bool is_commit_due(const struct writer *writer) {
        return writer->n_changes > 0 &&
               (writer->is_commit_due || writer->is_waited_for || writer->pending || is_full(writer));
}

static void take_purges(struct writer *writer) {
        while (writer->pending && writer->pending->kind == STORAGE_PURGE) {
                struct storage_change *change = writer->pending;
                int r;

                writer->pending = change->next;
                count_wait(writer, change, clock_usec(CLOCK_MONOTONIC));
                change->mark = writer->next_generation - 1;
                r = writer_start_purge(writer, change);
                if (r < 0) {
                        change->result = r;
                        change->done(change);
                }
        }
}

struct usage_write {
        struct writer *writer;
        MDB_txn *txn;
};

static int write_usage(const struct usage_entry *entry, const void *p, void *userdata) {
        struct usage_write *write = userdata;
        struct dictionary *dictionary = write->writer->storage->dictionary;
        struct key key = { .size = entry->key_size };
        struct record record;
        int r;

        memcpy(key.data, p, entry->key_size);
        r = dictionary_find_key(dictionary, write->txn, key.data, key.size, &record);
        if (r == -ENOENT || r == -EBADMSG || (r >= 0 && record.info.etag.generation != entry->generation))
                return 0; /* not that object any more */
        if (r < 0)
                return r;

        r = dictionary_keep(dictionary, &record);
        if (r < 0)
                return r;

        record.info.hits += entry->hits;
        record.info.used_usec = MAX(record.info.used_usec, entry->used_usec);
        write->writer->batch.n_written++;
        return dictionary_put(dictionary, write->txn, &key, &record);
}

static int show_usage(const struct usage_entry *entry, _unused_ const void *key, void *userdata) {
        struct usage_write *write = userdata;

        hot_add_usage(write->writer->storage->hot, entry->hash, entry->generation, entry->hits,
                      entry->used_usec);
        return 0;
}

/* Some shards' counts, in one transaction. When it fails they are lost, as they are when the process dies; while
 * the disk takes nothing else, what room there is is not for them. */
static void step_usage(struct writer *writer) {
        struct usage *usage = writer->storage->usage;
        struct usage_write write = { .writer = writer };
        size_t first = writer->usage_shard, n = 0;
        int r;

        while (writer->usage_shard < USAGE_SHARDS && n < USAGE_STEP_MIN)
                n += usage_begin(usage, writer->usage_shard++);

        if (writer->is_failing || writer->is_put_failing)
                n = 0;

        r = n > 0 ? writer_begin(writer, &write.txn) : 0;
        if (r >= 0 && n > 0) {
                for (size_t i = first; r >= 0 && i < writer->usage_shard; i++)
                        r = usage_visit(usage, i, write_usage, &write);
                if (r < 0)
                        dictionary_write_abort(write.txn);
                else
                        r = writer_commit(writer, write.txn);
                for (size_t i = first; r >= 0 && i < writer->usage_shard; i++)
                        (void) usage_visit(usage, i, show_usage, &write);
        }
        if (n > 0)
                writer_note_result(writer, r);

        for (size_t i = first; i < writer->usage_shard; i++)
                usage_end(usage, i);
}

static bool is_idle(const struct writer *writer) {
        return !writer->pending && !writer->is_commit_due && !writer->purges &&
               writer->usage_shard == USAGE_SHARDS && !writer->is_expiry_due && !writer->is_adapt_due &&
               !writer->requests && !writer->new_limits;
}

/* Of two moments, or the one that there is; 0: none. */
static uint64_t earlier(uint64_t a, uint64_t b) {
        return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Takes what was submitted; waits for it when there is nothing to do. Returns false at the end. */
static bool wait_for_work(struct writer *writer) {
        struct limits *limits;
        bool go_on = true;

        (void) pthread_mutex_lock(&writer->mutex);
        for (;;) {
                uint64_t due_usec = writer->usage_due_usec;
                uint64_t expiry_usec = writer->stop ? 0 : writer_next_expiry(writer);

                if (due_usec != 0 && (writer->stop || due_usec <= clock_usec(CLOCK_MONOTONIC))) {
                        writer->usage_due_usec = 0;
                        writer->usage_shard = 0;
                }
                writer->is_adapt_due = !writer->stop && writer->adapt_usec != 0 &&
                                       writer->adapt_usec <= clock_usec(CLOCK_MONOTONIC);
                writer->is_expiry_due = expiry_usec != 0 && expiry_usec <= clock_usec(CLOCK_MONOTONIC);
                writer->is_commit_due = writer->n_changes > 0 &&
                                        (writer->stop || writer->commit_usec <= clock_usec(CLOCK_MONOTONIC));

                if (writer->first || !is_idle(writer))
                        break;

                if (writer->stop) {
                        go_on = false;
                        break;
                }

                due_usec = earlier(
                                earlier(due_usec, expiry_usec),
                                earlier(writer->adapt_usec, writer->n_changes > 0 ? writer->commit_usec : 0));
                if (due_usec == 0)
                        (void) pthread_cond_wait(&writer->wake, &writer->mutex);
                else {
                        struct timespec until = { .tv_sec = (time_t) (due_usec / USEC_PER_SEC),
                                                  .tv_nsec = (long) (due_usec % USEC_PER_SEC * 1000) };

                        (void) pthread_cond_timedwait(&writer->wake, &writer->mutex, &until);
                }
        }

        if (writer->first) {
                if (writer->pending)
                        writer->pending_last->next = writer->first;
                else
                        writer->pending = writer->first;
                writer->pending_last = writer->last;
                writer->first = writer->last = NULL;
        }
        limits = TAKE_PTR(writer->new_limits);
        (void) pthread_mutex_unlock(&writer->mutex);

        if (limits)
                writer_take_limits(writer, limits);
        return go_on;
}

void writer_set_limits(struct writer *writer, struct limits *limits) {
        (void) pthread_mutex_lock(&writer->mutex);
        if (writer->new_limits)
                limits_free(writer->new_limits);
        writer->new_limits = limits;
        (void) pthread_cond_signal(&writer->wake);
        (void) pthread_mutex_unlock(&writer->mutex);
}

void writer_try_limits_again(struct writer *writer, struct limits *limits) {
        (void) nanosleep(&(struct timespec){ .tv_nsec = NO_MEMORY_REST_NSEC }, NULL);

        (void) pthread_mutex_lock(&writer->mutex);
        if (!writer->new_limits && !writer->stop)
                writer->new_limits = TAKE_PTR(limits);
        (void) pthread_mutex_unlock(&writer->mutex);
        if (limits) /* newer ones have come */
                limits_free(limits);
}

static void *run(void *userdata) {
        struct writer *writer = userdata;

        while (wait_for_work(writer)) {
                writer_answer_requests(writer);
                gather(writer);
                if (is_commit_due(writer))
                        make_changes(writer);
                if (writer->n_changes == 0)
                        take_purges(writer);
                if (writer->purges)
                        writer_step_purge(writer);
                if (writer->usage_shard < USAGE_SHARDS)
                        step_usage(writer);
                if (writer->is_expiry_due)
                        writer_step_expiry(writer);
                if (writer->is_adapt_due)
                        writer_step_adapt(writer);
        }

        return NULL;
}

void storage_submit(struct storage *storage, struct storage_change *change) {
        struct writer *writer = storage->writer;

        assert(change->done);
        assert(change->kind != STORAGE_PUT ||
               (change->upload && change->upload->is_finished && change->upload->storage == storage));

        change->next = NULL;
        change->submitted_usec = clock_usec(CLOCK_MONOTONIC);
        (void) pthread_mutex_lock(&writer->mutex);
        assert(!writer->stop);
        if (writer->first)
                writer->last->next = change;
        else {
                writer->first = change;
                (void) pthread_cond_signal(&writer->wake);
        }
        writer->last = change;
        stats_add(&storage->stats.changes_waiting, 1);
        (void) pthread_mutex_unlock(&writer->mutex);
}

int writer_run_task(struct writer *writer, struct writer_task *task) {
        task->change.kind = STORAGE_TASK;
        return storage_change_wait(writer->storage, &task->change);
}

struct mark_task {
        struct writer_task task;
        uint64_t mark;
};

static int take_mark(struct writer *writer, _unused_ MDB_txn *txn, struct writer_task *task) {
        container_of(task, struct mark_task, task)->mark = writer->next_blob;
        return 0;
}

int writer_settle(struct writer *writer, uint64_t *ret_mark) {
        struct mark_task first = { .task.run = take_mark }, second = { .task.run = take_mark };
        int r;

        /* Blobs of changes behind the first may have their names already, before their transaction: they are done
         * with when the second is. */
        r = writer_run_task(writer, &first.task);
        if (r >= 0)
                r = writer_run_task(writer, &second.task);
        if (r < 0)
                return r;

        *ret_mark = first.mark;
        return 0;
}

void writer_wake(struct writer *writer) {
        (void) pthread_mutex_lock(&writer->mutex);
        (void) pthread_cond_signal(&writer->wake);
        (void) pthread_mutex_unlock(&writer->mutex);
}

void writer_expect_usage(struct writer *writer) {
        uint64_t interval_usec = writer->storage->hooks.usage_interval_usec ?: USAGE_INTERVAL_USEC;

        (void) pthread_mutex_lock(&writer->mutex);
        if (writer->usage_due_usec == 0) {
                writer->usage_due_usec = clock_usec(CLOCK_MONOTONIC) + interval_usec;
                (void) pthread_cond_signal(&writer->wake);
        }
        (void) pthread_mutex_unlock(&writer->mutex);
}

int writer_new(struct writer **ret, struct storage *storage, const struct dictionary_state *state) {
        _cleanup_free_ struct writer *writer = calloc(1, sizeof(*writer));
        pthread_condattr_t attributes;
        int r;

        if (!writer)
                return -ENOMEM;

        writer->storage = storage;
        writer->state = *state;
        writer->next_generation = MAX(state->generations, 1U);
        writer->next_blob = MAX(state->blobs, 1U);
        writer->state.generations = writer->next_generation;
        writer->state.blobs = writer->next_blob;
        writer->usage_shard = USAGE_SHARDS;
        writer->expires_usec = 0; /* not known: the first step finds it */
        writer_adapt(writer);
        publish_stats(writer);

        (void) pthread_condattr_init(&attributes);
        (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        (void) pthread_mutex_init(&writer->mutex, NULL);
        (void) pthread_cond_init(&writer->wake, &attributes);
        (void) pthread_condattr_destroy(&attributes);
        (void) pthread_cond_init(&writer->answered, NULL);

        r = thread_start(&writer->thread, "store-writer", run, writer);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(writer);
        return 0;
}

void writer_free(struct writer *writer) {
        (void) pthread_mutex_lock(&writer->mutex);
        writer->stop = true;
        (void) pthread_cond_signal(&writer->wake);
        (void) pthread_mutex_unlock(&writer->mutex);
        (void) pthread_join(writer->thread, NULL);

        (void) pthread_cond_destroy(&writer->answered);
        (void) pthread_cond_destroy(&writer->wake);
        (void) pthread_mutex_destroy(&writer->mutex);
        free(writer);
}
