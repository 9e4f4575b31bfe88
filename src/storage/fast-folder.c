/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fast-folder.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "folder.h"

#define MARKER      "objmapper-cache"
#define MARKER_TEXT "Copies that objmapperd makes, and deletes when it likes.\n"

struct run_name {
        char text[16 + 1];
};

static struct run_name name_of(uint64_t run) {
        struct run_name name;

        (void) snprintf(name.text, sizeof(name.text), "%016" PRIx64, run);
        return name;
}

/* A new file system has its lost+found. */
static int check_empty(int dir_fd) {
        _cleanup_(folder_closep) DIR *dir = NULL;
        const char *name;
        int r;

        r = folder_open(dir_fd, ".", &dir);
        if (r < 0)
                return r;

        while ((r = folder_next(dir, &name)) > 0)
                if (strcmp(name, "lost+found") != 0)
                        return -ENOTEMPTY;

        return r;
}

static int make_marker(struct fast_folder *folder) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = check_empty(folder->fd);
        if (r < 0)
                return r;

        fd = openat(folder->fd, MARKER, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;

        (void) !write(fd, MARKER_TEXT, strlen(MARKER_TEXT)); /* for people: that it is there is enough */
        return 0;
}

static int take_marker(struct fast_folder *folder) {
        int r = 0;

        if (faccessat(folder->fd, MARKER, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                r = errno == ENOENT ? make_marker(folder) : -errno;
        if (r < 0)
                return r;

        folder->marker_fd = openat(folder->fd, MARKER, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (folder->marker_fd < 0)
                return -errno;

        return flock(folder->marker_fd, LOCK_EX | LOCK_NB) >= 0 ? 0 : errno == EWOULDBLOCK ? -EBUSY : -errno;
}

static int make_run(struct fast_folder *folder, bool no_tmpfile) {
        _cleanup_close_ int fd = -EBADF;
        struct run_name name;
        int r;

        do {
                if (getrandom(&folder->run, sizeof(folder->run), 0) != sizeof(folder->run))
                        return -EIO;
                name = name_of(folder->run);
                r = mkdirat(folder->fd, name.text, 0700);
        } while (r < 0 && errno == EEXIST);
        if (r < 0)
                return -errno;

        fd = openat(folder->fd, name.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;

        r = blobs_open(&folder->blobs, fd, no_tmpfile);
        folder->blobs.is_volatile = true;
        return r;
}

int fast_folder_open(struct fast_folder *folder, const char *path, bool no_tmpfile) {
        int r;

        *folder = FAST_FOLDER_INIT;

        folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder->fd < 0)
                return -errno;

        r = take_marker(folder);
        return r < 0 ? r : make_run(folder, no_tmpfile);
}

void fast_folder_close(struct fast_folder *folder) {
        blobs_close(&folder->blobs);
        close_fdp(&folder->fd);
        close_fdp(&folder->marker_fd);
}

int fast_folder_use_view(struct fast_folder *folder, const char *view) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%s/blobs", view, name_of(folder->run).text) < 0) {
                path = NULL;
                return -ENOMEM;
        }

        return blobs_use_view(&folder->blobs, path);
}

/* What an earlier process can have left: in its folder "blobs" with folders of copies, and maybe "staging". */
enum level { LEVEL_RUN, LEVEL_BLOBS, LEVEL_FILES };

static bool parse_child(enum level level, const char *name, enum level *ret) {
        uint64_t number;

        *ret = LEVEL_FILES;
        if (level == LEVEL_BLOBS)
                return blob_parse_folder(name, &number);
        if (strcmp(name, "blobs") == 0)
                *ret = LEVEL_BLOBS;
        return strcmp(name, "blobs") == 0 || strcmp(name, "staging") == 0;
}

static int clear(int dir_fd, const char *name, enum level level, const bool *stop) {
        _cleanup_(folder_closep) DIR *dir = NULL;
        const char *child;
        int r;

        r = folder_open(dir_fd, name, &dir);
        if (r < 0)
                return r == -ENOTDIR || r == -ELOOP ? 0 : r;

        while ((r = folder_next(dir, &child)) > 0 && !__atomic_load_n(stop, __ATOMIC_RELAXED)) {
                enum level child_level;
                uint64_t number;

                r = 0;
                if (level == LEVEL_FILES) {
                        if (blob_parse(child, &number) && unlinkat(dirfd(dir), child, 0) < 0 &&
                            errno != EISDIR)
                                r = -errno;
                } else if (parse_child(level, child, &child_level))
                        r = clear(dirfd(dir), child, child_level, stop);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;

        /* Somebody else's file in it keeps it. */
        return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != EEXIST ? -errno : 0;
}

int fast_folder_clear(struct fast_folder *folder, const bool *stop) {
        _cleanup_(folder_closep) DIR *dir = NULL;
        const char *name;
        uint64_t run;
        int r;

        r = folder_open(folder->fd, ".", &dir);
        if (r < 0)
                return r;

        while ((r = folder_next(dir, &name)) > 0 && !__atomic_load_n(stop, __ATOMIC_RELAXED))
                if (blob_parse(name, &run) && run != folder->run) {
                        r = clear(folder->fd, name, LEVEL_RUN, stop);
                        if (r < 0)
                                return r;
                }

        return r < 0 ? r : 0;
}
