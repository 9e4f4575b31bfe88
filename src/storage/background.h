/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A thread for what can wait: of the lowest priority for processor and disk where it may lower them (thread_come_last()),
 * it rests between small pieces of work and can be stopped at any time. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct background {
        pthread_t thread;
        pthread_mutex_t mutex;
        pthread_cond_t wake;
        bool stop; /* set under the mutex; atomic */
        void (*run)(void *userdata);
        void *userdata;
};

/* Starts run; name as thread_start() wants it. 0 or an errno. */
int background_start(struct background *background,
                     const char *name,
                     void (*run)(void *userdata),
                     void *userdata);
/* Wakes it from its rest: it is to return. Any thread. */
void background_cancel(struct background *background);
/* The same, and waits until it has. */
void background_stop(struct background *background);

/* For run: whether it is to return; and a rest, which ends early then. */
bool background_is_stopped(struct background *background);
void background_rest(struct background *background, uint64_t usec);
