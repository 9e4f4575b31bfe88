/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The errors of org.objmapper1. */

#include <systemd/sd-bus.h>

#include "cleanup.h"

#define BUS_ERROR_ABSENT         "org.objmapper1.Error.Absent"
#define BUS_ERROR_EXISTS         "org.objmapper1.Error.Exists"
#define BUS_ERROR_EXPIRED        "org.objmapper1.Error.Expired"
#define BUS_ERROR_TOO_LARGE      "org.objmapper1.Error.TooLarge"
#define BUS_ERROR_NO_SPACE       "org.objmapper1.Error.NoSpace"
#define BUS_ERROR_BUSY           "org.objmapper1.Error.Busy"
#define BUS_ERROR_NOT_PERMITTED  "org.objmapper1.Error.NotPermitted"
#define BUS_ERROR_BAD_REQUEST    "org.objmapper1.Error.BadRequest"
#define BUS_ERROR_CONFLICT       "org.objmapper1.Error.Conflict"
#define BUS_ERROR_READ_ONLY      "org.objmapper1.Error.ReadOnly"
#define BUS_ERROR_RELOAD_REFUSED "org.objmapper1.Error.ReloadRefused"
#define BUS_ERROR_INTERNAL       "org.objmapper1.Error.Internal"

/* Answers message with the error that stands for a negative errno of the store, naming the object. What
 * sending returned. */
int bus_reply_errno(sd_bus_message *message, const char *uri, int error);

/* Answers message with an error. 1, which ends the call, or a negative errno. */
int bus_reject(sd_bus_message *message, const char *name, const char *format, ...) _printf_(3, 4);
