/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sockets.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "log.h"
#include "macro.h"

static const char *const role_names[ACCESS_ROLE_MAX] = {
        [ACCESS_READER] = "reader",
        [ACCESS_PUBLISHER] = "publisher",
};

static void free_names(char ***names) {
        for (char **name = *names; name && *name; name++)
                free(*name);
        free(*names);
}

static int find_role(const char *name, enum access_role *ret) {
        for (size_t i = 0; i < ARRAY_SIZE(role_names); i++)
                if (strcmp(role_names[i], name) == 0) {
                        *ret = (enum access_role) i;
                        return 0;
                }

        return -EINVAL;
}

/* Takes one descriptor, which is sockets' from then on. */
static int take(struct sockets *sockets, int fd, const char *name) {
        enum access_role role = ACCESS_READER;
        int r;

        if (sockets->n >= SOCKETS_MAX) {
                (void) close_fd(fd);
                log_error("More than %i sockets were passed.", SOCKETS_MAX);
                return -EINVAL;
        }
        sockets->socket[sockets->n++].fd = fd;

        r = find_role(name, &role);
        if (r < 0) {
                log_error("The passed descriptor \"%s\" is unknown: FileDescriptorName= of its socket unit "
                          "has to be "
                          "\"reader\" or \"publisher\".",
                          name);
                return r;
        }
        sockets->socket[sockets->n - 1].role = role;

        r = sd_is_socket_unix(fd, SOCK_STREAM, true, NULL, 0);
        if (r <= 0) {
                log_error("The passed descriptor \"%s\" is not a listening Unix stream socket: its unit "
                          "needs "
                          "ListenStream= with a path.",
                          name);
                return -EINVAL;
        }

        return 0;
}

int sockets_take(struct sockets *ret) {
        _cleanup_(sockets_done) struct sockets sockets = {};
        _cleanup_(free_names) char **names = NULL;
        int n, result = 0;

        assert(ret);

        n = sd_listen_fds_with_names(true, &names);
        if (n < 0)
                return log_errno(LOG_ERR, n, "The passed sockets can't be taken: %m");
        if (n == 0) {
                log_error("No sockets were passed. Start objmapper.socket (systemctl start "
                          "objmapper.socket), or run "
                          "systemd-socket-activate --listen=PATH --fdname=reader objmapperd.");
                return -ENOENT;
        }

        for (int i = 0; i < n; i++) {
                int r = take(&sockets, SD_LISTEN_FDS_START + i, names[i]);

                if (r < 0)
                        result = r;
        }
        if (result < 0)
                return result;

        *ret = sockets;
        sockets.n = 0;
        return 0;
}

void sockets_done(struct sockets *sockets) {
        for (size_t i = 0; i < sockets->n; i++)
                sockets->socket[i].fd = close_fd(sockets->socket[i].fd);
        sockets->n = 0;
}

static void print_address(FILE *stream, int fd) {
        struct sockaddr_un address;
        socklen_t size = sizeof(address);

        if (getsockname(fd, (struct sockaddr *) &address, &size) < 0 ||
            size <= offsetof(struct sockaddr_un, sun_path))
                (void) fprintf(stream, "unnamed");
        else
                (void) fprintf(stream, "%s%.*s", address.sun_path[0] ? "" : "@",
                               (int) (size - offsetof(struct sockaddr_un, sun_path)) - !address.sun_path[0],
                               address.sun_path + !address.sun_path[0]);
}

char *sockets_describe(const struct sockets *sockets) {
        char *text = NULL;
        size_t size;
        FILE *stream;

        stream = open_memstream(&text, &size);
        if (!stream)
                return NULL;

        for (size_t i = 0; i < sockets->n; i++) {
                (void) fprintf(stream, "%s", i > 0 ? ", " : "");
                print_address(stream, sockets->socket[i].fd);
                (void) fprintf(stream, " (%s)", role_names[sockets->socket[i].role]);
        }

        if (fclose(stream) != 0) {
                free(text);
                return NULL;
        }

        return text;
}
