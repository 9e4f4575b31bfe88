/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "bytes.h"
#include "fdpass.h"
#include "harness.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

/* Descriptors that can be told apart: each is a file that holds its own number. */
static void make_fds(int *fds, size_t n) {
        for (size_t i = 0; i < n; i++) {
                fds[i] = memfd_create("test", MFD_CLOEXEC);
                g_assert_cmpint(fds[i], >=, 0);
                g_assert_cmpint(pwrite(fds[i], &i, sizeof(i), 0), ==, sizeof(i));
        }
}

static void close_fds(const int *fds, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) close_fd(fds[i]);
}

/* fd is the one that make_fds() numbered so, and close-on-exec; it is closed. */
static void assert_fd(int fd, size_t number) {
        size_t found = SIZE_MAX;

        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
        g_assert_cmpint(pread(fd, &found, sizeof(found), 0), ==, sizeof(found));
        g_assert_cmpuint(found, ==, number);
        (void) close_fd(fd);
}

static void assert_fds(struct fdpass_fds *fds, size_t n) {
        g_assert_cmpuint(fds->n, ==, n);
        g_assert_false(fds->truncated);
        for (size_t i = 0; i < n; i++)
                assert_fd(fds->fd[i], i);
        fds->n = 0;
}

static void make_pair(int type, int pair[static 2]) {
        g_assert_cmpint(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), ==, 0);
}

static void close_pair(int pair[static 2]) {
        close_fdp(&pair[0]);
        close_fdp(&pair[1]);
}

static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };

static void test_round_trip(void) {
        static const size_t counts[] = { 0, 1, 2, 252, FDPASS_MAX_FDS };
        int sent[FDPASS_MAX_FDS + 1];

        make_fds(sent, G_N_ELEMENTS(sent));

        for (size_t t = 0; t < G_N_ELEMENTS(types); t++)
                for (size_t c = 0; c < G_N_ELEMENTS(counts); c++)
                        for (size_t size = 0; size <= 5; size += 5) {
                                struct fdpass_fds fds;
                                uint32_t operation = 0;
                                size_t got = 99;
                                char data[8];
                                int pair[2];

                                make_pair(types[t], pair);
                                assert_ok(fdpass_send(pair[0], NULL, 0, 0x80000001, size > 0 ? "hello" : NULL,
                                                      size, sent, counts[c]));
                                assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &got, &fds,
                                                         NULL, NULL),
                                             1);
                                g_assert_cmpuint(operation, ==, 0x80000001);
                                g_assert_cmpmem(data, got, "hello", size);
                                assert_fds(&fds, counts[c]);
                                close_pair(pair);
                        }

        close_fds(sent, G_N_ELEMENTS(sent));
}

static void test_too_many(void) {
        struct iovec iov = { .iov_base = (char *) "x", .iov_len = 1 };
        int sent[FDPASS_MAX_FDS + 1];

        make_fds(sent, G_N_ELEMENTS(sent));

        for (size_t t = 0; t < G_N_ELEMENTS(types); t++) {
                char c;
                int pair[2];

                make_pair(types[t], pair);
                assert_errno(fdpass_send(pair[0], NULL, 0, 1, NULL, 0, sent, 254), -EINVAL);
                assert_errno((int) fdpass_write(pair[0], &iov, 1, sent, 254), -EINVAL);
                /* Nothing was sent. */
                g_assert_cmpint(recv(pair[1], &c, 1, MSG_DONTWAIT), ==, -1);
                g_assert_cmpint(errno, ==, EAGAIN);
                close_pair(pair);
        }

        close_fds(sent, G_N_ELEMENTS(sent));
}

