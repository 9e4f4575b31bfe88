/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The names in a folder, one by one. */

#include <dirent.h>

#include "cleanup.h"

/* Opens the folder name below dir_fd, not by a link. 0 or an errno. */
int folder_open(int dir_fd, const char *name, DIR **ret);

/* 1: *ret is the next name, but for "." and ".."; 0: no more; or an errno. */
int folder_next(DIR *dir, const char **ret);

static inline void folder_close(DIR *dir) {
        (void) closedir(dir);
}
DEFINE_CLEANUP(DIR, folder_close)
