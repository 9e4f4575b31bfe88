/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the directives say, and what is kept for a request. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <stdbool.h>

#include "pool.h"

struct main_conf {
        ngx_array_t pools; /* of struct pool *: one for each socket and use */
        ngx_uint_t connections;
        ngx_uint_t keep;
};

struct location_conf {
        struct pool *pass; /* objmapper_pass; NULL: none */
        ngx_http_complex_value_t
                        *key; /* objmapper_key; NULL: the response's URI as objmapper-http(7) has it */
        ngx_msec_t timeout;   /* objmapper_timeout */
        struct pool *store;   /* objmapper_store; NULL: none */
        time_t store_valid;   /* objmapper_store_valid; negative: off */
        ngx_flag_t stale;     /* objmapper_stale */
};

enum pass_status {
        PASS_NONE,
        PASS_HIT,
        PASS_STALE,
        PASS_MISS,
        PASS_EXPIRED,
        PASS_BYPASS,
        PASS_TIMEOUT,
        PASS_DOWN,
        PASS_ERROR,
};

enum store_status {
        STORE_NONE,
        STORE_SKIP, /* the response is not to be kept */
        STORE_PUT,
};

struct store;

/* What is told about a request in variables, after it went on to another location, too. */
struct report {
        ngx_str_t key;
        enum pass_status status;
        enum store_status store;
        struct store *putting; /* the put of this response; else NULL */
        bool from_file;        /* the body is an open file */
        bool timed;
        ngx_msec_t msec; /* until the answer */
};

extern ngx_module_t ngx_http_objmapper_module;

/* The request's own, made at the first call; NULL: out of memory. */
struct report *report_get(ngx_http_request_t *r);

/* objmapper_pass: the handler of a location. */
ngx_int_t pass_handler(ngx_http_request_t *r);
