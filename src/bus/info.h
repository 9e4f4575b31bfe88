/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is known of an object, as the bus tells it. */

#include <systemd/sd-bus.h>

#include "protocol.h"
#include "storage.h"

/* "%016x-%x-%x": 16 + 1 + 16 + 1 + 16 and a NUL. */
#define ETAG_TEXT_SIZE 51

/* Returns text. */
const char *info_format_etag(const struct storage_etag *etag, char text[static ETAG_TEXT_SIZE]);

/* Appends an a{sv}. metadata: NULL: not told. bytes: NULL, or the URI, which is not UTF-8. What sd-bus says. */
int info_append(sd_bus_message *reply,
                const struct storage_info *info,
                const struct proto_bytes *metadata,
                const struct proto_bytes *bytes);
