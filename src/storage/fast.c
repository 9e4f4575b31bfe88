/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fast.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <xxhash.h>

#include "clock.h"
#include "fast-folder.h"
#include "fast-table.h"
#include "heat.h"
#include "macro.h"
#include "policy.h"
#include "store.h"
#include "thread.h"

#define DOOR_SLOTS 65536U /* a power of two */
#define JOBS_MAX   256
#define PIECE_SIZE ((size_t) 256 << 10)
#define UNIT       UINT64_C(4096)      /* what a file takes is a multiple of it */
#define FREE_SHARE 20                  /* this part of the file system stays free */
#define SHARE_MAX  4                   /* a larger part of the limit is for no copy alone */
#define PAUSE_USEC (10 * USEC_PER_SEC) /* after a failure nothing is copied */

TAILQ_HEAD(copy_queue, copy);

/* A copy to be made. It has a place in the table as long, so that it is asked for once. */
struct job {
        struct job *next;
        struct copy *copy;
        struct storage_info info;
        size_t uri_size;
        uint8_t uri[];
};

struct fast {
        struct storage *storage;
        struct fast_folder folder;
        pthread_t thread;
        bool is_running;

        struct fast_table table;
        uint32_t *door; /* atomic, each: a fingerprint of the blob that was last asked for in vain */

        pthread_mutex_t mutex;
        pthread_cond_t wake;
        struct job *jobs, *jobs_last;
        size_t n_jobs;
        bool has_gone; /* the table has */
        struct storage_amount max;
        bool is_max_new;
        pthread_cond_t cleared;
        uint64_t n_clears_wanted, n_clears; /* asked for, and done */
        bool stop;                          /* set under the mutex; atomic */

        uint64_t pause_usec; /* atomic, CLOCK_MONOTONIC: nothing is copied before */

        /* The thread's own. */
        struct policy *policy;
        uint64_t clock; /* the policy's */
        struct copy_queue queues[POLICY_QUEUES];
        uint64_t bytes, n_copies;
        uint8_t *piece;
        XXH3_state_t *hash;
        bool is_failing;
};

static uint64_t bytes_of(uint64_t size) {
        return (size + UNIT - 1) / UNIT * UNIT;
}

/* ---- for getters and the writer ---- */

static int open_copy(struct fast *fast, uint64_t blob, uint64_t size, bool nowait) {
        struct blobs *blobs = &fast->folder.blobs;
        int fd = blob_open(blobs, blob, size, nowait);

        if (fd == -EXDEV) /* or it was removed and made anew in between */
                fd = blob_open(blobs, blob, size, nowait);
        if (fd != -EXDEV)
                return fd;

        if (!__atomic_exchange_n(&blobs->is_view_lost, true, __ATOMIC_RELAXED))
                storage_tell(fast->storage, STORAGE_EVENT_CACHE_VIEW_UNUSABLE, NULL, 0, fd);
        return blob_open(blobs, blob, size, nowait);
}

int fast_open(struct fast *fast, uint64_t blob, uint64_t size, bool nowait) {
        struct epoch_slot *slot = epoch_enter(hot_epoch(fast->storage->hot));
        bool is_ready = fast_table_touch(&fast->table, blob);
        int fd;

        epoch_leave(slot);
        if (!is_ready)
                return -ENOENT;

        fd = open_copy(fast, blob, size, nowait);
        if (fd >= 0 || fd == -EINPROGRESS)
                return fd;

        /* Where the process lacks something the store will say so. Otherwise the file was removed for room,
         * or is not to be had: once is enough. */
        if (fd != -EMFILE && fd != -ENFILE && fd != -ENOMEM)
                fast_drop(fast, blob);
        return -ENOENT;
}

/* Whether the blob was asked for a while ago. */
static bool pass_door(struct fast *fast, uint64_t blob) {
        uint64_t hash = fast_hash(blob);
        uint32_t fingerprint = (uint32_t) (hash >> 32) | 1;

        return __atomic_exchange_n(&fast->door[hash % DOOR_SLOTS], fingerprint, __ATOMIC_RELAXED) ==
               fingerprint;
}

static bool is_paused(struct fast *fast) {
        return clock_usec(CLOCK_MONOTONIC) < __atomic_load_n(&fast->pause_usec, __ATOMIC_RELAXED);
}

