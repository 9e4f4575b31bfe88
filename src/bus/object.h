/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The methods that are about one object. Handlers: they answer the message at once or later, and return what sd-bus
 * handlers return. */

#include "call.h"

/* Bytes of a body that the bus takes: what is larger belongs on the publishers' socket. */
#define OBJECT_BODY_MAX (1U << 20)

int object_put_bytes(struct calls *calls, sd_bus_message *message);
int object_remove(struct calls *calls, sd_bus_message *message);
int object_pin(struct calls *calls, sd_bus_message *message);
int object_unpin(struct calls *calls, sd_bus_message *message);
int object_get_info(struct calls *calls, sd_bus_message *message);
