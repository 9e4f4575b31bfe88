/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "upload.h"

#include <assert.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "macro.h"
#include "store.h"
#include "thread.h"
#include "write-all.h"
#include "writer.h"

#define GRANT   (UINT64_C(1) << 20) /* bytes between two looks at what is free */
#define WINDOW  (UINT64_C(8) << 20) /* bytes of a file that are given to the disk at once */
#define WINDOWS 2                   /* ... which it may be behind */
#define SLICE   ((size_t) 64 << 10) /* bytes that are written until others may have the processor */

static uint64_t subtract(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

/* Tells early that there can be no room. Nothing is reserved: what a peer says it will send is not to be
 * believed. */
static int check_space(struct storage *storage, uint64_t size) {
        uint64_t keep = __atomic_load_n(&storage->keep_free, __ATOMIC_RELAXED), free;

        if (size > __atomic_load_n(&storage->bytes_max, __ATOMIC_RELAXED))
                return -ENOSPC;
        if (size < GRANT)
                return 0;

        free = subtract(storage_get_free(storage), keep);
        if (keep > 0) /* maybe all else can go for it */
                free += __atomic_load_n(&storage->stats.bytes, __ATOMIC_RELAXED);
        return size > free ? -ENOSPC : 0;
}

/* Sees to it that size bytes can be written and leave free what is to be kept free. May wait for the writer. */
static int reserve(struct storage_upload *upload, uint64_t size) {
        struct storage *storage = upload->storage;
        uint64_t keep = __atomic_load_n(&storage->keep_free, __ATOMIC_RELAXED), wanted;
        int r;

        if (keep == 0 || size <= upload->granted)
                return 0;

        wanted = MIN(GRANT, upload->said - upload->size);
        wanted = MAX(wanted, size - upload->granted);
        if (subtract(storage_get_free(storage), keep) < wanted) {
                r = writer_ask_free(storage->writer, wanted);
                if (r < 0)
                        return r;
        } else
                stats_add(&storage->granted, wanted);

        upload->granted += wanted;
        return 0;
}

static void give_back(struct storage_upload *upload, uint64_t size) {
        uint64_t before;

        size = MIN(size, upload->granted);
        upload->granted -= size;
        before = __atomic_fetch_sub(&upload->storage->granted, size, __ATOMIC_RELAXED);
        assert(before >= size);
}

int storage_upload_new(struct storage *storage, uint64_t size, struct storage_upload **ret) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        uint64_t max;
        int r;

        assert(storage);
        assert(ret);

        max = __atomic_load_n(&storage->object_max, __ATOMIC_RELAXED);

        if (size != UINT64_MAX) {
                if (size > max)
                        return -EFBIG;

                r = check_space(storage, size);
                if (r < 0)
                        return r;
        }

        upload = malloc(sizeof(*upload));
        if (!upload)
                return -ENOMEM;

        *upload = (struct storage_upload){ .storage = storage, .said = size, .max = max, .fd = -EBADF };
        upload->hash = XXH3_createState();
        if (!upload->hash)
                return -ENOMEM;
        (void) XXH3_64bits_reset(upload->hash);

        if (size > storage->inline_max && size != UINT64_MAX) {
                r = blob_make(&storage->blobs, &upload->fd, &upload->staged);
                if (r < 0) {
                        storage_note_body_written(storage, size, r);
                        return r;
                }
        } else if (size > 0 && storage->inline_max > 0) {
                upload->buffer = malloc(MIN(size, storage->inline_max));
                if (!upload->buffer)
                        return -ENOMEM;
        }

        *ret = TAKE_PTR(upload);
        return 0;
}

/* An errno of writing its file, which is the disk's. */
static int upload_failed(struct storage_upload *upload, uint64_t size, int error) {
        storage_note_body_written(upload->storage, size, error);
        return upload->error = error;
}

static int write_file(struct storage_upload *upload, const void *data, size_t size) {
        int r;

        r = reserve(upload, size);
        if (r < 0)
                return r;

        r = write_all(upload->fd, data, size);
        give_back(upload, size);
        if (r >= 0)
                stats_add(&upload->storage->written, size);
        return r;
}

/* A large file is written down while it comes in: its sync at the end, which others may wait for too, has little
 * left to do however large it is. */
