/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "clock.h"
#include "macro.h"
#include "message-ids.h"
#include "server-internal.h"

#define ACCEPTS_PER_TURN 64
#define PAUSE_USEC       (100 * USEC_PER_MSEC)

struct listener {
        struct listener *next;
        struct server *server;
        int fd;
        enum access_role role;
        sd_event_source *source;
        sd_event_source *timer; /* ends a pause */
        bool short_of_fds;      /* there was no descriptor to be had the last time */
};

static void listener_free(struct listener *listener) {
        sd_event_source_disable_unref(listener->source);
        sd_event_source_disable_unref(listener->timer);
        close_fd(listener->fd);
        free(listener);
}

void listener_free_all(struct server *server) {
        while (server->listeners) {
                struct listener *listener = server->listeners;

                server->listeners = listener->next;
                listener_free(listener);
        }
}

/* It may have been lost to somebody else who opened a file. */
static void hold_reserve(struct server *server) {
        if (server->reserve_fd < 0)
                server->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* The one descriptor that is held back lets clients who waited through a pause know, instead of waiting on. */
static void refuse_waiting(struct listener *listener) {
        struct server *server = listener->server;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN && server->reserve_fd >= 0; i++) {
                struct ucred credentials = { .uid = (uid_t) -1 };
                socklen_t size = sizeof(credentials);
                int fd;

                server->reserve_fd = close_fd(server->reserve_fd);
                fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        (void) getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size);
                        server_refuse(server, fd,
                                      &(struct access_peer){ .uid = credentials.uid,
                                                             .gid = credentials.gid,
                                                             .pid = credentials.pid },
                                      "the server is out of descriptors (LimitNOFILE=)");
                }

                hold_reserve(server);
                if (fd < 0)
                        return;
        }
}

static void pause_listener(struct listener *listener, int error) {
        struct server *server = listener->server;
        unsigned dropped;

        if (log_provoked_pass(&server->accept_limit, &dropped))
                log_write(LOG_WARNING, error, MESSAGE_ACCEPT_FAILED, NULL, 0,
                          "Can't accept a connection, trying again shortly: %m");

        if (sd_event_source_set_time_relative(listener->timer, PAUSE_USEC) >= 0 &&
            sd_event_source_set_enabled(listener->timer, SD_EVENT_ONESHOT) >= 0)
                (void) sd_event_source_set_enabled(listener->source, SD_EVENT_OFF);
}

static int on_pause_end(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        struct listener *listener = userdata;

        hold_reserve(listener->server);
        return sd_event_source_set_enabled(listener->source, SD_EVENT_ON);
}

static int on_connection(_unused_ sd_event_source *source,
                         int fd,
                         _unused_ uint32_t revents,
                         void *userdata) {
        struct listener *listener = userdata;
        struct server *server = listener->server;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (connection >= 0) {
                        listener->short_of_fds = false;
                        server_take_connection(server, connection, listener->role);
                        continue;
                }

                int error = -errno;

                switch (-error) {
                case EAGAIN:
                        return 0;
                case EINTR:
                case ECONNABORTED:
                        continue;
                case EMFILE:
                case ENFILE:
                        if (listener->short_of_fds)
                                refuse_waiting(listener);
                        listener->short_of_fds = true;
                        break;
                default:
                        break;
                }

                pause_listener(listener, error);
                return 0;
        }

        return 0;
}

int server_add_listener(struct server *server, int fd, enum access_role role) {
        struct listener *listener;
        int accepting = 0, type = 0, domain = 0, r;
        socklen_t size = sizeof(int);

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || !accepting || type != SOCK_STREAM ||
            domain != AF_UNIX)
                return -EINVAL;

        r = fcntl(fd, F_GETFL);
        if (r < 0 || fcntl(fd, F_SETFL, r | O_NONBLOCK) < 0)
                return -errno;

        /* Inherited by what is accepted: a peer's descriptors are refused at its own sendmsg(). Kernels before
         * 6.16 don't know it; there they are dropped, since nothing is received with room for them. */
        (void) setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){ 0 }, sizeof(int));

        listener = malloc(sizeof(*listener));
        if (!listener)
                return -ENOMEM;

        *listener = (struct listener){ .server = server, .fd = -EBADF, .role = role };
        r = sd_event_add_io(server->event, &listener->source, fd, EPOLLIN, on_connection, listener);
        if (r >= 0)
                r = sd_event_add_time(server->event, &listener->timer, CLOCK_MONOTONIC, 0, 0, on_pause_end,
                                      listener);
        if (r >= 0)
                r = sd_event_source_set_enabled(listener->timer, SD_EVENT_OFF);
        if (r < 0) {
                listener_free(listener);
                return r;
        }

        listener->fd = fd;
        listener->next = server->listeners;
        server->listeners = listener;
        return 0;
}
