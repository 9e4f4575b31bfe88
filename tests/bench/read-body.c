/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* read-body SOCKET URI copy|splice BYTES_PER_SECOND MSEC: reads a body again and again, no faster than that, and lets
 * it fall. Prints how many bytes came in the time. */
#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "macro.h"
#include "protocol.h"

#define NSEC_PER_SEC UINT64_C(1000000000)
#define PIECE_MAX    ((size_t) 256 << 10)

static uint8_t buffer[PIECE_MAX];

static uint64_t now_nsec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * NSEC_PER_SEC + (uint64_t) ts.tv_nsec;
}

/* Sleeps; returns false when that would be past the end. */
static bool wait_until(uint64_t nsec, uint64_t end) {
        struct timespec ts = { .tv_sec = (time_t) (nsec / NSEC_PER_SEC),
                               .tv_nsec = (long) (nsec % NSEC_PER_SEC) };

        if (nsec >= end)
                return false;

        (void) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
        return true;
}

static void send_message(int fd, const struct proto_message *message) {
        ssize_t n = proto_message_encode(message, buffer, sizeof(buffer));

        if (n < 0 || send(fd, buffer, (size_t) n, MSG_NOSIGNAL) != n)
                err(1, "send");
}

static bool wait_readable(int fd, uint64_t end) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        uint64_t now = now_nsec();

        return now < end && poll(&poll_fd, 1, (int) ((end - now) / 1000000) + 1) > 0;
}

/* The head of a reply, which comes whole; the size of its body. Returns false when none came until the end. */
static bool receive_head(int fd, uint64_t end, uint64_t *ret_size) {
        struct proto_head head;
        ssize_t left;

        if (!wait_readable(fd, end))
                return false;

        if (recv(fd, buffer, PROTO_HEAD_FIXED, MSG_WAITALL) != PROTO_HEAD_FIXED)
                err(1, "recv");
        if (proto_head_decode(buffer, &head) < 0 || head.status != PROTO_OK)
                errx(1, "it was refused");
        left = head.head_size - PROTO_HEAD_FIXED;
        if (left > 0 && recv(fd, buffer, (size_t) left, MSG_WAITALL) != left)
                err(1, "recv");

        *ret_size = head.body_size;
        return true;
}

static int connect_to(const char *path, uint8_t mode) {
        const struct proto_message hello = {
                .head = { .type = PROTO_HELLO, .id = 1 },
                .has = PROTO_HAS(PROTO_TAG_HELLO),
                .hello = { .min_version = 1, .max_version = 1, .mode = mode },
        };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
            (int) sizeof(address.sun_path))
                errx(2, "%s: too long", path);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                err(1, "%s", path);

        send_message(fd, &hello);
        return fd;
}

int main(int argc, char *argv[]) {
        struct proto_message get = {
                .head = { .type = PROTO_GET, .id = 2 },
                .has = PROTO_HAS(PROTO_TAG_URI),
        };
        uint64_t rate, begin, end, left, total = 0;
        ssize_t n;
        int fd;

        if (argc != 6)
                errx(2, "usage: %s SOCKET URI copy|splice BYTES_PER_SECOND MSEC", argv[0]);
        get.uri = (struct proto_bytes){ (const uint8_t *) argv[2], strlen(argv[2]) };
        rate = strtoull(argv[4], NULL, 10);
        begin = now_nsec();
        end = begin + strtoull(argv[5], NULL, 10) * 1000000;
        fd = connect_to(argv[1], strcmp(argv[3], "copy") == 0 ? OP_COPY : OP_SPLICE);

        for (bool more = receive_head(fd, end, &left); more;) {
                send_message(fd, &get);
                more = receive_head(fd, end, &left);
                while (more && left > 0) {
                        more = wait_readable(fd, end);
                        if (!more)
                                break;

                        n = recv(fd, buffer, (size_t) MIN(left, (uint64_t) PIECE_MAX), 0);
                        if (n <= 0)
                                err(1, "recv");
                        left -= (size_t) n;
                        total += (size_t) n;
                        more = wait_until(begin + total * NSEC_PER_SEC / rate, end);
                }
        }

        (void) close(fd);
        printf("%llu\n", (unsigned long long) total);
        return 0;
}
