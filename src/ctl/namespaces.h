/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the namespaces hold, as the daemon's counters "namespace_NAME_COLUMN" tell; a limit is there only where there
 * is one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum namespace_column {
        NAMESPACE_OBJECTS,
        NAMESPACE_OBJECTS_PINNED,
        NAMESPACE_OBJECTS_MAX,
        NAMESPACE_BYTES,
        NAMESPACE_BYTES_PINNED,
        NAMESPACE_BYTES_MAX,
        NAMESPACE_COLUMNS,
};

struct namespaces {
        struct namespace_row {
                char *name;
                bool has[NAMESPACE_COLUMNS];
                uint64_t values[NAMESPACE_COLUMNS];
        } * rows;
        size_t n_rows;
};

/* Takes a counter; those of a namespace follow each other. 1: it is one; 0: it is none; -ENOMEM. */
int namespaces_take(struct namespaces *namespaces, const char *counter, uint64_t value);
void namespaces_done(struct namespaces *namespaces);
