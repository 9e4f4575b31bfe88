/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gets SOCKET PREFIX COUNT SESSIONS INTERVAL_USEC MSEC: what gets take that come at a steady pace, whatever those
 * before them took: so long after each was due it was answered, in nanoseconds, as JSON. Each session has a
 * thread, which gets one object after the other, each at random out of the COUNT named PREFIX and a number of ten
 * digits (as fill-store names them); one that is absent is an answer too. */
#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "objmapper.h"

#define NSEC_PER_SEC UINT64_C(1000000000)

struct session {
        pthread_t thread;
        const char *socket, *prefix;
        uint64_t count, begin, interval, n, seed;
        uint64_t *took;
};

static uint64_t now_nsec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * NSEC_PER_SEC + (uint64_t) ts.tv_nsec;
}

static void wait_until(uint64_t nsec) {
        struct timespec ts = { .tv_sec = (time_t) (nsec / NSEC_PER_SEC),
                               .tv_nsec = (long) (nsec % NSEC_PER_SEC) };

        (void) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void get(objmapper_client *client, const char *uri) {
        objmapper_request *request;
        objmapper_object *object = NULL;
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_GET, uri, strlen(uri));
        if (r >= 0)
                r = objmapper_client_call(client, request, &object);
        if (r < 0 && r != -ENOENT)
                errx(1, "%s: %s", uri, objmapper_client_error(client));
        objmapper_object_free(object);
        objmapper_request_free(request);
}

static void *run(void *userdata) {
        struct session *session = userdata;
        objmapper_client *client;
        char uri[256];
        int r;

        r = objmapper_client_connect(&client, session->socket, OBJMAPPER_AUTO);
        if (r < 0)
                errx(1, "%s: %s", session->socket, strerror(-r));

        for (uint64_t i = 0; i < session->n; i++) {
                uint64_t due = session->begin + i * session->interval;

                session->seed = session->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
                (void) snprintf(uri, sizeof(uri), "%s%010llu", session->prefix,
                                (unsigned long long) ((session->seed >> 20) % session->count));
                wait_until(due);
                get(client, uri);
                session->took[i] = now_nsec() - due;
        }

        objmapper_client_close(client);
        return NULL;
}

static int compare(const void *a, const void *b) {
        const uint64_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

int main(int argc, char *argv[]) {
        _cleanup_free_ struct session *sessions = NULL;
        _cleanup_free_ uint64_t *took = NULL;
        uint64_t n_sessions, interval, n, all, begin;

        if (argc != 7)
                errx(2, "usage: %s SOCKET PREFIX COUNT SESSIONS INTERVAL_USEC MSEC", argv[0]);
        n_sessions = strtoull(argv[4], NULL, 10);
        interval = strtoull(argv[5], NULL, 10) * 1000;
        n = strtoull(argv[6], NULL, 10) * 1000000 / interval;
        all = n * n_sessions;
        sessions = calloc(n_sessions, sizeof(*sessions));
        took = calloc(all, sizeof(*took));
        if (!sessions || !took || all == 0)
                errx(1, "can't measure %s sessions for %s ms", argv[4], argv[6]);

        begin = now_nsec() + NSEC_PER_SEC / 10;
        for (uint64_t i = 0; i < n_sessions; i++) {
                sessions[i] = (struct session){
                        .socket = argv[1],
                        .prefix = argv[2],
                        .count = strtoull(argv[3], NULL, 10),
                        .begin = begin + i * interval / n_sessions,
                        .interval = interval,
                        .n = n,
                        .seed = begin + i,
                        .took = took + i * n,
                };
                if (pthread_create(&sessions[i].thread, NULL, run, &sessions[i]) != 0)
                        errx(1, "can't start a thread");
        }
        for (uint64_t i = 0; i < n_sessions; i++)
                (void) pthread_join(sessions[i].thread, NULL);

        qsort(took, all, sizeof(*took), compare);
        printf("{\"n\": %llu, \"p50\": %llu, \"p99\": %llu, \"max\": %llu}\n", (unsigned long long) all,
               (unsigned long long) took[all / 2], (unsigned long long) took[all * 99 / 100],
               (unsigned long long) took[all - 1]);
        return 0;
}
