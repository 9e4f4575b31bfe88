/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sweep.h"

#include "background.h"
#include "clock.h"
#include "folder.h"
#include "store.h"
#include "writer.h"

#define REST_USEC (10 * USEC_PER_MSEC)
#define WORK_MAX  64 /* files removed between two rests */

struct sweeper {
        struct storage *storage;
        uint64_t mark;
        struct background background;
        bool is_done; /* atomic */

        /* The thread's own. */
        uint64_t n_swept;
        unsigned n_work; /* since the last rest */
};

static bool is_stopped(struct sweeper *sweeper) {
        return background_is_stopped(&sweeper->background);
}

static void rest(struct sweeper *sweeper) {
        background_rest(&sweeper->background, sweeper->storage->hooks.sweep_rest_usec ?: REST_USEC);
        sweeper->n_work = 0;
}

static void count_foreign(struct sweeper *sweeper) {
        stats_add(&sweeper->storage->stats.foreign, 1);
}

/* Returns 1 when something is left under the name. */
static int sweep_name(struct sweeper *sweeper,
                      int dir_fd,
                      const char *name,
                      uint64_t folder,
                      const struct live_map *live) {
        uint64_t blob;

        if (!blob_parse(name, &blob) || blob >> BLOB_FOLDER_BITS != folder) {
                count_foreign(sweeper);
                return 1;
        }
        if (blob >= sweeper->mark || live_has(live, blob))
                return 1;

        if (unlinkat(dir_fd, name, 0) < 0) {
                if (errno == EISDIR) {
                        count_foreign(sweeper);
                        return 1;
                }
                return errno == ENOENT ? 0 : -errno;
        }

        sweeper->n_swept++;
        sweeper->n_work++;
        stats_add(&sweeper->storage->stats.swept, 1);
        return 0;
}

/* A blob that ceased to be named since the store was opened is the writer's to remove, and not left over. Once
 * the writer is done with those that the map does not have any more, all that is found is. */
static void let_unlink(struct sweeper *sweeper) {
        struct writer *writer = sweeper->storage->writer;
        uint64_t turn = writer_unlink_turn(writer);

        while (turn % 2 == 1 && writer_unlink_turn(writer) == turn && !is_stopped(sweeper))
                rest(sweeper);
}

static int sweep_folder(struct sweeper *sweeper, const char *name, uint64_t folder) {
        struct storage *storage = sweeper->storage;
        bool is_empty = true;
        _cleanup_(folder_closep) DIR *dir = NULL;
        struct live_map live;
        const char *blob;
        int r;

        r = folder_open(storage->blobs.fd, name, &dir);
        if (r == -ENOTDIR || r == -ELOOP) {
                count_foreign(sweeper);
                return 0;
        }
        if (r < 0)
                return r == -ENOENT ? 0 : r;

        /* Below the mark a blob may cease to be named meanwhile, but none comes to be. */
        r = dictionary_read_live(storage->dictionary, folder, &live);
        if (r >= 0)
                let_unlink(sweeper);
        while (r >= 0 && !is_stopped(sweeper)) {
                r = folder_next(dir, &blob);
                if (r <= 0)
                        break;

                r = sweep_name(sweeper, dirfd(dir), blob, folder, &live);
                is_empty = is_empty && r == 0;
                if (sweeper->n_work >= WORK_MAX)
                        rest(sweeper);
        }

        /* The writer makes no names in a folder that is below the mark as a whole. */
        if (r == 0 && is_empty && folder < sweeper->mark >> BLOB_FOLDER_BITS)
                blob_remove_folder(&storage->blobs, folder);
        return r < 0 ? r : 0;
}

static int sweep(struct sweeper *sweeper) {
        _cleanup_(folder_closep) DIR *dir = NULL;
        const char *name;
        uint64_t folder;
        int r;

        r = folder_open(sweeper->storage->blobs.fd, ".", &dir);
        if (r < 0)
                return r;

        while (!is_stopped(sweeper)) {
                r = folder_next(dir, &name);
                if (r <= 0)
                        break;

                if (!blob_parse_folder(name, &folder)) {
                        count_foreign(sweeper);
                        continue;
                }
                if (folder > sweeper->mark >> BLOB_FOLDER_BITS)
                        continue;

                r = sweep_folder(sweeper, name, folder);
                if (r < 0)
                        break;
                rest(sweeper);
        }

        return r < 0 ? r : 0;
}

static void run(void *userdata) {
        struct sweeper *sweeper = userdata;
        struct storage *storage = sweeper->storage;
        int r;

        r = sweep(sweeper);
        if (r >= 0 && !is_stopped(sweeper))
                stats_add(&storage->stats.sweeps, 1);
        if ((sweeper->n_swept > 0 || r < 0) && storage->on_event)
                storage->on_event(STORAGE_EVENT_SWEPT, NULL, 0, r, sweeper->n_swept, storage->userdata);

        __atomic_store_n(&sweeper->is_done, true, __ATOMIC_RELEASE);
}

int sweeper_new(struct sweeper **ret, struct storage *storage, uint64_t mark) {
        _cleanup_free_ struct sweeper *sweeper = calloc(1, sizeof(*sweeper));
        int r;

        if (!sweeper)
                return -ENOMEM;

        sweeper->storage = storage;
        sweeper->mark = mark;
        r = background_start(&sweeper->background, "store-sweeper", run, sweeper);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(sweeper);
        return 0;
}

void sweeper_free(struct sweeper *sweeper) {
        background_stop(&sweeper->background);
        free(sweeper);
}

bool sweeper_is_done(struct sweeper *sweeper) {
        return __atomic_load_n(&sweeper->is_done, __ATOMIC_ACQUIRE);
}
