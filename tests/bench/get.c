/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* get MODE N SOCKET URI: what a get through libobjmapper takes, one after the other, the body left unread. */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"
#include "objmapper.h"
#include "trips.h"

struct get {
        objmapper_client *client;
        objmapper_request *request;
        int mode;
};

static void trip(void *userdata) {
        struct get *get = userdata;
        objmapper_object *object;

        if (objmapper_client_call(get->client, get->request, &object) < 0)
                errx(1, "%s", objmapper_client_error(get->client));
        if (get->mode != OBJMAPPER_AUTO && objmapper_object_get_mode(object) != get->mode)
                errx(1, "it came in another mode");
        objmapper_object_free(object);
}

int main(int argc, char *argv[]) {
        static const char *const modes[] = { "fdpass", "copy", "splice", "auto" };
        struct get get;
        size_t i = 0;
        int r;

        while (argc == 5 && i < ARRAY_SIZE(modes) && strcmp(argv[1], modes[i]) != 0)
                i++;
        if (argc != 5 || i == ARRAY_SIZE(modes))
                errx(2, "usage: %s fdpass|copy|splice|auto N SOCKET URI", argv[0]);
        get.mode = OBJMAPPER_FDPASS + (int) i;
        r = objmapper_client_connect(&get.client, argv[3], get.mode);
        if (r >= 0)
                r = objmapper_request_new(&get.request, OBJMAPPER_GET, argv[4], strlen(argv[4]));
        if (r < 0)
                errx(1, "%s: %s", argv[3], strerror(-r));
        measure_trips(atoi(argv[2]), trip, &get);
        objmapper_request_free(get.request);
        objmapper_client_close(get.client);

        return 0;
}