static int write_down(struct storage_upload *upload, uint64_t written) {
        while (written - upload->begun >= WINDOW) {
                (void) sync_file_range(upload->fd, (off_t) upload->begun, WINDOW, SYNC_FILE_RANGE_WRITE);

                /* This tells of an error once, the sync then no more. */
                if (upload->begun >= WINDOWS * WINDOW &&
                    sync_file_range(upload->fd, (off_t) (upload->begun - WINDOWS * WINDOW), WINDOW,
                                    SYNC_FILE_RANGE_WAIT_BEFORE) < 0 &&
                    (errno == EIO || errno == ENOSPC || errno == EDQUOT))
                        return -errno;
                upload->begun += WINDOW;
        }

        return 0;
}

static int move_to_file(struct storage_upload *upload) {
        int r;

        r = blob_make(&upload->storage->blobs, &upload->fd, &upload->staged);
        if (r < 0)
                return r;

        r = write_file(upload, upload->buffer, upload->size);
        free(TAKE_PTR(upload->buffer));
        return r;
}

static void count_in(struct storage_upload *upload, const void *data, size_t size) {
        (void) XXH3_64bits_update(upload->hash, data, size);
        upload->size += size;
}

static int add_to_file(struct storage_upload *upload, const uint8_t *data, size_t size) {
        unsigned n_done = 0;

        for (;;) {
                size_t n = MIN(size, SLICE);
                int r;

                r = write_file(upload, data, n);
                if (r >= 0)
                        r = write_down(upload, upload->size + n);
                if (r < 0)
                        return r;

                count_in(upload, data, n);
                data += n;
                size -= n;
                if (size == 0)
                        return 0;
                thread_give_way(&n_done, 1);
        }
}

int storage_upload_write(struct storage_upload *upload, const void *data, size_t size) {
        uint64_t size_after;
        int r = 0;

        assert(upload);
        assert(!upload->is_finished);
        assert(data || size == 0);

        if (upload->error < 0)
                return upload->error;
        if (size > MIN(upload->said, upload->max) - upload->size)
                return -EFBIG;
        if (size == 0)
                return 0;

        size_after = upload->size + size;
        if (upload->fd < 0 && size_after <= upload->storage->inline_max) {
                memcpy(upload->buffer + upload->size, data, size);
                count_in(upload, data, size);
                return 0;
        }

        if (upload->fd < 0)
                r = move_to_file(upload);
        if (r >= 0)
                r = add_to_file(upload, data, size);
        return r < 0 ? upload_failed(upload, upload->said == UINT64_MAX ? size_after : upload->said, r) : 0;
}

int storage_upload_finish_unsynced(struct storage_upload *upload) {
        assert(upload);
        assert(!upload->is_finished);

        if (upload->error < 0)
                return upload->error;
        if (upload->said != UINT64_MAX && upload->size < upload->said)
                return -EMSGSIZE;

        /* Whoever is handed a descriptor may open the file again through /proc, to read it. */
        if (upload->fd >= 0 && fchmod(upload->fd, 0444) < 0)
                return upload_failed(upload, upload->size, -errno);

        give_back(upload, UINT64_MAX); /* no more is written */
        upload->checksum = XXH3_64bits_digest(upload->hash);
        upload->is_finished = true;
        return 0;
}

int upload_sync(struct storage_upload *upload) {
        if (fdatasync(upload->fd) < 0)
                return upload_failed(upload, upload->size, -errno);

        storage_note_body_written(upload->storage, upload->size, 0);
        upload->is_synced = true;
        return 0;
}

int storage_upload_finish(struct storage_upload *upload) {
        int r = storage_upload_finish_unsynced(upload);

        if (r < 0)
                return r;
        return upload->fd >= 0 ? upload_sync(upload) : 0;
}

uint64_t storage_upload_size(const struct storage_upload *upload) {
        return upload->size;
}

uint64_t storage_upload_checksum(const struct storage_upload *upload) {
        return upload->is_finished ? upload->checksum : XXH3_64bits_digest(upload->hash);
}

void upload_move(struct storage_upload *to, struct storage_upload *from) {
        *to = *from;
        to->buffer = NULL;
        to->hash = NULL;
        from->fd = -EBADF;
        from->staged = 0;
        from->granted = 0;
}

void storage_upload_release(struct storage_upload *upload) {
        give_back(upload, UINT64_MAX);
        if (upload->fd >= 0 && !upload->is_named)
                (void) __atomic_fetch_sub(&upload->storage->written, upload->size, __ATOMIC_RELAXED);
        if (upload->staged != 0)
                blob_unstage(&upload->storage->blobs, upload->staged);
        upload->staged = 0;
        close_fdp(&upload->fd);
}

void storage_upload_free(struct storage_upload *upload) {
        if (!upload)
                return;

        storage_upload_release(upload);
        free(upload->buffer);
        (void) XXH3_freeState(upload->hash);
        free(upload);
}
