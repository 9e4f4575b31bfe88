/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of full stores share. */

#include "storage-harness.h"

#define KB 1000
/* A full store is emptied by a thousandth more than it must: so much more than what the tests fill it with. */
#define SLACK    128
#define FULL     (100 * KB)
#define CAPACITY (FULL + SLACK)

/* A store that is still to be opened. */
void full_init(struct shelf *shelf, uint64_t bytes_max, uint64_t objects_max, bool evict);

/* Puts prefix with the number behind it. */
int put_number(struct shelf *shelf, const char *prefix, unsigned number, size_t size);
bool is_there(struct shelf *shelf, const char *uri);
bool is_number_there(struct shelf *shelf, const char *prefix, unsigned number);

/* One change that needs no more than the URI. */
int change(struct shelf *shelf, enum storage_change_kind kind, const char *uri, struct storage_info *ret);
