/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Preloaded into the daemon: makes one of its threads hang, for good, when it comes to wait for events. The
 * file "hang" in the daemon's state folder says which: "objmapperd 0", the main thread, or "worker N", the
 * Nth from 1 that came to wait. When it hangs the file is gone, for who comes next, and "hung" says since when: by
 * CLOCK_MONOTONIC, in microseconds. */

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define FOLDER "/var/lib/objmapper/"

static unsigned n_workers; /* that have come to wait */

static void say_hung(void) {
        struct timespec now;
        FILE *file;

        (void) unlink(FOLDER "hang");
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        file = fopen(FOLDER "hung.part", "we");
        if (!file)
                return;

        (void) fprintf(file, "%lld", (long long) now.tv_sec * 1000000 + now.tv_nsec / 1000);
        (void) fclose(file);
        (void) rename(FOLDER "hung.part", FOLDER "hung");
}

static void hang_if_asked(void) {
        static __thread unsigned number;
        char asked[32] = "", name[16], own[32];
        FILE *file;

        (void) pthread_getname_np(pthread_self(), name, sizeof(name));
        if (number == 0 && strcmp(name, "worker") == 0)
                number = __atomic_add_fetch(&n_workers, 1, __ATOMIC_RELAXED);

        file = fopen(FOLDER "hang", "re");
        if (!file)
                return;
        if (!fgets(asked, sizeof(asked), file))
                asked[0] = 0;
        (void) fclose(file);

        (void) snprintf(own, sizeof(own), "%s %u", name, number);
        if (strcmp(asked, own) != 0)
                return;

        say_hung();
        for (;;)
                (void) pause();
}

__attribute__((visibility("default"))) int epoll_wait(int fd,
                                                      struct epoll_event *events,
                                                      int n_events,
                                                      int timeout) {
        int (*real)(int, struct epoll_event *, int, int);

        hang_if_asked();
        *(void **) &real = dlsym(RTLD_NEXT, "epoll_wait");
        return real(fd, events, n_events, timeout);
}
