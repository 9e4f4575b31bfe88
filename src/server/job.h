/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The pool of threads for what may block on the disk. An owner's jobs of a kind are begun in the order they were
 * submitted; owners and kinds take turns, so that one with many holds up nobody else, and neither kind has all
 * threads, where there are three: however slow writing is, something can be read, and however much is read, something written. */

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"
#include "histogram.h"
#include "mailbox.h"

struct job {
        void (*run)(struct job *job);  /* on a thread of the pool */
        void (*done)(struct job *job); /* on the thread of the mailbox; owns the job from then on */
        struct mailbox *mailbox;
        uint32_t owner; /* the user for whom it is done */
        bool is_write;  /* of what is being put */
        struct mail mail;
        struct job *next;        /* private */
        uint64_t submitted_usec; /* private */
};

struct job_pool;

/* n_threads 0: job_submit() runs the job itself, for tests. nice: of the threads, 0 to 19, as of
 * thread_come_last(). -ENOMEM, -EAGAIN. */
int job_pool_new(struct job_pool **ret, unsigned n_threads, int nice);

/* Any thread. The caller keeps the job until done() is called. */
void job_submit(struct job_pool *pool, struct job *job);

/* How long jobs waited for a thread, and how many do so now. Any thread. */
void job_pool_get_waits(struct job_pool *pool, struct histogram *ret);
unsigned job_pool_get_waiting(struct job_pool *pool);

/* Runs what was submitted, then ends the threads. NULL is fine. */
void job_pool_free(struct job_pool *pool);
DEFINE_CLEANUP(struct job_pool, job_pool_free)
