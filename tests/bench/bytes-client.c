/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clients that do as little as can be done: requests are made beforehand, and since all answers to one kind of request
 * have the same size, they are received and counted by their bytes. The first one is looked at. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "load.h"
#include "macro.h"
#include "raw.h"

#define RECEIVE_SIZE ((size_t) 256 << 10)
#define HEAD_MAX     4096
#define FDS_MAX      253
#define LOOK_NSEC    40000 /* as the library */
#define LOST_NSEC    5000

struct connection {
        int fd;
        uint64_t begun, left; /* bytes of what was asked for that are still to come */
        unsigned next;        /* name */
};

struct client {
        struct load *load;
        bool brings_fds, brings_pipe;
        bool moves;        /* on, by splice */
        unsigned n_late;   /* times not to look again: it was in vain */
        char *requests;    /* all names, and so many more as the depth is */
        size_t *positions; /* where each begins */
        size_t head_size;  /* of a reply, what stands behind the body too */
        size_t reply_size;
        int pipe[2], null_fd;
        struct connection *connections;
};

static void format_request(const struct load *load, unsigned i, char *p, size_t size) {
        char name[256];

        (void) snprintf(name, sizeof(name), "%s%04u", load->name, i % load->n_names);
        if (strcmp(load->protocol, "memcached") == 0)
                (void) snprintf(p, size, "get %s\r\n", name);
        else if (strcmp(load->protocol, "redis") == 0)
                (void) snprintf(p, size, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(name), name);
        else if (strcmp(load->protocol, "nginx") == 0)
                (void) snprintf(p, size, "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", name);
        else
                (void) snprintf(p, size, "%-*.*s", RAW_REQUEST, RAW_REQUEST, name);
}

static void make_requests(struct client *client) {
        struct load *load = client->load;
        size_t n = load->n_names + load->depth, used = 0;

        client->requests = malloc(n * 512);
        client->positions = calloc(n + 1, sizeof(size_t));
        if (!client->requests || !client->positions)
                err(1, "memory");
        for (unsigned i = 0; i < n; i++) {
                format_request(load, i, client->requests + used, 512);
                used += strlen(client->requests + used);
                client->positions[i + 1] = used;
        }
}

static int connect_to(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof(address.sun_path))
                errx(2, "%s is too long", path);
        (void) stpcpy(address.sun_path, path);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                err(1, "%s", path);
        return fd;
}

static void send_requests(struct client *client, struct connection *connection, unsigned n) {
        const char *p = client->requests + client->positions[connection->next];
        size_t size = client->positions[connection->next + n] - client->positions[connection->next];

        connection->next = (connection->next + n) % client->load->n_names;
        connection->left = n * (uint64_t) client->reply_size;
        connection->begun = now_nsec();
        while (size > 0) {
                ssize_t sent = send(connection->fd, p, size, MSG_NOSIGNAL);

                if (sent < 0)
                        err(1, "send");
                p += sent;
                size -= (size_t) sent;
        }
}

static void send_on(struct client *client, int fd) {
        off_t at = 0;

        while ((uint64_t) at < client->load->size)
                if (sendfile(client->null_fd, fd, &at, client->load->size - (uint64_t) at) <= 0)
                        err(1, "sendfile");
}

static void take_fds(struct client *client, struct msghdr *message) {
        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header))
                for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= header->cmsg_len; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
                        if (!client->brings_pipe) {
                                if (client->load->receiver == RECEIVE_NOWHERE)
                                        send_on(client, fd);
                                load_take_fd(client->load, fd);
                                continue;
                        }
                        for (uint64_t left = client->load->size; left > 0;) {
                                uint8_t *p = load_buffer(client->load, client->load->size);
                                ssize_t n = client->load->receiver == RECEIVE_MEMORY
                                                            ? read(fd, p + client->load->size - left, left)
                                                            : splice(fd, NULL, client->null_fd, NULL, left,
                                                                     SPLICE_F_MOVE);

                                if (n <= 0)
                                        err(1, "pipe");
                                left -= (uint64_t) n;
                        }
                        (void) close(fd);
                }
}

static ssize_t receive_fds(struct client *client, struct connection *connection, uint8_t *p, size_t size) {
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        } control;
        struct iovec iov = { p, size };
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t n = recvmsg(connection->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n > 0)
                take_fds(client, &message);
        return n;
}

static ssize_t move(struct client *client, struct connection *connection, bool wait) {
        ssize_t n = splice(connection->fd, NULL, client->pipe[1], NULL,
                           (size_t) MIN(connection->left, UINT64_C(1) << 20),
                           SPLICE_F_MOVE | (wait ? 0 : SPLICE_F_NONBLOCK));

        for (ssize_t left = n; left > 0;) {
                ssize_t moved = splice(client->pipe[0], NULL, client->null_fd, NULL, (size_t) left,
                                       SPLICE_F_MOVE);

                if (moved <= 0)
                        err(1, "/dev/null");
                left -= moved;
        }
        return n;
}

/* Whether to look again before it falls asleep: as the library's client does for one answer, if it is to. */
static bool look_again(struct client *client, uint64_t *begun) {
        if (!client->load->patient)
                return false;
        if (*begun == 0) {
                if (client->n_late > 0) {
                        client->n_late--;
                        return false;
                }
                *begun = now_nsec();
        } else if (now_nsec() > *begun + LOOK_NSEC) {
                client->n_late = (unsigned) ((now_nsec() - *begun) / LOST_NSEC);
                return false;
        }

        (void) sched_yield();
        return true;
}

