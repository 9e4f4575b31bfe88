/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The folder of copies. A marker in it says that it is ours, and is locked by the one process that uses it.
 * Each process has a folder of its own in there, under a new name: what an earlier one left, whole or torn, is
 * never opened, only cleared. */

#include <stdbool.h>

#include "blob.h"

struct fast_folder {
        int fd;
        int marker_fd; /* locked */
        uint64_t run;  /* the name of the process's own folder */
        struct blobs blobs;
};

#define FAST_FOLDER_INIT ((struct fast_folder){ .fd = -EBADF, .marker_fd = -EBADF, .blobs = BLOBS_INIT })

/* Takes the folder path, which exists. no_tmpfile: as of blobs_open(). 0; -EBUSY: another process has it;
 * -ENOTEMPTY: it has files of something else; or an errno. fast_folder_close() is due in any case. */
int fast_folder_open(struct fast_folder *folder, const char *path, bool no_tmpfile);
void fast_folder_close(struct fast_folder *folder);

/* Opens copies through view, a mount of the folder, from now on. Errors of blobs_use_view(). */
int fast_folder_use_view(struct fast_folder *folder, const char *view);

/* Removes what earlier processes left; whatever else there is stays. Ends early once *stop (atomic) is true. 0 or
 * an errno. */
int fast_folder_clear(struct fast_folder *folder, const bool *stop);
