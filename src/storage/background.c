/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "background.h"

#include <linux/ioprio.h>
#include <time.h>

#include "clock.h"
#include "thread.h"

bool background_is_stopped(struct background *background) {
        return __atomic_load_n(&background->stop, __ATOMIC_RELAXED);
}

void background_rest(struct background *background, uint64_t usec) {
        uint64_t until_usec = clock_usec(CLOCK_MONOTONIC) + usec;
        struct timespec until = { .tv_sec = (time_t) (until_usec / USEC_PER_SEC),
                                  .tv_nsec = (long) (until_usec % USEC_PER_SEC * 1000) };
        int r = 0;

        (void) pthread_mutex_lock(&background->mutex);
        while (!background->stop && r == 0)
                r = pthread_cond_timedwait(&background->wake, &background->mutex, &until);
        (void) pthread_mutex_unlock(&background->mutex);
}

static void *run(void *userdata) {
        struct background *background = userdata;

        thread_come_last(19, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
        background->run(background->userdata);
        return NULL;
}

int background_start(struct background *background,
                     const char *name,
                     void (*function)(void *userdata),
                     void *userdata) {
        pthread_condattr_t attributes;
        int r;

        *background = (struct background){ .run = function, .userdata = userdata };

        (void) pthread_condattr_init(&attributes);
        (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        (void) pthread_mutex_init(&background->mutex, NULL);
        (void) pthread_cond_init(&background->wake, &attributes);
        (void) pthread_condattr_destroy(&attributes);

        r = thread_start(&background->thread, name, run, background);
        if (r < 0) {
                (void) pthread_cond_destroy(&background->wake);
                (void) pthread_mutex_destroy(&background->mutex);
        }

        return r;
}

void background_cancel(struct background *background) {
        (void) pthread_mutex_lock(&background->mutex);
        __atomic_store_n(&background->stop, true, __ATOMIC_RELAXED);
        (void) pthread_cond_signal(&background->wake);
        (void) pthread_mutex_unlock(&background->mutex);
}

void background_stop(struct background *background) {
        background_cancel(background);
        (void) pthread_join(background->thread, NULL);

        (void) pthread_cond_destroy(&background->wake);
        (void) pthread_mutex_destroy(&background->mutex);
}
