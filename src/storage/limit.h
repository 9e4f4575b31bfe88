/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The store's own copy of what it was told to keep to. */

#include "cleanup.h"
#include "storage.h"

struct limits {
        struct storage_limits value; /* every maximum that is none is UINT64_MAX */
        struct storage_namespace namespaces[];
};

/* -EINVAL: see storage_set_limits(); -ENOMEM. */
int limits_new(struct limits **ret, const struct storage_limits *from);
void limits_free(struct limits *limits);
DEFINE_CLEANUP(struct limits, limits_free)
