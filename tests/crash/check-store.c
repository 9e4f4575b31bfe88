/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* check-store DIRECTORY: compares what a store that nobody has open keeps beside its records with them. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "check.h"
#include "format.h"
#include "store.h"

#define MAP_SIZE (UINT64_C(1) << 34)

static int check(const char *directory, struct storage_check *ret) {
        _cleanup_(dictionary_freep) struct dictionary *dictionary = NULL;
        _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *path = NULL;
        struct storage storage = {};
        struct format format;
        int r;

        if (fd < 0)
                return -errno;
        if (asprintf(&path, "%s/dictionary", directory) < 0)
                return -ENOMEM;

        r = format_read(fd, &format);
        if (r >= 0)
                r = dictionary_open(&dictionary, path, MAP_SIZE, format.seed, NULL);
        if (r >= 0)
                r = dictionary_open_tables(dictionary);
        if (r < 0)
                return r;

        storage.dictionary = dictionary;
        return storage_check(&storage, ret);
}

int main(int argc, char *argv[]) {
        struct storage_check result;
        int r;

        if (argc != 2) {
                (void) fprintf(stderr, "usage: check-store DIRECTORY\n");
                return 2;
        }

        r = check(argv[1], &result);
        if (r < 0) {
                (void) fprintf(stderr, "%s: %s\n", argv[1], strerror(-r));
                return 1;
        }
        if (result.unreadable == 0 && result.sums == 0 && result.accounts == 0 && result.order == 0 &&
            result.live == 0 && result.due == 0)
                return 0;

        (void) fprintf(stderr,
                       "wrong beside %" PRIu64 " records: %" PRIu64 " unreadable, %" PRIu64 " sums, %" PRIu64
                       " accounts, %" PRIu64 " order, %" PRIu64 " live, %" PRIu64 " due\n",
                       result.records, result.unreadable, result.sums, result.accounts, result.order,
                       result.live, result.due);
        return 1;
}
