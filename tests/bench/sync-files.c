/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sync-files N SIZE FOLDER: how many files of SIZE bytes a second are made in a folder, each with one fdatasync(). */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"

static void make_file(int dir_fd, unsigned number, const void *body, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        char name[16];

        (void) snprintf(name, sizeof(name), "%u", number);
        fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, body, size) != (ssize_t) size || fdatasync(fd) < 0)
                err(1, "%s", name);
}

int main(int argc, char *argv[]) {
        unsigned n = argc == 4 ? (unsigned) atoi(argv[1]) : 0;
        size_t size = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
        _cleanup_close_ int dir_fd = -EBADF;
        _cleanup_free_ uint8_t *body = NULL;
        uint64_t begin_usec;

        if (n == 0 || size == 0)
                errx(2, "usage: %s N SIZE FOLDER", argv[0]);
        dir_fd = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        body = malloc(size);
        if (dir_fd < 0 || !body)
                err(1, "%s", argv[3]);
        memset(body, 'b', size);

        begin_usec = clock_usec(CLOCK_MONOTONIC);
        for (unsigned i = 0; i < n; i++)
                make_file(dir_fd, i, body, size);
        printf("{\"rate\": %.0f}\n",
               (double) n * USEC_PER_SEC / (double) (clock_usec(CLOCK_MONOTONIC) - begin_usec));

        return 0;
}
