/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* To be preloaded: a disk that gives SLOW_DISK_RATE bytes a second of large files, of which the page cache never has
 * anything. */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

#define LARGE      (1 << 20)
#define NSEC_TIMES UINT64_C(1000000000)

static bool is_large(int fd) {
        struct stat st;

        return fstat(fd, &st) >= 0 && S_ISREG(st.st_mode) && st.st_size > LARGE;
}

ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset) {
        ssize_t (*next)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
        const char *rate = getenv("SLOW_DISK_RATE");

        if (rate && is_large(fd)) {
                uint64_t nsec = size * NSEC_TIMES / strtoull(rate, NULL, 10);

                (void) nanosleep(&(struct timespec){ .tv_sec = (time_t) (nsec / NSEC_TIMES),
                                                     .tv_nsec = (long) (nsec % NSEC_TIMES) },
                                 NULL);
        }

        return next(fd, buffer, size, offset);
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int n, off64_t offset, int flags) {
        ssize_t (*next)(int, const struct iovec *, int, off64_t, int) = dlsym(RTLD_NEXT, "preadv64v2");

        if (flags & RWF_NOWAIT && is_large(fd)) {
                errno = EAGAIN;
                return -1;
        }

        return next(fd, parts, n, offset, flags);
}
