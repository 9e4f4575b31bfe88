/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* HTTP responses as objects, as objmapper-http(7) describes them: what every module for an HTTP server needs.
 * Nothing here allocates, logs or keeps state; everything may be called from any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "objmapper.h"

#define HTTP_REASON_MAX 64  /* bytes of a reason phrase, and a NUL */
#define HTTP_NAME_MAX   256 /* bytes of a field's name in a Vary field, and a NUL */

/* What an object's metadata says but for the header fields. */
struct http_object {
        unsigned status;              /* 200 to 599 */
        char reason[HTTP_REASON_MAX]; /* empty: none */
        bool copy;                    /* of an origin's response; otherwise the publisher's own */
        int64_t generated_usec;       /* copies only: since 1970 */
        int64_t ttl_usec, grace_usec, keep_usec;
        const char *vary; /* not NULL: this is an index, and these are its names; borrowed from the object */
        size_t vary_size;
};

/* What a time is to a copy. */
enum http_freshness {
        HTTP_FRESH, /* may be served; a publisher's object always */
        HTTP_STALE, /* may be served while, or because, there is no newer one */
        HTTP_DEAD,  /* may not be served */
};

/* Reads an object's metadata. -EBADMSG: it is not to be served; *ret is then not to be used. */
int http_object_read(objmapper_object *object, struct http_object *ret);

/* now_usec: CLOCK_REALTIME in microseconds. */
enum http_freshness http_object_freshness(const struct http_object *object, int64_t now_usec);
/* The response's Age in seconds; 0 for a publisher's object, which has none. */
uint64_t http_object_age(const struct http_object *object, int64_t now_usec);

/* Whether a pair of an object's metadata is a header field of the response. */
bool http_field_served(const char *key, const char *value, size_t value_size);

/* Whether s may stand in a field's value or a reason phrase: no control character but the tab. */
bool http_text_valid(const char *s, size_t size);

/* The URI of a response: host is what the field Host has, target the path with the query. Writes at most size
 * bytes and no NUL. The URI's bytes, or -EINVAL: such a request has none (empty host, an asterisk for target,
 * a byte that may not be in one); -ENAMETOOLONG: it does not fit into size or OBJMAPPER_URI_MAX. */
int http_uri(char *ret,
             size_t size,
             const char *host,
             size_t host_size,
             const char *target,
             size_t target_size);

/* Calls back for one field of a request by its name in lower case: feeds the field's values, joined by a comma
 * and a space, to http_digest_add(), and returns whether the request has the field. */
struct http_digest;
typedef bool (*http_request_field_fn)(const char *name, struct http_digest *digest, void *userdata);
void http_digest_add(struct http_digest *digest, const char *value, size_t size);

/* The URI of the variant that an index leads a request to. Writes at most size bytes and no NUL. The URI's
 * bytes, or -EBADMSG: vary is no list of names; -ENAMETOOLONG: as above. */
int http_variant_uri(char *ret,
                     size_t size,
                     const char *uri,
                     size_t uri_size,
                     const char *vary,
                     size_t vary_size,
                     http_request_field_fn field,
                     void *userdata);
