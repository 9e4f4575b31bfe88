/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* raw echo N | raw open N FILE: what the kernel alone takes for a round trip between two processes over a Unix
 * stream socket, the server waiting with epoll: bytes for bytes, or bytes for a freshly opened descriptor. */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "trips.h"

/* About what a get and its answer take. */
#define REQUEST_SIZE 40
#define REPLY_SIZE   96

static void send_reply(int fd, int file) {
        char reply[REPLY_SIZE] = {};
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = { reply, sizeof(reply) };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (file >= 0) {
                control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                                   .cmsg_type = SCM_RIGHTS,
                                                   .cmsg_len = CMSG_LEN(sizeof(int)) };
                memcpy(CMSG_DATA(&control.header), &file, sizeof(file));
                message.msg_control = &control;
                message.msg_controllen = sizeof(control);
        }
        if (sendmsg(fd, &message, MSG_NOSIGNAL) != sizeof(reply))
                err(1, "sendmsg");
}

static void serve(int fd, int dir, const char *name) {
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = { .events = EPOLLIN };
        char request[REQUEST_SIZE];

        if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                err(1, "epoll");
        for (;;) {
                int file = -1;

                if (epoll_wait(epoll, &event, 1, -1) < 0)
                        err(1, "epoll_wait");
                if (recv(fd, request, sizeof(request), MSG_DONTWAIT) <= 0)
                        return;
                if (name) {
                        file = openat(dir, name, O_RDONLY | O_CLOEXEC);
                        if (file < 0)
                                err(1, "%s", name);
                }
                send_reply(fd, file);
                if (file >= 0)
                        (void) close(file);
        }
}

static void trip(void *userdata) {
        int fd = *(int *) userdata, file;
        char bytes[REPLY_SIZE] = {};
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { bytes, sizeof(bytes) };
        struct msghdr message = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };

        if (send(fd, bytes, REQUEST_SIZE, MSG_NOSIGNAL) != REQUEST_SIZE)
                err(1, "send");
        if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != REPLY_SIZE)
                err(1, "recvmsg");
        if (message.msg_controllen > 0) {
                memcpy(&file, CMSG_DATA(&control.header), sizeof(file));
                (void) close(file);
        }
}

int main(int argc, char *argv[]) {
        bool open_files = argc == 4 && strcmp(argv[1], "open") == 0;
        int pair[2], dir = -1;
        const char *name = NULL;
        pid_t server;

        if (!open_files && !(argc == 3 && strcmp(argv[1], "echo") == 0))
                errx(2, "usage: %s echo N | open N FILE", argv[0]);
        if (open_files) {
                char *slash = strrchr(argv[3], '/');

                if (!slash)
                        errx(2, "%s is no path", argv[3]);
                *slash = '\0';
                name = slash + 1;
                dir = open(argv[3], O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (dir < 0)
                        err(1, "%s", argv[3]);
        }
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                err(1, "socketpair");

        server = fork();
        if (server < 0)
                err(1, "fork");
        if (server == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(pair[0]);
                serve(pair[1], dir, name);
                _exit(0);
        }
        (void) close(pair[1]);
        measure_trips(atoi(argv[2]), trip, &pair[0]);

        return 0;
}