static ssize_t receive_some(struct client *client, struct connection *connection, bool wait) {
        struct load *load = client->load;
        /* Large bodies lie where they lie with objmapper: each whole, one behind the other. */
        size_t room = MAX(RECEIVE_SIZE, load->size + HEAD_MAX);
        size_t offset = load->size > RECEIVE_SIZE
                                        ? (client->reply_size - connection->left % client->reply_size) %
                                                          client->reply_size
                                        : 0;
        uint8_t *p = load_buffer(load, room) + offset;
        size_t size = (size_t) MIN(connection->left, (uint64_t) (room - offset));

        if (client->brings_fds)
                return receive_fds(client, connection, p, size);
        if (client->moves)
                return move(client, connection, wait);
        return recv(connection->fd, p, size, MSG_DONTWAIT);
}

/* Receives once. What is not there is waited for as the library does it: a recv() that blocks is woken when the server takes
 * the request, too, and splice() is best waited in. */
static void receive(struct client *client, struct connection *connection) {
        struct pollfd pollfd = { .fd = connection->fd, .events = POLLIN };
        uint64_t before = (connection->left + client->reply_size - 1) / client->reply_size, after;
        uint64_t begun = 0;
        ssize_t n;

        do
                n = receive_some(client, connection, !client->load->patient);
        while (n < 0 && errno == EAGAIN && look_again(client, &begun));
        if (n < 0 && errno == EAGAIN) {
                if (!client->moves)
                        (void) poll(&pollfd, 1, -1);
                n = receive_some(client, connection, true);
        }
        if (n <= 0)
                err(1, "%s answers no more", client->load->socket);

        connection->left -= (uint64_t) n;
        after = (connection->left + client->reply_size - 1) / client->reply_size;
        if (after < before)
                load_done(client->load, connection->begun, (unsigned) (before - after));
}

/* The first answer says how long all are. */
static void learn(struct client *client) {
        struct load *load = client->load;
        struct connection *connection = &client->connections[0];
        uint8_t *p = load_buffer(load, load->size + HEAD_MAX);
        size_t size = 0;
        char *end;

        if (strncmp(load->protocol, "raw", 3) == 0 || strcmp(load->protocol, "echo") == 0) {
                client->reply_size = RAW_REPLY + (strcmp(load->protocol, "raw") == 0 ? load->size : 0);
                return;
        }

        send_requests(client, connection, 1);
        do {
                struct pollfd poll_fd = { .fd = connection->fd, .events = POLLIN };
                ssize_t n;

                if (poll(&poll_fd, 1, size < load->size ? 5000 : 200) == 0)
                        break;
                n = recv(connection->fd, p + size, load->size + HEAD_MAX - size, 0);
                if (n <= 0)
                        err(1, "%s does not answer", load->socket);
                size += (size_t) n;
        } while (size < load->size + HEAD_MAX);
        end = memmem(p, size, strcmp(load->protocol, "nginx") == 0 ? "\r\n\r\n" : "\r\n",
                     strcmp(load->protocol, "nginx") == 0 ? 4 : 2);
        if (!end || size < load->size || size > load->size + HEAD_MAX - 1 ||
            (p[0] != '$' && p[0] != 'V' && memcmp(p, "HTTP/1.1 200", 12) != 0))
                errx(1, "%s: %.60s", load->socket, p);
        client->reply_size = size;
}

static void run_one(struct client *client) {
        struct connection *connection = &client->connections[0];

        while (!client->load->over) {
                send_requests(client, connection, client->load->depth);
                while (connection->left > 0)
                        receive(client, connection);
                load_batch_done(client->load, connection->begun);
        }
}

static void run_many(struct client *client) {
        struct load *load = client->load;
        struct epoll_event events[256];
        int epoll = epoll_create1(EPOLL_CLOEXEC);

        if (epoll < 0)
                err(1, "epoll");
        for (unsigned i = 0; i < load->n_connections; i++) {
                struct connection *connection = &client->connections[i];
                struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };

                connection->next = i % load->n_names;
                if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
                        err(1, "epoll");
                send_requests(client, connection, load->depth);
        }
        while (!load->over) {
                int n = epoll_wait(epoll, events, ARRAY_SIZE(events), -1);

                for (int i = 0; i < n && !load->over; i++) {
                        struct connection *connection = events[i].data.ptr;

                        receive(client, connection);
                        if (connection->left > 0)
                                continue;
                        load_batch_done(load, connection->begun);
                        send_requests(client, connection, load->depth);
                }
        }
}

void load_bytes(struct load *load) {
        struct client client = { .load = load,
                                 .brings_fds = strncmp(load->protocol, "raw-", 4) == 0,
                                 .brings_pipe = strcmp(load->protocol, "raw-pipe") == 0 };

        client.moves = !client.brings_fds && load->receiver == RECEIVE_NOWHERE && load->size >= RECEIVE_SIZE;
        client.connections = calloc(load->n_connections, sizeof(struct connection));
        client.null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (!client.connections || client.null_fd < 0 || pipe2(client.pipe, O_CLOEXEC) < 0)
                err(1, "client");
        (void) fcntl(client.pipe[1], F_SETPIPE_SZ, 1 << 20);
        for (unsigned i = 0; i < load->n_connections; i++)
                client.connections[i].fd = connect_to(load->socket);
        make_requests(&client);
        learn(&client);

        load->begun = now_nsec();
        if (load->n_connections == 1)
                run_one(&client);
        else
                run_many(&client);
}
