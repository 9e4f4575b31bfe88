/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which blobs the maps name though no record does.
 *
 * A record keeps its key, and a blob its record, for as long as they live: a blob that a map names before and after
 * a walk over all records, and that none of them names, belongs to nobody. The maps are taken in windows of so
 * many folders, each of which costs a walk. */

#include "verify.h"

struct live_check;

int live_check_new(struct live_check **ret, struct storage_verify *verify);
void live_check_free(struct live_check *check);
DEFINE_CLEANUP(struct live_check, live_check_free)

/* Before a walk: takes the next window. 1: there are more; 0: it is the last; or an errno. */
int live_check_load(struct live_check *check);
/* During it: a record names blob (0: none). */
void live_check_strike(struct live_check *check, uint64_t blob);
/* After it: tells what is wrong, and repairs it. */
int live_check_judge(struct live_check *check);
