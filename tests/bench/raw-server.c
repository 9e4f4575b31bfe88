/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* raw-server SOCKET KIND [PREFIX COUNT [SNDBUF]]: answers with the bare system calls, and nothing else, what the daemon answers
 * by a protocol. A request is 40 bytes; so many as came with one recv() are answered together. What is got is one of the
 * COUNT files PREFIX0000, PREFIX0001, ... after the other. KIND:
 *
 *   echo    96 bytes
 *   open    96 bytes with a fresh descriptor of the file, up to 253 of them in a message
 *   inline  96 bytes and the file's, from memory, all that was asked for in one send
 *   write   the same, the file being mapped, one after the other
 *   splice  96 bytes, then the file by way of a pipe
 *   pipe    96 bytes with the read end of a new pipe, into which the file is spliced
 *
 * SNDBUF: of the sockets, where they are not to keep theirs. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "macro.h"
#include "raw.h"

#define BATCH     253
#define PIPE_SIZE (1 << 20)

enum kind { KIND_ECHO, KIND_OPEN, KIND_INLINE, KIND_WRITE, KIND_SPLICE, KIND_PIPE };

static const char *const kinds[] = { "echo", "open", "inline", "write", "splice", "pipe" };

struct server {
        enum kind kind;
        int dir_fd, send_buffer, pipe[2];
        struct file {
                char *name;
                int fd;
                uint8_t *body; /* mapped */
        } * files;
        size_t n_files, next;
        size_t size;
        uint8_t *gathered; /* heads and bodies of a batch */
};

static void wait_for(int fd, short events) {
        struct pollfd poll_fd = { .fd = fd, .events = events };

        (void) poll(&poll_fd, 1, -1);
}

static bool send_all(int fd, const uint8_t *p, size_t size) {
        while (size > 0) {
                ssize_t n = send(fd, p, size, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EAGAIN)
                        wait_for(fd, POLLOUT);
                else if (n < 0)
                        return false;
                else {
                        p += n;
                        size -= (size_t) n;
                }
        }
        return true;
}

/* n heads, the descriptors with the first of them. */
static bool send_heads(int fd, const int *fds, size_t n) {
        static const uint8_t heads[BATCH * RAW_REPLY];
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int) * BATCH)];
        } control;
        struct iovec iov = { (void *) heads, n * RAW_REPLY };
        struct msghdr message = { .msg_iov = &iov,
                                  .msg_iovlen = 1,
                                  .msg_control = &control,
                                  .msg_controllen = CMSG_SPACE(sizeof(int) * n) };
        ssize_t sent;

        control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                           .cmsg_type = SCM_RIGHTS,
                                           .cmsg_len = CMSG_LEN(sizeof(int) * n) };
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
        while ((sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 && errno == EAGAIN)
                wait_for(fd, POLLOUT);
        return sent >= 0 && send_all(fd, heads, n * RAW_REPLY - (size_t) sent);
}

static struct file *next_file(struct server *server) {
        return &server->files[server->next++ % server->n_files];
}

static bool answer_open(struct server *server, int fd, size_t n) {
        int fds[BATCH];
        bool ok;

        for (size_t i = 0; i < n; i++) {
                const char *name = next_file(server)->name;

                fds[i] = openat(server->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                if (fds[i] < 0)
                        err(1, "%s", name);
        }
        ok = send_heads(fd, fds, n);
        for (size_t i = 0; i < n; i++)
                (void) close(fds[i]);
        return ok;
}

static bool splice_file(struct server *server, int to, bool is_pipe) {
        int file = next_file(server)->fd;
        off_t offset = 0;

        while ((size_t) offset < server->size) {
                size_t left = server->size - (size_t) offset;
                ssize_t n = splice(file, &offset, is_pipe ? to : server->pipe[1], NULL, left, SPLICE_F_MOVE);

                if (n <= 0)
                        return false;
                while (!is_pipe && n > 0) {
                        ssize_t moved = splice(server->pipe[0], NULL, to, NULL, (size_t) n,
                                               SPLICE_F_MOVE | SPLICE_F_MORE);

                        if (moved < 0 && errno == EAGAIN)
                                wait_for(to, POLLOUT);
                        else if (moved <= 0)
                                return false;
                        else
                                n -= moved;
                }
        }
        return true;
}

static bool answer_pipe(struct server *server, int fd) {
        int ends[2];
        bool ok;

        if (pipe2(ends, O_CLOEXEC) < 0)
                err(1, "pipe");
        (void) fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE);
        ok = send_heads(fd, ends, 1);
        (void) close(ends[0]);
        ok = ok && splice_file(server, ends[1], true);
        (void) close(ends[1]);
        return ok;
}

