/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resident.h"

#include <assert.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "background.h"
#include "clock.h"
#include "macro.h"

#define STEP            ((size_t) 2 << 20) /* bytes looked at in one call */
#define SIZE_AT_ONCE    (128 * STEP)       /* ... and to be looked at before anybody asks */
#define REST_USEC       (250 * USEC_PER_MSEC)
#define REST_SHARE      100  /* times as long as measuring took */
#define SPARED_SHARE    1024 /* a part in so many may be missing */
#define SLOW_USEC       100  /* a read that took so long may have waited for a disk */
#define FETCH_STEP      ((size_t) 1 << 20)
#define FETCH_MAX       (UINT64_C(256) << 20)
#define FETCH_REST_USEC USEC_PER_SEC
#define DOUBT_USEC      (2 * USEC_PER_SEC)
#define DOUBT_USEC_MAX  (300 * USEC_PER_SEC)

struct resident {
        struct dictionary *dictionary;
        size_t page_size;
        struct background background;
        bool is_resident;                     /* atomic */
        bool is_asked;                        /* atomic, set under the background's mutex */
        uint64_t fetch_usec, fetch_rest_usec; /* the thread's own: when pages may be asked for again */
        uint64_t until_usec; /* atomic: CLOCK_MONOTONIC until which measurements don't count */
        uint64_t doubt_usec; /* atomic: for how long that is the next time */
        uint8_t pages[];     /* of a step */
};

/* How many of the pages from map on are in memory. */
static size_t count_pages(struct resident *resident, uint8_t *map, size_t size) {
        size_t page_size = resident->page_size, n = 0;

        for (size_t at = 0; at < size && !background_is_stopped(&resident->background); at += STEP) {
                size_t step = MIN(STEP, size - at);

                if (mincore(map + at, step, resident->pages) < 0)
                        return 0;
                for (size_t i = 0; i < (step + page_size - 1) / page_size; i++)
                        n += resident->pages[i] & 1;
        }

        return n;
}

/* What is missing is little: it is read ahead of those who will want it. What does not stay is not asked for again and
 * again. */
static void fetch(struct resident *resident, uint8_t *map, size_t size, uint64_t used, uint64_t present) {
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);

        if (used - present > FETCH_MAX || now_usec < resident->fetch_usec)
                return;

        /* The kernel reads no more than so much ahead at once. */
        for (size_t at = 0; at < size && !background_is_stopped(&resident->background); at += FETCH_STEP)
                (void) madvise(map + at, MIN(FETCH_STEP, size - at), MADV_WILLNEED);
        resident->fetch_usec = now_usec + resident->fetch_rest_usec;
        resident->fetch_rest_usec = MIN(2 * resident->fetch_rest_usec, DOUBT_USEC_MAX);
}

/* A file of at most size_max bytes. */
static bool measure(struct resident *resident, size_t size_max) {
        size_t size = 0, present = 0;
        bool is_resident;
        uint64_t used;
        MDB_txn *txn;
        void *map;
        int fd;

        if (dictionary_used(resident->dictionary, &used) < 0 ||
            dictionary_read_begin(resident->dictionary, &txn) < 0)
                return false;

        /* A map of its own, which nothing else moves. */
        map = MAP_FAILED;
        if (dictionary_get_file(resident->dictionary, &fd, &size) >= 0 && size <= size_max)
                map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        dictionary_read_end(resident->dictionary, txn);
        if (map == MAP_FAILED)
                return false;

        /* Pages that are free need not be there: so as many as are used have to be. */
        present = count_pages(resident, map, size) * resident->page_size;
        is_resident = present >= used - used / SPARED_SHARE;
        if (is_resident)
                resident->fetch_rest_usec = FETCH_REST_USEC;
        else if (size_max == SIZE_MAX) /* somebody asked */
                fetch(resident, map, size, used, present);
        (void) munmap(map, size);

        return is_resident;
}

