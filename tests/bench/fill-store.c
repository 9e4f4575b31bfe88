/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* fill-store [-f ONE_IN] [-m MEDIAN] [-p PREFIX] [-t MSEC] DIRECTORY COUNT [FIRST]: puts COUNT objects into a
 * store that no daemon has open, for tests and benchmarks that need many. Prints how many a second.
 *
 * Object i has the URI PREFIX ("fill/") with i in ten digits, and as its body that URI and a line feed, over and
 * over, cut at its size. Sizes are spread like a web cache's, log-normal with a sigma of 1.5, but about a
 * smaller median (400 bytes), and what would be too large for the dictionary is cut to fit in, but for each
 * ONE_IN-th object (100; 0: none), which is a file of up to 16 MiB. -t: the objects' time to live. */

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "macro.h"
#include "storage.h"

#define WINDOW          4096 /* changes under way */
#define SIGMA           1.5
#define SIZE_MAX_INLINE 2000
#define SIZE_MAX_FILE   (16U << 20)
#define URI_SPACE       256

struct fill {
        struct storage *storage;
        const char *prefix;
        double median;
        uint64_t one_in, ttl_msec;

        pthread_mutex_t mutex;
        pthread_cond_t wake;
        struct item *free;
        size_t n_busy;
        int error;
};

struct item {
        struct fill *fill;
        struct item *next;
        struct storage_change change;
        char uri[URI_SPACE];
};

/* Numbers that look random, the same in every run (splitmix64). */
static uint64_t scramble(uint64_t i) {
        i = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
        i = (i ^ i >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        i = (i ^ i >> 27) * UINT64_C(0x94d049bb133111eb);
        return i ^ i >> 31;
}

static size_t size_of(const struct fill *fill, uint64_t i) {
        double u = ((double) (scramble(2 * i) >> 11) + 1) / 0x1p53,
               v = (double) (scramble(2 * i + 1) >> 11) / 0x1p53;
        double size = fill->median * exp(SIGMA * sqrt(-2 * log(u)) * cos(2 * M_PI * v));
        double most = fill->one_in > 0 && i % fill->one_in == 0 ? SIZE_MAX_FILE : SIZE_MAX_INLINE;

        return (size_t) MIN(size, most);
}

static int make_upload(struct fill *fill, const char *uri, size_t size, struct storage_upload **ret) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        size_t line = strlen(uri) + 1;
        char buffer[SIZE_MAX_INLINE + URI_SPACE];
        size_t whole = MAX((size_t) SIZE_MAX_INLINE / line, (size_t) 1) * line;
        int r;

        for (size_t at = 0; at < whole; at += line) {
                memcpy(buffer + at, uri, line - 1);
                buffer[at + line - 1] = '\n';
        }

        r = storage_upload_new(fill->storage, size, &upload);
        for (size_t done = 0; r >= 0 && done < size; done += whole)
                r = storage_upload_write(upload, buffer, MIN(size - done, whole));
        if (r >= 0)
                r = storage_upload_finish(upload);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(upload);
        return 0;
}

static void on_done(struct storage_change *change) {
        struct item *item = change->userdata;
        struct fill *fill = item->fill;

        storage_upload_free(change->upload);
        (void) pthread_mutex_lock(&fill->mutex);
        if (change->result < 0)
                __atomic_store_n(&fill->error, change->result, __ATOMIC_RELAXED);
        item->next = fill->free;
        fill->free = item;
        fill->n_busy--;
        (void) pthread_cond_signal(&fill->wake);
        (void) pthread_mutex_unlock(&fill->mutex);
}

static struct item *take_item(struct fill *fill) {
        struct item *item;

        (void) pthread_mutex_lock(&fill->mutex);
        while (!fill->free)
                (void) pthread_cond_wait(&fill->wake, &fill->mutex);
        item = fill->free;
        fill->free = item->next;
        fill->n_busy++;
        (void) pthread_mutex_unlock(&fill->mutex);

        return item;
}

static int put(struct fill *fill, uint64_t i) {
        struct item *item = take_item(fill);

        (void) snprintf(item->uri, sizeof(item->uri), "%s%010llu", fill->prefix, (unsigned long long) i);
        item->change = (struct storage_change){
                .kind = STORAGE_PUT,
                .uri = item->uri,
                .uri_size = strlen(item->uri),
                .ttl_msec = fill->ttl_msec,
                .done = on_done,
                .userdata = item,
        };
        item->change.result = make_upload(fill, item->uri, size_of(fill, i), &item->change.upload);
        if (item->change.result < 0)
                on_done(&item->change);
        else
                storage_submit(fill->storage, &item->change);

        return __atomic_load_n(&fill->error, __ATOMIC_RELAXED);
}

static int fill_store(struct fill *fill, uint64_t first, uint64_t count) {
        _cleanup_free_ struct item *items = calloc(WINDOW, sizeof(*items));
        int r = 0;

        if (!items)
                return -ENOMEM;

        for (size_t i = 0; i < WINDOW; i++) {
                items[i] = (struct item){ .fill = fill, .next = fill->free };
                fill->free = &items[i];
        }

        for (uint64_t i = first; r >= 0 && i < first + count; i++)
                r = put(fill, i);

        (void) pthread_mutex_lock(&fill->mutex);
        while (fill->n_busy > 0)
                (void) pthread_cond_wait(&fill->wake, &fill->mutex);
        (void) pthread_mutex_unlock(&fill->mutex);

        return fill->error;
}

static int usage(void) {
        (void) fprintf(stderr, "usage: fill-store [-f ONE_IN] [-m MEDIAN] [-p PREFIX] [-t MSEC] DIRECTORY "
                               "COUNT [FIRST]\n");
        return 2;
}

int main(int argc, char *argv[]) {
        struct fill fill = {
                .prefix = "fill/",
                .median = 400,
                .one_in = 100,
                .mutex = PTHREAD_MUTEX_INITIALIZER,
                .wake = PTHREAD_COND_INITIALIZER,
        };
        uint64_t count, first, begin_usec, took_usec;
        int option, r;

        while ((option = getopt(argc, argv, "f:m:p:t:")) >= 0)
                switch (option) {
                case 'f':
                        fill.one_in = strtoull(optarg, NULL, 10);
                        break;
                case 'm':
                        fill.median = strtod(optarg, NULL);
                        break;
                case 'p':
                        fill.prefix = optarg;
                        break;
                case 't':
                        fill.ttl_msec = strtoull(optarg, NULL, 10);
                        break;
                default:
                        return usage();
                }
        if (argc - optind < 2 || argc - optind > 3 || strlen(fill.prefix) > URI_SPACE - 24)
                return usage();

        count = strtoull(argv[optind + 1], NULL, 10);
        first = argc - optind > 2 ? strtoull(argv[optind + 2], NULL, 10) : 0;
        r = storage_init(&fill.storage, &(struct storage_config){ .directory = argv[optind],
                                                                  .inline_max = SIZE_MAX,
                                                                  .expired_keep_usec = UINT64_MAX });
        if (r >= 0) {
                begin_usec = clock_usec(CLOCK_MONOTONIC);
                r = fill_store(&fill, first, count);
                storage_cleanup(fill.storage);
                took_usec = clock_usec(CLOCK_MONOTONIC) - begin_usec;
        }
        if (r < 0) {
                (void) fprintf(stderr, "fill-store: %s\n", strerror(-r));
                return 1;
        }

        printf("%.0f\n", (double) count * USEC_PER_SEC / (double) MAX(took_usec, UINT64_C(1)));
        return 0;
}
