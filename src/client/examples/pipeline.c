/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* pipeline SOCKET URI...: asks for many objects at once, without waiting for one before asking for the next, and
 * prints the size of each as it comes. This is how a program with an event loop of its own uses the library.
 *
 *     cc pipeline.c $(pkg-config --cflags --libs objmapper) -o pipeline */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <objmapper.h>

static int failed;

/* One answer. They come in any order: userdata tells which request it is for. */
static void on_reply(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        const char *uri = (const char *) userdata;

        if (error < 0) {
                fprintf(stderr, "%s\n", objmapper_client_error(client));
                failed = 1;
                return;
        }

        printf("%s %llu\n", uri, (unsigned long long) objmapper_object_get_size(object));
        objmapper_object_free(object);
}

static int submit(objmapper_client *client, char *uri) {
        objmapper_request *request = NULL;
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_GET, uri, strlen(uri));
        if (r < 0) {
                fprintf(stderr, "%s: not a URI\n", uri);
                return r;
        }

        r = objmapper_client_submit(client, request, on_reply, uri);
        if (r < 0)
                fprintf(stderr, "%s\n", objmapper_client_error(client));

        /* The client has its own copy. */
        objmapper_request_free(request);
        return r;
}

/* Milliseconds until the client wants to be called though its descriptor is silent; -1: never. */
static int poll_timeout(objmapper_client *client) {
        uint64_t deadline = objmapper_client_get_deadline(client), now;
        struct timespec ts;

        if (deadline == UINT64_MAX)
                return -1;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        now = (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
        if (deadline <= now)
                return 0;

        return deadline - now > 3600000000ULL ? 3600000 : (int) ((deadline - now) / 1000 + 1);
}

int main(int argc, char *argv[]) {
        objmapper_client *client = NULL;
        int i;

        if (argc < 3) {
                fprintf(stderr, "usage: %s SOCKET URI...\n", argv[0]);
                return 2;
        }

        if (objmapper_client_new(&client) < 0) {
                fprintf(stderr, "out of memory\n");
                return EXIT_FAILURE;
        }
        if (objmapper_client_set_sockets(client, argv[1], NULL) < 0) {
                fprintf(stderr, "%s\n", objmapper_client_error(client));
                failed = 1;
        }

        for (i = 2; i < argc && !failed; i++)
                if (submit(client, argv[i]) < 0)
                        failed = 1;

        /* A real program would watch its other descriptors here, too. */
        while (objmapper_client_get_pending(client) > 0) {
                struct pollfd p;

                p.fd = objmapper_client_get_fd(client);
                p.events = POLLIN;
                if (poll(&p, 1, poll_timeout(client)) < 0) {
                        perror("poll");
                        failed = 1;
                        break;
                }
                if (objmapper_client_process(client) < 0) {
                        fprintf(stderr, "%s\n", objmapper_client_error(client));
                        failed = 1;
                        break;
                }
        }

        objmapper_client_close(client);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
