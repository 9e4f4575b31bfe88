/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of the store share. */

#include <pthread.h>
#include <string.h>

#include "account.h"
#include "blob.h"
#include "clock.h"
#include "dictionary.h"
#include "disk-errors.h"
#include "fast.h"
#include "hot.h"
#include "overlay.h"
#include "resident.h"
#include "storage.h"
#include "sweep.h"
#include "thread-slot.h"
#include "usage.h"

/* Where tests hold a verification up. */
enum verify_point {
        VERIFY_SEEN,   /* some records were seen, their bodies not yet */
        VERIFY_FILES,  /* the files come next */
        VERIFY_FOLDER, /* those of one folder */
};

/* What tests put in place of the real thing. */
struct storage_hooks {
        key_hash_fn hash;                     /* NULL: XXH3-128 */
        bool no_tmpfile;                      /* as if the file system knew no file without a name */
        uint64_t usage_interval_usec;         /* 0: a minute */
        uint64_t expiry_interval_usec;        /* 0: a second */
        uint64_t clock_look_usec;             /* 0: a minute */
        uint64_t sweep_rest_usec;             /* 0: 10 ms */
        unsigned rebuild_step;                /* records in one transaction; 0: 2,048 */
        unsigned numbers_block;               /* numbers reserved at once, BATCH_MAX or more; 0: 65,536 */
        uint64_t fast_pause_usec;             /* 0: 10 s */
        uint64_t gather_usec;                 /* 0: 5 ms */
        uint64_t (*now)(void *userdata);      /* NULL: CLOCK_REALTIME */
        uint64_t (*get_free)(void *userdata); /* bytes of the file system; NULL: statvfs() */
        int (*before_commit)(void *userdata); /* an errno makes the transaction fail */
        void (*after_commit)(void *userdata); /* what it dropped is not unlinked yet */
        void (*verify_pause)(enum verify_point point, void *userdata);
        void (*before_find)(void *userdata); /* a get has looked for what is not committed yet */
        void (*before_open)(void *userdata); /* between the lookup of an object and the opening of its body */
        void (*before_put)(void *userdata);  /* between the lookup and what it found being put in memory */
        uint64_t (*hot_hash)(const void *uri, size_t uri_size); /* NULL: the table's own */
        int is_resident;    /* the dictionary: 1: always; -1: never; 0: as it is measured */
        uint64_t grow_usec; /* 0: 10 s */
        void *userdata;
};

int storage_init_with_hooks(struct storage **ret,
                            const struct storage_config *config,
                            const struct storage_hooks *hooks);

/* Objects that were found damaged of late: each is told of once. */
#define DAMAGED_MAX 64

/* What gets with one place in the epoch count. Each number atomic. */
struct tally {
        uint64_t gets, hits, hot_hits, hot_misses, fast_hits;
} __attribute__((aligned(64)));

struct storage {
        size_t inline_max;
        uint64_t object_max;        /* atomic */
        uint64_t expired_keep_usec; /* atomic */
        void (*on_event)(enum storage_event event,
                         const void *uri,
                         size_t uri_size,
                         int error,
                         uint64_t count,
                         void *userdata);
        void (*on_progress)(void *userdata);
        void *userdata;
        struct storage_hooks hooks;

        uint64_t id;
        int dir_fd;
        int lock_fd;
        struct blobs blobs;
        struct dictionary *dictionary;
        struct accounts *accounts;
        uint64_t bytes_max; /* atomic, as the next: of the limits in force */
        uint64_t keep_free;
        uint64_t granted; /* atomic: bytes that uploads may write before they ask for more */
        uint64_t written; /* atomic: bytes that they wrote */
        struct usage *usage;
        struct overlay *overlay;
        struct writer *writer;
        struct sweeper *sweeper;
        struct fast *fast;             /* NULL: there are no copies */
        struct storage_verify *verify; /* atomic; the one that is under way */
        struct storage_stats stats;    /* each number atomic */

        struct disk_errors disk_errors;
        struct hot *hot;
        struct resident *resident;
        bool check_on_fill; /* atomic */
        struct tally tallies[EPOCH_SLOTS];

        pthread_mutex_t damaged_mutex;
        uint64_t damaged[DAMAGED_MAX];
        size_t n_damaged; /* ever */
};

void storage_tell(struct storage *storage,
                  enum storage_event event,
                  const void *uri,
                  size_t uri_size,
                  int error);

/* A step of what takes long was made. */
static inline void storage_note_progress(struct storage *storage) {
        if (storage->on_progress)
                storage->on_progress(storage->userdata);
}

/* Adds the gets that are not written yet to *info. Any thread. */
void storage_add_usage(struct storage *storage, struct storage_info *info);

/* An object can't be served as it was stored. Tells so, once, and removes it if generation is not 0 and still
 * its own. Any thread. */
void storage_report_damage(
                struct storage *storage, const void *uri, size_t uri_size, uint64_t generation, int error);

/* Limits are in force from now on; takes them. The writer's, or before it runs. -ENOMEM: they are the caller's. */
int storage_apply_limits(struct storage *storage, struct limits *limits);

/* Bytes of the file system that are free, and not granted to uploads. Any thread. */
uint64_t storage_get_free(struct storage *storage);

static inline void stats_add(uint64_t *number, uint64_t n) {
        (void) __atomic_fetch_add(number, n, __ATOMIC_RELAXED);
}

/* CLOCK_REALTIME, which says what has expired. */
static inline uint64_t storage_now(const struct storage *storage) {
        return storage->hooks.now ? storage->hooks.now(storage->hooks.userdata) : clock_usec(CLOCK_REALTIME);
}

static inline bool is_uri(const void *uri, size_t uri_size) {
        return uri && uri_size > 0 && uri_size <= STORAGE_URI_MAX && !memchr(uri, 0, uri_size);
}
