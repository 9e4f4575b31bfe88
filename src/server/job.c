/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "macro.h"

struct job_pool {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct job *first, **last;
        bool stop;
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

static void *work(void *userdata) {
        struct job_pool *pool = userdata;

        (void) pthread_mutex_lock(&pool->lock);
        for (;;) {
                struct job *job = pool->first;

                if (!job) {
                        if (pool->stop)
                                break;
                        (void) pthread_cond_wait(&pool->wake, &pool->lock);
                        continue;
                }

                pool->first = job->next;
                if (!pool->first)
                        pool->last = &pool->first;

                (void) pthread_mutex_unlock(&pool->lock);
                run(job);
                (void) pthread_mutex_lock(&pool->lock);
        }
        (void) pthread_mutex_unlock(&pool->lock);

        return NULL;
}

int job_pool_new(struct job_pool **ret, unsigned n_threads) {
        _cleanup_(job_pool_freep) struct job_pool *pool = NULL;
        sigset_t all, before;
        int r = 0;

        assert(ret);

        pool = calloc(1, sizeof(*pool) + n_threads * sizeof(pool->threads[0]));
        if (!pool)
                return -ENOMEM;

        pool->last = &pool->first;
        (void) pthread_mutex_init(&pool->lock, NULL);
        (void) pthread_cond_init(&pool->wake, NULL);

        /* Signals are for the main thread's loop. */
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        while (r == 0 && pool->n_threads < n_threads) {
                r = pthread_create(&pool->threads[pool->n_threads], NULL, work, pool);
                if (r == 0)
                        pool->n_threads++;
        }
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r != 0)
                return -r;

        *ret = TAKE_PTR(pool);
        return 0;
}

void job_submit(struct job_pool *pool, struct job *job) {
        assert(job->run && job->done && job->mailbox);

        job->mail.deliver = deliver;
        job->next = NULL;

        if (pool->n_threads == 0) {
                run(job);
                return;
        }

        (void) pthread_mutex_lock(&pool->lock);
        *pool->last = job;
        pool->last = &job->next;
        (void) pthread_cond_signal(&pool->wake);
        (void) pthread_mutex_unlock(&pool->lock);
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
