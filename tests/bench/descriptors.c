/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a process's table of descriptors takes: so many threads, each on a core of its own, make descriptors by dup() and
 * close them, a batch of them at a time, as a worker does with those that it passes on; threads of one process, which
 * have one table and its lock, or of one each. Tells how many each second, of all threads, and the processor time of each,
 * in JSON. */

#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "macro.h"

#define THREADS_MAX 64
#define BATCH       32

static uint64_t until; /* CLOCK_MONOTONIC */
static bool apart;     /* each has a table of its own */
static pthread_barrier_t ready;

struct thread {
        pthread_t thread;
        int core;
        uint64_t n, processor_nsec;
};

static uint64_t processor_nsec(void) {
        struct timespec now;

        if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) < 0)
                err(1, "clock_gettime");
        return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

static void *run(void *userdata) {
        struct thread *self = userdata;
        uint64_t begun;
        int fds[BATCH];
        cpu_set_t cores;

        CPU_ZERO(&cores);
        CPU_SET(self->core, &cores);
        if (sched_setaffinity(0, sizeof(cores), &cores) < 0)
                err(1, "sched_setaffinity");
        if (apart && unshare(CLONE_FILES) < 0)
                err(1, "unshare");
        (void) pthread_barrier_wait(&ready);

        begun = processor_nsec();
        while (clock_usec(CLOCK_MONOTONIC) < until) {
                for (size_t i = 0; i < BATCH; i++) {
                        fds[i] = dup(STDOUT_FILENO);
                        if (fds[i] < 0)
                                err(1, "dup");
                }
                for (size_t i = 0; i < BATCH; i++)
                        (void) close(fds[i]);
                self->n += BATCH;
        }
        self->processor_nsec = processor_nsec() - begun;
        return NULL;
}

int main(int argc, char *argv[]) {
        struct thread threads[THREADS_MAX] = {};
        uint64_t n = 0, nsec = 0, msec;
        int n_threads;

        if (argc != 4 || (strcmp(argv[2], "shared") != 0 && strcmp(argv[2], "apart") != 0))
                errx(2, "usage: descriptors THREADS shared|apart MSEC");
        n_threads = atoi(argv[1]);
        if (n_threads < 1 || n_threads > THREADS_MAX)
                errx(2, "from 1 to %i threads", THREADS_MAX);
        apart = strcmp(argv[2], "apart") == 0;
        msec = strtoull(argv[3], NULL, 10);

        (void) pthread_barrier_init(&ready, NULL, (unsigned) n_threads);
        until = clock_usec(CLOCK_MONOTONIC) + msec * USEC_PER_MSEC;
        for (int i = 0; i < n_threads; i++) {
                threads[i].core = i;
                if (pthread_create(&threads[i].thread, NULL, run, &threads[i]) != 0)
                        errx(1, "there can be no thread");
        }
        for (int i = 0; i < n_threads; i++) {
                (void) pthread_join(threads[i].thread, NULL);
                n += threads[i].n;
                nsec += threads[i].processor_nsec;
        }

        printf("{\"rate\": %.0f, \"nsec\": %.1f}\n", (double) n * 1000 / (double) msec,
               (double) nsec / (double) n);
        return 0;
}
