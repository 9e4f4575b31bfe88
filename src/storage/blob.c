/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "blob.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "bytes.h"
#include "cleanup.h"
#include "folder.h"
#include "macro.h"
#include "opened.h"

#define FOLDER_DIGITS 13
#define NAME_DIGITS   16

/* Of opened_age(): so long it is taken for granted that a path is in memory, where the kernel can't be asked. */
#define CACHED_AGE_MAX 3

static_assert(FOLDER_DIGITS + 1 + NAME_DIGITS + 1 <= BLOB_PATH_MAX, "a path fits");
static_assert(4 * FOLDER_DIGITS + BLOB_FOLDER_BITS == 64, "a folder's name begins those of its blobs");

/* Hexadecimal digits, all at once: each get that opens a file makes a path. */
static void format_digits(char ret[static 8], uint32_t number) {
        const uint64_t each = UINT64_C(0x0101010101010101); /* byte */
        uint64_t digits = number;

        /* Four bits to each byte. */
        digits = (digits | digits << 16) & UINT64_C(0x0000ffff0000ffff);
        digits = (digits | digits << 8) & UINT64_C(0x00ff00ff00ff00ff);
        digits = (digits | digits << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
        store_be64(ret, digits + each * '0' + (((digits + each * 6) >> 4) & each) * ('a' - '9' - 1));
}

static void format_name(char ret[static NAME_DIGITS + 1], uint64_t blob) {
        format_digits(ret, (uint32_t) (blob >> 32));
        format_digits(ret + 8, (uint32_t) blob);
        ret[NAME_DIGITS] = 0;
}

/* What its blobs' names begin with. */
static void format_folder(char ret[static NAME_DIGITS + 1], uint64_t folder) {
        format_name(ret, folder << BLOB_FOLDER_BITS);
        ret[FOLDER_DIGITS] = 0;
}

void blob_folder_path(uint64_t folder, char ret[static BLOB_PATH_MAX]) {
        format_folder(ret, folder);
}

/* "FOLDER/BLOB". */
void blob_path(uint64_t blob, char ret[static BLOB_PATH_MAX]) {
        char *name = ret + FOLDER_DIGITS + 1;

        format_name(name, blob);
        memcpy(ret, name, FOLDER_DIGITS);
        ret[FOLDER_DIGITS] = '/';
}

/* There a server is asked, on another machine or in another process. */
static bool is_remote(int fd) {
        static const uint32_t magics[] = { FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,
                                           CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC, CEPH_SUPER_MAGIC,
                                           V9FS_MAGIC,       AFS_FS_MAGIC };
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return true;

        for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
                if ((uint32_t) fs.f_type == magics[i])
                        return true;

        return false;
}

static int open_folder(int dir_fd, const char *name) {
        int fd;

        if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
                return -errno;

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

/* A file without a name gets one through /proc. */
static bool can_make_unnamed(int fd) {
        char name[sizeof("/proc/self/fd/") + 11];
        _cleanup_close_ int file = openat(fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0400);

        if (file < 0)
                return errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL;

        (void) snprintf(name, sizeof(name), "/proc/self/fd/%i", file);
        return access(name, F_OK) >= 0;
}

static int empty_folder(int fd) {
        _cleanup_(folder_closep) DIR *dir = NULL;
        const char *name;
        int r;

        r = folder_open(fd, ".", &dir);
        if (r < 0)
                return r;

        while ((r = folder_next(dir, &name)) > 0)
                if (name[0] != '.' && unlinkat(fd, name, 0) < 0)
                        return -errno;

        return r;
}

/* As openat(), but only when the kernel has all of the path in memory; else EAGAIN. */
static int open_cached(int dir_fd, const char *path, int flags) {
        struct open_how how = { .flags = (uint64_t) flags, .resolve = RESOLVE_CACHED };

        return (int) syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
}

static bool can_open_cached(int dir_fd) {
        _cleanup_close_ int fd = open_cached(dir_fd, ".", O_PATH | O_CLOEXEC);

        return fd >= 0 || errno == EAGAIN;
}

int blobs_open(struct blobs *blobs, int dir_fd, bool no_tmpfile) {
        _cleanup_close_ int staging_fd = -EBADF;
        bool needs_staging;
        int r;

        *blobs = BLOBS_INIT;

        blobs->fd = open_folder(dir_fd, "blobs");
        if (blobs->fd < 0)
                return blobs->fd;

        blobs->is_remote = is_remote(blobs->fd);
        blobs->has_cached_open = can_open_cached(blobs->fd);
        r = opened_new(&blobs->opened);
        if (r < 0)
                return r;

        needs_staging = no_tmpfile || !can_make_unnamed(blobs->fd);
        if (!needs_staging && faccessat(dir_fd, "staging", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;

        staging_fd = open_folder(dir_fd, "staging");
        if (staging_fd < 0)
                return staging_fd;

        r = empty_folder(staging_fd);
        if (r < 0)
                return r;

        if (needs_staging)
                blobs->staging_fd = TAKE_FD(staging_fd);
        return 0;
}

void blobs_close(struct blobs *blobs) {
        for (size_t i = 0; i < ARRAY_SIZE(blobs->folders); i++)
                close_fdp(&blobs->folders[i].fd);
        opened_free(TAKE_PTR(blobs->opened));
        close_fdp(&blobs->staging_fd);
        close_fdp(&blobs->view_fd);
        close_fdp(&blobs->fd);
}

int blobs_use_view(struct blobs *blobs, const char *view) {
        _cleanup_close_ int fd = open(view, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat ours, theirs;
        struct statvfs fs;

        if (fd < 0 || fstat(fd, &theirs) < 0 || fstat(blobs->fd, &ours) < 0 || fstatvfs(fd, &fs) < 0)
                return -errno;
        if (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino)
                return -EXDEV;
        if (!(fs.f_flag & ST_RDONLY))
                return -EPERM;

        blobs->view_fd = TAKE_FD(fd);
        return 0;
}

int blob_make(struct blobs *blobs, int *ret_fd, uint64_t *ret_staged) {
        char name[NAME_DIGITS + 1];
        uint64_t staged = 0;
        int fd;

        if (blobs->staging_fd < 0)
                fd = openat(blobs->fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0400);
        else {
                staged = __atomic_add_fetch(&blobs->n_staged, 1, __ATOMIC_RELAXED);
                format_name(name, staged);
                fd = openat(blobs->staging_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW,
                            0400);
        }
        if (fd < 0)
                return -errno;

        *ret_fd = fd;
        *ret_staged = staged;
        return 0;
}

void blob_unstage(struct blobs *blobs, uint64_t staged) {
        char name[NAME_DIGITS + 1];

        format_name(name, staged);
        (void) unlinkat(blobs->staging_fd, name, 0);
}

/* Makes sure that the folder of blob exists and is among those to be synced. */
static int note_folder(struct blobs *blobs, uint64_t blob, int *ret_fd) {
        uint64_t number = blob >> BLOB_FOLDER_BITS;
        struct blob_folder *folder = NULL;
        char name[NAME_DIGITS + 1];
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(blobs->folders); i++)
                if (blobs->folders[i].fd < 0)
                        folder = &blobs->folders[i];
                else if (blobs->folders[i].number == number) {
                        *ret_fd = blobs->folders[i].fd;
                        return 0;
                }

        if (!folder) { /* only after a row of failures: numbers come in order */
                r = blobs_sync(blobs);
                if (r < 0)
                        return r;
                folder = &blobs->folders[0];
        }

        format_folder(name, number);
        r = open_folder(blobs->fd, name);
        if (r < 0)
                return r;

        folder->fd = r;
        folder->number = number;
        if (number >= blobs->next_folder) {
                blobs->next_folder = number + 1;
                blobs->is_folder_new = true;
        }
        *ret_fd = folder->fd;
        return 0;
}

int blob_publish(struct blobs *blobs, int fd, uint64_t staged, uint64_t blob) {
        char from[sizeof("/proc/self/fd/") + 11], to[NAME_DIGITS + 1];
        int folder_fd, r;

        r = note_folder(blobs, blob, &folder_fd);
        if (r < 0)
                return r;

        format_name(to, blob);
        if (staged != 0) {
                format_name(from, staged);
                r = linkat(blobs->staging_fd, from, folder_fd, to, 0);
        } else {
                (void) snprintf(from, sizeof(from), "/proc/self/fd/%i", fd);
                r = linkat(AT_FDCWD, from, folder_fd, to, AT_SYMLINK_FOLLOW);
        }

        return r < 0 ? -errno : 0;
}

int blobs_sync(struct blobs *blobs) {
        if (blobs->is_folder_new && !blobs->is_volatile && fsync(blobs->fd) < 0)
                return -errno;
        blobs->is_folder_new = false;

        for (size_t i = 0; i < ARRAY_SIZE(blobs->folders); i++) {
                struct blob_folder *folder = &blobs->folders[i];

                if (folder->fd < 0)
                        continue;
                if (!blobs->is_volatile && fsync(folder->fd) < 0)
                        return -errno;
                close_fdp(&folder->fd);
        }

        return 0;
}

void blob_unlink(struct blobs *blobs, uint64_t blob) {
        char path[BLOB_PATH_MAX];

        blob_path(blob, path);
        (void) unlinkat(blobs->fd, path, 0);
}

void blob_remove_folder(struct blobs *blobs, uint64_t folder) {
        char name[NAME_DIGITS + 1];

        format_folder(name, folder);
        (void) unlinkat(blobs->fd, name, AT_REMOVEDIR);
}

static bool parse_hex(const char *name, unsigned n_digits, uint64_t *ret) {
        uint64_t number = 0;

        for (unsigned i = 0; i < n_digits; i++) {
                char c = name[i];

                if (c >= '0' && c <= '9')
                        number = number << 4 | (uint64_t) (c - '0');
                else if (c >= 'a' && c <= 'f')
                        number = number << 4 | (uint64_t) (c - 'a' + 10);
                else
                        return false;
        }

        *ret = number;
        return name[n_digits] == 0;
}

bool blob_parse(const char *name, uint64_t *ret) {
        return parse_hex(name, NAME_DIGITS, ret);
}

bool blob_parse_folder(const char *name, uint64_t *ret) {
        return parse_hex(name, FOLDER_DIGITS, ret);
}

static int open_file(int dir_fd, const char *path, int flags, bool cached) {
        int all = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | flags;
        int fd = cached ? open_cached(dir_fd, path, all) : openat(dir_fd, path, all);

        if (fd < 0 && cached && errno == EAGAIN)
                return -EINPROGRESS;

        return fd < 0 ? -errno : fd;
}

/* Takes fd: it is a file of size bytes, or an error that there was already, or one now. */
static int check_file(int fd, uint64_t size) {
        _cleanup_close_ int file = fd;
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(file, &st) < 0)
                return -errno;

        return S_ISREG(st.st_mode) && (uint64_t) st.st_size == size ? TAKE_FD(file) : -EMSGSIZE;
}

static int open_body(struct blobs *blobs, uint64_t blob, bool nowait, bool cached) {
        char path[BLOB_PATH_MAX];
        int fd;

        blob_path(blob, path);
        if (blobs->view_fd < 0 || __atomic_load_n(&blobs->is_view_lost, __ATOMIC_RELAXED))
                return open_file(blobs->fd, path, 0, cached);

        fd = open_file(blobs->view_fd, path, 0, cached);
        if (nowait && fd == -ENOENT)
                return -EINPROGRESS; /* to be looked into by who may wait */
        if (fd != -ENOENT || faccessat(blobs->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return fd;

        return -EXDEV;
}

int blob_open(struct blobs *blobs, uint64_t blob, uint64_t size, bool nowait) {
        uint64_t age = blobs->is_remote ? UINT64_MAX : opened_age(blobs->opened, blob);
        int fd;

        if (nowait && (blobs->is_remote || (!blobs->has_cached_open && age > CACHED_AGE_MAX)))
                return -EINPROGRESS;

        fd = open_body(blobs, blob, nowait, nowait && blobs->has_cached_open && age > 0);
        if (age == 0)
                return fd;

        fd = check_file(fd, size);
        if (fd >= 0)
                opened_note(blobs->opened, blob);
        return fd;
}

int blob_open_own(struct blobs *blobs, uint64_t blob, uint64_t size) {
        char path[BLOB_PATH_MAX];
        int fd;

        blob_path(blob, path);
        /* The owner's and root's alone; a FIFO in the file's place must not block. */
        fd = open_file(blobs->fd, path, O_NOATIME | O_NONBLOCK, false);
        return check_file(fd == -EPERM ? open_file(blobs->fd, path, O_NONBLOCK, false) : fd, size);
}
