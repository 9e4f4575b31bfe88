/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The URI of the object that is a response. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "http-object.h"

/* From the expression, or by the rule of objmapper-http(7) when it is NULL. NGX_OK; NGX_DECLINED: there can be no
 * object of this URI, or the expression is empty; NGX_ERROR. *ret is followed by a NUL that is not counted. */
ngx_int_t key_make(ngx_http_request_t *r, ngx_http_complex_value_t *expression, ngx_str_t *ret);

/* The URI of the variant that the index leads this request to. As above. */
ngx_int_t key_make_variant(ngx_http_request_t *r,
                           const ngx_str_t *key,
                           const struct http_object *index,
                           ngx_str_t *ret);