static void add_job(struct fast *fast, struct job *job) {
        (void) pthread_mutex_lock(&fast->mutex);
        if (fast->jobs)
                fast->jobs_last->next = job;
        else {
                fast->jobs = job;
                (void) pthread_cond_signal(&fast->wake);
        }
        fast->jobs_last = job;
        (void) pthread_mutex_unlock(&fast->mutex);
}

void fast_want(struct fast *fast,
               uint64_t blob,
               const struct storage_info *info,
               const void *uri,
               size_t uri_size) {
        _cleanup_free_ struct copy *copy = NULL;
        _cleanup_free_ struct job *job = NULL;

        stats_add(&fast->storage->stats.fast_misses, 1);
        if (!pass_door(fast, blob) || is_paused(fast))
                return;
        if (__atomic_add_fetch(&fast->n_jobs, 1, __ATOMIC_RELAXED) > JOBS_MAX)
                goto refuse;

        copy = calloc(1, sizeof(*copy));
        job = malloc(sizeof(*job) + uri_size);
        if (!copy || !job)
                goto refuse;

        copy->blob = blob;
        *job = (struct job){ .copy = copy, .info = *info, .uri_size = uri_size };
        memcpy(job->uri, uri, uri_size);

        if (fast_table_add(&fast->table, copy) < 0)
                goto refuse;

        TAKE_PTR(copy);
        add_job(fast, TAKE_PTR(job));
        return;

refuse:
        (void) __atomic_sub_fetch(&fast->n_jobs, 1, __ATOMIC_RELAXED);
}

void fast_drop(struct fast *fast, uint64_t blob) {
        if (!fast_table_drop(&fast->table, blob))
                return;

        (void) pthread_mutex_lock(&fast->mutex);
        if (!fast->has_gone)
                (void) pthread_cond_signal(&fast->wake);
        fast->has_gone = true;
        (void) pthread_mutex_unlock(&fast->mutex);
}

void fast_set_max(struct fast *fast, const struct storage_amount *max) {
        (void) pthread_mutex_lock(&fast->mutex);
        fast->max = *max;
        fast->is_max_new = true;
        (void) pthread_cond_signal(&fast->wake);
        (void) pthread_mutex_unlock(&fast->mutex);
}

/* ---- the thread ---- */

static bool is_stopped(struct fast *fast) {
        return __atomic_load_n(&fast->stop, __ATOMIC_RELAXED);
}

static void publish_stats(struct fast *fast) {
        __atomic_store_n(&fast->storage->stats.fast_bytes, fast->bytes, __ATOMIC_RELAXED);
        __atomic_store_n(&fast->storage->stats.fast_objects, fast->n_copies, __ATOMIC_RELAXED);
}

static void unlink_copy(struct fast *fast, uint64_t blob) {
        blob_unlink(&fast->folder.blobs, blob);
        blob_remove_folder(&fast->folder.blobs, blob >> BLOB_FOLDER_BITS);
}

/* It is in the table no more, and in no list. */
static void free_copy(struct fast *fast, struct copy *copy) {
        struct epoch *epoch = hot_epoch(fast->storage->hot);

        epoch_wait(epoch, epoch_mark(epoch));
        free(copy);
}

/* Ends one that is not in the table any more. */
static void remove_copy(struct fast *fast, struct copy *copy) {
        if (copy->is_queued) {
                TAILQ_REMOVE(&fast->queues[copy->place.queue], copy, queue);
                policy_remove(fast->policy, &copy->place, copy->bytes);
        }

        unlink_copy(fast, copy->blob);
        fast->bytes -= copy->bytes;
        fast->n_copies--;
        free_copy(fast, copy);
        publish_stats(fast);
}

static void remove_gone(struct fast *fast) {
        for (struct copy *copy = fast_table_take_gone(&fast->table), *next; copy; copy = next) {
                next = copy->next;
                remove_copy(fast, copy);
        }
}

