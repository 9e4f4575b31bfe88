/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* org.freedesktop.LogControl1: the log's level, for "systemctl service-log-level". */

#include <systemd/sd-bus.h>

/* Adds the object to bus. For the loop's thread. 0, or what sd-bus says. */
int log_control_add(sd_bus *bus);
