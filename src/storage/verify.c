/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Everything that there is, looked at once, in the background: who begins it, how fast it goes, what it tells. */

#include "verify.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "macro.h"

#define RATE_DEFAULT   (UINT64_C(64) << 20)
#define PATH_MAX_BELOW 512                  /* of a file among the blobs: a folder and a name */
#define CREDIT_USEC    (10 * USEC_PER_MSEC) /* shorter rests are saved up */

static const struct {
        const char *name, *text;
} problems[STORAGE_PROBLEM_MAX] = {
        [STORAGE_PROBLEM_RECORD] = { "record", "its record can't be read" },
        [STORAGE_PROBLEM_MISSING] = { "missing", "its body is missing" },
        [STORAGE_PROBLEM_SIZE] = { "size", "its body has a wrong size" },
        [STORAGE_PROBLEM_CHECKSUM] = { "checksum", "its body has a wrong checksum" },
        [STORAGE_PROBLEM_UNREADABLE] = { "unreadable", "its body can't be read" },
        [STORAGE_PROBLEM_ORPHAN] = { "orphan", "it belongs to no object" },
        [STORAGE_PROBLEM_STRAY] = { "stray", "it is not the store's" },
        [STORAGE_PROBLEM_LIVE] = { "live", "the map of bodies in use is wrong" },
        [STORAGE_PROBLEM_DUE] = { "due", "the list of what expires is wrong" },
        [STORAGE_PROBLEM_ORDER] = { "order", "the queues for eviction are wrong" },
        [STORAGE_PROBLEM_SUMS] = { "sums", "the sums of objects and bytes are wrong" },
        [STORAGE_PROBLEM_DICTIONARY] = { "dictionary", "the dictionary can't be read to its end" },
};

const char *storage_problem_name(enum storage_problem problem) {
        assert(problem < STORAGE_PROBLEM_MAX);

        return problems[problem].name;
}

const char *storage_problem_text(enum storage_problem problem) {
        assert(problem < STORAGE_PROBLEM_MAX);

        return problems[problem].text;
}

void verify_pay(struct storage_verify *verify, uint64_t bytes) {
        uint64_t rate = verify->config.bytes_per_sec ?: RATE_DEFAULT;
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);

        verify->due_usec = MAX(verify->due_usec, now_usec) +
                           (uint64_t) ((double) bytes / (double) rate * (double) USEC_PER_SEC);
        if (verify->due_usec > now_usec + CREDIT_USEC)
                background_rest(&verify->background, verify->due_usec - now_usec);
}

bool verify_is_shortage(int error) {
        return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -EAGAIN ||
               error == -ECANCELED;
}

void verify_found(struct storage_verify *verify, struct storage_finding *finding, const char *path) {
        char file[PATH_MAX_BELOW];

        if (path) {
                (void) snprintf(file, sizeof(file), "blobs/%s", path);
                finding->file = file;
        }

        stats_add(&verify->progress.problems, 1);
        if (finding->repair > 0)
                stats_add(&verify->progress.repaired, 1);
        if (verify->config.on_finding)
                verify->config.on_finding(finding, verify->config.userdata);
}

int verify_quarantine(struct storage_verify *verify, const char *path, char ret[static QUARANTINE_PATH_MAX]) {
        return quarantine_move(&verify->quarantine, verify->storage->blobs.fd, path, ret);
}

void verify_found_file(struct storage_verify *verify, enum storage_problem problem, const char *path) {
        struct storage_finding finding = { .problem = problem };
        char quarantine[QUARANTINE_PATH_MAX];
        int r;

        if (verify->config.repair) {
                r = verify_quarantine(verify, path, quarantine);
                if (r == -ENOENT)
                        return; /* it is gone */

                finding.repair = r < 0 ? r : 1;
                finding.quarantine = r < 0 ? NULL : quarantine;
        }

        verify_found(verify, &finding, path);
}

/* What the dictionary says. 1: it can't be read to its end, which was told. */
static int verify_dictionary(struct storage_verify *verify) {
        int r = verify_records(verify);

        if (r >= 0)
                r = verify_entries(verify);
        if (r >= 0)
                r = verify_sums(verify);
        if (r != -EUCLEAN && r != -EIO)
                return r;

        verify_found(verify,
                     &(struct storage_finding){
                                     .problem = STORAGE_PROBLEM_DICTIONARY,
                                     .error = r,
                                     .file = "dictionary/data.mdb",
                                     .repair = verify->config.repair ? r : 0,
                     },
                     NULL);
        return 1;
}

static void run(void *userdata) {
        struct storage_verify *verify = userdata;
        struct storage_stats stats;
        int r;

        storage_get_stats(verify->storage, &stats);
        __atomic_store_n(&verify->progress.total, stats.objects, __ATOMIC_RELAXED);

        r = verify_dictionary(verify);
        if (r == 0) /* else nobody knows which files belong to it */
                r = verify_files(verify);
        if (verify->config.on_done)
                verify->config.on_done(r < 0 ? r : 0, verify->config.userdata);
}

int storage_verify_begin(struct storage_verify **ret,
                         struct storage *storage,
                         const struct storage_verify_config *config) {
        struct storage_verify *verify, *none = NULL;
        int r;

        verify = malloc(sizeof(*verify));
        if (!verify)
                return -ENOMEM;

        *verify = (struct storage_verify){
                .storage = storage,
                .config = *config,
                .buffer = malloc(VERIFY_PIECE),
                .quarantine = { .dir_fd = storage->dir_fd, .fd = -EBADF },
        };

        if (!verify->buffer)
                r = -ENOMEM;
        else if (!__atomic_compare_exchange_n(&storage->verify, &none, verify, false, __ATOMIC_ACQ_REL,
                                              __ATOMIC_RELAXED))
                r = -EBUSY;
        else {
                r = background_start(&verify->background, "store-verify", run, verify);
                if (r < 0)
                        __atomic_store_n(&storage->verify, NULL, __ATOMIC_RELEASE);
        }
        if (r < 0) {
                free(verify->buffer);
                free(verify);
                return r;
        }

        *ret = verify;
        return 0;
}

void storage_verify_get_progress(struct storage_verify *verify, struct storage_verify_progress *ret) {
        const uint64_t *from = (const uint64_t *) &verify->progress;
        uint64_t *to = (uint64_t *) ret;

        for (size_t i = 0; i < sizeof(*ret) / sizeof(*to); i++)
                to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void storage_verify_cancel(struct storage_verify *verify) {
        background_cancel(&verify->background);
}

void storage_verify_end(struct storage_verify *verify) {
        if (!verify)
                return;

        background_stop(&verify->background);
        __atomic_store_n(&verify->storage->verify, NULL, __ATOMIC_RELEASE);
        quarantine_done(&verify->quarantine);
        free(verify->buffer);
        free(verify);
}