/* Removes the copy that is needed least. Returns false when there is none. */
static bool evict(struct fast *fast) {
        for (uint64_t n_rounds = 0;; n_rounds++) {
                struct copy *copy;
                uint64_t heat;
                bool goes;
                int q;

                remove_gone(fast);
                q = policy_pick(fast->policy);
                if (q < 0)
                        return false;

                copy = TAILQ_FIRST(&fast->queues[q]);
                if (!copy) {
                        policy_forget_queue(fast->policy, (enum policy_queue) q);
                        continue;
                }

                /* Gets go on meanwhile: they are not to keep everything here. */
                heat = __atomic_exchange_n(&copy->heat, 0, __ATOMIC_RELAXED);
                if (n_rounds > 4 * fast->n_copies)
                        heat = 0;

                TAILQ_REMOVE(&fast->queues[q], copy, queue);
                goes = policy_examine(fast->policy, &copy->place, fast_hash(copy->blob), copy->bytes, heat,
                                      ++fast->clock);
                if (!goes) {
                        TAILQ_INSERT_TAIL(&fast->queues[copy->place.queue], copy, queue);
                        continue;
                }

                copy->is_queued = false;
                if (fast_table_remove(&fast->table, copy)) {
                        remove_copy(fast, copy);
                        return true;
                }
        }
}

/* How many bytes copies may take, of a file system that has so much. */
static uint64_t limit_of(struct fast *fast, const struct statvfs *fs) {
        uint64_t whole = (uint64_t) fs->f_blocks * fs->f_frsize;
        struct storage_amount max;

        (void) pthread_mutex_lock(&fast->mutex);
        max = fast->max;
        (void) pthread_mutex_unlock(&fast->mutex);

        return max.percent == 0 ? max.bytes : whole / 100 * max.percent;
}

/* Bytes that are missing for so many more, if a part of the file system is to stay free. */
static uint64_t missing_for(const struct statvfs *fs, uint64_t bytes) {
        uint64_t free_bytes = (uint64_t) fs->f_bavail * fs->f_frsize;
        uint64_t wanted = (uint64_t) fs->f_blocks * fs->f_frsize / FREE_SHARE + bytes;

        return wanted > free_bytes ? wanted - free_bytes : 0;
}

static void evict_bytes(struct fast *fast, uint64_t bytes) {
        uint64_t before = fast->bytes;

        while (before - fast->bytes < bytes && evict(fast))
                ;
}

/* Sees to it that there is room for so many bytes more. -EFBIG: it is too large to ever be copied. -ENOSPC:
 * others fill the file system, or hold what was removed. */
static int make_room(struct fast *fast, uint64_t bytes) {
        struct statvfs fs;
        uint64_t max;

        remove_gone(fast);
        if (fstatvfs(fast->folder.fd, &fs) < 0)
                return -errno;

        max = limit_of(fast, &fs);
        if (bytes > max / SHARE_MAX)
                return -EFBIG;

        while (fast->bytes > max - bytes && evict(fast))
                ;

        if (fstatvfs(fast->folder.fd, &fs) < 0)
                return -errno;
        evict_bytes(fast, missing_for(&fs, bytes));
        if (fstatvfs(fast->folder.fd, &fs) < 0)
                return -errno;

        return missing_for(&fs, bytes) > 0 ? -ENOSPC : 0;
}

static void shrink(struct fast *fast) {
        struct statvfs fs;
        uint64_t max;

        if (fstatvfs(fast->folder.fd, &fs) < 0)
                return;

        max = limit_of(fast, &fs);
        while (fast->bytes > max && !is_stopped(fast) && evict(fast))
                ;
}

/* Returns 1: the copy is whole; 0: it is not to be; or what the cache's file system says. */
static int copy_bytes(struct fast *fast, const struct job *job, int from, int to) {
        uint8_t *buffer = fast->piece;
        XXH3_state_t *hash = fast->hash;
        unsigned n_done = 0;

        (void) XXH3_64bits_reset(hash);
        for (uint64_t done = 0; done < job->info.size;) {
                ssize_t n = pread(from, buffer, MIN(PIECE_SIZE, job->info.size - done), (off_t) done), m;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0 || is_stopped(fast) || !fast_table_is_there(&fast->table, job->copy))
                        return 0; /* what is wrong with the store's file a get will tell */

                (void) XXH3_64bits_update(hash, buffer, (size_t) n);
                for (ssize_t written = 0; written < n; written += m) {
                        m = pwrite(to, buffer + written, (size_t) (n - written),
                                   (off_t) (done + (uint64_t) written));
                        if (m < 0)
                                return -errno;
                }
                done += (uint64_t) n;
                thread_give_way(&n_done, 1);
        }

        if (XXH3_64bits_digest(hash) != job->info.checksum) {
                storage_report_damage(fast->storage, job->uri, job->uri_size, job->info.etag.generation,
                                      -EILSEQ);
                return 0;
        }

        return 1;
}

