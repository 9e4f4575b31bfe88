/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Who calls, and whether they may. The bus knows the caller's user and groups, the access room what those may
 * do, and polkit what the administrator lets others do. Nothing blocks: the call goes on when it is known.
 * The loop's thread only. */

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "access.h"
#include "cleanup.h"

struct authority;

/* own_uid, user_bus: as access_check_bus() wants them. -ENOMEM. */
int authority_new(struct authority **ret, uid_t own_uid, bool user_bus);
/* The bus is not to be asked for more than a caller's user: groups are not known. Before the first question. */
void authority_ask_uid_alone(struct authority *authority);
/* Questions that are open end without permission. NULL is fine. */
void authority_free(struct authority *authority);
DEFINE_CLEANUP(struct authority, authority_free)

/* The caller of a message may do what was asked for. */
struct permission {
        const struct access_peer *peer; /* borrowed for the call */
        bool by_polkit; /* which stands in for the rules of publishers; groups are not known */
};

/* Asks whether who sent message may do verb, and calls decided, once and later: with permission NULL they may not,
 * and the message has been answered. What decided returns is what sd-bus handlers return. uri: of the object,
 * or for a purge what URIs begin with, which polkit's rules may look at; NULL: there is none; borrowed until then. -ENOMEM, or what sd-bus says:
 * decided is not called. */
int authority_ask(struct authority *authority,
                  sd_bus_message *message,
                  enum access_verb verb,
                  const char *uri,
                  int (*decided)(const struct permission *permission, void *userdata),
                  void *userdata);
