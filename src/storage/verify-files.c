/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What there is among the blobs: every file is one that a map names, or is being put, or should not be there. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "folder.h"
#include "verify.h"

#define REST_USEC (10 * USEC_PER_MSEC)
#define PATH_SIZE 300 /* a folder of ours and any name */

struct files {
        struct storage_verify *verify;
        uint64_t mark;      /* no blob below it comes to be named */
        uint64_t next_blob; /* a number that no blob of those that were seen can have, nor any above */
        uint64_t n_foreign; /* left where they are */
};

static void found(struct files *files, enum storage_problem problem, const char *path) {
        verify_found_file(files->verify, problem, path);
        if (problem == STORAGE_PROBLEM_STRAY &&
            faccessat(files->verify->storage->blobs.fd, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                files->n_foreign++;
}

/* The blob ceased to be named, or never was: then it is the writer's to remove, which it does at once. */
static bool is_left_over(struct files *files, const char *path) {
        struct storage_verify *verify = files->verify;
        struct writer *writer = verify->storage->writer;
        uint64_t turn = writer_unlink_turn(writer);

        while (turn % 2 == 1 && writer_unlink_turn(writer) == turn && !verify_is_stopped(verify))
                background_rest(&verify->background, REST_USEC);

        return faccessat(verify->storage->blobs.fd, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

static int check_name(struct files *files, uint64_t folder, const char *name, const struct live_map *live) {
        char path[PATH_SIZE];
        uint64_t blob, mark;
        int r;

        blob_folder_path(folder, path);
        (void) snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", name);

        if (!blob_parse(name, &blob) || blob >> BLOB_FOLDER_BITS != folder)
                found(files, STORAGE_PROBLEM_STRAY, path);
        else if (blob < files->mark) {
                if (!files->verify->has_unnoted && !live_has(live, blob) && is_left_over(files, path))
                        found(files, STORAGE_PROBLEM_ORPHAN, path);
        } else if (blob >= files->next_blob) {
                /* It may have been made since: all that was when it was seen has a number below this one. */
                r = writer_settle(files->verify->storage->writer, &mark);
                if (r < 0)
                        return r;

                files->next_blob = mark;
                if (blob >= mark)
                        found(files, STORAGE_PROBLEM_STRAY, path);
        }

        return 0;
}

static int check_folder(struct files *files, const char *name, uint64_t folder) {
        struct storage_verify *verify = files->verify;
        struct storage *storage = verify->storage;
        _cleanup_(folder_closep) DIR *dir = NULL;
        struct live_map live;
        const char *blob;
        int r;

        r = folder_open(storage->blobs.fd, name, &dir);
        if (r == -ENOTDIR || r == -ELOOP) {
                found(files, STORAGE_PROBLEM_STRAY, name);
                return 0;
        }
        if (r < 0)
                return r == -ENOENT ? 0 : r;

        verify_pause(verify, VERIFY_FOLDER);

        /* Before the names: below the mark a blob may cease to be named meanwhile, but none comes to be. */
        r = dictionary_read_live(storage->dictionary, folder, &live);
        while (r >= 0) {
                if (verify_is_stopped(verify))
                        return -ECANCELED;

                r = folder_next(dir, &blob);
                if (r <= 0)
                        break;
                r = check_name(files, folder, blob, &live);
        }

        /* What repair left empty. */
        if (r >= 0 && verify->config.repair && folder < files->mark >> BLOB_FOLDER_BITS)
                blob_remove_folder(&storage->blobs, folder);
        return r;
}

/* What an earlier process left over is the sweeper's, and no finding. */
static int let_sweep(struct storage_verify *verify) {
        while (!sweeper_is_done(verify->storage->sweeper)) {
                if (verify_is_stopped(verify))
                        return -ECANCELED;
                background_rest(&verify->background, REST_USEC);
        }

        return 0;
}

int verify_files(struct storage_verify *verify) {
        struct files files = { .verify = verify };
        _cleanup_(folder_closep) DIR *dir = NULL;
        const char *name;
        uint64_t folder;
        int r;

        verify_pause(verify, VERIFY_FILES);
        r = let_sweep(verify);
        if (r >= 0)
                r = writer_settle(verify->storage->writer, &files.mark);
        if (r >= 0)
                r = folder_open(verify->storage->blobs.fd, ".", &dir);
        if (r < 0)
                return r;

        files.next_blob = files.mark;
        while ((r = folder_next(dir, &name)) > 0) {
                if (blob_parse_folder(name, &folder))
                        r = check_folder(&files, name, folder);
                else
                        found(&files, STORAGE_PROBLEM_STRAY, name);
                if (r < 0)
                        break;
        }

        if (r >= 0)
                __atomic_store_n(&verify->storage->stats.foreign, files.n_foreign, __ATOMIC_RELAXED);
        return r;
}