/* As copy_bytes(). */
static int make_file(struct fast *fast, const struct job *job, int from) {
        struct blobs *blobs = &fast->folder.blobs;
        _cleanup_close_ int fd = -EBADF;
        uint64_t staged;
        int r;

        r = blob_make(blobs, &fd, &staged);
        if (r < 0)
                return r;

        if (fallocate(fd, 0, 0, (off_t) job->info.size) < 0 && errno != EOPNOTSUPP)
                r = -errno;
        if (r >= 0)
                r = copy_bytes(fast, job, from, fd);
        if (r > 0 && fchmod(fd, 0444) < 0)
                r = -errno;
        if (r > 0) {
                int q = blob_publish(blobs, fd, staged, job->copy->blob);

                if (q >= 0)
                        q = blobs_sync(blobs); /* forgets the folder: it may be removed before it is used again */
                if (q < 0)
                        r = q;
        }
        if (staged != 0)
                blob_unstage(blobs, staged);
        return r;
}

/* As copy_bytes(). */
static int try_copy(struct fast *fast, const struct job *job) {
        _cleanup_close_ int from = blob_open(&fast->storage->blobs, job->copy->blob, job->info.size, false);
        uint64_t bytes = bytes_of(job->info.size);
        int r;

        if (from < 0)
                return 0;

        r = make_room(fast, bytes);
        if (r < 0)
                return r == -EFBIG ? 0 : r;

        r = make_file(fast, job, from);
        if (r == -ENOSPC || r == -EDQUOT) { /* after all: what is free is a guess, with quotas a bad one */
                evict_bytes(fast, bytes);
                r = make_file(fast, job, from);
        }

        /* Its pages in memory are not needed as long as there is the copy. */
        if (r > 0)
                (void) posix_fadvise(from, 0, 0, POSIX_FADV_DONTNEED);
        return r;
}

static void note_result(struct fast *fast, int r) {
        if (r < 0)
                __atomic_store_n(&fast->pause_usec,
                                 clock_usec(CLOCK_MONOTONIC) +
                                                 (fast->storage->hooks.fast_pause_usec ?: PAUSE_USEC),
                                 __ATOMIC_RELAXED);
        if (r == 0 || fast->is_failing == (r < 0))
                return;

        fast->is_failing = r < 0;
        storage_tell(fast->storage, r < 0 ? STORAGE_EVENT_CACHE_FAILED : STORAGE_EVENT_CACHE_RECOVERED, NULL,
                     0, MIN(r, 0));
}

static void make_copy(struct fast *fast, const struct job *job) {
        struct copy *copy = job->copy;
        int r = 0;

        if (!is_paused(fast)) {
                r = try_copy(fast, job);
                note_result(fast, r);
        }
        if (r <= 0) {
                (void) fast_table_remove(&fast->table, copy);
                free_copy(fast, copy);
                return;
        }

        copy->bytes = bytes_of(job->info.size);
        copy->place = policy_insert(fast->policy, fast_hash(copy->blob), copy->bytes, ++fast->clock);
        copy->is_queued = true;
        TAILQ_INSERT_TAIL(&fast->queues[copy->place.queue], copy, queue);
        fast->bytes += copy->bytes;
        fast->n_copies++;
        publish_stats(fast);

        if (!fast_table_set_ready(&fast->table, copy))
                remove_copy(fast, copy);
}

/* Takes what there is to do; waits for it when there is nothing. Returns false at the end. */
static bool wait_for_work(struct fast *fast, struct job **ret, bool *ret_is_max_new) {
        bool go_on;

        (void) pthread_mutex_lock(&fast->mutex);
        while (!fast->stop && !fast->jobs && !fast->has_gone && !fast->is_max_new &&
               fast->n_clears == fast->n_clears_wanted)
                (void) pthread_cond_wait(&fast->wake, &fast->mutex);

        go_on = !fast->stop;
        *ret_is_max_new = fast->is_max_new;
        fast->has_gone = fast->is_max_new = false;
        *ret = go_on ? fast->jobs : NULL;
        if (*ret)
                fast->jobs = fast->jobs->next;
        (void) pthread_mutex_unlock(&fast->mutex);

        return go_on;
}

