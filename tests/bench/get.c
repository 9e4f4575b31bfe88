/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* get MODE N SOCKET URI: what a get through libobjmapper takes, one after the other, the body left unread. */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "objmapper.h"
#include "trips.h"

struct get {
        objmapper_client *client;
        objmapper_request *request;
};

static void trip(void *userdata) {
        struct get *get = userdata;
        objmapper_object *object;

        if (objmapper_client_call(get->client, get->request, &object) < 0)
                errx(1, "%s", objmapper_client_error(get->client));
        objmapper_object_free(object);
}

int main(int argc, char *argv[]) {
        static const char *const modes[] = { "fdpass", "copy", "splice", "auto" };
        struct get get;
        int mode = 0, r;

        while (argc == 5 && mode < 4 && strcmp(argv[1], modes[mode]) != 0)
                mode++;
        if (argc != 5 || mode == 4)
                errx(2, "usage: %s fdpass|copy|splice|auto N SOCKET URI", argv[0]);
        r = objmapper_client_connect(&get.client, argv[3], OBJMAPPER_FDPASS + mode);
        if (r >= 0)
                r = objmapper_request_new(&get.request, OBJMAPPER_GET, argv[4], strlen(argv[4]));
        if (r < 0)
                errx(1, "%s: %s", argv[3], strerror(-r));
        measure_trips(atoi(argv[2]), trip, &get);
        objmapper_request_free(get.request);
        objmapper_client_close(get.client);

        return 0;
}
