/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The method FlushCache. A handler, as those of object.h. */

#include "call.h"

int flush_cache(struct calls *calls, sd_bus_message *message);
