/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Where the body of one reply goes, as it arrives. Memory grows with what has come, not with what was announced:
 * addresses are taken ahead for a large body, up to a bound, and its pages as they are written to. A body whose
 * place fails is received to its end and dropped; the error is kept. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct objmapper_object;

enum download_kind {
        DOWNLOAD_NOWHERE,
        DOWNLOAD_MEMORY,
        DOWNLOAD_MEMFD,
        DOWNLOAD_OUTPUT,
};

struct download {
        enum download_kind kind;
        int error;     /* of the place; negative */
        uint64_t left; /* bytes that are still to come */
        uint64_t size;
        uint8_t *data;
        size_t used, allocated;
        int fd;      /* the memfd, owned, or the output, borrowed */
        bool raises; /* as of raises_sigpipe(fd) */
};

/* Prepares for size bytes; output: for DOWNLOAD_OUTPUT; object: whose it will be, NULL: nobody's: what memory it has
 * to spare is used. Errors are kept in download->error. */
void download_begin(struct download *download,
                    enum download_kind kind,
                    uint64_t size,
                    int output,
                    struct objmapper_object *object);
/* Frees what was not given to an object. */
void download_end(struct download *download);
/* Drops what came and what is to come; error: what to keep, if nothing is kept yet. */
void download_drop(struct download *download, int error);

/* n bytes (at most left) arrived in memory. */
void download_take(struct download *download, const uint8_t *p, size_t n);
/* Room to receive into at once: bytes of it, 0 where there is none. download_received() tells how many came. */
size_t download_room(struct download *download, uint8_t **ret);
void download_received(struct download *download, size_t n);
/* n bytes (at most left) are in a pipe. */
void download_take_pipe(struct download *download, int pipe, size_t n);

/* Gives the whole body to object. 0, or what went wrong. */
int download_finish(struct download *download, struct objmapper_object *object);
