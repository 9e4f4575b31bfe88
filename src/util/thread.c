/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "thread.h"

#include <sched.h>
#include <signal.h>

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

void thread_give_way(unsigned *n_done, unsigned every) {
        if (++*n_done % every == 0)
                (void) sched_yield();
}
