/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>

/* Starts a thread that takes no signals but SIGBUS: they are for the program's own threads. name: what top and ps show,
 * at most 15 bytes. *ret is the caller's to join. -EAGAIN. */
int thread_start(pthread_t *ret, const char *name, void *(*run)(void *userdata), void *userdata);

/* Gives this thread credentials of its own, the same that it has: each file that is opened and closed counts their
 * references up and down, and threads that share them share that count. For those that open many. */
void thread_own_credentials(void);

/* This thread does what can wait. nice: as of nice(2), 1 to 19; io_priority: as of ioprio_set(2), 0: as it is. Where a
 * filter of system calls keeps it from that, thread_give_way() has to do, and does more. */
void thread_come_last(int nice, int io_priority);

/* For long work, called after each small part of it: every so many parts, which *n_done counts from 0, another thread
 * has the processor first that waits for it. Left to themselves, schedulers let such work run for a millisecond and
 * more. */
void thread_give_way(unsigned *n_done, unsigned every);
