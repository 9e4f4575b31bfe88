/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whether an origin's response may be kept, for how long, and as what metadata: objmapper-http(7). */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <objmapper.h>
#include <stdbool.h>
#include <stdint.h>

struct storable {
        int64_t age, ttl, grace; /* seconds; the age when it was received */
        ngx_str_t vary;          /* as an index has it; empty: the response has no variants */
};

/* Looks at the request and at what its upstream answered. valid: seconds for which a response is fresh that says
 * nothing about that; negative: it is not kept. NGX_OK; NGX_DECLINED: it is not to be kept; NGX_ERROR. */
ngx_int_t storable_check(ngx_http_request_t *r, time_t valid, struct storable *ret);

/* Adds the metadata, and the time to live. 0, -EINVAL: it is too much; -ENOMEM. */
int storable_describe(ngx_http_request_t *r, const struct storable *storable, objmapper_request *put);

/* Milliseconds from now on until it is good for nothing. */
uint64_t storable_lifetime(const struct storable *storable);
