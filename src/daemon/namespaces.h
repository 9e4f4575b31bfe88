/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The namespaces of the configuration, as those want them who decide. */

#include "access.h"
#include "config.h"

/* *ret: the caller's reference; NULL when there are no namespaces. -ENOMEM. */
int namespaces_compile(struct access_rules **ret, const struct config *config);
