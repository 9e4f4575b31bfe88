/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fdpass.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "bytes.h"
#include "macro.h"

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* Room for the descriptors and for whatever else the caller's socket options may ask the kernel for
 * (credentials, a security label, a pidfd, a time stamp): were there too little, the kernel would report
 * descriptors as lost that never were sent. */
#define CONTROL_FDS_SIZE   CMSG_SPACE(sizeof(int) * FDPASS_MAX_FDS)
#define CONTROL_OTHER_SIZE 1024

union control {
        struct cmsghdr align;
        uint8_t fds[CONTROL_FDS_SIZE];
        uint8_t all[CONTROL_FDS_SIZE + CONTROL_OTHER_SIZE];
};

void fdpass_fds_close(struct fdpass_fds *fds) {
        for (size_t i = 0; i < fds->n; i++)
                (void) close_fd(fds->fd[i]);

        fds->n = 0;
        fds->truncated = false;
}

/* One sendmsg(). The control buffer is filled only as far as it is sent. */
static ssize_t send_once(int socket, struct msghdr *message, const int *fds, size_t n_fds) {
        union control control;

        if (n_fds > 0) {
                struct cmsghdr *cmsg;

                message->msg_control = control.fds;
                message->msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                cmsg = CMSG_FIRSTHDR(message);
                cmsg->cmsg_level = SOL_SOCKET;
                cmsg->cmsg_type = SCM_RIGHTS;
                cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
        }

        for (;;) {
                ssize_t n = sendmsg(socket, message, MSG_NOSIGNAL);

                if (n >= 0)
                        return n;
                if (errno != EINTR)
                        return -errno;
        }
}

/* Owns the descriptors of one control message: keeps what there is room for, closes the rest. */
static void collect_fds(const struct cmsghdr *cmsg, struct fdpass_fds *fds) {
        size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < n; i++) {
                int fd;

                memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
                if (fds->n < FDPASS_MAX_FDS)
                        fds->fd[fds->n++] = fd;
                else {
                        (void) close_fd(fd);
                        fds->truncated = true;
                }
        }
}

/* One recvmsg(). With fds NULL the kernel is given no room for descriptors, and drops them unopened. */
static ssize_t receive_once(int socket, struct msghdr *message, int flags, struct fdpass_fds *fds) {
        union control control;
        ssize_t n;

        if (fds) {
                fds->n = 0;
                fds->truncated = false;
                message->msg_control = control.all;
                message->msg_controllen = sizeof(control.all);
        }

        do
                n = recvmsg(socket, message, flags | MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (!fds)
                return n;

        for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg)) {
                if (cmsg->cmsg_level != SOL_SOCKET)
                        continue;
                if (cmsg->cmsg_type == SCM_RIGHTS)
                        collect_fds(cmsg, fds);
                else if (cmsg->cmsg_type == SCM_PIDFD && cmsg->cmsg_len >= CMSG_LEN(sizeof(int))) {
                        int fd; /* -1 where the kernel could not open it */

                        memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
                        (void) close_fd(fd);
                }
        }

        if (message->msg_flags & MSG_CTRUNC)
                fds->truncated = true;

        return n;
}

ssize_t fdpass_write(int socket, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds) {
        struct msghdr message = { .msg_iov = (struct iovec *) iov, .msg_iovlen = n_iov };
        size_t i = 0;

        if (n_fds > FDPASS_MAX_FDS || n_iov > IOV_MAX)
                return -EINVAL;

        /* Without a byte to go with, the kernel would drop the descriptors and call that a success. */
        while (i < n_iov && iov[i].iov_len == 0)
                i++;
        if (i == n_iov)
                return -EINVAL;

        return send_once(socket, &message, fds, n_fds);
}

ssize_t fdpass_write_bytes(int socket, const void *bytes, size_t size) {
        if (size == 0)
                return -EINVAL;

        for (;;) {
                ssize_t n = send(socket, bytes, size, MSG_NOSIGNAL);

                if (n >= 0)
                        return n;
                if (errno != EINTR)
                        return -errno;
        }
}

ssize_t fdpass_read(int socket, void *buffer, size_t size, struct fdpass_fds *ret_fds) {
        struct iovec iov = { .iov_base = buffer, .iov_len = size };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (!ret_fds) { /* recv() is faster */
                do
                        n = recv(socket, buffer, size, MSG_DONTWAIT);
                while (n < 0 && errno == EINTR);
                return n < 0 ? -errno : n;
        }

        n = receive_once(socket, &message, MSG_DONTWAIT, ret_fds);
        /* An empty packet of a seqpacket socket can bring descriptors, and looks like the end. */
        if (n <= 0)
                fdpass_fds_close(ret_fds);

        return n;
}

/* Waits until more of a message that was begun can be sent or received; the socket's own time-out, when it
 * has one, bounds each wait. */
static int wait_for(int socket, short events, int timeout_option) {
        struct pollfd pollfd = { .fd = socket, .events = events };
        struct timeval timeout = {};
        socklen_t size = sizeof(timeout);
        int r, msec = -1;

        if (getsockopt(socket, SOL_SOCKET, timeout_option, &timeout, &size) == 0 &&
            (timeout.tv_sec > 0 || timeout.tv_usec > 0)) {
                if (timeout.tv_sec < INT_MAX / 1000 - 1)
                        msec = (int) (timeout.tv_sec * 1000 + (timeout.tv_usec + 999) / 1000);
                else
                        msec = INT_MAX;
        }

        do
                r = poll(&pollfd, 1, msec);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;

        return r == 0 ? -ETIMEDOUT : 0;
}

