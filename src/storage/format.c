/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "cleanup.h"

#define FORMAT_VERSION 3 /* as that of the dictionary; 1 stands for its first two */
#define FORMAT_MAX     256

/* What follows the version is the version's own affair. */
#define FORMAT_HEAD "objmapper-store %u\n"
#define FORMAT_BODY "id %016" PRIx64 "\nseed %016" PRIx64 "\n"

int format_read(int dir_fd, struct format *ret) {
        char text[FORMAT_MAX + 1], again[FORMAT_MAX + 1];
        _cleanup_close_ int fd = -EBADF;
        struct format format;
        unsigned version;
        ssize_t n;

        fd = openat(dir_fd, "format", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;

        n = read(fd, text, FORMAT_MAX);
        if (n < 0)
                return -errno;
        text[n] = 0;

        if (sscanf(text, FORMAT_HEAD, &version) != 1 || version == 0)
                return -EUCLEAN;
        if (version > FORMAT_VERSION)
                return -EPROTONOSUPPORT;

        if (sscanf(text, "objmapper-store %u id %" SCNx64 " seed %" SCNx64, &format.version, &format.store_id,
                   &format.seed) != 3)
                return -EUCLEAN;

        /* Exactly what was written, or somebody else wrote it. */
        (void) snprintf(again, sizeof(again), FORMAT_HEAD FORMAT_BODY, format.version, format.store_id,
                        format.seed);
        if (strcmp(again, text) != 0)
                return -EUCLEAN;

        *ret = format;
        return 0;
}

static int write_new(int dir_fd, const struct format *format) {
        _cleanup_close_ int fd = -EBADF;
        char text[FORMAT_MAX];
        int size;
        ssize_t n;

        fd = openat(dir_fd, "format.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;

        size = snprintf(text, sizeof(text), FORMAT_HEAD FORMAT_BODY, FORMAT_VERSION, format->store_id,
                        format->seed);
        n = write(fd, text, (size_t) size);
        if (n < 0)
                return -errno;
        if (n != size)
                return -ENOSPC;
        if (fsync(fd) < 0 || fsync(dir_fd) < 0)
                return -errno;

        return 0;
}

int format_begin(int dir_fd, struct format *ret) {
        uint64_t numbers[2];

        if (getrandom(numbers, sizeof(numbers), 0) != sizeof(numbers))
                return -EIO;

        *ret = (struct format){ FORMAT_VERSION, numbers[0], numbers[1] };
        return write_new(dir_fd, ret);
}

int format_upgrade(int dir_fd, const struct format *format) {
        int r;

        if (format->version >= FORMAT_VERSION)
                return 0;

        r = write_new(dir_fd, format);
        return r < 0 ? r : format_commit(dir_fd);
}

int format_was_begun(int dir_fd) {
        if (faccessat(dir_fd, "format.new", F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                return 1;

        return errno == ENOENT ? 0 : -errno;
}

int format_commit(int dir_fd) {
        if (renameat(dir_fd, "format.new", dir_fd, "format") < 0 || fsync(dir_fd) < 0)
                return -errno;

        return 0;
}
