/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Whether the dictionary is in memory: only then may it be read where nobody is to wait for a disk. A thread in
 * the background measures it now and then, as long as somebody asks, and takes no more than a hundredth of a
 * processor for it. */

#include <stdbool.h>

#include "cleanup.h"
#include "dictionary.h"

struct resident;

/* The dictionary must outlive it. 0 or an errno. */
int resident_new(struct resident **ret, struct dictionary *dictionary);
void resident_free(struct resident *resident);
DEFINE_CLEANUP(struct resident, resident_free)

/* As it was measured last. Any thread, costs next to nothing. */
bool resident_is(struct resident *resident);

/* The way to and from a read that was begun because it is: when it had to wait for the disk all the same, that
 * ends it at once, for a while that grows each time. Any thread. */
uint64_t resident_begin(void);
void resident_end(struct resident *resident, uint64_t begun);
