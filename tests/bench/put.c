/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* put durable|visible N SIZE CONNECTIONS SOCKET PREFIX: how many objects of SIZE bytes a second are put through
 * libobjmapper, as many under way as a connection takes. Their URIs are PREFIX and a number without order. */
#include <err.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "macro.h"
#include "objmapper.h"

#define CONNECTIONS_MAX 64
#define DEPTH           256

struct put {
        const char *prefix;
        enum objmapper_durability durability;
        uint8_t *body;
        size_t size;
        uint64_t n, n_sent, n_done;
        objmapper_client *clients[CONNECTIONS_MAX];
        int n_clients;
};

static void on_reply(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct put *put = userdata;

        if (error < 0)
                errx(1, "%s", objmapper_client_error(client));
        objmapper_object_free(object);
        put->n_done++;
}

static int submit(struct put *put, objmapper_client *client) {
        objmapper_request *request = NULL;
        /* Numbers without order, none twice. */
        uint64_t number = ++put->n_sent * UINT64_C(0x9e3779b97f4a7c15);
        char uri[4096];
        int r;

        (void) snprintf(uri, sizeof(uri), "%s%016" PRIx64, put->prefix, number);
        r = objmapper_request_new(&request, OBJMAPPER_PUT, uri, strlen(uri));
        if (r >= 0)
                r = objmapper_request_set_body(request, put->body, put->size);
        if (r >= 0)
                r = objmapper_request_set_durability(request, put->durability);
        if (r >= 0)
                r = objmapper_client_submit(client, request, on_reply, put);
        objmapper_request_free(request);
        return r;
}

/* Refilled by halves, so that many requests go as one message. */
static void refill(struct put *put, objmapper_client *client) {
        if (objmapper_client_get_pending(client) > DEPTH / 2)
                return;

        while (put->n_sent < put->n && objmapper_client_get_pending(client) < DEPTH)
                if (submit(put, client) < 0)
                        errx(1, "%s", objmapper_client_error(client));
}

static void run(struct put *put) {
        struct pollfd fds[CONNECTIONS_MAX];

        while (put->n_done < put->n) {
                uint64_t n_before = put->n_done;

                for (int i = 0; i < put->n_clients; i++) {
                        refill(put, put->clients[i]);
                        if (objmapper_client_process(put->clients[i]) < 0)
                                errx(1, "%s", objmapper_client_error(put->clients[i]));
                        fds[i] = (struct pollfd){ .fd = objmapper_client_get_fd(put->clients[i]),
                                                  .events = POLLIN };
                }
                if (put->n_done == n_before && poll(fds, (nfds_t) put->n_clients, 1000) < 0)
                        err(1, "poll");
        }
}

int main(int argc, char *argv[]) {
        uint64_t begin_usec;
        struct put put;

        if (argc != 7 || (strcmp(argv[1], "durable") != 0 && strcmp(argv[1], "visible") != 0))
                errx(2, "usage: %s durable|visible N SIZE CONNECTIONS SOCKET PREFIX", argv[0]);
        put = (struct put){
                .durability = strcmp(argv[1], "durable") == 0 ? OBJMAPPER_DURABLE : OBJMAPPER_VISIBLE,
                .n = strtoull(argv[2], NULL, 10),
                .size = strtoull(argv[3], NULL, 10),
                .n_clients = MIN(atoi(argv[4]), CONNECTIONS_MAX),
                .prefix = argv[6],
        };
        put.body = malloc(MAX(put.size, (size_t) 1));
        if (!put.body)
                errx(1, "out of memory");
        memset(put.body, 'b', put.size);
        for (int i = 0; i < put.n_clients; i++)
                if (objmapper_client_connect(&put.clients[i], argv[5], OBJMAPPER_AUTO) < 0)
                        errx(1, "%s: can't connect", argv[5]);

        begin_usec = clock_usec(CLOCK_MONOTONIC);
        run(&put);
        printf("{\"rate\": %.0f}\n",
               (double) put.n * USEC_PER_SEC / (double) (clock_usec(CLOCK_MONOTONIC) - begin_usec));

        for (int i = 0; i < put.n_clients; i++)
                objmapper_client_close(put.clients[i]);
        free(put.body);
        return 0;
}
