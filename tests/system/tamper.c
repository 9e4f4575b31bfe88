/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tamper MODE URI: tries in every way to change the bytes of an object that it was given, and what another
 * client sees of its descriptor. Tells what succeeded that must not. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "objmapper.h"

static unsigned n_bad;

/* Complains when what must fail did not, or when it failed for a reason that protects nothing. */
static void must_fail(const char *what, bool succeeded) {
        if (succeeded) {
                printf("%s succeeded\n", what);
                n_bad++;
        } else
                printf("%s: %m\n", what);
}

static void must_be(const char *what, bool true_) {
        if (!true_) {
                printf("not so: %s\n", what);
                n_bad++;
        }
}

static bool can_map_writable(int fd) {
        void *p = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (p == MAP_FAILED) {
                p = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
                return p != MAP_FAILED && mprotect(p, 1, PROT_READ | PROT_WRITE) == 0;
        }

        return true;
}

static void try_to_change(int fd) {
        must_fail("write", pwrite(fd, "x", 1, 0) >= 0);
        must_fail("truncate", ftruncate(fd, 0) >= 0);
        must_fail("extend", ftruncate(fd, 1 << 20) >= 0);
        must_fail("punch a hole", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1) >= 0);
        must_fail("map writable", can_map_writable(fd));
}

/* A sealed memfd of this process's own may be opened again; what counts is that it still can't be changed. */
static void try_to_reopen(int fd, int flags, bool sealed) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int again = -EBADF;

        if (asprintf(&path, "/proc/self/fd/%d", fd) < 0)
                err(1, NULL);
        again = open(path, flags | O_CLOEXEC);
        if (again >= 0 && sealed)
                try_to_change(again);
        else
                must_fail(flags & O_TRUNC ? "truncate while opening" : "re-open for writing", again >= 0);
}

static objmapper_object *get(const char *uri, int mode) {
        objmapper_client *client;
        objmapper_object *object;

        if (objmapper_client_connect(&client, NULL, mode) < 0)
                errx(1, "can't connect");
        if (objmapper_get(client, uri, &object) < 0)
                errx(1, "%s", objmapper_client_error(client));
        objmapper_client_close(client);

        return object;
}

/* Two clients have the same object: what one does to its descriptor is its own affair. A lock is on the file
 * itself, so that others can run into it; but it has one owner, and only that one takes it away. */
static void compare_descriptions(int mine, int other, bool same_file) {
        must_be("offsets begin at 0", lseek(mine, 0, SEEK_CUR) == 0 && lseek(other, 0, SEEK_CUR) == 0);
        must_be("lseek stays private", lseek(mine, 1, SEEK_SET) == 1 && lseek(other, 0, SEEK_CUR) == 0);
        must_be("O_NONBLOCK stays private",
                fcntl(mine, F_SETFL, O_NONBLOCK) == 0 && (fcntl(other, F_GETFL) & O_NONBLOCK) == 0);
        must_be("flock works", flock(mine, LOCK_EX) == 0 && flock(other, LOCK_UN) == 0);
        must_be("the other's unlocking unlocked nothing",
                (flock(other, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) == same_file);
}

int main(int argc, char *argv[]) {
        objmapper_object *object, *other;
        bool sealed;
        int fd, mode;

        if (argc != 3)
                errx(2, "usage: %s fdpass|copy URI", argv[0]);
        mode = strcmp(argv[1], "fdpass") == 0 ? OBJMAPPER_FDPASS : OBJMAPPER_COPY;
        object = get(argv[2], mode);
        other = get(argv[2], mode);
        fd = objmapper_object_get_fd(object);
        if (fd < 0)
                errx(1, "no descriptor: %s", strerror(-fd));
        sealed = objmapper_object_get_mode(object) != OBJMAPPER_FDPASS;

        compare_descriptions(fd, objmapper_object_get_fd(other), !sealed);
        must_be("the access mode is O_RDONLY", (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
        try_to_change(fd);
        if (!sealed)
                must_fail("fchmod", fchmod(fd, 0666) >= 0);
        else
                (void) fchmod(fd, 0666);
        try_to_reopen(fd, O_RDWR, sealed);
        try_to_reopen(fd, O_WRONLY, sealed);
        try_to_reopen(fd, O_RDWR | O_APPEND, sealed);
        if (!sealed)
                try_to_reopen(fd, O_WRONLY | O_TRUNC, sealed);

        objmapper_object_free(object);
        objmapper_object_free(other);

        return n_bad > 0;
}
