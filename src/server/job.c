/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job.h"

#include <assert.h>
#include <pthread.h>

#include "clock.h"
#include "macro.h"
#include "thread.h"

#define QUEUES 64 /* bits of job_pool.waiting; the odd ones are of writes */
#define WRITES UINT64_C(0xaaaaaaaaaaaaaaaa)

struct queue {
        struct job *first, *last;
};

struct job_pool {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct queue queues[QUEUES]; /* those of an owner, and of those that share its place, in order */
        uint64_t waiting;            /* the queues that are not empty */
        unsigned turn;               /* the queue that is looked at next */
        unsigned n_running[2];       /* those of each kind */
        unsigned n_waiting;          /* atomic, for who only counts them */
        struct histogram waits;
        bool stop;
        int nice;
        unsigned n_threads;
        pthread_t threads[];
};

static void deliver(struct mail *mail) {
        struct job *job = container_of(mail, struct job, mail);

        job->done(job);
}

static void run(struct job *job) {
        job->run(job);
        mailbox_post(job->mailbox, &job->mail);
}

static bool may_run(const struct job_pool *pool, bool is_write) {
        return pool->n_threads < 3 || pool->n_running[is_write] < pool->n_threads - 1;
}

static struct job *take(struct job_pool *pool) {
        uint64_t waiting = pool->waiting, later;
        struct queue *queue;
        struct job *job;
        unsigned i;

        if (waiting != 0 && !may_run(pool, true))
                waiting &= ~WRITES;
        if (waiting != 0 && !may_run(pool, false))
                waiting &= WRITES;
        if (waiting == 0)
                return NULL;

        later = waiting & (UINT64_MAX << pool->turn);
        i = (unsigned) __builtin_ctzll(later != 0 ? later : waiting);
        pool->turn = (i + 1) % QUEUES;

        queue = &pool->queues[i];
        job = queue->first;
        queue->first = job->next;
        if (!queue->first)
                pool->waiting &= ~(UINT64_C(1) << i);
        __atomic_store_n(&pool->n_waiting, pool->n_waiting - 1, __ATOMIC_RELAXED);
        return job;
}

static void *work(void *userdata) {
        struct job_pool *pool = userdata;

        if (pool->nice != 0)
                thread_come_last(pool->nice, 0);

        (void) pthread_mutex_lock(&pool->lock);
        for (;;) {
                struct job *job = take(pool);
                bool is_write;

                if (!job) {
                        if (pool->stop)
                                break;
                        (void) pthread_cond_wait(&pool->wake, &pool->lock);
                        continue;
                }

                histogram_add(&pool->waits, clock_usec(CLOCK_MONOTONIC) - job->submitted_usec, 1);
                is_write = job->is_write;
                pool->n_running[is_write]++;
                (void) pthread_mutex_unlock(&pool->lock);
                run(job);
                (void) pthread_mutex_lock(&pool->lock);
                pool->n_running[is_write]--;
        }
        (void) pthread_mutex_unlock(&pool->lock);

        return NULL;
}

int job_pool_new(struct job_pool **ret, unsigned n_threads, int nice) {
        _cleanup_(job_pool_freep) struct job_pool *pool = NULL;
        int r;

        assert(ret);

        pool = calloc(1, sizeof(*pool) + n_threads * sizeof(pool->threads[0]));
        if (!pool)
                return -ENOMEM;

        (void) pthread_mutex_init(&pool->lock, NULL);
        (void) pthread_cond_init(&pool->wake, NULL);
        pool->nice = nice;

        while (pool->n_threads < n_threads) {
                r = thread_start(&pool->threads[pool->n_threads], nice == 0 ? "job" : "bulk-job", work, pool);
                if (r < 0)
                        return r;
                pool->n_threads++;
        }

        *ret = TAKE_PTR(pool);
        return 0;
}

void job_submit(struct job_pool *pool, struct job *job) {
        unsigned i = job->owner % (QUEUES / 2) * 2 + job->is_write;
        struct queue *queue = &pool->queues[i];

        assert(job->run && job->done && job->mailbox);

        job->mail.deliver = deliver;
        job->next = NULL;
        job->submitted_usec = clock_usec(CLOCK_MONOTONIC);

        if (pool->n_threads == 0) {
                run(job);
                return;
        }

        (void) pthread_mutex_lock(&pool->lock);
        if (queue->first)
                queue->last->next = job;
        else
                queue->first = job;
        queue->last = job;
        pool->waiting |= UINT64_C(1) << i;
        __atomic_store_n(&pool->n_waiting, pool->n_waiting + 1, __ATOMIC_RELAXED);
        (void) pthread_cond_signal(&pool->wake);
        (void) pthread_mutex_unlock(&pool->lock);
}

void job_pool_get_waits(struct job_pool *pool, struct histogram *ret) {
        *ret = (struct histogram){};
        histogram_merge(ret, &pool->waits);
}

unsigned job_pool_get_waiting(struct job_pool *pool) {
        return __atomic_load_n(&pool->n_waiting, __ATOMIC_RELAXED);
}

void job_pool_free(struct job_pool *pool) {
        if (!pool)
                return;

        (void) pthread_mutex_lock(&pool->lock);
        pool->stop = true;
        (void) pthread_cond_broadcast(&pool->wake);
        (void) pthread_mutex_unlock(&pool->lock);

        for (unsigned i = 0; i < pool->n_threads; i++)
                (void) pthread_join(pool->threads[i], NULL);

        (void) pthread_cond_destroy(&pool->wake);
        (void) pthread_mutex_destroy(&pool->lock);
        free(pool);
}
