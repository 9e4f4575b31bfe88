/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Varnish's headers, in the order that they need. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cache/cache_varnishd.h"

#include "cache/cache_filter.h"

#include "vcl.h"
#include "vtim.h"

#include "vcc_objmapper_if.h"
