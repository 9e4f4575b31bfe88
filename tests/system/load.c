/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* load RATE: gets in every mode and puts, each kind from a client of its own, RATE requests a second of each,
 * until standard input ends; a byte of it asks how many requests there were so far. Each body says what it has to
 * be. Tells at the end how many requests there were, how many failed, how many bodies were wrong, and how long the
 * longest request took. */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "macro.h"
#include "objmapper.h"

#define OBJECTS 64
#define KINDS   5 /* a get in each mode, and the put */

/* Small enough for the dictionary, for an answer in memory, and for neither. */
static const size_t sizes[] = { 1000, 12000, 150000 };
#define SIZE_MAX_WORDS (150000 / sizeof(uint64_t))

static bool stop; /* atomic */
static uint64_t interval_usec;

struct kind {
        pthread_t thread;
        enum objmapper_mode mode; /* 0: puts */
        uint64_t n;               /* atomic */
        uint64_t n_failed, n_wrong, longest_usec;
};

/* What word i of an object's body is: all of it follows from the first two words, number and version. */
static uint64_t word_of(uint64_t number, uint64_t version, size_t i) {
        return i == 0   ? number
               : i == 1 ? version
                        : (number * 64 + version + i) * UINT64_C(0x9e3779b97f4a7c15);
}

static size_t words_of(uint64_t version) {
        return sizes[version % ARRAY_SIZE(sizes)] / sizeof(uint64_t);
}

static bool is_right(objmapper_object *object, uint64_t number) {
        const uint64_t *words;
        const void *data;
        size_t size;

        if (objmapper_object_get_data(object, &data, &size) < 0 || size < 2 * sizeof(uint64_t))
                return false;

        words = data;
        if (words[0] != number || size != words_of(words[1]) * sizeof(uint64_t))
                return false;
        for (size_t i = 2; i < size / sizeof(uint64_t); i++)
                if (words[i] != word_of(number, words[1], i))
                        return false;

        return true;
}

static int put(objmapper_client *client, uint64_t number, uint64_t version) {
        uint64_t words[SIZE_MAX_WORDS];
        char uri[32];

        (void) snprintf(uri, sizeof(uri), "load/%u", (unsigned) number);
        for (size_t i = 0; i < words_of(version); i++)
                words[i] = word_of(number, version, i);

        return objmapper_put(client, uri, words, words_of(version) * sizeof(uint64_t), NULL);
}

static void *run(void *userdata) {
        struct kind *kind = userdata;
        objmapper_client *client;
        unsigned seed = (unsigned) kind->mode;

        if (objmapper_client_new(&client) < 0 ||
            (kind->mode != 0 && objmapper_client_set_mode(client, kind->mode) < 0))
                errx(1, "there can be no client");

        for (uint64_t next_usec = clock_usec(CLOCK_MONOTONIC); !__atomic_load_n(&stop, __ATOMIC_RELAXED);) {
                uint64_t number = (uint64_t) rand_r(&seed) % OBJECTS, began_usec, took_usec;
                objmapper_object *object = NULL;
                char uri[32];
                int r;

                (void) snprintf(uri, sizeof(uri), "load/%u", (unsigned) number);
                began_usec = clock_usec(CLOCK_MONOTONIC);
                r = kind->mode == 0 ? put(client, number, kind->n) : objmapper_get(client, uri, &object);
                took_usec = clock_usec(CLOCK_MONOTONIC) - began_usec;

                (void) __atomic_add_fetch(&kind->n, 1, __ATOMIC_RELAXED);
                kind->longest_usec = MAX(kind->longest_usec, took_usec);
                if (r < 0) {
                        kind->n_failed++;
                        warnx("%s of %s: %s", kind->mode == 0 ? "put" : "get", uri,
                              objmapper_client_error(client));
                } else if (object && !is_right(object, number)) {
                        kind->n_wrong++;
                        warnx("%s has wrong bytes", uri);
                }
                objmapper_object_free(object);

                /* What was late is made up for: the load stays what it is over a restart. */
                next_usec += interval_usec;
                if (next_usec > began_usec + took_usec)
                        (void) usleep((useconds_t) (next_usec - began_usec - took_usec));
        }

        objmapper_client_close(client);
        return NULL;
}

static void answer(const struct kind *kinds) {
        uint64_t n = 0;

        for (size_t i = 0; i < KINDS; i++)
                n += __atomic_load_n(&kinds[i].n, __ATOMIC_RELAXED);
        (void) printf("%llu so far\n", (unsigned long long) n);
        (void) fflush(stdout);
}

int main(int argc, char *argv[]) {
        static const enum objmapper_mode modes[KINDS] = { OBJMAPPER_FDPASS, OBJMAPPER_COPY, OBJMAPPER_SPLICE,
                                                          OBJMAPPER_AUTO };
        struct kind kinds[KINDS] = {}, sum = {};
        uint64_t began_usec, took_usec;
        objmapper_client *client;
        char byte;

        if (argc != 2 || atoi(argv[1]) <= 0)
                errx(2, "usage: %s RATE", argv[0]);
        interval_usec = USEC_PER_SEC / (uint64_t) atoi(argv[1]);

        if (objmapper_client_new(&client) < 0)
                errx(1, "there can be no client");
        for (uint64_t i = 0; i < OBJECTS; i++)
                if (put(client, i, i) < 0)
                        errx(1, "%s", objmapper_client_error(client));
        objmapper_client_close(client);

        began_usec = clock_usec(CLOCK_MONOTONIC);
        for (size_t i = 0; i < KINDS; i++) {
                kinds[i].mode = modes[i];
                if (pthread_create(&kinds[i].thread, NULL, run, &kinds[i]) != 0)
                        errx(1, "there can be no thread");
        }
        (void) printf("started\n");
        (void) fflush(stdout);

        while (read(STDIN_FILENO, &byte, 1) > 0)
                answer(kinds);
        __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
        for (size_t i = 0; i < KINDS; i++) {
                (void) pthread_join(kinds[i].thread, NULL);
                sum.n += kinds[i].n;
                sum.n_failed += kinds[i].n_failed;
                sum.n_wrong += kinds[i].n_wrong;
                sum.longest_usec = MAX(sum.longest_usec, kinds[i].longest_usec);
        }
        took_usec = clock_usec(CLOCK_MONOTONIC) - began_usec;

        (void) printf("%llu requests, %llu puts, %llu failed, %llu wrong, longest %llu ms, %llu a second\n",
                      (unsigned long long) sum.n, (unsigned long long) kinds[KINDS - 1].n,
                      (unsigned long long) sum.n_failed, (unsigned long long) sum.n_wrong,
                      (unsigned long long) (sum.longest_usec / USEC_PER_MSEC),
                      (unsigned long long) (sum.n * USEC_PER_SEC / took_usec));
        return sum.n_failed > 0 || sum.n_wrong > 0 ? 1 : 0;
}
