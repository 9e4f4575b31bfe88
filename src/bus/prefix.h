/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The methods that are about all objects whose URIs begin with something. Handlers, as those of object.h. */

#include "call.h"

/* Entries of one page of a listing, and bytes of their URIs. */
#define PAGE_ENTRIES_MAX 500U
#define PAGE_BYTES_MAX   ((size_t) 1 << 20)

int prefix_purge(struct calls *calls, sd_bus_message *message);
int prefix_list(struct calls *calls, sd_bus_message *message);
