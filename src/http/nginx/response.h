/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An object as the header of nginx's response. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <objmapper.h>

#include "http-object.h"

/* Microseconds since 1970, as nginx has it at this turn. */
int64_t response_now(void);

/* Fills in the request's header: status, fields, size. object must stay as long as the request. NGX_OK, or
 * NGX_ERROR. */
ngx_int_t response_set_header(ngx_http_request_t *r,
                              const struct http_object *response,
                              objmapper_object *object);
