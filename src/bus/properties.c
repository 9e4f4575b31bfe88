/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "properties.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "escape.h"
#include "log.h"
#include "macro.h"
#include "mailbox.h"
#include "utf8.h"
#include "version.h"

struct properties {
        struct storage *storage;
        struct server *server;
        const struct config *config;
        const char *path, *interface;
        sd_bus *bus; /* NULL: not added yet */

        struct mailbox *mailbox;
        struct mail mail;
        bool is_posted;  /* atomic */
        int write_error; /* as told */
};

/* userdata: the struct properties *. */
#define GETTER(name)                                                                         \
        int properties_##name(_unused_ sd_bus *bus, _unused_ const char *path,               \
                              _unused_ const char *interface, _unused_ const char *property, \
                              sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *error)

static struct properties *properties_of(void *userdata) {
        return *(struct properties **) userdata;
}

GETTER(get_version) {
        (void) userdata;
        return sd_bus_message_append(reply, "s", PROJECT_VERSION);
}

GETTER(get_store_id) {
        const struct properties *properties = properties_of(userdata);
        char text[17];

        (void) snprintf(text, sizeof(text), "%016" PRIx64, storage_get_id(properties->storage));
        return sd_bus_message_append(reply, "s", text);
}

/* What files and values say may be any bytes. */
static int append_text(sd_bus_message *reply, const char *text) {
        _cleanup_free_ char *escaped = NULL;
        size_t size;
        FILE *out;

        if (utf8_is_valid(text, strlen(text)))
                return sd_bus_message_append(reply, "s", text);

        out = open_memstream(&escaped, &size);
        if (!out)
                return -ENOMEM;
        print_escaped(out, text, strlen(text));
        if (fclose(out) == EOF)
                return -ENOMEM;

        return sd_bus_message_append(reply, "s", escaped);
}

struct sections {
        sd_bus_message *reply;
        char *open; /* the one whose settings are being appended; NULL: none yet */
};

static int close_section(struct sections *sections) {
        int r = 0;

        for (unsigned i = 0; i < 2 && sections->open && r >= 0; i++)
                r = sd_bus_message_close_container(sections->reply);
        free(TAKE_PTR(sections->open));
        return r;
}

static int open_section(struct sections *sections, const char *section) {
        int r;

        r = close_section(sections);
        if (r < 0)
                return r;
        sections->open = strdup(section);
        if (!sections->open)
                return -ENOMEM;

        r = sd_bus_message_open_container(sections->reply, 'e', "sa{ss}");
        if (r >= 0)
                r = append_text(sections->reply, section);
        return r < 0 ? r : sd_bus_message_open_container(sections->reply, 'a', "{ss}");
}

static int append_setting(const char *section, const char *name, const char *value, void *userdata) {
        struct sections *sections = userdata;
        int r;

        if (!sections->open || strcmp(sections->open, section) != 0) {
                r = open_section(sections, section);
                if (r < 0)
                        return r;
        }

        r = sd_bus_message_open_container(sections->reply, 'e', "ss");
        if (r >= 0)
                r = sd_bus_message_append(sections->reply, "s", name);
        if (r >= 0)
                r = append_text(sections->reply, value);
        return r < 0 ? r : sd_bus_message_close_container(sections->reply);
}

GETTER(get_configuration) {
        const struct properties *properties = properties_of(userdata);
        struct sections sections = { .reply = reply };
        int r;

        r = sd_bus_message_open_container(reply, 'a', "{sa{ss}}");
        if (r < 0)
                return r;
        r = config_visit_values(properties->config, append_setting, &sections);
        if (r >= 0)
                r = close_section(&sections);
        free(sections.open);

        return r < 0 ? r : sd_bus_message_close_container(reply);
}

GETTER(get_configuration_files) {
        const struct config *config = (properties_of(userdata))->config;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "s");
        for (size_t i = 0; i < config->n_files && r >= 0; i++)
                r = append_text(reply, config->files[i]);

        return r < 0 ? r : sd_bus_message_close_container(reply);
}

GETTER(get_writable) {
        return sd_bus_message_append(reply, "b", (properties_of(userdata))->write_error == 0);
}

static struct storage_stats stats_of(void *userdata) {
        struct storage_stats stats;

        storage_get_stats(properties_of(userdata)->storage, &stats);
        return stats;
}

GETTER(get_objects) {
        return sd_bus_message_append(reply, "t", stats_of(userdata).objects);
}

GETTER(get_bytes) {
        return sd_bus_message_append(reply, "t", stats_of(userdata).bytes);
}

GETTER(get_sessions) {
        const struct properties *properties = properties_of(userdata);

        return sd_bus_message_append(reply, "t", (uint64_t) server_get_sessions(properties->server));
}

static void note_sent(int r) {
        if (r < 0) /* the bus may be gone */
                (void) log_errno(LOG_DEBUG, r, "What has changed can't be told on the bus: %m");
}

void properties_note_reloaded(struct properties *properties) {
        if (!properties->bus)
                return;

        note_sent(sd_bus_emit_properties_changed(properties->bus, properties->path, properties->interface,
                                                 "Configuration", "ConfigurationFiles", NULL));
        note_sent(sd_bus_emit_signal(properties->bus, properties->path, properties->interface, "Reloaded",
                                     ""));
}

static void deliver_writes(struct mail *mail) {
        struct properties *properties = container_of(mail, struct properties, mail);
        bool was_writable = properties->write_error == 0;

        /* Sees all that was said by those who found it posted. */
        (void) __atomic_exchange_n(&properties->is_posted, false, __ATOMIC_SEQ_CST);
        properties->write_error = storage_get_write_error(properties->storage);
        if (!properties->bus || (properties->write_error == 0) == was_writable)
                return;

        note_sent(sd_bus_emit_properties_changed(properties->bus, properties->path, properties->interface,
                                                 "Writable", NULL));
        note_sent(was_writable ? sd_bus_emit_signal(properties->bus, properties->path, properties->interface,
                                                    "StoreReadOnly", "s", strerror(-properties->write_error))
                               : sd_bus_emit_signal(properties->bus, properties->path, properties->interface,
                                                    "StoreWritable", ""));
}

/* Any thread. */
static void on_writes_changed(void *userdata) {
        struct properties *properties = userdata;

        if (!__atomic_exchange_n(&properties->is_posted, true, __ATOMIC_SEQ_CST))
                mailbox_post(properties->mailbox, &properties->mail);
}

void properties_set_bus(struct properties *properties, sd_bus *bus) {
        properties->bus = bus;
}

int properties_new(struct properties **ret,
                   sd_event *event,
                   struct storage *storage,
                   struct server *server,
                   const struct config *config,
                   const char *path,
                   const char *interface) {
        _cleanup_(properties_freep) struct properties *properties = calloc(1, sizeof(*properties));
        int r;

        assert(ret);

        if (!properties)
                return -ENOMEM;

        *properties = (struct properties){
                .storage = storage,
                .server = server,
                .config = config,
                .path = path,
                .interface = interface,
                .mail.deliver = deliver_writes,
        };
        r = mailbox_new(&properties->mailbox, event);
        if (r < 0)
                return r;

        storage_watch_writes(storage, on_writes_changed, properties);
        properties->write_error = storage_get_write_error(storage);
        *ret = TAKE_PTR(properties);
        return 0;
}

void properties_free(struct properties *properties) {
        if (!properties)
                return;

        if (properties->mailbox) {
                storage_watch_writes(properties->storage, NULL, NULL);
                mailbox_free(properties->mailbox);
        }
        free(properties);
}
