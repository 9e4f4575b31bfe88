/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "thread.h"

#include <linux/ioprio.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "macro.h"

#define WAITED_USEC_MIN 20 /* less is what a yield to nobody takes */
#define REST_FACTOR     3
#define REST_USEC_MAX   (5 * USEC_PER_MSEC)

/* This thread came last, and could not lower its priority. */
static __thread bool rests;

int thread_start(pthread_t *ret, const char *name, void *(*run)(void *userdata), void *userdata) {
        sigset_t all, before;
        int r;

        /* What a thread does wrong itself can't wait: blocked, it would end the process without a word. */
        (void) sigfillset(&all);
        (void) sigdelset(&all, SIGBUS);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(ret, NULL, run, userdata);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r == 0)
                (void) pthread_setname_np(*ret, name);

        return -r;
}

void thread_own_credentials(void) {
        /* Linux keeps them by thread, and makes new ones when something is set, to whatever. */
        (void) prctl(PR_SET_KEEPCAPS, prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0), 0, 0, 0);
}

void thread_come_last(int nice, int io_priority) {
        rests = setpriority(PRIO_PROCESS, 0, nice) < 0; /* of this thread alone */
        if (io_priority != 0)
                (void) syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, io_priority);
}

/* Whoever had the processor in between wants it: he gets more of it than a fair share. */
static void rest_after(uint64_t waited_usec) {
        uint64_t usec = MIN(waited_usec * REST_FACTOR, REST_USEC_MAX);

        if (waited_usec >= WAITED_USEC_MIN)
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0,
                                       &(struct timespec){ .tv_nsec = (long) usec * 1000 }, NULL);
}

void thread_give_way(unsigned *n_done, unsigned every) {
        uint64_t begin;

        if (++*n_done % every != 0)
                return;

        begin = rests ? clock_usec(CLOCK_MONOTONIC) : 0;
        (void) sched_yield();
        if (rests)
                rest_after(clock_usec(CLOCK_MONOTONIC) - begin);
}
