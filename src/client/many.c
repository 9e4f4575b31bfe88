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
        struct place *places;
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

static enum at_once ask(objmapper_client *client,
                        struct place *place,
                        const char *uri,
                        objmapper_object *reused,
                        bool alone) {
        enum at_once at_once = AT_ONCE_NOT;

        if (!uri) {
                place->error = client_fail(client, -EINVAL, "get: a URI is missing");
                return AT_ONCE_NOT;
        }

        if (alone)
                at_once = client_get_at_once(client, uri, strlen(uri), reused, note_answer, place,
                                             &place->object, &place->error);
        if (at_once != AT_ONCE_NOT)
                return at_once;

        client_look_at_clock(client);
        place->error = client_add_get(client, uri, reused, note_answer, place);
        return place->error < 0 ? AT_ONCE_NOT : AT_ONCE_BEGUN;
}

/* Asks for all. Returns how many could be asked for, or what kept the first from it. */
static int ask_all(objmapper_client *client,
                   struct many *many,
                   const char *const *uris,
                   size_t n,
                   objmapper_object **objects) {
        int n_asked = 0;

        for (size_t i = 0; i < n; i++) {
                struct place *place = &many->places[i];
                enum at_once at_once;

                *place = (struct place){ .many = many };
                at_once = ask(client, place, uris[i], objects[i], n == 1);
                if (at_once != AT_ONCE_NOT) {
                        objects[i] = NULL;
                        n_asked++;
                }
                if (place->error < 0)
                        note_failure(client, many, place->error);
                many->n_left += at_once == AT_ONCE_BEGUN;
                many->n_got += at_once == AT_ONCE_ANSWERED && place->error == 0;
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
        _cleanup_free_ struct place *allocated = NULL;
        struct place one;
        struct many many = { .places = &one };
        int r;

        if (n > INT_MAX || (n > 0 && (!uris || !objects)))
                return client_fail(client, -EINVAL, "URIs and places for the objects are needed");
        if (client->running)
                return client_fail(client, -EDEADLK,
                                   "called from inside a reply: submit the requests instead");

        if (n > 1) {
                many.places = allocated = malloc(n * sizeof(*allocated));
                if (!allocated)
                        return client_fail(client, -ENOMEM, "out of memory");
        }

        r = ask_all(client, &many, uris, n, objects);
        while (many.n_left > 0)
                (void) client_turn(client, UINT64_MAX);
        client->is_timely = false; /* where none could be asked for, too */
        tell_failure(client, &many);
        if (r < 0)
                return r;

        for (size_t i = 0; i < n; i++) {
                objmapper_object_free(objects[i]); /* of one that could not be asked for */
                objects[i] = many.places[i].object;
                if (errors)
                        errors[i] = many.places[i].error;
        }

        return (int) many.n_got;
}
