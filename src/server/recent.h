/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What was sent whole a moment ago is still in memory: it need not be looked at so closely, which costs more than to
 * send it. The worker's thread only. */

#include <stdbool.h>

#include "output.h"

/* Whether all of it was sent a moment ago. */
bool recent_has(const struct worker *worker, const struct output_file *file);

/* All of the item was sent. */
void recent_note(struct worker *worker, const struct output_item *item);
