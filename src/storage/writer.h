/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The one thread that changes the store: it takes what was submitted, in order, gathers many changes into one
 * transaction, and reports each once it is durable; visible puts before that, once the overlay shows them. */

#include "store.h"

#define BATCH_MAX   1024            /* changes in one transaction */
#define TOUCHED_MAX (4 * BATCH_MAX) /* objects that are dropped or changed in one */

/* What one transaction does besides the dictionary: takes effect when it was committed. */
struct batch {
        struct dictionary_state state;
        uint64_t unlinked[BATCH_MAX];
        size_t n_unlinked;
        uint64_t emptied[BATCH_MAX]; /* folders of which no blob is named any more */
        size_t n_emptied;
        uint64_t touched[TOUCHED_MAX]; /* hashes of the URIs whose records were replaced or deleted: what the hot
                                        table may have */
        size_t n_touched;
        bool has_touched_unknown; /* ... and of others */
        bool has_begun;
        bool has_sync_failed;
        uint64_t n_written; /* records put or deleted */
        uint64_t n_changes; /* those that a change asked for */
        uint64_t n_removed;
        uint64_t n_expired;
        uint64_t n_evicted;
        struct evicted {
                uint64_t bytes;
                uint64_t bytes_unlinked; /* of them in files */
        } evicted;
        uint64_t n_put;
        uint64_t bytes_put;
};

/* A purge under way. To other changes what it will still remove is absent already. */
struct purge {
        struct storage_change *change;
        struct purge *next;
        struct key last;
        uint64_t early; /* objects that changes in the transaction under way replaced before the purge came to
                           them */
};

/* What is known of a URI while room is made for the gathered changes. */
struct planned {
        uint64_t hash;           /* 0: free */
        struct account *account; /* that what is there is counted in; NULL: nothing is there */
        uint64_t size;
        bool is_pinned;
        bool is_coming; /* it is one of the puts */
};

/* An upload that waits for room. */
struct free_request {
        uint64_t bytes;
        int result;
        bool is_answered;
        struct free_request *next;
};

struct writer {
        struct storage *storage;
        pthread_t thread;

        pthread_mutex_t mutex;
        pthread_cond_t wake;
        /* Under the mutex. */
        struct storage_change *first, *last;
        bool stop;
        uint64_t usage_due_usec; /* CLOCK_MONOTONIC; 0: there is nothing to write */
        struct free_request *requests;
        pthread_cond_t answered;   /* one of them was */
        struct limits *new_limits; /* NULL: those in force stay */

        uint64_t unlink_turn; /* atomic: odd from before a commit until the blobs that it drops are unlinked */

        /* The thread's own. */
        struct storage_change *pending, *pending_last; /* taken, in order */
        struct storage_change *changes[BATCH_MAX];     /* gathered for the next transaction */
        size_t n_changes;
        size_t weight;        /* ... bytes that they may add to the dictionary */
        uint64_t unsynced;    /* ... of bodies that are to be synced before */
        bool is_waited_for;   /* ... some are not reported yet */
        bool is_commit_due;   /* ... time is over */
        uint64_t commit_usec; /* ... CLOCK_MONOTONIC: when it is */
        struct purge *purges;
        struct batch batch;
        struct dictionary_state state; /* as committed */
        uint64_t next_generation, next_blob;
        int put_error;       /* why puts that were gathered can't be made */
        size_t usage_shard;  /* the next to be written; USAGE_SHARDS: none */
        bool is_failing;     /* transactions do */
        bool is_put_failing; /* ... or what comes before one with puts */
        bool is_expiry_due;
        bool is_adapt_due;
        uint64_t adapt_usec; /* CLOCK_MONOTONIC: when the store is to be brought to its limits; 0: it is there */
        bool is_recounting;   /* records are to be counted in other accounts */
        struct key recounted; /* ... up to this one they were */

        struct account_plan plan; /* of the whole store, for the gathered changes */
        struct planned planned[2 * BATCH_MAX];
        bool is_plan_stale; /* what was to be replaced is gone */
        bool must_give;     /* the whole store is over its maxima */
        uint64_t n_spared;  /* objects looked at in a row that none of went */

        uint64_t owed;         /* bytes that were evicted and did not become free yet */
        uint64_t owed_usec;    /* CLOCK_MONOTONIC: when that was believed last */
        uint64_t evicted_usec; /* CLOCK_MONOTONIC: when something was evicted to free bytes */
        uint64_t last_free, last_written;

        uint64_t expires_usec;      /* CLOCK_REALTIME: nothing expires earlier; UINT64_MAX: nothing at all */
        uint64_t expiry_pause_usec; /* CLOCK_MONOTONIC: nothing is cleared earlier */
};

int writer_new(struct writer **ret, struct storage *storage, const struct dictionary_state *state);
/* Finishes what was submitted. */
void writer_free(struct writer *writer);
/* When it has something to do has changed. Any thread. */
void writer_wake(struct writer *writer);
/* The first get was counted since they were written last. Any thread. */
void writer_expect_usage(struct writer *writer);

/* A transaction that starts from what was committed, and its end. writer_commit() writes nothing when the
 * batch did nothing. */
int writer_begin(struct writer *writer, MDB_txn **ret);
int writer_commit(struct writer *writer, MDB_txn *txn);
/* After the commit, when nobody needs them any more. */
void writer_unlink(struct writer *writer);
/* Odd: blobs that a commit dropped may still be there; another number: they are gone. Any thread. */
uint64_t writer_unlink_turn(struct writer *writer);
/* Tells when transactions begin to fail, and when they succeed again. */
void writer_note_result(struct writer *writer, int r);