int fdpass_send(int socket,
                const struct sockaddr *to,
                socklen_t to_size,
                uint32_t operation,
                const void *data,
                size_t size,
                const int *fds,
                size_t n_fds) {
        uint8_t header[FDPASS_HEADER_SIZE];
        struct iovec iov[] = {
                { .iov_base = header, .iov_len = sizeof(header) },
                { .iov_base = (void *) data, .iov_len = size },
        };
        struct msghdr message = {
                .msg_name = (void *) to,
                .msg_namelen = to ? to_size : 0,
                .msg_iov = iov,
                .msg_iovlen = size > 0 ? 2 : 1,
        };
        size_t skip;
        ssize_t n;

        /* The second is for 32 bits, where the sum with the header must not wrap either. */
        if (n_fds > FDPASS_MAX_FDS || size > UINT32_MAX || size > SSIZE_MAX - sizeof(header))
                return -EINVAL;

        store_le32(header, operation);
        store_le32(header + 4, (uint32_t) size);

        n = send_once(socket, &message, fds, n_fds);
        if (n < 0)
                return (int) n;

        /* Only a stream socket sends in part. The descriptors went with the first byte. */
        for (skip = (size_t) n; skip < sizeof(header) + size; skip += (size_t) n) {
                int r;

                if (skip < sizeof(header))
                        n = send(socket, header + skip, sizeof(header) - skip, MSG_NOSIGNAL | MSG_DONTWAIT);
                else
                        n = send(socket, (const uint8_t *) data + (skip - sizeof(header)),
                                 size - (skip - sizeof(header)), MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n >= 0)
                        continue;

                n = 0;
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return -errno;
                r = wait_for(socket, POLLOUT, SO_SNDTIMEO);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* Reads exactly size bytes of a message that was begun. No descriptor is received here: they belong to a
 * message's first byte. 0, -EBADMSG at the end of the stream, or another error. */
static int receive_rest(int socket, uint8_t *p, size_t size) {
        while (size > 0) {
                ssize_t n = recv(socket, p, size, MSG_DONTWAIT);
                int r;

                if (n > 0) {
                        p += n;
                        size -= (size_t) n;
                        continue;
                }
                if (n == 0)
                        return -EBADMSG;
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return -errno;
                r = wait_for(socket, POLLIN, SO_RCVTIMEO);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* A stream may hold bytes of the next message already: only this one's are read, the header first. */
static int receive_stream(int socket,
                          struct msghdr *message,
                          uint8_t header[static FDPASS_HEADER_SIZE],
                          void *data,
                          size_t size,
                          struct fdpass_fds *fds) {
        uint8_t scratch[4096];
        uint32_t left;
        ssize_t n;
        int r;

        n = receive_once(socket, message, 0, fds);
        if (n <= 0)
                return (int) n;
        r = receive_rest(socket, header + n, FDPASS_HEADER_SIZE - (size_t) n);
        if (r < 0)
                return r;

        left = load_le32(header + 4);
        if (left <= size) {
                r = receive_rest(socket, data, left);
                return r < 0 ? r : 1;
        }

        while (left > 0) {
                size_t piece = MIN((size_t) left, sizeof(scratch));

                r = receive_rest(socket, scratch, piece);
                if (r < 0)
                        return r;
                left -= (uint32_t) piece;
        }

        return -EMSGSIZE;
}

static int receive_packet(int socket,
                          struct msghdr *message,
                          const uint8_t header[static FDPASS_HEADER_SIZE],
                          struct fdpass_fds *fds) {
        ssize_t n;

        /* MSG_TRUNC: the size that the packet really has, so that a lie about it is seen. */
        n = receive_once(socket, message, MSG_TRUNC, fds);
        if (n < 0)
                return (int) n;
        if (n == 0) {
                /* The end of a seqpacket connection, or an empty packet. */
                struct pollfd pollfd = { .fd = socket, .events = POLLRDHUP };

                return poll(&pollfd, 1, 0) > 0 && (pollfd.revents & POLLRDHUP) ? 0 : -EBADMSG;
        }
        if (n < FDPASS_HEADER_SIZE || (size_t) n - FDPASS_HEADER_SIZE != load_le32(header + 4))
                return -EBADMSG;

        return message->msg_flags & MSG_TRUNC ? -EMSGSIZE : 1;
}

int fdpass_recv(int socket,
                uint32_t *ret_operation,
                void *data,
                size_t size,
                size_t *ret_size,
                struct fdpass_fds *ret_fds,
                struct sockaddr *from,
                socklen_t *from_size) {
        uint8_t header[FDPASS_HEADER_SIZE];
        struct iovec iov[] = {
                { .iov_base = header, .iov_len = sizeof(header) },
                { .iov_base = data, .iov_len = size },
        };
        struct msghdr message = {
                .msg_name = from,
                .msg_namelen = from ? *from_size : 0,
                .msg_iov = iov,
                .msg_iovlen = 1,
        };
        socklen_t type_size = sizeof(int);
        int type, r;

        if (ret_fds) {
                ret_fds->n = 0;
                ret_fds->truncated = false;
        }

        if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0)
                return -errno;

        if (type == SOCK_STREAM)
                r = receive_stream(socket, &message, header, data, size, ret_fds);
        else {
                message.msg_iovlen = size > 0 ? 2 : 1;
                r = receive_packet(socket, &message, header, ret_fds);
        }
        if (r <= 0) {
                if (ret_fds)
                        fdpass_fds_close(ret_fds);
                return r;
        }

        *ret_operation = load_le32(header);
        *ret_size = load_le32(header + 4);
        if (from)
                *from_size = message.msg_namelen;

        return 1;
}
