/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Compares what is kept beside the records, and the sums, with the records themselves. */

#include <stdint.h>

struct storage;

/* All but the first two should be 0. */
struct storage_check {
        uint64_t records;
        uint64_t unreadable; /* records that can't be read: of them nothing is known */
        uint64_t sums;       /* numbers of accounts and of the whole that are not those of the records */
        uint64_t accounts;   /* records in an account that there is not */
        uint64_t order; /* records that do not stand where they say, and who stands there without a record */
        uint64_t live;  /* blobs not said to be named, and said to be named that are not */
        uint64_t due;   /* records not said to expire, and said to expire that do not */
};

/* In one moment of the store, which changes go on from meanwhile. Any thread; takes as long as there are records.
 * 0 or an errno. */
int storage_check(struct storage *storage, struct storage_check *ret);
