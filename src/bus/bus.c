/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "call.h"
#include "counters.h"
#include "error.h"
#include "flush.h"
#include "log-control.h"
#include "log.h"
#include "macro.h"
#include "object.h"
#include "prefix.h"
#include "properties.h"
#include "utf8.h"
#include "verify.h"

#define BUS_NAME      "org.objmapper1"
#define BUS_PATH      "/org/objmapper1"
#define BUS_INTERFACE "org.objmapper1.Manager"

/* Messages that the bus has not taken yet: it takes none while callers leave too many answers unread. From the first
 * on what may have a long answer is refused, from the second on nothing is answered: that could be kept here alone. */
#define UNSENT_MAX         64U
#define UNSENT_REFUSED_MAX 4096U

struct bus {
        struct bus_config config;
        struct storage *storage;
        struct server *server;
        struct calls *calls;
        struct verifier *verifier;
        struct properties *properties;
        sd_bus *bus;
        char *name;
        uint64_t n_messages;
};

static int method_put_bytes(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return object_put_bytes(bus->calls, message);
}

static int method_remove(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return object_remove(bus->calls, message);
}

static int method_pin(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return object_pin(bus->calls, message);
}

static int method_unpin(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return object_unpin(bus->calls, message);
}

static int method_get_info(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return object_get_info(bus->calls, message);
}

static int method_purge(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return prefix_purge(bus->calls, message);
}

static int method_list(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return prefix_list(bus->calls, message);
}

static int method_get_stats(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return counters_get_stats(bus->server, message);
}

static int method_get_namespaces(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return counters_get_namespaces(bus->storage, message);
}

static int method_flush_cache(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return flush_cache(bus->calls, message);
}

static int reload(sd_bus_message *message, void *userdata) {
        struct bus *bus = userdata;
        _cleanup_free_ char *text = NULL;
        int r;

        r = bus->config.reload(&text, bus->config.userdata);
        if (r < 0)
                return sd_bus_reply_method_errorf(message, BUS_ERROR_RELOAD_REFUSED, "%s",
                                                  text && utf8_is_valid(text, strlen(text)) ? text
                                                                                            : strerror(-r));

        return sd_bus_reply_method_return(message, NULL);
}

static int method_reload(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return calls_permit(bus->calls, message, ACCESS_RELOAD, reload, bus);
}

static int method_verify(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;

        return calls_permit(bus->calls, message, ACCESS_VERIFY, verifier_handle, bus->verifier);
}

#define PROPERTY(name, type, getter, flags) \
        SD_BUS_PROPERTY(name, type, getter, offsetof(struct bus, properties), flags)

