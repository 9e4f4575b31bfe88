/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "quarantine.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FOLDER    "quarantine"
#define NAME_KEPT 200 /* bytes of a name that are kept */
#define TRIES_MAX 1000

static int open_quarantine(struct quarantine *quarantine) {
        if (quarantine->fd >= 0)
                return 0;

        if (mkdirat(quarantine->dir_fd, FOLDER, 0700) < 0 && errno != EEXIST)
                return -errno;

        quarantine->fd = openat(quarantine->dir_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (quarantine->fd < 0)
                return -errno;

        return fsync(quarantine->dir_fd) < 0 ? -errno : 0;
}

/* Where the file system can't refuse to overwrite, it is looked at first: nobody else makes names there. */
static int move(int from_fd, const char *from, int to_fd, const char *to) {
        if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) >= 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -errno;
        if (faccessat(to_fd, to, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                return -EEXIST;

        return renameat(from_fd, from, to_fd, to) < 0 ? -errno : 0;
}

int quarantine_move(struct quarantine *quarantine,
                    int from_fd,
                    const char *name,
                    char ret[static QUARANTINE_PATH_MAX]) {
        const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
        time_t now = time(NULL);
        char when[32];
        struct tm tm;
        int r;

        r = open_quarantine(quarantine);
        if (r < 0)
                return r;

        if (!gmtime_r(&now, &tm) || strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm) == 0)
                when[0] = 0;

        for (unsigned i = 0; i < TRIES_MAX; i++) {
                char again[16] = "";

                if (i > 0)
                        (void) snprintf(again, sizeof(again), ".%u", i);
                (void) snprintf(ret, QUARANTINE_PATH_MAX, FOLDER "/%.*s.%s%s", NAME_KEPT, last, when, again);

                r = move(from_fd, name, quarantine->fd, ret + strlen(FOLDER "/"));
                if (r != -EEXIST)
                        break;
        }
        if (r == -ENOENT && faccessat(from_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                r = -ESTALE; /* somebody has removed the folder */
        if (r < 0)
                return r;

        return fsync(quarantine->fd) < 0 ? -errno : 0;
}

void quarantine_done(struct quarantine *quarantine) {
        close_fdp(&quarantine->fd);
}
