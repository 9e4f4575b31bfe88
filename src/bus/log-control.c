/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log-control.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "macro.h"

static const char *const levels[] = {
        [LOG_EMERG] = "emerg",     [LOG_ALERT] = "alert",   [LOG_CRIT] = "crit", [LOG_ERR] = "err",
        [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

static int get_level(_unused_ sd_bus *bus,
                     _unused_ const char *path,
                     _unused_ const char *interface,
                     _unused_ const char *property,
                     sd_bus_message *reply,
                     _unused_ void *userdata,
                     _unused_ sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", levels[log_get_level()]);
}

static int set_level(_unused_ sd_bus *bus,
                     _unused_ const char *path,
                     _unused_ const char *interface,
                     _unused_ const char *property,
                     sd_bus_message *value,
                     _unused_ void *userdata,
                     sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(value, "s", &name);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
                if (strcmp(levels[i], name) == 0) {
                        log_set_level((int) i);
                        return 0;
                }

        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, "There is no such log level.");
}

static int get_target(_unused_ sd_bus *bus,
                      _unused_ const char *path,
                      _unused_ const char *interface,
                      _unused_ const char *property,
                      sd_bus_message *reply,
                      _unused_ void *userdata,
                      _unused_ sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", log_is_journal() ? "journal" : "console");
}

static int get_identifier(_unused_ sd_bus *bus,
                          _unused_ const char *path,
                          _unused_ const char *interface,
                          _unused_ const char *property,
                          sd_bus_message *reply,
                          _unused_ void *userdata,
                          _unused_ sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", program_invocation_short_name);
}

/* sd-bus lets root, and the daemon's own user, change a property. */
static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0, 0),
        SD_BUS_PROPERTY("LogTarget", "s", get_target, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("SyslogIdentifier", "s", get_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

int log_control_add(sd_bus *bus) {
        return sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/LogControl1",
                                        "org.freedesktop.LogControl1", vtable, NULL);
}
