/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "macro.h"

/* ---- many gets in one call ---- */

struct many;

struct place {
        struct many *many;
        objmapper_object *object;
        int error;
};

struct many {
        size_t n_left, n_got;
        struct call *failed; /* the first that was not got, for its words */
        char *words;
        int error;
        struct place places[];
};

static void note_failure(objmapper_client *client, struct many *many, int error) {
        if (many->error < 0)
                return;

        many->error = error;
        many->failed = TAKE_PTR(client->failed);
        if (!many->failed)
                many->words = strdup(client->words);
}

static void note_answer(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct place *place = userdata;
        struct many *many = place->many;

        place->object = object;
        place->error = error;
        many->n_left--;
        if (error < 0)
                note_failure(client, many, error);
        else
                many->n_got++;
}

/* Asks for all. Returns how many could be asked for, or what kept the first from it. */
static int ask_all(objmapper_client *client,
                   struct many *many,
                   const char *const *uris,
                   size_t n,
                   objmapper_object **objects) {
        int n_asked = 0;

        (void) client_read_clock(client);
        for (size_t i = 0; i < n; i++) {
                struct place *place = &many->places[i];
                int r = uris[i] ? client_add_get(client, uris[i], objects[i], note_answer, place)
                                : client_fail(client, -EINVAL, "get: a URI is missing");

                place->many = many;
                place->object = NULL;
                place->error = r;
                if (r >= 0) {
                        objects[i] = NULL;
                        many->n_left++;
                        n_asked++;
                        continue;
                }

                note_failure(client, many, r);
        }

        return n_asked > 0 || n == 0 ? n_asked : many->error;
}

/* The words of the first that failed are those of the call. */
static void tell_failure(objmapper_client *client, struct many *many) {
        if (many->failed)
                client_keep_failed(client, TAKE_PTR(many->failed));
        else if (many->words)
                (void) client_fail(client, many->error, "%s", many->words);
        free(many->words);
}

int objmapper_get_many(objmapper_client *client,
                       const char *const *uris,
                       size_t n,
                       objmapper_object **objects,
                       int *errors) {
        _cleanup_free_ struct many *many = NULL;
        int r;

        if (n > INT_MAX || (n > 0 && (!uris || !objects)))
                return client_fail(client, -EINVAL, "URIs and places for the objects are needed");
        if (client->running)
                return client_fail(client, -EDEADLK,
                                   "called from inside a reply: submit the requests instead");

        many = malloc(sizeof(*many) + n * sizeof(many->places[0]));
        if (!many)
                return client_fail(client, -ENOMEM, "out of memory");
        *many = (struct many){};

        r = ask_all(client, many, uris, n, objects);
        while (many->n_left > 0)
                (void) client_turn(client, UINT64_MAX);
        client->is_timely = false; /* where none could be asked for, too */
        tell_failure(client, many);
        if (r < 0)
                return r;

        for (size_t i = 0; i < n; i++) {
                objmapper_object_free(objects[i]); /* of one that could not be asked for */
                objects[i] = many->places[i].object;
                if (errors)
                        errors[i] = many->places[i].error;
        }

        return (int) many->n_got;
}
