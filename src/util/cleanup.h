/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Every resource is owned by one variable whose scope's end releases it; what is handed on is taken first. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function)    __attribute__((cleanup(function)))
#define _unused_               __attribute__((unused))
#define _printf_(text, values) __attribute__((__format__(__printf__, text, values)))

/* Closes fd if it is one, keeps errno, and returns the value that means "no descriptor". */
static inline int close_fd(int fd) {
        if (fd >= 0) {
                int saved = errno;
                (void) close(fd);
                errno = saved;
        }

        return -EBADF;
}

static inline void close_fdp(int *fd) {
        *fd = close_fd(*fd);
}

static inline void freep(void *p) {
        free(*(void **) p);
}

#define _cleanup_close_ _cleanup_(close_fdp)
#define _cleanup_free_  _cleanup_(freep)

/* Hands the resource on: the variable no longer owns it. */
#define TAKE_FD(fd)                  \
        ({                           \
                int *_take = &(fd);  \
                int _taken = *_take; \
                *_take = -EBADF;     \
                _taken;              \
        })

#define TAKE_PTR(pointer)                                \
        ({                                               \
                __typeof__(pointer) *_take = &(pointer); \
                __typeof__(pointer) _taken = *_take;     \
                *_take = NULL;                           \
                _taken;                                  \
        })

/* Defines TYPE_FREEp for _cleanup_(), for a function that takes a pointer and accepts NULL. */
#define DEFINE_CLEANUP(type, function)                             \
        _unused_ static inline void function##p(type **_pointer) { \
                if (*_pointer)                                     \
                        function(*_pointer);                       \
        }
