/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Memory of which no line is shared with another block: what one thread writes to it takes nothing out of the cache of
 * another. */

#include <stddef.h>
#include <stdlib.h>

#define LINE_SIZE ((size_t) 64)

/* To be freed by free(). NULL: no memory. */
static inline void *lines_alloc(size_t size) {
        return aligned_alloc(LINE_SIZE, (size + LINE_SIZE - 1) / LINE_SIZE * LINE_SIZE);
}
