/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Tells the service manager that the daemon makes progress: its own loop, and every worker. A hang of one of
 * them is a silence, which the manager ends with WatchdogSec=. */

#include <systemd/sd-event.h>

#include "cleanup.h"
#include "server.h"

struct watchdog;

/* *ret becomes NULL when the manager watches nothing. event and server must outlive it. Owner's thread only,
 * that of the event loop. -ENOMEM, or what sd-event says. */
int watchdog_new(struct watchdog **ret, sd_event *event, struct server *server);
/* NULL is fine. */
void watchdog_free(struct watchdog *watchdog);
DEFINE_CLEANUP(struct watchdog, watchdog_free)
