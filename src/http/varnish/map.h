/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* The first size bytes of a file, for reading. NULL: the file has fewer, or there is no room; size is not 0. */
void *map_file(int fd, uint64_t size);
