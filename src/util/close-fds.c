/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "close-fds.h"

#include <unistd.h>

/* ThreadSanitizer does not know close_range(): a number that comes back then looks to it as if two threads had it. */
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define close_range(first, last, flags) (-1)
#endif

void close_fds(const int *fds, size_t n) {
        for (size_t i = 0; i < n;) {
                size_t end = i + 1;

                while (end < n && fds[end] == fds[end - 1] + 1)
                        end++;
                /* A filter of system calls may have no place for it. */
                if (end - i > 1 && close_range((unsigned) fds[i], (unsigned) fds[end - 1], 0) >= 0) {
                        i = end;
                        continue;
                }
                while (i < end)
                        (void) close(fds[i++]);
        }
}
