/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* get URI [SOCKET]: writes an object to standard output.
 *
 *     cc get.c $(pkg-config --cflags --libs objmapper) -o get */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <objmapper.h>

int main(int argc, char *argv[]) {
        objmapper_client *client = NULL;
        objmapper_object *object = NULL;
        int status = EXIT_FAILURE;
        int r;

        if (argc < 2 || argc > 3) {
                fprintf(stderr, "usage: %s URI [SOCKET]\n", argv[0]);
                return 2;
        }

        r = objmapper_client_new(&client);
        if (r >= 0 && argc == 3)
                r = objmapper_client_set_sockets(client, argv[2], NULL);
        if (r >= 0)
                r = objmapper_get(client, argv[1], &object);
        if (r < 0) {
                fprintf(stderr, "%s\n", client ? objmapper_client_error(client) : "out of memory");
                goto finish;
        }

        /* The object may be an open file or bytes in memory: this does not care, and the kernel moves the
         * bytes where it can. */
        r = objmapper_object_write_to(object, STDOUT_FILENO);
        if (r < 0) {
                fprintf(stderr, "can't write the object\n");
                goto finish;
        }

        status = EXIT_SUCCESS;

finish:
        objmapper_object_free(object);
        objmapper_client_close(client);
        return status;
}
