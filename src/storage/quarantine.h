/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The folder "quarantine" of a store: files that a repair took out of the store's use, which only people look at
 * and delete. One thread at a time. */

#include "cleanup.h"

#define QUARANTINE_PATH_MAX 256

struct quarantine {
        int dir_fd; /* the store's folder: borrowed */
        int fd;     /* -EBADF: not opened yet */
};

/* Moves the file or folder name of the folder from_fd there, durably, under its name and the present time, which
 * nothing there has: *ret becomes its path below the store's folder. -ENOENT: it is gone; or the errno of
 * moving it. */
int quarantine_move(struct quarantine *quarantine,
                    int from_fd,
                    const char *name,
                    char ret[static QUARANTINE_PATH_MAX]);
void quarantine_done(struct quarantine *quarantine);