/* Two datagram sockets with addresses of their own, not connected. */
static void test_unconnected(void) {
        char *dir = harness_make_dir();
        struct sockaddr_un address[2], from;
        socklen_t from_size = sizeof(from);
        struct fdpass_fds fds;
        uint32_t operation;
        int sockets[2], sent[3];
        size_t size;
        char data[8];

        for (size_t i = 0; i < 2; i++) {
                address[i] = (struct sockaddr_un){ .sun_family = AF_UNIX };
                (void) snprintf(address[i].sun_path, sizeof(address[i].sun_path), "%s/%zu", dir, i);
                sockets[i] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                g_assert_cmpint(sockets[i], >=, 0);
                g_assert_cmpint(bind(sockets[i], (struct sockaddr *) &address[i], sizeof(address[i])), ==, 0);
        }

        make_fds(sent, 3);
        assert_errno(fdpass_send(sockets[0], NULL, 0, 1, "x", 1, NULL, 0), -ENOTCONN);
        assert_ok(fdpass_send(sockets[0], (struct sockaddr *) &address[1], sizeof(address[1]), 7, "bytes", 5,
                              sent, 3));
        assert_errno(fdpass_recv(sockets[1], &operation, data, sizeof(data), &size, &fds,
                                 (struct sockaddr *) &from, &from_size),
                     1);
        g_assert_cmpuint(operation, ==, 7);
        g_assert_cmpmem(data, size, "bytes", 5);
        g_assert_cmpstr(from.sun_path, ==, address[0].sun_path);
        g_assert_cmpuint(from_size, ==, offsetof(struct sockaddr_un, sun_path) + strlen(from.sun_path) + 1);
        assert_fds(&fds, 3);

        /* And back, to where it came from. */
        assert_ok(fdpass_send(sockets[1], (struct sockaddr *) &from, from_size, 8, NULL, 0, sent, 1));
        assert_errno(fdpass_recv(sockets[0], &operation, NULL, 0, &size, &fds, NULL, NULL), 1);
        g_assert_cmpuint(size, ==, 0);
        assert_fds(&fds, 1);
        assert_errno(fdpass_recv(sockets[0], &operation, NULL, 0, &size, &fds, NULL, NULL), -EAGAIN);

        close_fds(sent, 3);
        close_pair(sockets);
        harness_remove_dir(dir);
}

/* Messages that are in a stream already when the first is received stay apart, each with its descriptors. */
static void test_stream_boundaries(void) {
        struct fdpass_fds fds;
        uint32_t operation;
        int pair[2], sent[3];
        size_t size;
        char data[8];

        make_pair(SOCK_STREAM, pair);
        make_fds(sent, 3);
        for (uint32_t i = 0; i < 4; i++)
                assert_ok(fdpass_send(pair[0], NULL, 0, i, "abc", i, sent + i % 3, i == 3 ? 0 : 1));
        close_fdp(&pair[0]);

        for (uint32_t i = 0; i < 4; i++) {
                assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL, NULL),
                             1);
                g_assert_cmpuint(operation, ==, i);
                g_assert_cmpmem(data, size, "abc", i);
                if (i < 3) {
                        g_assert_cmpuint(fds.n, ==, 1);
                        assert_fd(fds.fd[0], i);
                } else
                        assert_fds(&fds, 0);
        }
        assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL, NULL), 0);

        close_fds(sent, 3);
        close_pair(pair);
}

/* A payload that does not fit is consumed whole, and the next message is received. */
static void test_too_large(void) {
        static const char big[10000];
        struct fdpass_fds fds;
        uint32_t operation;
        int sent[2];
        size_t size;
        char data[8];

        make_fds(sent, 2);
        for (size_t t = 0; t < G_N_ELEMENTS(types); t++) {
                int pair[2];

                make_pair(types[t], pair);
                assert_ok(fdpass_send(pair[0], NULL, 0, 1, big, sizeof(big), sent, 2));
                assert_ok(fdpass_send(pair[0], NULL, 0, 2, "12345678", 8, sent, 1));
                assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL, NULL),
                             -EMSGSIZE);
                g_assert_cmpuint(fds.n, ==, 0);
                assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL, NULL),
                             1);
                g_assert_cmpuint(operation, ==, 2);
                assert_fds(&fds, 1);
                close_pair(pair);
        }
        close_fds(sent, 2);
}

/* Sends raw bytes with descriptors. */
static void send_raw(int socket, const void *data, size_t size, const int *sent, size_t n) {
        uint8_t control[CMSG_SPACE(sizeof(int) * 8)] __attribute__((aligned(8)));
        struct iovec iov = { .iov_base = (void *) data, .iov_len = size };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n > 0) {
                struct cmsghdr *cmsg;

                message.msg_control = control;
                message.msg_controllen = CMSG_SPACE(sizeof(int) * n);
                cmsg = CMSG_FIRSTHDR(&message);
                cmsg->cmsg_level = SOL_SOCKET;
                cmsg->cmsg_type = SCM_RIGHTS;
                cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n);
                memcpy(CMSG_DATA(cmsg), sent, sizeof(int) * n);
        }
        g_assert_cmpint(sendmsg(socket, &message, 0), ==, (ssize_t) size);
}

