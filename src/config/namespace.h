/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The sections of namespaces, and the values that only they have. */

#include "config.h"
#include "setting.h"

/* The namespace of this name, made when there is none. place: where that is said. The pointer is good until the
 * next call. -EINVAL: no such name can be; -ERANGE: too many; -ENOMEM. */
int namespace_get(struct config *config,
                  const char *name,
                  const char *file,
                  unsigned line,
                  struct config_namespace **ret);
void namespace_done(struct config_namespace *namespace);

/* Sets the prefix to what value writes; an empty value unsets it. -EINVAL, -ERANGE (too long), -ENOMEM: it is
 * as it was. place may be NULL when value is empty. */
int prefix_apply(struct config_prefix *prefix, const char *value, const struct place *place);
void prefix_done(struct config_prefix *prefix);

/* Adds those that value names; an empty value removes all. Errors likewise. */
int owners_apply(struct config_owners *owners, const char *value, const struct place *place);
void owners_done(struct config_owners *owners);
