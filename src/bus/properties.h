/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The properties of the interface, and who is told that they have changed. The loop's thread only. */

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "cleanup.h"
#include "config.h"
#include "server.h"
#include "storage.h"

struct properties;

/* All must outlive it; config: that in force, the same struct after a reload. path, interface: where they are.
 * -ENOMEM, -EMFILE. */
int properties_new(struct properties **ret,
                   sd_event *event,
                   struct storage *storage,
                   struct server *server,
                   const struct config *config,
                   const char *path,
                   const char *interface);
/* NULL is fine. */
void properties_free(struct properties *properties);
DEFINE_CLEANUP(struct properties, properties_free)

/* From now on changes are told on bus, where they are. */
void properties_set_bus(struct properties *properties, sd_bus *bus);

/* For the vtable: userdata is where the struct properties * is. */
#define PROPERTIES_GETTER(name)                                                                           \
        int properties_##name(sd_bus *bus, const char *path, const char *interface, const char *property, \
                              sd_bus_message *reply, void *userdata, sd_bus_error *error)
PROPERTIES_GETTER(get_version);
PROPERTIES_GETTER(get_store_id);
PROPERTIES_GETTER(get_configuration);
PROPERTIES_GETTER(get_configuration_files);
PROPERTIES_GETTER(get_writable);
PROPERTIES_GETTER(get_objects);
PROPERTIES_GETTER(get_bytes);
PROPERTIES_GETTER(get_sessions);
#undef PROPERTIES_GETTER

/* The configuration was read again and is in force. */
void properties_note_reloaded(struct properties *properties);
