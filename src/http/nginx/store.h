/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* objmapper_store: puts an origin's response into objmapper as it passes. */

#include <ngx_config.h>
#include <ngx_core.h>

struct store;

/* Puts the filters before all others: they see what the upstream sends. */
ngx_int_t store_init(ngx_conf_t *cf);
