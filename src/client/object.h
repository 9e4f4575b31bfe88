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
        uint8_t *data; /* a body or page in memory, owned */
        size_t data_allocated;
        uint8_t *spare;      /* memory of an earlier body, data_allocated bytes, when there is no data */
        void *mapping;       /* body_size bytes of fd */
        char etag[ETAG_MAX]; /* made when it is asked for */
        char counter[PROTO_COUNTER_NAME_MAX + 1];
        const char *uri, *metadata, *cursor; /* in memory */
        size_t uri_size, metadata_size, cursor_size, memory_size;
        char memory[];
};

/* What message says about uri; the body is still to come. old: NULL, or one whose memory is used again: it is no
 * object any more then, whatever is returned. -ENOMEM. */
int object_new(objmapper_object **ret,
               objmapper_object *old,
               struct proto_bytes uri,
               const struct proto_message *message);
/* Has the size bytes at p as its body: they are copied to memory that it has to spare, or to new. 0, or -ENOMEM. */
int object_set_body(objmapper_object *object, const uint8_t *p, size_t size);

DEFINE_CLEANUP(objmapper_object, objmapper_object_free)
