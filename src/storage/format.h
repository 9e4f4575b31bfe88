/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The file "format", which says what a folder holds. It is read before anything else is touched, and written
 * last when a store is made: "format.new" is there meanwhile. */

#include <stdint.h>

struct format {
        unsigned version;
        uint64_t store_id;
        uint64_t seed; /* of the dictionary's hash */
};

/* 0; -ENOENT: none; -EPROTONOSUPPORT: newer than this code; -EUCLEAN: not a format file; or an errno. */
int format_read(int dir_fd, struct format *ret);

/* A new store with random numbers: writes "format.new", synced. 0 or an errno. */
int format_begin(int dir_fd, struct format *ret);
/* An older store has become one of today's. Does nothing when it is one. 0 or an errno. */
int format_upgrade(int dir_fd, const struct format *format);
/* Whether a store was being made when the power went: nothing can have been stored in it. 1, 0 or an errno.
 */
int format_was_begun(int dir_fd);
/* The store is made: "format.new" becomes "format", synced. */
int format_commit(int dir_fd);
