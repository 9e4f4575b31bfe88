/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The methods GetStats and GetNamespaces, which are for everybody. They answer at once, and return what sd-bus
 * handlers return. */

#include <systemd/sd-bus.h>

#include "server.h"
#include "storage.h"

int counters_get_stats(struct server *server, sd_bus_message *message);
int counters_get_namespaces(struct storage *storage, sd_bus_message *message);
