/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/* Writes all of it, and waits where the other side takes nothing now. 0 or an errno. */
int write_all(int fd, const void *data, size_t size);

/* After a write to fd that failed by error: waits when that may help. 0: it is worth another try; or an errno. */
int wait_writable(int fd, int error);