/* Everybody gets as far as this, where the bus's policy lets them: who may what is decided in each method. */
static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("PutBytes",
                                SD_BUS_ARGS("s", uri, "ay", data, "a{ss}", metadata, "a{sv}", options),
                                SD_BUS_RESULT("s", etag),
                                method_put_bytes,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Remove",
                                SD_BUS_ARGS("s", uri, "a{sv}", options),
                                SD_BUS_NO_RESULT,
                                method_remove,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Pin",
                                SD_BUS_ARGS("s", uri, "a{sv}", options),
                                SD_BUS_NO_RESULT,
                                method_pin,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Unpin",
                                SD_BUS_ARGS("s", uri, "a{sv}", options),
                                SD_BUS_NO_RESULT,
                                method_unpin,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetInfo",
                                SD_BUS_ARGS("s", uri, "a{sv}", options),
                                SD_BUS_RESULT("a{sv}", info),
                                method_get_info,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Purge",
                                SD_BUS_ARGS("s", prefix, "a{sv}", options),
                                SD_BUS_RESULT("t", count),
                                method_purge,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("List",
                                SD_BUS_ARGS("s", prefix, "s", cursor, "u", limit, "a{sv}", options),
                                SD_BUS_RESULT("a(sa{sv})", entries, "s", next),
                                method_list,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetStats",
                                SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("a{sv}", counters),
                                method_get_stats,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetNamespaces",
                                SD_BUS_ARGS("a{sv}", options),
                                SD_BUS_RESULT("a(sa{sv})", namespaces),
                                method_get_namespaces,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("FlushCache",
                                SD_BUS_ARGS("a{sv}", options),
                                SD_BUS_NO_RESULT,
                                method_flush_cache,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Verify",
                                SD_BUS_ARGS("a{sv}", options),
                                SD_BUS_RESULT("a{sv}", report),
                                method_verify,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("VerifyProgress",
                                SD_BUS_ARGS("t", checked, "t", total, "t", bytes, "t", problems),
                                0),
        SD_BUS_METHOD_WITH_ARGS("Reload",
                                SD_BUS_NO_ARGS,
                                SD_BUS_NO_RESULT,
                                method_reload,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        PROPERTY("Version", "s", properties_get_version, SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY("StoreID", "s", properties_get_store_id, SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY("Configuration",
                 "a{sa{ss}}",
                 properties_get_configuration,
                 SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        PROPERTY("ConfigurationFiles",
                 "as",
                 properties_get_configuration_files,
                 SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        PROPERTY("Writable", "b", properties_get_writable, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        PROPERTY("Objects", "t", properties_get_objects, 0),
        PROPERTY("Bytes", "t", properties_get_bytes, 0),
        PROPERTY("Sessions", "t", properties_get_sessions, 0),
        SD_BUS_SIGNAL("Reloaded", "", 0),
        SD_BUS_SIGNAL_WITH_ARGS("StoreReadOnly", SD_BUS_ARGS("s", reason), 0),
        SD_BUS_SIGNAL("StoreWritable", "", 0),
        SD_BUS_VTABLE_END,
};

/* Those of which anybody can make many, or whose answers are long. */
static bool is_question(sd_bus_message *message) {
        static const char *const questions[] = { "GetInfo", "List", "GetStats", "GetNamespaces" };

        if (!sd_bus_message_is_method_call(message, BUS_INTERFACE, NULL))
                return true; /* properties and introspection */

        for (size_t i = 0; i < ARRAY_SIZE(questions); i++)
                if (sd_bus_message_is_method_call(message, NULL, questions[i]))
                        return true;

        return false;
}

static int on_message(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *error) {
        struct bus *bus = userdata;
        uint64_t n_unsent;
        int r;

        bus->n_messages++;
        if (!sd_bus_message_is_method_call(message, NULL, NULL))
                return 0;

        r = sd_bus_get_n_queued_write(bus->bus, &n_unsent);
        if (r < 0)
                return r;
        if (n_unsent >= UNSENT_REFUSED_MAX)
                return 1;
        if (n_unsent >= UNSENT_MAX && is_question(message))
                return bus_reject(message, BUS_ERROR_BUSY, "The bus takes no answers: try again later.");

        return 0;
}

static int on_disconnected(_unused_ sd_bus_message *message,
                           _unused_ void *userdata,
                           _unused_ sd_bus_error *error) {
        log_warning("The bus has closed the connection: no management over D-Bus until the next start.");
        return 0;
}

static int set_address(const struct bus *bus, sd_bus *connection) {
        const char *address, *folder;
        char path[256];

        address = secure_getenv(bus->config.user ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS");
        if (address)
                return sd_bus_set_address(connection, address);
        if (!bus->config.user)
                return sd_bus_set_address(connection, "unix:path=/run/dbus/system_bus_socket");

        folder = secure_getenv("XDG_RUNTIME_DIR");
        if (!folder || strspn(folder, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") !=
                                       strlen(folder)) /* others would need escapes */
                return -ENOENT;
        if (snprintf(path, sizeof(path), "unix:path=%s/bus", folder) >= (int) sizeof(path))
                return -ENOENT;

        return sd_bus_set_address(connection, path);
}

static void close_connection(sd_bus **connection) {
        sd_bus_flush_close_unref(*connection);
}

static int open_connection(const struct bus *bus, sd_bus **ret) {
        _cleanup_(close_connection) sd_bus *connection = NULL;
        int r;

        r = sd_bus_new(&connection);
        if (r < 0)
                return r;
        r = set_address(bus, connection);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(connection, true);
        if (r < 0)
                return r;
        r = sd_bus_set_trusted(connection, false);
        if (r < 0)
                return r;
        /* A descriptor whose file never answers would make the process unkillable: the bus refuses them all.
         */
        r = sd_bus_negotiate_fds(connection, false);
        if (r < 0)
                return r;
        /* What is under way when the loop ends is answered after it. */
        r = sd_bus_set_close_on_exit(connection, false);
        if (r < 0)
                return r;
        r = sd_bus_start(connection);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(connection);
        return 0;
}

/* Newer dbus-brokers have a descriptor among a connection's credentials, and cut off who asks for them and takes none:
 * so that is tried on a connection that may be lost. Whatever else goes wrong there, users are all that is asked for. */
static bool tells_credentials(const struct bus *bus) {
        _cleanup_(close_connection) sd_bus *connection = NULL;
        sd_bus_message *answer = NULL;
        const char *own_name;
        int r;

        r = open_connection(bus, &connection);
        if (r >= 0)
                r = sd_bus_get_unique_name(connection, &own_name);
        if (r >= 0)
                r = sd_bus_call_method(connection, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                       "org.freedesktop.DBus", "GetConnectionCredentials", NULL, &answer, "s",
                                       own_name);
        sd_bus_message_unref(answer);
        return r >= 0;
}

static int connect_bus(struct bus *bus, sd_event *event) {
        int r;

        r = open_connection(bus, &bus->bus);
        if (r < 0)
                return r;
        if (!tells_credentials(bus))
                calls_ask_uid_alone(bus->calls);

        r = sd_bus_add_object_vtable(bus->bus, NULL, BUS_PATH, BUS_INTERFACE, vtable, bus);
        if (r < 0)
                return r;
        properties_set_bus(bus->properties, bus->bus);
        r = sd_bus_add_filter(bus->bus, NULL, on_message, bus);
        if (r < 0)
                return r;
        r = log_control_add(bus->bus);
        if (r < 0)
                return r;
        r = sd_bus_match_signal(bus->bus, NULL, "org.freedesktop.DBus.Local", NULL,
                                "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, bus);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(bus->bus, event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;

        return sd_bus_request_name(bus->bus, bus->name, 0);
}

int bus_new(struct bus **ret,
            sd_event *event,
            struct storage *storage,
            struct server *server,
            const struct bus_config *config) {
        _cleanup_(bus_freep) struct bus *bus = NULL;
        int r;

        assert(ret);
        assert(config && config->reload);

        bus = calloc(1, sizeof(*bus));
        if (!bus)
                return -ENOMEM;

        bus->config = *config;
        bus->storage = storage;
        bus->server = server;
        if (asprintf(&bus->name, "%s%s%s", BUS_NAME, config->instance ? "." : "", config->instance ?: "") <
            0) {
                bus->name = NULL;
                return -ENOMEM;
        }

        r = calls_new(&bus->calls, event, storage, server, config->user, geteuid());
        if (r < 0)
                return r;
        r = verifier_new(&bus->verifier, event, storage, BUS_PATH, BUS_INTERFACE);
        if (r < 0)
                return r;
        r = properties_new(&bus->properties, event, storage, server, config->settings, BUS_PATH,
                           BUS_INTERFACE);
        if (r < 0)
                return r;
        r = connect_bus(bus, event);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(bus);
        return 0;
}

void bus_note_reloaded(struct bus *bus) {
        if (bus)
                properties_note_reloaded(bus->properties);
}

uint64_t bus_count_messages(const struct bus *bus) {
        return bus ? bus->n_messages : 0;
}

bool bus_is_busy(const struct bus *bus) {
        return bus && (calls_are_under_way(bus->calls) || verifier_is_busy(bus->verifier));
}

void bus_release_name(struct bus *bus) {
        uint64_t n;

        if (!bus || !bus->bus || sd_bus_release_name(bus->bus, bus->name) < 0)
                return;

        /* What was sent to the name came before the answer to that. What comes now was not sent to it, and there may
         * be no end of it. */
        while (sd_bus_get_n_queued_read(bus->bus, &n) >= 0 && n > 0 && sd_bus_process(bus->bus, NULL) > 0)
                ;
}

void bus_free(struct bus *bus) {
        if (!bus)
                return;

        bus_release_name(bus);
        calls_free(bus->calls); /* no call begins from now on */
        verifier_free(bus->verifier);
        properties_free(bus->properties);
        sd_bus_flush_close_unref(bus->bus);
        free(bus->name);
        free(bus);
}
