/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which of an origin's responses are kept in objmapper, and as what: objmapper-http(7). Varnish's headers come before
 * this. */

#include "objmapper.h"

#define STORABLE_VARY_MAX 1024

/* Why the response is not kept; NULL: it is. ret_vary: as an index has it, and a NUL; empty: it has no variants. */
const char *storable_check(const struct busyobj *bo, char ret_vary[STORABLE_VARY_MAX]);
/* Adds the metadata and the time to live. 0, -EINVAL: it is too much, or it is dead already; -ENOMEM. */
int storable_describe(const struct busyobj *bo, const struct objcore *oc, objmapper_request *put);