static void test_lies(void) {
        /* A packet that ends in its header; sizes too small, too large and hostile; nothing at all. */
        static const struct {
                const char *bytes;
                size_t size;
        } lies[] = {
                { "\1\0\0\0\1\0\0", 7 },
                { "\1\0\0\0\1\0\0\0", 8 },
                { "\1\0\0\0\2\0\0\0abc", 11 },
                { "\1\0\0\0\4\0\0\0abc", 11 },
                { "\1\0\0\0\xff\xff\xff\xff_", 9 },
                { "\1\0\0\0\0\1\0\0abc", 11 },
                { "\1\0\0\0\3\0\0\0abcdefgh", 16 },
                { "", 0 },
        };
        int sent[2];

        make_fds(sent, 2);
        for (size_t t = 0; t < G_N_ELEMENTS(types); t++)
                for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
                        struct fdpass_fds fds;
                        uint32_t operation;
                        int pair[2];
                        size_t size;
                        char data[4];

                        if (types[t] == SOCK_STREAM)
                                continue;
                        make_pair(types[t], pair);
                        send_raw(pair[0], lies[i].bytes, lies[i].size, sent, 2);
                        assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL,
                                                 NULL),
                                     -EBADMSG);
                        g_assert_cmpuint(fds.n, ==, 0);
                        /* The next one is as good as ever. */
                        assert_ok(fdpass_send(pair[0], NULL, 0, 1, "x", 1, sent, 1));
                        assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL,
                                                 NULL),
                                     1);
                        assert_fds(&fds, 1);
                        close_pair(pair);
                }
        close_fds(sent, 2);
}

static void test_end(void) {
        static const char message[] = "\1\0\0\0\4\0\0\0abcd";
        struct fdpass_fds fds;
        uint32_t operation;
        int pair[2], sent[1];
        size_t size;
        char data[8];

        make_fds(sent, 1);

        /* In the middle of the header, after it, in the middle of the payload; also of one that does not fit. */
        for (size_t cut = 1; cut < 12; cut++)
                for (size_t room = 0; room <= sizeof(data); room += sizeof(data)) {
                        make_pair(SOCK_STREAM, pair);
                        send_raw(pair[0], message, cut, sent, 1);
                        close_fdp(&pair[0]);
                        assert_errno(fdpass_recv(pair[1], &operation, data, room, &size, &fds, NULL, NULL),
                                     -EBADMSG);
                        g_assert_cmpuint(fds.n, ==, 0);
                        close_pair(pair);
                }

        for (size_t t = 0; t < 2; t++) {
                make_pair(types[t], pair);
                close_fdp(&pair[0]);
                assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL, NULL),
                             0);
                assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, NULL, NULL, NULL),
                             0);
                assert_errno(fdpass_send(pair[1], NULL, 0, 1, NULL, 0, NULL, 0), -EPIPE);
                close_pair(pair);
        }

        assert_errno(fdpass_recv(-1, &operation, data, sizeof(data), &size, &fds, NULL, NULL), -EBADF);
        close_fds(sent, 1);
}

/* Descriptors that come with a later byte than a message's first belong to no message. */
static void test_stray_descriptors(void) {
        struct fdpass_fds fds;
        uint32_t operation;
        int pair[2], sent[3];
        size_t size;
        char data[8];

        make_fds(sent, 3);
        make_pair(SOCK_STREAM, pair);
        send_raw(pair[0], "\5\0\0\0", 4, sent, 1);
        send_raw(pair[0], "\2\0\0\0", 4, sent, 3);
        send_raw(pair[0], "ab", 2, sent, 3);
        assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL, NULL), 1);
        g_assert_cmpuint(operation, ==, 5);
        g_assert_cmpmem(data, size, "ab", 2);
        assert_fds(&fds, 1);
        close_pair(pair);
        close_fds(sent, 3);
}

struct transfer {
        int socket;
        size_t size;
        int result;
        struct fdpass_fds fds;
};

static void *receive_big(void *userdata) {
        struct transfer *transfer = userdata;
        uint8_t *data = g_malloc(transfer->size);
        uint32_t operation;
        size_t size;

        transfer->result = fdpass_recv(transfer->socket, &operation, data, transfer->size, &size,
                                       &transfer->fds, NULL, NULL);
        g_assert_cmpuint(size, ==, transfer->size);
        for (size_t i = 0; i < size; i++)
                g_assert_cmpuint(data[i], ==, (i * 7) & 0xff);

        g_free(data);
        return NULL;
}

/* Neither side's buffer holds the message, neither side's socket waits: both ends wait for the rest, and the
 * descriptors come once. */
