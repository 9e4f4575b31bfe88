/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a caller wants to ask: filled in by setters, encoded when it is asked. */

#include "objmapper.h"
#include "protocol.h"

struct objmapper_request {
        enum objmapper_verb verb;
        struct proto_message message; /* borrows from what follows */
        uint8_t *metadata;
        size_t metadata_size;
        uint8_t *cursor;
        const void *data; /* a put's body in memory */
        size_t data_size;
        int body_fd;                /* or in a descriptor */
        objmapper_source_fn source; /* or given by this */
        void *source_userdata;
        uint64_t source_size; /* of a body that is not in memory */
        int output;
        uint8_t uri[]; /* or prefix */
};

/* Whether a verb changes the store, and so needs the publishers' socket. */
static inline bool verb_changes(unsigned verb) {
        return verb == OBJMAPPER_PUT || verb == OBJMAPPER_SET_METADATA || verb == OBJMAPPER_REMOVE ||
               verb == OBJMAPPER_PURGE;
}