/* Does what was asked for up to now. */
static void clear(struct fast *fast) {
        uint64_t n_clears;

        (void) pthread_mutex_lock(&fast->mutex);
        n_clears = fast->n_clears_wanted;
        (void) pthread_mutex_unlock(&fast->mutex);
        if (n_clears == fast->n_clears) /* which this thread alone writes */
                return;

        while (evict(fast))
                ;

        (void) pthread_mutex_lock(&fast->mutex);
        fast->n_clears = n_clears;
        (void) pthread_cond_broadcast(&fast->cleared);
        (void) pthread_mutex_unlock(&fast->mutex);
}

static void end_job(struct fast *fast, struct job *job) {
        free(job);
        (void) __atomic_sub_fetch(&fast->n_jobs, 1, __ATOMIC_RELAXED);
}

static void *run(void *userdata) {
        struct fast *fast = userdata;
        bool is_max_new;
        struct job *job;

        /* Gets of what is not copied yet come first. */
        thread_come_last(10, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));

        note_result(fast, fast_folder_clear(&fast->folder, &fast->stop));
        while (wait_for_work(fast, &job, &is_max_new)) {
                remove_gone(fast);
                if (is_max_new)
                        shrink(fast);
                clear(fast);
                if (job) {
                        make_copy(fast, job);
                        end_job(fast, job);
                }
        }

        return NULL;
}

int fast_new(struct fast **ret, struct storage *storage, const struct storage_config *config) {
        _cleanup_(fast_freep) struct fast *fast = calloc(1, sizeof(*fast));
        int r;

        if (!fast)
                return -ENOMEM;

        fast->storage = storage;
        fast->folder = FAST_FOLDER_INIT;
        fast->max = config->cache_path_max;
        fast_table_init(&fast->table);
        for (size_t i = 0; i < POLICY_QUEUES; i++)
                TAILQ_INIT(&fast->queues[i]);
        (void) pthread_mutex_init(&fast->mutex, NULL);
        (void) pthread_cond_init(&fast->wake, NULL);
        (void) pthread_cond_init(&fast->cleared, NULL);

        fast->door = calloc(DOOR_SLOTS, sizeof(*fast->door));
        fast->piece = malloc(PIECE_SIZE);
        fast->hash = XXH3_createState();
        if (!fast->door || !fast->piece || !fast->hash)
                return -ENOMEM;

        r = policy_new(&fast->policy, STORAGE_POLICY_S3FIFO, NULL);
        if (r < 0)
                return r;

        r = fast_folder_open(&fast->folder, config->cache_path, storage->hooks.no_tmpfile);
        if (r < 0)
                return r;

        if (config->cache_view) {
                r = fast_folder_use_view(&fast->folder, config->cache_view);
                if (r < 0)
                        storage_tell(storage, STORAGE_EVENT_CACHE_VIEW_UNUSABLE, NULL, 0, r);
        }

        r = thread_start(&fast->thread, "objmapper-fast", run, fast);
        if (r < 0)
                return r;

        fast->is_running = true;
        *ret = TAKE_PTR(fast);
        return 0;
}

void fast_clear(struct fast *fast) {
        uint64_t wanted;

        (void) pthread_mutex_lock(&fast->mutex);
        wanted = ++fast->n_clears_wanted;
        (void) pthread_cond_signal(&fast->wake);
        while (fast->n_clears < wanted)
                (void) pthread_cond_wait(&fast->cleared, &fast->mutex);
        (void) pthread_mutex_unlock(&fast->mutex);
}

void fast_stop(struct fast *fast) {
        if (!fast->is_running)
                return;

        (void) pthread_mutex_lock(&fast->mutex);
        __atomic_store_n(&fast->stop, true, __ATOMIC_RELAXED);
        (void) pthread_cond_signal(&fast->wake);
        (void) pthread_mutex_unlock(&fast->mutex);

        (void) pthread_join(fast->thread, NULL);
        fast->is_running = false;
}

void fast_free(struct fast *fast) {
        fast_stop(fast);

        for (struct job *job; (job = fast->jobs);) {
                fast->jobs = job->next;
                if (!fast_table_is_there(&fast->table, job->copy))
                        free(job->copy);
                free(job);
        }
        fast_table_done(&fast->table);

        fast_folder_close(&fast->folder);
        if (fast->policy)
                policy_free(fast->policy);
        (void) XXH3_freeState(fast->hash);
        free(fast->piece);
        free(fast->door);
        (void) pthread_cond_destroy(&fast->cleared);
        (void) pthread_cond_destroy(&fast->wake);
        (void) pthread_mutex_destroy(&fast->mutex);
        free(fast);
}