static void test_partial(void) {
        struct transfer transfer = { .size = 4 << 20 };
        uint8_t *data = g_malloc(transfer.size);
        int pair[2], sent[3], small = 4096;
        pthread_t thread;
        struct iovec iov = { .iov_base = data, .iov_len = transfer.size };
        char c;

        for (size_t i = 0; i < transfer.size; i++)
                data[i] = (uint8_t) (i * 7);
        make_fds(sent, 3);
        make_pair(SOCK_STREAM, pair);
        g_assert_cmpint(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), ==, 0);
        g_assert_cmpint(fcntl(pair[0], F_SETFL, O_NONBLOCK), ==, 0);

        transfer.socket = pair[1];
        g_assert_cmpint(pthread_create(&thread, NULL, receive_big, &transfer), ==, 0);
        assert_ok(fdpass_send(pair[0], NULL, 0, 1, data, transfer.size, sent, 3));
        g_assert_cmpint(pthread_join(thread, NULL), ==, 0);
        assert_errno(transfer.result, 1);
        assert_fds(&transfer.fds, 3);

        /* A short write has sent its descriptors; a full socket takes no byte and no descriptor. */
        g_assert_cmpint(fdpass_write(pair[0], &iov, 1, sent, 2), <, (ssize_t) transfer.size);
        assert_errno((int) fdpass_write(pair[0], &iov, 1, sent, 3), -EAGAIN);
        assert_errno(fdpass_send(pair[0], NULL, 0, 1, data, 1, sent, 3), -EAGAIN);
        g_assert_cmpint(fdpass_read(pair[1], &c, 1, &transfer.fds), ==, 1);
        assert_fds(&transfer.fds, 2);
        while (fdpass_read(pair[1], data, transfer.size, &transfer.fds) > 0)
                g_assert_cmpuint(transfer.fds.n, ==, 0);

        close_pair(pair);
        close_fds(sent, 3);
        g_free(data);
}

/* A peer that stops in the middle does not hold us longer than the socket's time-out. */
static void test_timeout(void) {
        struct timeval soon = { .tv_usec = 1000 };
        struct fdpass_fds fds;
        uint8_t *data = g_malloc0(4 << 20);
        uint32_t operation;
        int pair[2], sent[1];
        size_t size;

        make_fds(sent, 1);
        for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
                make_pair(SOCK_STREAM, pair);
                g_assert_cmpint(fcntl(pair[0], F_SETFL, flags), ==, 0);
                g_assert_cmpint(fcntl(pair[1], F_SETFL, flags), ==, 0);
                g_assert_cmpint(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)), ==, 0);
                g_assert_cmpint(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)), ==, 0);

                assert_errno(fdpass_recv(pair[1], &operation, data, 1, &size, &fds, NULL, NULL), -EAGAIN);
                assert_errno(fdpass_send(pair[0], NULL, 0, 1, data, 4 << 20, sent, 1), -ETIMEDOUT);
                assert_errno(fdpass_recv(pair[1], &operation, data, 4 << 20, &size, &fds, NULL, NULL),
                             -ETIMEDOUT);
                g_assert_cmpuint(fds.n, ==, 0);
                close_pair(pair);
        }
        close_fds(sent, 1);
        g_free(data);
}

static int interrupts;

static void count_interrupt(_unused_ int signal) {
        (void) __atomic_add_fetch(&interrupts, 1, __ATOMIC_RELAXED);
}

/* Signals the thread until it was interrupted so many times in all. One signal may not do: where it comes just
 * before the system call, a sanitizer keeps it back until the call has returned, and the call waits on. */
static void interrupt_until(pthread_t thread, int times) {
        while (__atomic_load_n(&interrupts, __ATOMIC_RELAXED) < times) {
                g_assert_cmpint(pthread_kill(thread, SIGUSR1), ==, 0);
                g_usleep(100);
        }
}

static void test_interrupted(void) {
        struct sigaction action = { .sa_handler = count_interrupt }, before;
        struct transfer transfer = { .size = 1 << 20 };
        uint8_t *data = g_malloc(transfer.size);
        pthread_t thread;
        int pair[2];

        for (size_t i = 0; i < transfer.size; i++)
                data[i] = (uint8_t) (i * 7);
        g_assert_cmpint(sigaction(SIGUSR1, &action, &before), ==, 0);
        make_pair(SOCK_STREAM, pair);
        transfer.socket = pair[1];
        g_assert_cmpint(pthread_create(&thread, NULL, receive_big, &transfer), ==, 0);
        interrupt_until(thread, 20);
        /* Now inside the message, where it waits with poll(). */
        send_raw(pair[0], "\1\0\0\0\0\0\x10\0", 8, NULL, 0);
        interrupt_until(thread, 40);
        send_raw(pair[0], data, transfer.size, NULL, 0);
        g_assert_cmpint(pthread_join(thread, NULL), ==, 0);
        assert_errno(transfer.result, 1);
        assert_fds(&transfer.fds, 0);

        g_assert_cmpint(sigaction(SIGUSR1, &before, NULL), ==, 0);
        close_pair(pair);
        g_free(data);
}

