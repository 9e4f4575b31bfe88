/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "download.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cleanup.h"
#include "macro.h"
#include "object.h"
#include "transfer.h"

#define FIRST_ALLOCATION (UINT64_C(1) << 20)
#define LARGE_MIN        (UINT64_C(4) << 20)
#define LARGE_MAX        (UINT64_C(256) << 20)
#define LARGE_PAGE       ((size_t) 2 << 20)

static bool take_spare(struct download *download, objmapper_object *object, size_t wanted) {
        if (!object || !object->spare || object->data_allocated < wanted)
                return false;

        download->data = TAKE_PTR(object->spare);
        download->allocated = object->data_allocated;
        object->data_allocated = 0;
        return true;
}

/* For a large body, in large pages where the kernel has them: many small ones cost more, to be there and to be written
 * to, than it does to receive the bytes. They are there when they are written to. */
static bool take_large(struct download *download, size_t wanted) {
        size_t size = (wanted + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);

        download->data = aligned_alloc(LARGE_PAGE, size);
        if (!download->data)
                return false;

        download->allocated = size;
        (void) madvise(download->data, size, MADV_HUGEPAGE);
        return true;
}

/* A body may be announced that never comes: memory grows with what comes, unless it is there already. */
static void take_memory(struct download *download, objmapper_object *object) {
        size_t wanted = (size_t) MIN(download->size, LARGE_MAX);

        if (download->size >= LARGE_MIN &&
            (take_spare(download, object, wanted) || take_large(download, wanted)))
                return;

        wanted = download->size == 0 ? 1 : (size_t) MIN(download->size, FIRST_ALLOCATION);
        if (take_spare(download, object, wanted))
                return;

        download->data = malloc(wanted);
        download->allocated = wanted;
        if (!download->data)
                download_drop(download, -ENOMEM);
}

void download_begin(struct download *download,
                    enum download_kind kind,
                    uint64_t size,
                    int output,
                    objmapper_object *object) {
        *download = (struct download){ .kind = kind, .left = size, .size = size, .fd = -EBADF };

        switch (kind) {
        case DOWNLOAD_NOWHERE:
                break;
        case DOWNLOAD_MEMORY:
                if (size > SIZE_MAX / 2) {
                        download_drop(download, -EFBIG);
                        break;
                }
                take_memory(download, object);
                break;
        case DOWNLOAD_MEMFD: {
                int fd = memfd_new();

                if (fd < 0)
                        download_drop(download, fd);
                else
                        download->fd = fd;
                break;
        }
        case DOWNLOAD_OUTPUT:
                download->fd = output;
                download->raises = raises_sigpipe(output);
                break;
        }
}

void download_drop(struct download *download, int error) {
        download_end(download);
        download->kind = DOWNLOAD_NOWHERE;
        if (download->error == 0)
                download->error = error;
}

void download_end(struct download *download) {
        free(download->data);
        download->data = NULL;
        if (download->kind == DOWNLOAD_MEMFD)
                (void) close_fd(download->fd);
        download->fd = -EBADF;
}

static bool grow(struct download *download) {
        size_t allocated = (size_t) MIN((uint64_t) download->allocated * 2, download->size);
        uint8_t *data = realloc(download->data, allocated);

        if (!data) {
                download_drop(download, -ENOMEM);
                return false;
        }

        download->data = data;
        download->allocated = allocated;
        return true;
}

void download_take(struct download *download, const uint8_t *p, size_t n) {
        int r;

        assert(n <= download->left);

        switch (download->kind) {
        case DOWNLOAD_NOWHERE:
                download->left -= n;
                break;
        case DOWNLOAD_MEMORY:
                while (n > 0) {
                        uint8_t *to;
                        size_t room = MIN(download_room(download, &to), n);

                        if (room == 0) { /* out of memory */
                                download->left -= n;
                                break;
                        }
                        memcpy(to, p, room);
                        download_received(download, room);
                        p += room;
                        n -= room;
                }
                break;
        case DOWNLOAD_MEMFD:
        case DOWNLOAD_OUTPUT:
                download->left -= n;
                r = transfer_memory(p, n, download->fd);
                if (r < 0)
                        download_drop(download, r);
        }
}

size_t download_room(struct download *download, uint8_t **ret) {
        if (download->kind != DOWNLOAD_MEMORY || download->left == 0)
                return 0;
        if (download->used == download->allocated && !grow(download))
                return 0;

        *ret = download->data + download->used;
        return download->allocated - download->used;
}

void download_received(struct download *download, size_t n) {
        assert(n <= download->left && n <= download->allocated - download->used);

        download->used += n;
        download->left -= n;
}

void download_take_pipe(struct download *download, int pipe, size_t n) {
        int r;

        assert(n <= download->left);
        assert(download->kind == DOWNLOAD_MEMFD || download->kind == DOWNLOAD_OUTPUT);

        download->left -= n;
        r = transfer_pipe(pipe, n, download->fd, download->raises);
        if (r < 0)
                download_drop(download, r);
}

int download_finish(struct download *download, objmapper_object *object) {
        assert(download->left == 0);

        if (download->error < 0)
                return download->error;

        switch (download->kind) {
        case DOWNLOAD_MEMORY:
                free(object->spare);
                object->spare = NULL;
                object->data = TAKE_PTR(download->data);
                object->data_allocated = download->allocated;
                break;
        case DOWNLOAD_MEMFD: {
                int fd = memfd_seal(TAKE_FD(download->fd));

                if (fd < 0)
                        return fd;
                object->fd = fd;
                break;
        }
        case DOWNLOAD_NOWHERE:
        case DOWNLOAD_OUTPUT:
                break;
        }

        return 0;
}
