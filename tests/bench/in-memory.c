/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* To be preloaded where work is counted, under a valgrind that knows no openat2(): all that is on the disk is in memory,
 * whoever else wants that memory. */
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "syscall-arguments.h"

__attribute__((visibility("default"))) long syscall(long number, ...) {
        static long (*next)(long, ...); /* as the first thread finds it, so do all */
        long a[SYSCALL_ARGUMENTS];
        va_list list;

        va_start(list, number);
        take_arguments(a, list);
        va_end(list);

        if (number == SYS_openat2)
                return openat((int) a[0], (const char *) a[1], (int) ((const struct open_how *) a[2])->flags);
        if (!next)
                next = dlsym(RTLD_NEXT, "syscall");
        return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

__attribute__((visibility("default"))) int mincore(_unused_ void *address, size_t size, unsigned char *ret) {
        size_t page = (size_t) sysconf(_SC_PAGESIZE);

        memset(ret, 1, (size + page - 1) / page);
        return 0;
}
