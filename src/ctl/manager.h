/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The daemon's management over D-Bus: which bus and which name, and what went wrong there. */

#include <systemd/sd-bus.h>

#include "ctl.h"

#define MANAGER_PATH      "/org/objmapper1"
#define MANAGER_INTERFACE "org.objmapper1.Manager"

struct manager {
        const struct ctl *ctl;
        sd_bus *bus;
        char *name; /* of the daemon there */
};

/* Connects to the bus of the daemon that the command line means. An exit code: what is wrong was told. */
int manager_connect(struct manager *ret, const struct ctl *ctl);
void manager_done(struct manager *manager);

/* A new call of a method. As sd_bus_message_new_method_call(). */
int manager_new_call(struct manager *manager, sd_bus_message **ret, const char *method);
/* Sends it, waits for the answer however long it takes, and dispatches what else comes meanwhile. *ret: the answer.
 * An exit code: what is wrong was told. */
int manager_call(struct manager *manager, sd_bus_message *call, sd_bus_message **ret);
/* Tells that talking to the bus failed: an exit code. */
int manager_report(const struct manager *manager, int error);
