/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which blobs were opened of late: the kernel most likely has their paths in memory. Of use where it can't be asked
 * (RestrictSUIDSGID= of systemd leaves no openat2). Any thread; what two say at once may be forgotten. */

#include <stdbool.h>
#include <stdint.h>

struct opened;

/* -ENOMEM */
int opened_new(struct opened **ret);
void opened_free(struct opened *opened);

/* blob was opened just now. */
void opened_note(struct opened *opened, uint64_t blob);
/* Whether it was within the last minute or so. */
bool opened_is_recent(struct opened *opened, uint64_t blob);