/* apply.c: its URI and its metadata are what a store takes. */
bool change_is_sound(const struct storage_change *change);
/* Whether its conditions hold with that object (NULL: none) in its place: 0, -ENOENT, -ECANCELED,
 * -EEXIST. */
int change_check(const struct storage_change *change, const struct storage_info *present, uint64_t now_usec);
/* What a put needs before its record: the body's file gets its name, once, even when the transaction is tried
 * again; and its info. */
int writer_prepare_put(struct writer *writer, struct storage_change *change, uint64_t now_usec);
/* Makes change in the transaction and sets its result. An errno: the transaction is of no use any
 * more. */
int writer_apply(struct writer *writer, MDB_txn *txn, struct storage_change *change);
/* Takes a record that is to be replaced or deleted out of the batch's sums and of what is kept beside the
 * records, and its blob off the disk. */
int writer_drop(struct writer *writer, MDB_txn *txn, const struct record *record);
/* The same for one that can't be read: its bytes and its blob can't be known. */
void writer_drop_unreadable(struct writer *writer, const struct key *key);
/* What is known of the URI changes with the transaction. */
void writer_touch(struct writer *writer, const void *uri, size_t uri_size);

/* The same for one whose account knows already. */
int writer_drop_counted(struct writer *writer, MDB_txn *txn, const struct record *record);

/* space.c: sees to room under all maxima for the puts among the gathered changes, in transactions of its own, and
 * sets the error of those from the one numbered from on that can't have it to -ENOSPC. *n becomes less where one of
 * these can have it only from those before it, or only these will show what can go for it, as soon as they are
 * committed; it stays over 0. False: it could not
 * be made, or not all of it: what does not fit is refused when it is its turn, and nothing is to be shown before. */
bool writer_make_space(struct writer *writer, struct storage_change **changes, size_t *n, size_t from);
/* Whether a record may come in now, in the transaction under way, in place of old (NULL: of none). 0 or
 * -ENOSPC. */
int writer_check_space(struct writer *writer,
                       const struct account *account,
                       const struct record *old,
                       uint64_t size);
/* What is to come in counts no more. */
void writer_forget_plan(struct writer *writer);
bool writer_is_planned(struct writer *writer, const void *uri, size_t uri_size);

/* evict.c: evicts, in transactions of its own, until what is planned fits and what is wanted went, or nothing more
 * can go. 1: what was planned is not there any more, plan again; 0; or an errno. */
int writer_evict(struct writer *writer, const struct evicted *wanted, struct evicted *ret);
/* Whether what is planned fits as it is. */
bool writer_has_space(struct writer *writer);
/* A step towards the maxima. 1: there is more to do; 0: done; or an errno. */
int writer_trim(struct writer *writer);

/* keep-free.c: sees to it that what is to be kept free is, after so many bytes more were written. 0, -ENOSPC or
 * an errno. */
int writer_keep_free(struct writer *writer, uint64_t coming);
/* Sees to room in the dictionary for so many bytes. */
int writer_make_room(struct writer *writer, uint64_t weight);
/* Asks for writer_keep_free() and, when it can be, counts the bytes as granted. Any thread but the writer's. */
int writer_ask_free(struct writer *writer, uint64_t bytes);
void writer_answer_requests(struct writer *writer);

/* adapt.c: takes limits and brings the store to them, step by step. */
void writer_take_limits(struct writer *writer, struct limits *limits);
/* Those in force have changed. */
void writer_adapt(struct writer *writer);
/* A step of that, in a transaction of its own. */
void writer_step_adapt(struct writer *writer);
/* Other limits from now on; takes them. Any thread. */
void writer_set_limits(struct writer *writer, struct limits *limits);
/* There is no memory for them yet; takes them. */
void writer_try_limits_again(struct writer *writer, struct limits *limits);

/* show.c: reports a visible put as done once the overlay shows it; *change becomes the store's own copy. False:
 * it waits for the commit, as others do. */
bool writer_show(struct writer *writer, struct storage_change **change);
/* After its transaction: gets don't find it in the overlay any more. */
void writer_hide(struct writer *writer, struct storage_change *change);

/* A change that the store makes by itself. */
struct writer_task {
        struct storage_change change;
        /* In the transaction, maybe once more in another when that failed. Sets change.result, and counts what
         * it writes in the batch; an errno: the transaction is of no use any more. */
        int (*run)(struct writer *writer, MDB_txn *txn, struct writer_task *task);
};

/* Hands a task to the writer's thread and waits: the result. Any thread but that one. */
int writer_run_task(struct writer *writer, struct writer_task *task);

/* Waits until all blobs of numbers below *ret_mark belong to a record, or never will. Any thread but the
 * writer's. Errors as of a change. */
int writer_settle(struct writer *writer, uint64_t *ret_mark);

/* purge.c */
int writer_start_purge(struct writer *writer, struct storage_change *change);
/* A step of the first purge, in a transaction of its own. */
void writer_step_purge(struct writer *writer);
/* The purge that will remove the record. */
struct purge *writer_find_purge(struct writer *writer, const struct record *record);

/* expire.c: an object expires at expires_usec (CLOCK_REALTIME; 0: never). */
void writer_expect_expiry(struct writer *writer, uint64_t expires_usec);
/* CLOCK_MONOTONIC: when a step is to be made, or the clock to be looked at again; 0: never. */
uint64_t writer_next_expiry(const struct writer *writer);
/* Clears some of those that are due, in a transaction of its own. */
void writer_step_expiry(struct writer *writer);
