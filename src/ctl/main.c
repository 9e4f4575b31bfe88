/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "options.h"
#include "report.h"

DEFINE_CLEANUP(objmapper_client, objmapper_client_close)

/* A socket must not become descriptor 0 to 2 because the caller had closed one of them. What is put in their
 * place fails when it is used, as the closed one would. */
static int keep_standard_descriptors(void) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
                int opened;

                if (fcntl(fd, F_GETFD) >= 0)
                        continue;

                opened = open("/dev/null", (fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
                if (opened < 0)
                        return -errno;
                if (opened != fd) {
                        close_fd(opened);
                        return -EBADF;
                }
        }

        return 0;
}

/* Tells the client which daemon is meant. */
static int choose_daemon(objmapper_client *client, const struct arguments *a) {
        int r = 0;

        if (a->socket || a->publish_socket)
                r = objmapper_client_set_sockets(client, a->socket, a->publish_socket);
        else if (a->instance || a->user)
                r = objmapper_client_set_instance(client, a->instance, a->user);

        if (r == -ENXIO)
                complain("--user: $XDG_RUNTIME_DIR is not set, so there is no telling where the sockets are; "
                         "it "
                         "is /run/user/UID for who is logged in");
        else if (r == -EINVAL && a->instance)
                complain("--instance: '%s' can't be the name of an instance", a->instance);
        else if (r == -EINVAL)
                complain("a socket's path is empty or too long");
        else if (r < 0)
                complain("can't prepare: %s", strerror(-r));

        if (r < 0)
                return r;

        if (a->timeout_set)
                objmapper_client_set_timeout(client, a->timeout_usec);

        return 0;
}

static int run(struct ctl *ctl, const struct verb *verb) {
        _cleanup_(objmapper_client_closep) objmapper_client *client = NULL;
        int r, written;

        r = objmapper_client_new(&client);
        if (r < 0) {
                complain("can't prepare: %s", strerror(-r));
                return EXIT_FAILED;
        }

        r = choose_daemon(client, &ctl->arguments);
        if (r < 0)
                return r == -EINVAL || r == -ENXIO ? EXIT_USAGE : EXIT_FAILED;

        ctl->client = client;
        ctl->changes = verb->changes;
        r = verb->run(ctl);
        ctl->client = NULL;

        written = finish_output();
        return r != EXIT_DONE ? r : written;
}

int main(int argc, char **argv) {
        const struct verb *verb;
        struct ctl ctl = {};
        int r;

        r = keep_standard_descriptors();
        if (r < 0)
                return EXIT_FAILED;

        r = options_parse(argc, argv, &ctl.arguments, &verb);
        if (r > 0)
                r = run(&ctl, verb);
        else if (r == 0)
                r = finish_output();
        else if (r == -EINVAL)
                r = EXIT_USAGE;
        else {
                complain("can't prepare: %s", strerror(-r));
                r = EXIT_FAILED;
        }

        freep(&ctl.arguments.metadata);
        return r;
}
