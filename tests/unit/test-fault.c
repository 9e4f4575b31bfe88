/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* However many threads meet the same I/O error at once, the daemon says so, once, before it dies of it. */

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "harness.h"

#define ROUNDS    100
#define N_THREADS 8

struct fall {
        unsigned n_ready;          /* atomic */
        volatile const char *lost; /* what no disk gives back */
};

static void *touch(void *userdata) {
        struct fall *fall = userdata;

        (void) __atomic_add_fetch(&fall->n_ready, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&fall->n_ready, __ATOMIC_SEQ_CST) < N_THREADS)
                (void) sched_yield();
        (void) *fall->lost;
        return NULL;
}

static void die_of_it(int output) {
        struct fall fall = {};
        pthread_t threads[N_THREADS];
        int fd = memfd_create("dictionary", MFD_CLOEXEC);

        (void) prctl(PR_SET_DUMPABLE, 0); /* no core, nor a program that takes it */
        if (fd < 0 || dup2(output, STDERR_FILENO) < 0)
                _exit(1);
        fall.lost = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0); /* of an empty file */
        if (fall.lost == MAP_FAILED)
                _exit(1);

        fault_watch("/some/store");
        for (size_t i = 0; i < N_THREADS; i++)
                if (pthread_create(&threads[i], NULL, touch, &fall) != 0)
                        _exit(1);
        for (size_t i = 0; i < N_THREADS; i++)
                (void) pthread_join(threads[i], NULL);
        _exit(0);
}

static void test_many_at_once(void) {
        for (unsigned i = 0; i < ROUNDS; i++) {
                int ends[2];
                char said[1024];
                size_t size = 0;
                ssize_t n;
                int status;
                pid_t pid;

                g_assert_no_errno(pipe2(ends, O_CLOEXEC));
                pid = fork();
                g_assert_no_errno(pid);
                if (pid == 0)
                        die_of_it(ends[1]);
                g_assert_no_errno(close(ends[1]));

                while ((n = read(ends[0], said + size, sizeof(said) - 1 - size)) > 0)
                        size += n;
                g_assert_no_errno(n);
                said[size] = 0;
                g_assert_no_errno(close(ends[0]));
                g_assert_no_errno(waitpid(pid, &status, 0));
                g_assert_true(WIFSIGNALED(status));
                g_assert_cmpint(WTERMSIG(status), ==, SIGBUS);
                g_assert_cmpstr(said, ==,
                                "An I/O error in the dictionary of the store /some/store (SIGBUS): "
                                "objmapperd "
                                "can't go on.\n");
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/fault/many-at-once", test_many_at_once);
        return g_test_run();
}