/* What the socket's options add to a message is dropped, and takes no room from the descriptors. */
static void test_other_control(void) {
        static const int options[] = { SO_PASSCRED, SO_TIMESTAMP, SO_PASSSEC, SO_PASSPIDFD };
        int sent[FDPASS_MAX_FDS], on = 1;

        make_fds(sent, FDPASS_MAX_FDS);
        for (size_t t = 0; t < G_N_ELEMENTS(types); t++) {
                struct fdpass_fds fds;
                uint32_t operation;
                size_t size;
                int pair[2];
                char c;

                make_pair(types[t], pair);
                for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
                        if (setsockopt(pair[1], SOL_SOCKET, options[i], &on, sizeof(on)) < 0)
                                g_test_message("this kernel has no socket option %d", options[i]);
                assert_ok(fdpass_send(pair[0], NULL, 0, 1, NULL, 0, sent, FDPASS_MAX_FDS));
                assert_errno(fdpass_recv(pair[1], &operation, NULL, 0, &size, &fds, NULL, NULL), 1);
                assert_fds(&fds, FDPASS_MAX_FDS);

                /* Without descriptors, there are still no descriptors. */
                send_raw(pair[0], "x", 1, NULL, 0);
                g_assert_cmpint(fdpass_read(pair[1], &c, 1, &fds), ==, 1);
                assert_fds(&fds, 0);
                close_pair(pair);
        }
        close_fds(sent, FDPASS_MAX_FDS);
}

static void test_receive_none(void) {
        struct iovec iov[2] = { { .iov_base = (char *) "ab", .iov_len = 2 },
                                { .iov_base = (char *) "c", .iov_len = 1 } };
        uint32_t operation;
        unsigned before;
        int sent[5];
        size_t size;
        char data[8];

        make_fds(sent, 5);
        before = harness_count_fds();
        for (size_t t = 0; t < G_N_ELEMENTS(types); t++) {
                int pair[2];

                make_pair(types[t], pair);
                assert_ok(fdpass_send(pair[0], NULL, 0, 1, "x", 1, sent, 5));
                assert_errno(fdpass_recv(pair[1], &operation, data, sizeof(data), &size, NULL, NULL, NULL),
                             1);
                g_assert_cmpint(fdpass_write(pair[0], iov, 2, sent, 5), ==, 3);
                g_assert_cmpint(fdpass_read(pair[1], data, sizeof(data), NULL), ==, 3);
                g_assert_cmpmem(data, 3, "abc", 3);
                g_assert_cmpuint(harness_count_fds(), ==, before + 2);
                close_pair(pair);
        }
        close_fds(sent, 5);
}

static void test_write(void) {
        struct iovec iov[IOV_MAX + 1] = { { .iov_base = (char *) "x", .iov_len = 0 } };
        struct fdpass_fds fds;
        int pair[2], sent[1];
        char c;

        make_fds(sent, 1);
        make_pair(SOCK_STREAM, pair);
        assert_errno((int) fdpass_write(pair[0], iov, 0, sent, 1), -EINVAL);
        assert_errno((int) fdpass_write(pair[0], iov, 3, sent, 1), -EINVAL);
        iov[2] = (struct iovec){ .iov_base = (char *) "x", .iov_len = 1 };
        assert_errno((int) fdpass_write(pair[0], iov, IOV_MAX + 1, sent, 1), -EINVAL);
        g_assert_cmpint(fdpass_write(pair[0], iov, IOV_MAX, sent, 1), ==, 1);
        g_assert_cmpint(fdpass_read(pair[1], &c, 1, &fds), ==, 1);
        assert_fds(&fds, 1);

        /* No read waits, on a socket that would either. */
        assert_errno((int) fdpass_read(pair[1], &c, 1, &fds), -EAGAIN);
        g_assert_cmpuint(fds.n, ==, 0);
        assert_errno((int) fdpass_read(pair[1], &c, 1, NULL), -EAGAIN);
        close_fdp(&pair[0]);
        g_assert_cmpint(fdpass_read(pair[1], &c, 1, &fds), ==, 0);
        assert_errno((int) fdpass_write(pair[1], iov, 3, NULL, 0), -EPIPE);
        assert_errno((int) fdpass_write_bytes(pair[1], "x", 1), -EPIPE);
        close_pair(pair);

        /* An empty packet with a descriptor must not leave one behind. */
        make_pair(SOCK_SEQPACKET, pair);
        send_raw(pair[0], "", 0, sent, 1);
        g_assert_cmpint(fdpass_read(pair[1], &c, 1, &fds), ==, 0);
        g_assert_cmpuint(fds.n, ==, 0);
        close_pair(pair);
        close_fds(sent, 1);
}

