/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output-file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define NAME_TRIES 100

struct output_file {
        int fd;
        int folder_fd; /* -EBADF: what is written to needs no name */
        char *name;    /* in the folder */
        char temporary[64];
        bool named; /* temporary is there */
};

/* Splits path into a folder, opened, and a name in it. */
static int open_folder(struct output_file *file, const char *path) {
        _cleanup_free_ char *for_folder = NULL, *for_name = NULL;

        for_folder = strdup(path);
        for_name = strdup(path);
        if (!for_folder || !for_name)
                return -ENOMEM;

        file->name = strdup(basename(for_name));
        if (!file->name)
                return -ENOMEM;

        file->folder_fd = open(dirname(for_folder), O_PATH | O_DIRECTORY | O_CLOEXEC);
        return file->folder_fd < 0 ? -errno : 0;
}

/* Calls attempt with names that nobody has, until one is free. */
static int with_temporary_name(struct output_file *file, int (*attempt)(struct output_file *file)) {
        int r = -EEXIST;

        for (unsigned i = 0; i < NAME_TRIES && r == -EEXIST; i++) {
                uint64_t number;

                if (getrandom(&number, sizeof(number), 0) != sizeof(number))
                        return -errno;

                snprintf(file->temporary, sizeof(file->temporary), ".objmapperctl-%016" PRIx64, number);
                r = attempt(file);
        }

        file->named = r >= 0;
        return r;
}

static int create_named(struct output_file *file) {
        file->fd = openat(file->folder_fd, file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        return file->fd < 0 ? -errno : 0;
}

static int link_unnamed(struct output_file *file) {
        char link[64];

        snprintf(link, sizeof(link), "/proc/self/fd/%i", file->fd);
        if (linkat(AT_FDCWD, link, file->folder_fd, file->temporary, AT_SYMLINK_FOLLOW) < 0)
                return -errno;

        return 0;
}

int output_file_new(const char *path, struct output_file **ret) {
        _cleanup_(output_file_freep) struct output_file *file = NULL;
        _cleanup_free_ char *resolved = NULL;
        bool exists;
        struct stat st;
        int r;

        file = calloc(1, sizeof(*file));
        if (!file)
                return -ENOMEM;

        file->fd = file->folder_fd = -EBADF;

        exists = stat(path, &st) >= 0;
        if (exists && S_ISDIR(st.st_mode))
                return -EISDIR;

        if (exists && !S_ISREG(st.st_mode)) {
                file->fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
                if (file->fd < 0)
                        return -errno;

                *ret = TAKE_PTR(file);
                return 0;
        }

        if (exists) {
                resolved = realpath(path, NULL);
                if (!resolved)
                        return -errno;
        } else if (*path == '\0' || path[strlen(path) - 1] == '/' ||
                   lstat(path, &st) >= 0) /* a link that leads nowhere is not to be replaced */
                return -ENOENT;

        r = open_folder(file, resolved ?: path);
        if (r < 0)
                return r;

        /* Without a name, not even SIGKILL leaves half a file. Not every file system can (overlayfs before
         * Linux 6.3), and without /proc it would never get one. */
        file->fd = openat(file->folder_fd, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
        if (file->fd < 0 || access("/proc/self/fd", X_OK) < 0) {
                file->fd = close_fd(file->fd);
                r = with_temporary_name(file, create_named);
                if (r < 0)
                        return r;
        }

        if (exists && fchmod(file->fd, st.st_mode & 0777) < 0)
                return -errno;

        *ret = TAKE_PTR(file);
        return 0;
}

int output_file_get_fd(struct output_file *file) {
        return file->fd;
}

int output_file_commit(struct output_file *file) {
        int r;

        if (file->folder_fd >= 0) {
                if (!file->named) {
                        r = with_temporary_name(file, link_unnamed);
                        if (r < 0)
                                return r;
                }

                if (renameat(file->folder_fd, file->temporary, file->folder_fd, file->name) < 0)
                        return -errno;

                file->named = false;
        }

        /* A network file system may tell of a write that failed only now. */
        return close(TAKE_FD(file->fd)) < 0 ? -errno : 0;
}

void output_file_free(struct output_file *file) {
        if (!file)
                return;

        if (file->named)
                (void) unlinkat(file->folder_fd, file->temporary, 0);

        close_fd(file->fd);
        close_fd(file->folder_fd);
        free(file->name);
        free(file);
}
