/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bodies as files. A blob is named by its number alone, is whole and synced before it has a name, and is
 * never written again. Blobs of near numbers share a folder, so that a batch of them syncs one or two. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BLOB_FOLDERS_MAX 4
#define BLOB_FOLDER_BITS 12 /* a folder is named by what is above these bits of its blobs' numbers */

struct blobs {
        int fd;            /* the folder of all blobs */
        int view_fd;       /* the same, read-only, to open bodies through; -EBADF: none */
        bool is_view_lost; /* atomic: the view is not to be used any more */
        bool is_remote;    /* opening a file asks somebody else, whatever is in memory */
        struct opened *opened;
        bool has_cached_open; /* the kernel can be asked to open only what is in memory */
        int staging_fd;       /* where files are made that can't be made without a name; -EBADF: not needed */
        uint64_t n_staged;    /* atomic */
        bool is_volatile;     /* names need not outlive the machine's power: they are not synced */

        /* The writer's: folders with names that are not synced yet. */
        struct blob_folder {
                uint64_t number;
                int fd; /* -EBADF: free */
        } folders[BLOB_FOLDERS_MAX];
        uint64_t next_folder; /* the lowest whose own name this process has not synced */
        bool is_folder_new;   /* such a name is to be synced */
};

#define BLOBS_INIT                                      \
        ((struct blobs){ .fd = -EBADF,                  \
                         .view_fd = -EBADF,             \
                         .staging_fd = -EBADF,          \
                         .folders = { { .fd = -EBADF }, \
                                      { .fd = -EBADF }, \
                                      { .fd = -EBADF }, \
                                      { .fd = -EBADF } } })

/* Opens (and makes) the folders "blobs" and, where files without a name are not to be had (or no_tmpfile
 * says so), "staging", which is emptied when it is there. 0 or an errno. */
int blobs_open(struct blobs *blobs, int dir_fd, bool no_tmpfile);
void blobs_close(struct blobs *blobs);

/* Opens bodies through the folder view from now on. -EXDEV: it is another folder. -EPERM: it can be written.
 * Or the errno of opening it. */
int blobs_use_view(struct blobs *blobs, const char *view);

/* A new empty file to write a body to. *ret_staged becomes 0, or the name it has until it is published. Any
 * thread. */
int blob_make(struct blobs *blobs, int *ret_fd, uint64_t *ret_staged);
/* Drops the name of one that is not to be published. */
void blob_unstage(struct blobs *blobs, uint64_t staged);

/* Gives the synced file the name blob, which was never used. The name is not synced before blobs_sync(). The
 * writer's, as are the next two. */
int blob_publish(struct blobs *blobs, int fd, uint64_t staged, uint64_t blob);
/* Syncs all names given since the last time. */
int blobs_sync(struct blobs *blobs);
void blob_unlink(struct blobs *blobs, uint64_t blob);
/* Removes a folder that gets no more names, when it is empty. Any thread. */
void blob_remove_folder(struct blobs *blobs, uint64_t folder);

/* Whether name is one that a blob, or a folder of blobs, has: the number that it stands for. */
bool blob_parse(const char *name, uint64_t *ret);
bool blob_parse_folder(const char *name, uint64_t *ret);

/* Opens a body of size bytes: O_RDONLY, a description of its own. Any thread. -ENOENT: there is none.
 * -EMSGSIZE: it is no file of that size, which is looked at when it was not within the last 16 seconds: nobody else is to
 * write there, and looking takes a good part of what opening does. -EXDEV: it is there, but not in the view, which is to
 * be given up. nowait: -EINPROGRESS when the disk would have to be asked; what was opened within the last 16
 * seconds is taken to be in memory. */
int blob_open(struct blobs *blobs, uint64_t blob, uint64_t size, bool nowait);
/* The same for the store's own reading: not through the view, and it does not count as an access. */
int blob_open_own(struct blobs *blobs, uint64_t blob, uint64_t size);

/* The path of a blob, or of a folder of blobs, below the folder of all. */
#define BLOB_PATH_MAX 32
void blob_path(uint64_t blob, char ret[static BLOB_PATH_MAX]);
void blob_folder_path(uint64_t folder, char ret[static BLOB_PATH_MAX]);
