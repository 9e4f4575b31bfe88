/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Clears, once after the store was opened, what an earlier process left when it died: blobs that no record
 * names, and empty folders. A thread of its own and of low priority, which rests between small pieces of
 * work, goes through the folders one by one. */

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"

struct storage;
struct sweeper;

/* mark: blobs of this number and above are this process's, and not touched. No blob below it comes to be
 * named from now on. 0 or an errno. */
int sweeper_new(struct sweeper **ret, struct storage *storage, uint64_t mark);
/* Stops it wherever it is, at once. */
void sweeper_free(struct sweeper *sweeper);
/* Whether it removes nothing any more. Any thread. */
bool sweeper_is_done(struct sweeper *sweeper);
