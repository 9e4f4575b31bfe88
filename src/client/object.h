/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An answer. It knows nothing of the client that it came from. */

#include "cleanup.h"
#include "objmapper.h"
#include "protocol.h"
#include "words.h"

struct objmapper_object {
        struct proto_info info;
        struct proto_usage usage;
        uint64_t offset, body_size, count;
        enum proto_mode mode; /* how the body came; OP_DEFAULT: there is none */
        bool page;            /* data holds entries or counters: no body for the caller */
        bool unmodified;
        bool taken; /* the descriptor is the caller's now */
        int fd;
        uint8_t *data;       /* a body or page in memory, owned */
        void *mapping;       /* body_size bytes of fd */
        char etag[ETAG_MAX]; /* made when it is asked for */
        char counter[PROTO_COUNTER_NAME_MAX + 1];
        const char *uri, *metadata, *cursor; /* in memory */
        size_t uri_size, metadata_size, cursor_size;
        char memory[];
};

/* What message says about uri; the body is still to come. -ENOMEM. */
int object_new(objmapper_object **ret, struct proto_bytes uri, const struct proto_message *message);

DEFINE_CLEANUP(objmapper_object, objmapper_object_free)
