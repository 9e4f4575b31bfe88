/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is done over the bus instead, when this user may not open the socket: anybody may ask for counters there, and
 * polkit may permit a change. */

#include "ctl.h"

/* Whether a call that failed so is to be made over the bus: the socket was refused, and nothing was sent. */
bool stand_in_is_wanted(const struct ctl *ctl, int error);

/* Each returns an exit code; what is wrong was told, with what the client said of the socket. fd: read to its end. */
int stand_in_put(struct ctl *ctl, const char *uri, int fd);
int stand_in_remove(struct ctl *ctl, const char *uri);
int stand_in_purge(struct ctl *ctl, const char *prefix);

/* The daemon's counters: from the socket, or from the bus. As objmapper_stats(). */
int get_stats(struct ctl *ctl, int (*take)(const char *name, uint64_t value, void *userdata), void *userdata);
