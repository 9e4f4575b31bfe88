/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Walks the files below a folder, one at a time. Links are not followed, whatever happens to the tree
 * meanwhile: each folder is opened from the one above. */

#include <stddef.h>
#include <sys/stat.h>

#include "cleanup.h"

struct tree;

enum tree_kind {
        TREE_FILE,
        TREE_LINK,
        TREE_SPECIAL, /* a device, pipe or socket */
        TREE_ERROR,   /* it, or the folder, can't be looked at */
};

struct tree_entry {
        enum tree_kind kind;
        const char *path; /* below the folder, without a '/' in front; borrowed until the next step */
        size_t path_size;
        struct stat st; /* of a file */
        int error;      /* of an error: a negative errno */
};

/* path itself may be a link. -ENOENT, -ENOTDIR, -EACCES and so on; -ENOMEM. */
int tree_new(const char *path, struct tree **ret);
void tree_free(struct tree *tree);
DEFINE_CLEANUP(struct tree, tree_free)

/* The next entry, in the order of the folder: 1, 0 at the end, or -ENOMEM. */
int tree_next(struct tree *tree, struct tree_entry *ret);

/* Opens the file that tree_next() has just returned, for reading. -ELOOP or -EINVAL: it is a link or no file
 * any more; -EACCES and so on. */
int tree_open_file(struct tree *tree);
