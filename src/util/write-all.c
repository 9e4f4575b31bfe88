/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "write-all.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <unistd.h>

#include "macro.h"

#define STEP_MAX ((size_t) 1 << 30) /* bytes of one system call */

int wait_writable(int fd, int error) {
        struct pollfd p = { .fd = fd, .events = POLLOUT };

        if (error == EINTR)
                return 0;
        if (error != EAGAIN)
                return -error;

        return poll(&p, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

int write_all(int fd, const void *data, size_t size) {
        const uint8_t *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, MIN(size, STEP_MAX));

                if (n < 0) {
                        int r = wait_writable(fd, errno);
                        if (r < 0)
                                return r;
                        continue;
                }

                p += n;
                size -= (size_t) n;
        }

        return 0;
}