/* Leaves this process exactly n descriptors to open. */
static struct rlimit leave_fds(unsigned n) {
        struct rlimit before, now;
        int lowest = 0;

        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
        /* The limit is the first number that can't be had, so count from the lowest free ones. */
        for (int free_fds = 0;; lowest++) {
                if (fcntl(lowest, F_GETFD) >= 0)
                        continue;
                if ((unsigned) free_fds++ == n)
                        break;
        }
        now = (struct rlimit){ .rlim_cur = (rlim_t) lowest, .rlim_max = before.rlim_max };
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &now), ==, 0);
        return before;
}

static void test_truncated(void) {
        int sent[5];

        make_fds(sent, 5);
        for (size_t t = 0; t < G_N_ELEMENTS(types); t++)
                for (unsigned room = 0; room <= 6; room++) {
                        struct fdpass_fds fds;
                        struct rlimit before;
                        uint32_t operation;
                        size_t size;
                        int pair[2], r;
                        char data[4];

                        make_pair(types[t], pair);
                        assert_ok(fdpass_send(pair[0], NULL, 0, 9, "abc", 3, sent, 5));
                        before = leave_fds(room);
                        r = fdpass_recv(pair[1], &operation, data, sizeof(data), &size, &fds, NULL, NULL);
                        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);

                        /* The bytes are all there; of the descriptors, the first. */
                        assert_errno(r, 1);
                        g_assert_cmpmem(data, size, "abc", 3);
                        g_assert_cmpuint(fds.n, ==, MIN(room, 5));
                        g_assert_true(fds.truncated == (room < 5));
                        for (size_t i = 0; i < fds.n; i++)
                                assert_fd(fds.fd[i], i);
                        close_pair(pair);
                }
        close_fds(sent, 5);
}

