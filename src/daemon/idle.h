/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Ends the daemon when nobody has needed it for a while: the sockets stay the service manager's, and whoever
 * comes next starts it again. */

#include <systemd/sd-event.h>

#include "bus.h"
#include "cleanup.h"
#include "server.h"

struct idle;

/* Calls exit, once, when there was no session and no call on the bus for a time. All it is given must outlive
 * it; bus may be NULL. Owner's thread only, that of the event loop. -ENOMEM, or what sd-event says. */
int idle_new(struct idle **ret,
             sd_event *event,
             struct server *server,
             struct bus *bus,
             void (*exit)(void *userdata),
             void *userdata);
/* NULL is fine. */
void idle_free(struct idle *idle);
DEFINE_CLEANUP(struct idle, idle_free)

/* The time, in microseconds, counted anew; UINT64_MAX: never. 0, or what sd-event says. */
int idle_set_timeout(struct idle *idle, uint64_t usec);
