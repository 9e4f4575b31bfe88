/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <semaphore.h>

#include "harness.h"
#include "job.h"
#include "macro.h"

#define N_JOBS 100

struct numbered {
        struct job job;
        unsigned place; /* in which it was run, from 1 on */
};

static sem_t gate;
static unsigned n_run, n_done;

static void wait_at_gate(_unused_ struct job *job) {
        g_assert_cmpint(sem_wait(&gate), ==, 0);
}

static void run(struct job *job) {
        container_of(job, struct numbered, job)->place = ++n_run;
}

static void done(_unused_ struct job *job) {
        n_done++;
}

/* Who has submitted many jobs holds up nobody else, and gets them done in order. */
static void test_turns(void) {
        static struct numbered many[N_JOBS], few[2];
        struct job first = { .run = wait_at_gate, .done = done, .owner = 1000 };
        struct mailbox *mailbox;
        struct job_pool *pool;
        sd_event *event;

        n_run = n_done = 0;
        assert_ok(sem_init(&gate, 0, 0));
        assert_ok(sd_event_new(&event));
        assert_ok(mailbox_new(&mailbox, event));
        assert_ok(job_pool_new(&pool, 1, 0));

        first.mailbox = mailbox;
        job_submit(pool, &first);
        for (unsigned i = 0; i < N_JOBS; i++) {
                many[i].job = (struct job){ .run = run, .done = done, .mailbox = mailbox, .owner = 1000 };
                job_submit(pool, &many[i].job);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(few); i++) {
                few[i].job = (struct job){ .run = run, .done = done, .mailbox = mailbox, .owner = 1001 + i };
                job_submit(pool, &few[i].job);
        }

        assert_ok(sem_post(&gate));
        while (n_done < 1 + N_JOBS + ARRAY_SIZE(few))
                g_assert_cmpint(sd_event_run(event, 10 * G_USEC_PER_SEC), >, 0);

        for (unsigned i = 0; i < ARRAY_SIZE(few); i++)
                g_assert_cmpuint(few[i].place, <=, 1 + ARRAY_SIZE(few));
        for (unsigned i = 1; i < N_JOBS; i++)
                g_assert_cmpuint(many[i].place, >, many[i - 1].place);

        job_pool_free(pool);
        mailbox_free(mailbox);
        sd_event_unref(event);
        assert_ok(sem_destroy(&gate));
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/job/turns", test_turns);
        return g_test_run();
}
