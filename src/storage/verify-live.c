/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "verify-live.h"

#include <fcntl.h>
#include <string.h>

#include "macro.h"

/* Powers of two. */
#define WINDOW_FOLDERS  32768 /* 17 MB; with 4,096 blobs in each 134 millions */
#define FOLDERS_AT_ONCE 512   /* in one transaction */
#define FOLDER_BLOBS    (1U << BLOB_FOLDER_BITS)

struct folder {
        uint64_t number;
        bool is_damaged;         /* its map can't be read: what it names is not known */
        struct live_map unnamed; /* by the records seen so far, though the map names it */
};

struct live_check {
        struct storage_verify *verify;
        uint64_t next; /* folder of the next window */
        uint64_t mark; /* a blob below it that a record names was named before the walk */
        size_t n_folders, n_allocated;
        struct folder *folders; /* by their numbers */
};

int live_check_new(struct live_check **ret, struct storage_verify *verify) {
        struct live_check *check = calloc(1, sizeof(*check));

        if (!check)
                return -ENOMEM;

        check->verify = verify;
        *ret = check;
        return 0;
}

void live_check_free(struct live_check *check) {
        free(check->folders);
        free(check);
}

static int grow(struct live_check *check) {
        size_t n = check->n_allocated > 0 ? check->n_allocated * 2 : 64;
        struct folder *folders;

        if (check->n_folders < check->n_allocated)
                return 0;

        folders = realloc(check->folders, n * sizeof(*folders));
        if (!folders)
                return -ENOMEM;

        check->folders = folders;
        check->n_allocated = n;
        return 0;
}

/* 1: there may be more; 0: there are none; or an errno. */
static int load_some(struct live_check *check) {
        struct dictionary *dictionary = check->verify->storage->dictionary;
        struct dictionary_tables tables = dictionary_get_tables(dictionary);
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        for (size_t i = 0; i < FOLDERS_AT_ONCE && check->n_folders < WINDOW_FOLDERS; i++) {
                struct folder *folder;

                r = grow(check);
                if (r < 0)
                        break;

                folder = &check->folders[check->n_folders];
                folder->number = check->next;
                r = live_next(tables.live, txn, &folder->number, &folder->unnamed);
                if (r <= 0 && r != -EBADMSG)
                        break;

                folder->is_damaged = r == -EBADMSG;
                if (folder->is_damaged)
                        memset(&folder->unnamed, 0xff, sizeof(folder->unnamed));
                check->next = folder->number + 1;
                check->n_folders++;
                r = 1;
        }

        dictionary_read_end(dictionary, txn);
        return r;
}

int live_check_load(struct live_check *check) {
        int r;

        r = writer_settle(check->verify->storage->writer, &check->mark);
        if (r < 0)
                return r;

        check->n_folders = 0;
        do
                r = load_some(check);
        while (r > 0 && check->n_folders < WINDOW_FOLDERS);

        return r;
}

static int compare_folders(const void *a, const void *b) {
        uint64_t x = ((const struct folder *) a)->number, y = ((const struct folder *) b)->number;

        return x < y ? -1 : x > y;
}

void live_check_strike(struct live_check *check, uint64_t blob) {
        struct folder wanted, *folder;

        if (blob == 0 || check->n_folders == 0)
                return;

        wanted.number = blob >> BLOB_FOLDER_BITS;
        folder = bsearch(&wanted, check->folders, check->n_folders, sizeof(wanted), compare_folders);
        if (folder)
                live_clear(&folder->unnamed, blob);
}

/* ---- judgement ---- */

struct unname_task {
        struct writer_task task;
        const struct folder *folder;
};

static int unname(struct writer *writer, MDB_txn *txn, struct writer_task *task) {
        const struct folder *folder = container_of(task, struct unname_task, task)->folder;
        struct dictionary_tables tables = dictionary_get_tables(writer->storage->dictionary);
        uint64_t first = folder->number << BLOB_FOLDER_BITS;
        struct live_map map;
        int r;

        r = live_read(tables.live, txn, folder->number, &map);
        if (r < 0)
                return r;

        for (uint64_t blob = first; blob < first + FOLDER_BLOBS; blob++)
                if (live_has(&folder->unnamed, blob) || blob >= writer->next_blob) /* none is named yet */
                        live_clear(&map, blob);

        writer->batch.n_written++;
        return live_write(tables.live, txn, folder->number, &map);
}

/* Leaves those unnamed that the map names still. Returns false when there is no map any more. */
static int look_again(struct live_check *check, struct folder *folder) {
        struct dictionary *dictionary = check->verify->storage->dictionary;
        struct dictionary_tables tables = dictionary_get_tables(dictionary);
        uint64_t number = folder->number;
        struct live_map map;
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = live_next(tables.live, txn, &number, &map);
        dictionary_read_end(dictionary, txn);
        if (r == -EBADMSG && number == folder->number) {
                folder->is_damaged = true;
                return 1;
        }
        if (r < 0 && r != -EBADMSG)
                return r;
        if (r == 0 || number != folder->number)
                return 0;

        for (size_t i = 0; i < sizeof(map.bits); i++)
                folder->unnamed.bits[i] &= map.bits[i];
        return 1;
}

/* What belongs to nobody goes where it is kept, before the map lets go of it. Returns how many have no file. */
static unsigned judge_files(struct live_check *check, struct folder *folder) {
        uint64_t first = folder->number << BLOB_FOLDER_BITS;
        struct storage_verify *verify = check->verify;
        char path[BLOB_PATH_MAX];
        unsigned n_absent = 0;

        for (uint64_t blob = first; blob < first + FOLDER_BLOBS; blob++) {
                if (blob >= check->mark)
                        live_clear(&folder->unnamed, blob);
                if (!live_has(&folder->unnamed, blob))
                        continue;

                blob_path(blob, path);
                if (faccessat(verify->storage->blobs.fd, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                        verify_found_file(verify, STORAGE_PROBLEM_ORPHAN, path);
                else
                        n_absent++;
        }

        return n_absent;
}

static int judge_folder(struct live_check *check, struct folder *folder) {
        struct storage_finding finding = { .problem = STORAGE_PROBLEM_LIVE };
        struct storage_verify *verify = check->verify;
        char path[BLOB_PATH_MAX];
        unsigned n_absent;
        int r;

        r = look_again(check, folder);
        if (r <= 0)
                return r;

        n_absent = judge_files(check, folder);
        if (!folder->is_damaged && live_is_empty(&folder->unnamed))
                return 0;

        if (verify->config.repair) {
                struct unname_task task = { .task.run = unname, .folder = folder };

                r = writer_run_task(verify->storage->writer, &task.task);
                finding.repair = r < 0 ? r : 1;
        }
        if (!folder->is_damaged && n_absent == 0 && r >= 0)
                return 0; /* the files said it */

        blob_folder_path(folder->number, path);
        verify_found(verify, &finding, path);
        return 0;
}

int live_check_judge(struct live_check *check) {
        int r;

        for (size_t i = 0; i < check->n_folders; i++) {
                struct folder *folder = &check->folders[i];

                if (!folder->is_damaged && live_is_empty(&folder->unnamed))
                        continue;

                r = judge_folder(check, folder);
                if (r < 0)
                        return r;
                if (verify_is_stopped(check->verify))
                        return -ECANCELED;
        }

        return 0;
}
