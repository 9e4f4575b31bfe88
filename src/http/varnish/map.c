/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "map.h"

void *map_file(int fd, uint64_t size) {
        struct stat st;
        void *p;

        /* Behind the file's end a mapping is a SIGBUS: the daemon's word is not enough. */
        if (fstat(fd, &st) < 0 || (uint64_t) st.st_size < size || size > SIZE_MAX / 2)
                return NULL;

        /* Private, as libobjmapper maps. Nothing is copied as nothing is written. */
        p = mmap(NULL, (size_t) size, PROT_READ, MAP_PRIVATE, fd, 0);
        return p == MAP_FAILED ? NULL : p;
}
