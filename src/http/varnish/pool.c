/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

/* More are only needed in a burst of misses. */
#define IDLE_MAX 64

struct pool {
        pthread_mutex_t mutex;
        char *reader, *publisher;
        uint64_t timeout_usec;
        size_t n_idle;
        objmapper_client *idle[IDLE_MAX];
};

static int new_client(const struct pool *pool, objmapper_client **ret) {
        objmapper_client *client;
        int r;

        r = objmapper_client_new(&client);
        if (r < 0)
                return r;
        r = objmapper_client_set_sockets(client, pool->reader, pool->publisher);
        if (r < 0) {
                objmapper_client_close(client);
                return r;
        }
        objmapper_client_set_timeout(client, pool->timeout_usec);

        *ret = client;
        return 0;
}

int pool_new(struct pool **ret, const char *reader, const char *publisher, uint64_t timeout_usec) {
        struct pool *pool;
        int r;

        pool = calloc(1, sizeof(*pool));
        if (!pool)
                return -ENOMEM;
        (void) pthread_mutex_init(&pool->mutex, NULL);
        pool->timeout_usec = timeout_usec;
        pool->reader = strdup(reader);
        pool->publisher = strdup(publisher);
        r = pool->reader && pool->publisher ? new_client(pool, &pool->idle[0]) : -ENOMEM;
        if (r < 0) {
                pool_free(pool);
                return r;
        }

        pool->n_idle = 1;
        *ret = pool;
        return 0;
}

void pool_free(struct pool *pool) {
        if (!pool)
                return;
        pool_drain(pool);
        (void) pthread_mutex_destroy(&pool->mutex);
        free(pool->reader);
        free(pool->publisher);
        free(pool);
}

int pool_take(struct pool *pool, objmapper_client **ret) {
        objmapper_client *client = NULL;

        (void) pthread_mutex_lock(&pool->mutex);
        if (pool->n_idle > 0)
                client = pool->idle[--pool->n_idle];
        (void) pthread_mutex_unlock(&pool->mutex);

        if (!client)
                return new_client(pool, ret);
        *ret = client;
        return 0;
}

void pool_give(struct pool *pool, objmapper_client *client, int broken) {
        assert(client);

        if (!broken) {
                (void) pthread_mutex_lock(&pool->mutex);
                if (pool->n_idle < IDLE_MAX) {
                        pool->idle[pool->n_idle++] = client;
                        client = NULL;
                }
                (void) pthread_mutex_unlock(&pool->mutex);
        }

        objmapper_client_close(client);
}

void pool_drain(struct pool *pool) {
        objmapper_client *idle[IDLE_MAX];
        size_t n;

        (void) pthread_mutex_lock(&pool->mutex);
        n = pool->n_idle;
        memcpy(idle, pool->idle, n * sizeof(idle[0]));
        pool->n_idle = 0;
        (void) pthread_mutex_unlock(&pool->mutex);

        while (n > 0)
                objmapper_client_close(idle[--n]);
}

size_t pool_get_idle(struct pool *pool) {
        size_t n;

        (void) pthread_mutex_lock(&pool->mutex);
        n = pool->n_idle;
        (void) pthread_mutex_unlock(&pool->mutex);

        return n;
}
