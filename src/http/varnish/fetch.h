/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of this module tell each other of one fetch of Varnish's. It lives as long as the fetch's VCL task.
 * Varnish's headers come before this. */

#include <stdbool.h>

#include "objmapper.h"

struct reply;
struct storage;

struct fetch {
        unsigned magic;
        bool answered;       /* the response at hand is objmapper's: found, or said not to be there */
        struct reply *reply; /* and has an object; NULL: it has none */
        struct storage *storage;
        int uri_size; /* of uri; negative: the request has none */
        char *uri;    /* under which the storage is to keep the response */
};

/* The fetch of a backend's context, made when there is none. NULL: no workspace; the task then fails. */
struct fetch *fetch_get(VRT_CTX);
/* The same, or NULL: there is none. */
struct fetch *fetch_find(VRT_CTX);
/* The fetch that this thread runs. NULL: none, or nothing is known of it. */
struct fetch *fetch_of_thread(struct busyobj **ret_bo);