/* More descriptors in flight than the user may have: a child, since that needs to be no root. */
static void test_in_flight(void) {
        struct rlimit few = { .rlim_cur = 64, .rlim_max = 64 };
        int status, sent[8];
        pid_t pid;

        make_fds(sent, 8);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                struct iovec iov = { .iov_base = (char *) "x", .iov_len = 1 };
                int pair[2], got = 0;
                ssize_t n;

                if ((geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) ||
                    setrlimit(RLIMIT_NOFILE, &few) < 0 ||
                    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
                        _exit(2);
                while ((n = fdpass_write(pair[0], &iov, 1, sent, 8)) == 1 && got < 1000)
                        got++;
                _exit(n == -ETOOMANYREFS ? 0 : 1);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        close_fds(sent, 8);
}

/* A batch as fdpass_read() would have returned it: n descriptors, numbered from first. */
static void push(struct fdpass_queue *queue, const int *sent, size_t n, bool truncated, int expected) {
        struct fdpass_fds fds = { .n = n, .truncated = truncated };

        for (size_t i = 0; i < n; i++) {
                fds.fd[i] = fcntl(sent[i], F_DUPFD_CLOEXEC, 0);
                g_assert_cmpint(fds.fd[i], >=, 0);
        }
        assert_errno(fdpass_queue_push(queue, &fds), expected);
        g_assert_cmpuint(fds.n, ==, 0);
        g_assert_false(fds.truncated);
}

static void test_queue(void) {
        _cleanup_(fdpass_queue_freep) struct fdpass_queue *queue = NULL;
        int sent[9];

        make_fds(sent, 9);
        assert_ok(fdpass_queue_new(&queue));

        /* Whole batches, several at once. */
        push(queue, sent, 3, false, 0);
        push(queue, sent, 0, false, 0); /* no batch: bytes alone */
        push(queue, sent + 3, 1, false, 0);
        for (unsigned i = 0; i < 3; i++)
                assert_fd(fdpass_queue_take(queue, i, 3), i);
        push(queue, sent + 4, 2, false, 0);
        assert_fd(fdpass_queue_take(queue, 0, 1), 3);
        assert_fd(fdpass_queue_take(queue, 0, 2), 4);
        assert_fd(fdpass_queue_take(queue, 1, 2), 5);

        /* Of three the first arrived, of two none, of one all. */
        push(queue, sent, 1, true, 0);
        push(queue, NULL, 0, true, 0);
        push(queue, sent + 7, 1, false, 0);
        assert_fd(fdpass_queue_take(queue, 0, 3), 0);
        assert_errno(fdpass_queue_take(queue, 1, 3), -ENOLINK);
        assert_errno(fdpass_queue_take(queue, 2, 3), -ENOLINK);
        assert_errno(fdpass_queue_take(queue, 0, 2), -ENOLINK);
        assert_errno(fdpass_queue_take(queue, 1, 2), -ENOLINK);
        assert_fd(fdpass_queue_take(queue, 0, 1), 7);

        /* What no frame claims is closed when its batch ends. */
        push(queue, sent, 5, false, 0);
        push(queue, sent + 8, 1, false, 0);
        assert_fd(fdpass_queue_take(queue, 0, 2), 0);
        assert_fd(fdpass_queue_take(queue, 1, 2), 1);
        assert_fd(fdpass_queue_take(queue, 0, 1), 8);

        /* The rings' ends: more than once around, never empty. */
        push(queue, sent, 1, false, 0);
        for (unsigned i = 0; i < 3 * FDPASS_QUEUE_FDS_MAX / 7; i++) {
                push(queue, sent + 1, 7, i % 5 == 0, 0);
                if (i == 0)
                        assert_fd(fdpass_queue_take(queue, 0, 1), 0);
                else
                        for (unsigned k = 0; k < 7; k++)
                                assert_fd(fdpass_queue_take(queue, k, 7), 1 + k);
        }

        close_fds(sent, 9);
}

static void test_queue_lies(void) {
        static const struct {
                size_t n; /* of a batch that is pushed */
                bool truncated;
                unsigned index, count; /* taken first, where count is not 0 */
                unsigned lie_index, lie_count;
        } lies[] = {
                { 0, false, 0, 0, 0, 1 },  /* no batch */
                { 2, false, 0, 0, 1, 2 },  /* begins in the middle */
                { 2, false, 0, 0, 0, 0 },  /* a batch of none */
                { 2, true, 0, 0, 0, 254 }, /* more than the kernel carries */
                { 2, false, 0, 0, 0, 3 },  /* more than were sent */
                { 3, false, 0, 3, 0, 3 },  /* one is left out, and a batch begins */
                { 3, false, 0, 3, 2, 3 },  /* one is left out */
                { 3, false, 0, 3, 1, 2 },  /* another count */
                { 1, false, 0, 1, 1, 1 },  /* past the end */
                { 1, true, 0, 2, 1, 1 },   /* index not below count */
                { 1, false, 0, 1, 0, 1 },  /* one more batch than was sent */
                { 3, false, 0, 3, UINT_MAX, 3 },
        };
        int sent[3];

        make_fds(sent, 3);
        for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
                _cleanup_(fdpass_queue_freep) struct fdpass_queue *queue = NULL;
                unsigned before = harness_count_fds();

                assert_ok(fdpass_queue_new(&queue));
                push(queue, sent, lies[i].n, lies[i].truncated, 0);
                if (lies[i].count > 0)
                        assert_fd(fdpass_queue_take(queue, lies[i].index, lies[i].count), 0);
                assert_errno(fdpass_queue_take(queue, lies[i].lie_index, lies[i].lie_count), -EBADMSG);

                /* All is closed at once, and nothing comes any more. */
                g_assert_cmpuint(harness_count_fds(), ==, before);
                push(queue, sent, 1, false, -ENOBUFS);
                assert_errno(fdpass_queue_take(queue, 0, 1), -EBADMSG);
        }
        close_fds(sent, 3);
        fdpass_queue_free(NULL);
}

