/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A body on its way in: in memory while it is small enough to live in the dictionary, in a file afterwards.
 */

#include <stdbool.h>
#include <xxhash.h>

#include "storage.h"

struct storage_upload {
        struct storage *storage;
        XXH3_state_t *hash;
        uint64_t said; /* UINT64_MAX: nothing */
        uint64_t max;
        uint64_t size;
        uint64_t checksum; /* once finished */
        bool is_finished;
        bool is_synced;  /* the file is */
        int error;       /* a write failed: the file's bytes are not to be trusted any more */
        uint8_t *buffer; /* of the store's inline_max bytes, while fd is -EBADF */
        int fd;
        uint64_t staged;  /* the file's name until it is published; 0: it has none */
        bool is_named;    /* it was published */
        uint64_t granted; /* bytes that may be written before it is asked for more */
        uint64_t begun;   /* bytes of the file that the disk was given to write */
};

/* Whether the body is whole in a file that was not synced. */
static inline bool storage_upload_is_unsynced(const struct storage_upload *upload) {
        return upload->fd >= 0 && !upload->is_synced;
}

/* Syncs the file. An errno: its bytes are not to be trusted any more, another try proves nothing. */
int upload_sync(struct storage_upload *upload);

/* Moves the file and what is known of it; no buffer, and nothing more can be written. */
void upload_move(struct storage_upload *to, struct storage_upload *from);
/* Closes the file. More than once is fine. */
void storage_upload_release(struct storage_upload *upload);
