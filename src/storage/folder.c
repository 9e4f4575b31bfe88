/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "folder.h"

#include <fcntl.h>
#include <string.h>

int folder_open(int dir_fd, const char *name, DIR **ret) {
        _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        DIR *dir;

        if (fd < 0)
                return -errno;

        dir = fdopendir(fd);
        if (!dir)
                return -errno;

        TAKE_FD(fd);
        *ret = dir;
        return 0;
}

int folder_next(DIR *dir, const char **ret) {
        struct dirent *entry;

        do {
                errno = 0;
                entry = readdir(dir);
                if (!entry)
                        return -errno;
        } while (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);

        *ret = entry->d_name;
        return 1;
}