/* Batches that no frame claims are bounded in number and in descriptors. */
static void test_queue_bounds(void) {
        struct rlimit limit, before;
        unsigned count = harness_count_fds();
        int sent[FDPASS_MAX_FDS];
        struct fdpass_queue *queue;

        assert_ok(fdpass_queue_new(&queue));
        for (unsigned i = 0; i < FDPASS_QUEUE_BATCHES_MAX; i++)
                push(queue, NULL, 0, true, 0);
        push(queue, NULL, 0, true, -ENOBUFS);
        assert_errno(fdpass_queue_take(queue, 0, 1), -EBADMSG);
        fdpass_queue_free(queue);

        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
        limit = (struct rlimit){ .rlim_cur = before.rlim_max, .rlim_max = before.rlim_max };
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
        if (limit.rlim_cur < FDPASS_QUEUE_FDS_MAX + 2 * FDPASS_MAX_FDS + count) {
                g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
                g_test_skip("the limit of descriptors is too low here");
                return;
        }
        make_fds(sent, FDPASS_MAX_FDS);
        assert_ok(fdpass_queue_new(&queue));
        for (unsigned left = FDPASS_QUEUE_FDS_MAX; left > 0;) {
                unsigned n = MIN(left, FDPASS_MAX_FDS);

                push(queue, sent, n, false, 0);
                left -= n;
        }
        push(queue, sent, 1, false, -ENOBUFS);
        close_fds(sent, FDPASS_MAX_FDS);
        g_assert_cmpuint(harness_count_fds(), ==, count);
        fdpass_queue_free(queue);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
}

/* The whole way: five frames in two batches, the reader short of descriptors, the frames' bytes merged and cut
 * by the stream. Every frame gets its own descriptor or none. */
static void test_attribution(void) {
        int sent[5];

        make_fds(sent, 5);
        for (unsigned room = 0; room <= 5; room++)
                for (size_t piece = 1; piece <= 8; piece++) {
                        _cleanup_(fdpass_queue_freep) struct fdpass_queue *queue = NULL;
                        static const char frames[] =
                                        "-012-34-"; /* '-' has none; the first three come before */
                        struct iovec iov[3] = {
                                { .iov_base = (char *) frames, .iov_len = 1 },
                                { .iov_base = (char *) frames + 1, .iov_len = 4 },
                                { .iov_base = (char *) frames + 5, .iov_len = 3 },
                        };
                        char buffer[8];
                        size_t filled = 0;
                        unsigned taken = 0;
                        int pair[2];

                        assert_ok(fdpass_queue_new(&queue));
                        make_pair(SOCK_STREAM, pair);
                        g_assert_cmpint(fdpass_write(pair[0], &iov[0], 1, NULL, 0), ==, 1);
                        g_assert_cmpint(fdpass_write(pair[0], &iov[1], 1, sent, 3), ==, 4);
                        g_assert_cmpint(fdpass_write(pair[0], &iov[2], 1, sent + 3, 2), ==, 3);
                        close_fdp(&pair[0]);

                        while (filled < 8) {
                                struct rlimit before = leave_fds(room - taken);
                                struct fdpass_fds fds;
                                ssize_t n = fdpass_read(pair[1], buffer + filled, MIN(piece, 8 - filled),
                                                        &fds);

                                g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
                                g_assert_cmpint(n, >, 0);
                                filled += (size_t) n;
                                taken += (unsigned) fds.n;
                                assert_ok(fdpass_queue_push(queue, &fds));
                        }
                        g_assert_cmpmem(buffer, filled, frames, 8);

                        for (unsigned i = 0; i < 5; i++) {
                                unsigned index = i < 3 ? i : i - 3, count = i < 3 ? 3 : 2;
                                int fd = fdpass_queue_take(queue, index, count);

                                /* Of the second batch as many as the first left room for. */
                                if (i < room)
                                        assert_fd(fd, i);
                                else
                                        assert_errno(fd, -ENOLINK);
                        }
                        close_pair(pair);
                }
        close_fds(sent, 5);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/fdpass/round-trip", test_round_trip);
        harness_add("/fdpass/too-many", test_too_many);
        harness_add("/fdpass/unconnected", test_unconnected);
        harness_add("/fdpass/stream-boundaries", test_stream_boundaries);
        harness_add("/fdpass/too-large", test_too_large);
        harness_add("/fdpass/lies", test_lies);
        harness_add("/fdpass/end", test_end);
        harness_add("/fdpass/stray-descriptors", test_stray_descriptors);
        harness_add("/fdpass/partial", test_partial);
        harness_add("/fdpass/timeout", test_timeout);
        harness_add("/fdpass/interrupted", test_interrupted);
        harness_add("/fdpass/other-control", test_other_control);
        harness_add("/fdpass/receive-none", test_receive_none);
        harness_add("/fdpass/write", test_write);
        harness_add("/fdpass/truncated", test_truncated);
        harness_add("/fdpass/in-flight", test_in_flight);
        harness_add("/fdpass/queue", test_queue);
        harness_add("/fdpass/queue-lies", test_queue_lies);
        harness_add("/fdpass/queue-bounds", test_queue_bounds);
        harness_add("/fdpass/attribution", test_attribution);
        return g_test_run();
}
