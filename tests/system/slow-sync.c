/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Preloaded into the daemon: makes each sync of a file take as many milliseconds as the file "slow-sync" in the
 * daemon's state folder says. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void rest(void) {
        FILE *file = fopen("/var/lib/objmapper/slow-sync", "re");
        char text[16] = "";
        long msec;

        if (!file)
                return;
        (void) !fgets(text, sizeof(text), file);
        (void) fclose(file);

        msec = strtol(text, NULL, 10);
        (void) nanosleep(&(struct timespec){ .tv_sec = msec / 1000, .tv_nsec = msec % 1000 * 1000000 }, NULL);
}

__attribute__((visibility("default"))) int fsync(int fd) {
        rest();
        return (int) syscall(SYS_fsync, fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd) {
        rest();
        return (int) syscall(SYS_fdatasync, fd);
}
