/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The namespaces of the configuration, as those want them who decide. */

#include "access.h"
#include "config.h"
#include "storage.h"

/* *ret: the caller's reference; NULL when there are no namespaces. -ENOMEM. */
int namespaces_compile(struct access_rules **ret, const struct config *config);

/* What Policy= says, to the store. */
enum storage_policy policy_from(int policy);

/* What the store is told of them. What they leave open is as of_store says. The array is the caller's, to be freed;
 * names and prefixes are the configuration's. NULL when there are no namespaces. -ENOMEM. */
int namespaces_limit(struct storage_namespace **ret,
                     const struct config *config,
                     const struct storage_limits *of_store);
