/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a request of Varnish's asks for, as objmapper-http(7) names it. Varnish's headers come before this. */

#include <stdbool.h>
#include <stddef.h>

struct http_digest;

/* Writes the request's URI, or the one that was set instead (NULL: none was); no NUL. Its bytes; -EINVAL: it has none;
 * -ENAMETOOLONG. */
int uri_of_request(const struct http *request, const char *set, char *ret, size_t size);
/* A http_request_field_fn; userdata is the struct http. */
bool uri_request_field(const char *name, struct http_digest *digest, void *userdata);