static bool answer(struct server *server, int fd, size_t n) {
        static const uint8_t head[BATCH * RAW_REPLY];

        switch (server->kind) {
        case KIND_ECHO:
                return send_all(fd, head, n * RAW_REPLY);
        case KIND_OPEN:
                return answer_open(server, fd, n);
        case KIND_INLINE:
                for (size_t i = 0; i < n; i++)
                        memcpy(server->gathered + i * (RAW_REPLY + server->size) + RAW_REPLY,
                               next_file(server)->body, server->size);
                return send_all(fd, server->gathered, n * (RAW_REPLY + server->size));
        case KIND_WRITE:
                for (size_t i = 0; i < n; i++)
                        if (!send_all(fd, head, RAW_REPLY) ||
                            !send_all(fd, next_file(server)->body, server->size))
                                return false;
                return true;
        case KIND_SPLICE:
                for (size_t i = 0; i < n; i++)
                        if (!send_all(fd, head, RAW_REPLY) || !splice_file(server, fd, false))
                                return false;
                return true;
        case KIND_PIPE:
                for (size_t i = 0; i < n; i++)
                        if (!answer_pipe(server, fd))
                                return false;
                return true;
        }
        return false;
}

static bool serve(struct server *server, int fd) {
        static uint8_t requests[BATCH * RAW_REQUEST];
        ssize_t n = recv(fd, requests, sizeof(requests), MSG_DONTWAIT);

        if (n <= 0)
                return n < 0 && errno == EAGAIN;
        if (n % RAW_REQUEST != 0) /* the rest of one is on its way */
                n += recv(fd, requests, RAW_REQUEST - (size_t) n % RAW_REQUEST, MSG_WAITALL);
        return answer(server, fd, (size_t) n / RAW_REQUEST);
}

static int listen_on(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof(address.sun_path))
                errx(2, "%s is too long", path);
        (void) stpcpy(address.sun_path, path);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, 4096) < 0)
                err(1, "%s", path);
        return fd;
}

static void open_file(struct server *server, struct file *file, const char *prefix, size_t i) {
        struct stat st;

        if (asprintf(&file->name, "%s%04zu", prefix, i) < 0)
                err(1, "memory");
        file->fd = openat(server->dir_fd, file->name, O_RDONLY | O_CLOEXEC);
        if (file->fd < 0 || fstat(file->fd, &st) < 0)
                err(1, "%s", file->name);
        server->size = (size_t) st.st_size;
        file->body = mmap(NULL, server->size, PROT_READ, MAP_SHARED | MAP_POPULATE, file->fd, 0);
        if (file->body == MAP_FAILED)
                err(1, "%s", file->name);
}

static void open_files(struct server *server, char *prefix, size_t n) {
        char *slash = strrchr(prefix, '/');

        if (!slash || n == 0)
                errx(2, "%zu files named %s", n, prefix);
        *slash = '\0';
        server->dir_fd = open(prefix, O_PATH | O_DIRECTORY | O_CLOEXEC);
        server->files = calloc(n, sizeof(server->files[0]));
        server->n_files = n;
        if (server->dir_fd < 0 || !server->files)
                err(1, "%s", prefix);
        for (size_t i = 0; i < n; i++)
                open_file(server, &server->files[i], slash + 1, i);
        server->gathered = calloc(BATCH, RAW_REPLY + (server->kind == KIND_INLINE ? server->size : 0));
        if (!server->gathered)
                err(1, "%zu bytes", server->size);
}

int main(int argc, char *argv[]) {
        struct server server = {};
        struct epoll_event events[256] = { { .events = EPOLLIN } };
        int listener, epoll;

        while (argc >= 3 && server.kind < ARRAY_SIZE(kinds) && strcmp(kinds[server.kind], argv[2]) != 0)
                server.kind++;
        if (argc < 3 || argc > 6 || argc == 4 || server.kind == ARRAY_SIZE(kinds) ||
            (argc == 3 && server.kind != KIND_ECHO))
                errx(2, "usage: %s SOCKET KIND [PREFIX COUNT [SNDBUF]]", argv[0]);
        if (argc > 3)
                open_files(&server, argv[3], strtoull(argv[4], NULL, 10));
        server.send_buffer = argc > 5 ? atoi(argv[5]) : 0;
        if (pipe2(server.pipe, O_CLOEXEC) < 0)
                err(1, "pipe");
        (void) fcntl(server.pipe[1], F_SETPIPE_SZ, PIPE_SIZE);
        (void) signal(SIGPIPE, SIG_IGN);

        listener = listen_on(argv[1]);
        epoll = epoll_create1(EPOLL_CLOEXEC);
        events[0].data.fd = listener;
        if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &events[0]) < 0)
                err(1, "epoll");

        for (;;) {
                int n = epoll_wait(epoll, events, ARRAY_SIZE(events), -1);

                for (int i = 0; i < n; i++) {
                        int fd = events[i].data.fd;

                        if (fd != listener) {
                                if (!serve(&server, fd))
                                        (void) close(fd);
                                continue;
                        }
                        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                        if (fd < 0)
                                err(1, "accept");
                        if (server.send_buffer > 0)
                                (void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &server.send_buffer,
                                                  sizeof(int));
                        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
                                      &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd }) < 0)
                                err(1, "epoll");
                }
        }
}
