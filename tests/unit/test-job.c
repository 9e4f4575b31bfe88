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

/* A pool, and the loop that its jobs are done on. */
struct rig {
        sd_event *event;
        struct mailbox *mailbox;
        struct job_pool *pool;
};

static void rig_up(struct rig *rig, unsigned n_threads) {
        n_run = n_done = 0;
        assert_ok(sem_init(&gate, 0, 0));
        assert_ok(sd_event_new(&rig->event));
        assert_ok(mailbox_new(&rig->mailbox, rig->event));
        assert_ok(job_pool_new(&rig->pool, n_threads, 0));
}

static void rig_down(struct rig *rig) {
        job_pool_free(rig->pool);
        mailbox_free(rig->mailbox);
        sd_event_unref(rig->event);
        assert_ok(sem_destroy(&gate));
}

/* Who has submitted many jobs holds up nobody else, and gets them done in order. */
static void test_turns(void) {
        static struct numbered many[N_JOBS], few[2];
        struct job first = { .run = wait_at_gate, .done = done, .owner = 1000 };
        struct histogram waits;
        struct rig rig;

        rig_up(&rig, 1);

        first.mailbox = rig.mailbox;
        job_submit(rig.pool, &first);
        for (unsigned i = 0; i < N_JOBS; i++) {
                many[i].job = (struct job){ .run = run, .done = done, .mailbox = rig.mailbox, .owner = 1000 };
                job_submit(rig.pool, &many[i].job);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(few); i++) {
                few[i].job = (struct job){
                        .run = run, .done = done, .mailbox = rig.mailbox, .owner = 1001 + i
                };
                job_submit(rig.pool, &few[i].job);
        }

        g_assert_cmpuint(job_pool_get_waiting(rig.pool), >=, N_JOBS + ARRAY_SIZE(few));
        assert_ok(sem_post(&gate));
        while (n_done < 1 + N_JOBS + ARRAY_SIZE(few))
                g_assert_cmpint(sd_event_run(rig.event, 10 * G_USEC_PER_SEC), >, 0);

        g_assert_cmpuint(job_pool_get_waiting(rig.pool), ==, 0);
        job_pool_get_waits(rig.pool, &waits);
        g_assert_cmpuint(histogram_count(&waits), ==, 1 + N_JOBS + ARRAY_SIZE(few));
        for (unsigned i = 0; i < ARRAY_SIZE(few); i++)
                g_assert_cmpuint(few[i].place, <=, 1 + ARRAY_SIZE(few));
        for (unsigned i = 1; i < N_JOBS; i++)
                g_assert_cmpuint(many[i].place, >, many[i - 1].place);

        rig_down(&rig);
}

/* Writes come to their turn among their owner's many reads, and the other way round. */
static void test_kinds_take_turns(void) {
        static struct numbered jobs[2 * N_JOBS];

        for (unsigned is_write = 0; is_write < 2; is_write++) {
                struct job first = { .run = wait_at_gate, .done = done, .owner = 1000 };
                struct rig rig;

                rig_up(&rig, 1);

                first.mailbox = rig.mailbox;
                job_submit(rig.pool, &first);
                for (unsigned i = 0; i < N_JOBS + 3; i++) {
                        jobs[i].job = (struct job){ .run = run,
                                                    .done = done,
                                                    .mailbox = rig.mailbox,
                                                    .owner = 1000,
                                                    .is_write = (i >= N_JOBS) == is_write };
                        job_submit(rig.pool, &jobs[i].job);
                }

                assert_ok(sem_post(&gate));
                while (n_done < 1 + N_JOBS + 3)
                        g_assert_cmpint(sd_event_run(rig.event, 10 * G_USEC_PER_SEC), >, 0);
                for (unsigned i = 0; i < 3; i++)
                        g_assert_cmpuint(jobs[N_JOBS + i].place, <=, 2 * (i + 1));

                rig_down(&rig);
        }
}

/* However many of a kind block, the other has a thread. */
static void test_a_thread_for_each_kind(void) {
        static struct numbered blocking[N_JOBS], other;

        for (unsigned is_write = 0; is_write < 2; is_write++) {
                struct rig rig;

                rig_up(&rig, 4);

                for (unsigned i = 0; i < N_JOBS; i++) {
                        blocking[i].job = (struct job){ .run = wait_at_gate,
                                                        .done = done,
                                                        .mailbox = rig.mailbox,
                                                        .owner = 1000 + i,
                                                        .is_write = is_write };
                        job_submit(rig.pool, &blocking[i].job);
                }
                other.job = (struct job){
                        .run = run, .done = done, .mailbox = rig.mailbox, .owner = 1000, .is_write = !is_write
                };
                job_submit(rig.pool, &other.job);
                g_assert_cmpint(sd_event_run(rig.event, 60 * G_USEC_PER_SEC), >, 0);
                g_assert_cmpuint(n_done, ==, 1);
                g_assert_cmpuint(other.place, ==, 1);

                for (unsigned i = 0; i < N_JOBS; i++)
                        assert_ok(sem_post(&gate));
                while (n_done < 1 + N_JOBS)
                        g_assert_cmpint(sd_event_run(rig.event, 10 * G_USEC_PER_SEC), >, 0);
                rig_down(&rig);
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/job/turns", test_turns);
        harness_add("/job/kinds-take-turns", test_kinds_take_turns);
        harness_add("/job/a-thread-for-each-kind", test_a_thread_for_each_kind);
        return g_test_run();
}
