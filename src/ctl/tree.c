/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tree.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "macro.h"

struct level {
        DIR *directory;
        size_t path_size; /* of the path to the folder, with a '/' at its end */
};

struct tree {
        struct level *levels; /* the folders that are open, outermost first */
        size_t n_levels, n_allocated;
        char *path; /* of the present entry */
        size_t path_allocated;
        size_t name; /* where the present entry's name begins in it */
};

static struct level *innermost(struct tree *tree) {
        assert(tree->n_levels > 0);
        return &tree->levels[tree->n_levels - 1];
}

/* Takes the descriptor of a folder, in any case. */
static int push(struct tree *tree, int fd, size_t path_size) {
        DIR *directory;

        if (tree->n_levels == tree->n_allocated) {
                size_t n = MAX(16U, tree->n_allocated * 2);
                struct level *levels = reallocarray(tree->levels, n, sizeof(*levels));

                if (!levels) {
                        close_fd(fd);
                        return -ENOMEM;
                }
                tree->levels = levels;
                tree->n_allocated = n;
        }

        directory = fdopendir(fd);
        if (!directory) {
                int r = -errno;

                close_fd(fd);
                return r;
        }

        tree->levels[tree->n_levels++] = (struct level){ directory, path_size };
        return 0;
}

static void pop(struct tree *tree) {
        (void) closedir(innermost(tree)->directory);
        tree->n_levels--;
}

int tree_new(const char *path, struct tree **ret) {
        _cleanup_(tree_freep) struct tree *tree = NULL;
        int fd, r;

        tree = calloc(1, sizeof(*tree));
        if (!tree)
                return -ENOMEM;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        r = push(tree, fd, 0);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(tree);
        return 0;
}

void tree_free(struct tree *tree) {
        if (!tree)
                return;

        while (tree->n_levels > 0)
                pop(tree);

        free(tree->levels);
        free(tree->path);
        free(tree);
}

/* Makes the path of name in the innermost folder, with room for a '/'. */
static int set_path(struct tree *tree, const char *name, size_t *ret_size) {
        size_t prefix = innermost(tree)->path_size, size = strlen(name);

        if (prefix + size + 2 > tree->path_allocated) {
                size_t n = (prefix + size + 2) * 2;
                char *path = realloc(tree->path, n);

                if (!path)
                        return -ENOMEM;
                tree->path = path;
                tree->path_allocated = n;
        }

        memcpy(tree->path + prefix, name, size + 1);
        tree->name = prefix;
        *ret_size = prefix + size;
        return 0;
}

static int enter(struct tree *tree, size_t path_size) {
        int fd;

        fd = openat(dirfd(innermost(tree)->directory), tree->path + tree->name,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        tree->path[path_size] = '/';
        return push(tree, fd, path_size + 1);
}

int tree_next(struct tree *tree, struct tree_entry *ret) {
        while (tree->n_levels > 0) {
                struct dirent *entry;
                size_t size;
                int r;

                errno = 0;
                entry = readdir(innermost(tree)->directory);
                if (!entry) {
                        r = -errno;
                        size = innermost(tree)->path_size;
                        pop(tree);
                        if (r == 0)
                                continue;

                        if (size > 0) /* or an entry's name would still stand behind the folder's */
                                tree->path[size] = '\0';
                        *ret = (struct tree_entry){ TREE_ERROR, size > 0 ? tree->path : "", size,
                                                    .error = r };
                        return 1;
                }

                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;

                r = set_path(tree, entry->d_name, &size);
                if (r < 0)
                        return r;

                *ret = (struct tree_entry){ .path = tree->path, .path_size = size };
                if (fstatat(dirfd(innermost(tree)->directory), entry->d_name, &ret->st, AT_SYMLINK_NOFOLLOW) <
                    0) {
                        if (errno == ENOENT)
                                continue; /* gone since the folder was read */
                        ret->kind = TREE_ERROR;
                        ret->error = -errno;
                } else if (S_ISDIR(ret->st.st_mode)) {
                        r = enter(tree, size);
                        if (r >= 0)
                                continue;
                        tree->path[size] = '\0';
                        ret->kind = TREE_ERROR;
                        ret->error = r;
                } else
                        ret->kind = S_ISREG(ret->st.st_mode)   ? TREE_FILE
                                    : S_ISLNK(ret->st.st_mode) ? TREE_LINK
                                                               : TREE_SPECIAL;

                return 1;
        }

        return 0;
}

int tree_open_file(struct tree *tree) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        /* O_NONBLOCK: should it have become a pipe, there is no waiting for a writer. */
        fd = openat(dirfd(innermost(tree)->directory), tree->path + tree->name,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;

        return TAKE_FD(fd);
}
