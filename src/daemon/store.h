/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which store the daemon has, and what its log says of it. */

#include "config.h"
#include "extension.h"
#include "storage.h"

/* Where the store is: StoreDirectory=, else the first folder of $STATE_DIRECTORY, else, for a user's own
 * daemon, below $XDG_STATE_HOME. To be freed. -ENOENT (logged): there is none of them; -ENOMEM. */
int store_find(char **ret, const struct config *config, bool user, const char *instance);

/* What the store tells is logged, with its folder; its progress goes to the service manager. */
struct store_events {
        const char *directory;
        struct extension extension;
};

/* Opens it. events has to outlive it. What goes wrong is logged, in words; errors of storage_init(). */
int store_open(struct storage **ret, struct store_events *events, const struct config *config);

/* All that a new configuration changes of it, or nothing: -ENOMEM, with *ret_setting the name of what there is not
 * enough for, where that is known. directory: that of store_open(); old: what is in force. */
int store_reconfigure(struct storage *storage,
                      const char *directory,
                      const struct config *old,
                      const struct config *new,
                      const char **ret_setting);