static void wait_until_asked(struct resident *resident) {
        struct background *background = &resident->background;

        (void) pthread_mutex_lock(&background->mutex);
        while (!background->stop && !resident->is_asked)
                (void) pthread_cond_wait(&background->wake, &background->mutex);
        __atomic_store_n(&resident->is_asked, false, __ATOMIC_RELAXED);
        (void) pthread_mutex_unlock(&background->mutex);
}

static void run(void *userdata) {
        struct resident *resident = userdata;
        struct background *background = &resident->background;

        for (;;) {
                uint64_t begun_usec, ended_usec, rest_usec;
                bool is_resident;

                wait_until_asked(resident);
                if (background_is_stopped(background))
                        return;

                begun_usec = clock_usec(CLOCK_MONOTONIC);
                is_resident = measure(resident, SIZE_MAX);
                ended_usec = clock_usec(CLOCK_MONOTONIC);
                __atomic_store_n(&resident->is_resident,
                                 is_resident && ended_usec >= __atomic_load_n(&resident->until_usec,
                                                                              __ATOMIC_RELAXED),
                                 __ATOMIC_RELAXED);

                rest_usec = REST_SHARE * (ended_usec - begun_usec);
                background_rest(background, MAX(rest_usec, REST_USEC));
        }
}

bool resident_is(struct resident *resident) {
        struct background *background = &resident->background;

        if (!__atomic_load_n(&resident->is_asked, __ATOMIC_RELAXED)) {
                (void) pthread_mutex_lock(&background->mutex);
                __atomic_store_n(&resident->is_asked, true, __ATOMIC_RELAXED);
                (void) pthread_cond_signal(&background->wake);
                (void) pthread_mutex_unlock(&background->mutex);
        }

        return __atomic_load_n(&resident->is_resident, __ATOMIC_RELAXED);
}

/* Faults of this thread that waited for a disk. */
static long count_faults(void) {
        struct rusage usage;

        return getrusage(RUSAGE_THREAD, &usage) < 0 ? -1 : usage.ru_majflt;
}

/* As they were counted last; -1: not yet. */
static __thread long faults = -1;

uint64_t resident_begin(void) {
        if (faults < 0)
                faults = count_faults();

        return clock_usec(CLOCK_MONOTONIC);
}

static bool has_faulted(void) {
        long before = faults;

        faults = count_faults();
        return faults != before;
}

void resident_end(struct resident *resident, uint64_t begun) {
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC), doubt_usec;

        if (now_usec - begun < SLOW_USEC || !has_faulted())
                return;

        /* Doubts that come soon after each other last longer and longer. */
        doubt_usec = __atomic_load_n(&resident->doubt_usec, __ATOMIC_RELAXED);
        if (now_usec > __atomic_load_n(&resident->until_usec, __ATOMIC_RELAXED) + DOUBT_USEC_MAX)
                doubt_usec = DOUBT_USEC;
        __atomic_store_n(&resident->until_usec, now_usec + doubt_usec, __ATOMIC_RELAXED);
        __atomic_store_n(&resident->doubt_usec, MIN(2 * doubt_usec, DOUBT_USEC_MAX), __ATOMIC_RELAXED);
        __atomic_store_n(&resident->is_resident, false, __ATOMIC_RELAXED);
}

int resident_new(struct resident **ret, struct dictionary *dictionary) {
        size_t page_size = (size_t) sysconf(_SC_PAGESIZE);
        struct resident *resident = malloc(sizeof(*resident) + STEP / page_size);
        int r;

        assert(ret);

        if (!resident)
                return -ENOMEM;

        *resident = (struct resident){
                .dictionary = dictionary,
                .page_size = page_size,
                .doubt_usec = DOUBT_USEC,
                .fetch_rest_usec = FETCH_REST_USEC,
        };
        resident->is_resident = measure(resident, SIZE_AT_ONCE);
        r = background_start(&resident->background, "resident", run, resident);
        if (r < 0) {
                free(resident);
                return r;
        }

        *ret = resident;
        return 0;
}

void resident_free(struct resident *resident) {
        background_stop(&resident->background);
        free(resident);
}
