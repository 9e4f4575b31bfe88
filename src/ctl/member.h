/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An object as a member of an archive, as objmapperctl(1) describes it for others. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ctl.h"
#include "tar.h"

#define MEMBER_RECORDS_MAX (UINT32_C(128) << 10) /* bytes of records that are read */

struct member {
        const char *uri;
        size_t uri_size;
        const char *metadata; /* netstrings: key, value, key, value, ... */
        size_t metadata_size;
        uint64_t expires_usec; /* since 1970; 0: never */
        uint64_t checksum;     /* XXH3-64 of the body */
        uint64_t size;         /* of the body */
        bool has_size;         /* the records say it, instead of the file's own header */
};

/* Appends the headers of object as the number-th member to out, a stream of open_memstream() whose buffer
 * *data is. 0, or -ENOMEM. */
int member_write_head(FILE *out, char **data, objmapper_object *object, uint64_t number);

/* Reads the records in front of a file; what is found is borrowed from data. 0; -EBADMSG: damaged; -ENODATA:
 * intact, but they are no object's; -ENOMEM. ret->size and ret->has_size are set as far as known in any case. */
int member_decode(const void *data, size_t size, struct member *ret);

/* Adds the metadata to a put. -EBADMSG: it is malformed; else as objmapper_request_add_metadata(). */
int member_add_metadata(const struct member *member, objmapper_request *request);
