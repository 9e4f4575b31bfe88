/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "close-fds.h"

#include <unistd.h>

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
