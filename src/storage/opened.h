/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which blobs were opened of late, and found to be what they should be: the kernel has their paths in memory, and nobody
 * else writes to them. Any thread; what two say at once may be forgotten. */

#include <stdint.h>

struct opened;

/* -ENOMEM */
int opened_new(struct opened **ret);
void opened_free(struct opened *opened);

/* blob was opened and looked at just now. */
void opened_note(struct opened *opened, uint64_t blob);
/* How many periods of 16 seconds ago that was, 0: in this one; a huge number: it is not known. */
uint64_t opened_age(struct opened *opened, uint64_t blob);
