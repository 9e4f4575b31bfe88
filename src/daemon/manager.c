/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "bus.h"
#include "clock.h"
#include "escape.h"
#include "idle.h"
#include "log.h"
#include "macro.h"
#include "message-ids.h"
#include "namespaces.h"
#include "pressure.h"
#include "server.h"
#include "version.h"
#include "watchdog.h"

#define DRAIN_USEC           (10 * USEC_PER_SEC)
#define STATUS_INTERVAL_USEC (30 * USEC_PER_SEC)
#define STATUS_ACCURACY_USEC (10 * USEC_PER_SEC)
#define WORKERS_MAX          256U
#define REFUSAL_MAX          800U /* bytes, each of which may become four: of 4096 that a notification may have */

struct manager {
        const struct options *options;
        struct config config;
        struct storage *storage;
        struct store_events *events;
        sd_event *event;
        struct server *server;
        struct watchdog *watchdog; /* NULL: nobody watches */
        struct pressure *pressure; /* NULL: nobody tells */
        struct bus *bus;           /* NULL: there is none here */
        struct idle *idle;
        uint64_t status_objects;
        unsigned status_sessions;
        char *refusal; /* why the last reload was refused; NULL: it was not */
        bool draining;
};

/* ---- what the service manager is told ---- */

/* Only what has changed: a timer of an idle daemon wakes nobody else. also: lines to begin with, and it is told in
 * any case; NULL: none. */
static void tell_status(struct manager *manager, const char *also) {
        unsigned sessions = server_get_sessions(manager->server);
        struct storage_stats stats;

        storage_get_stats(manager->storage, &stats);
        if (!also && stats.objects == manager->status_objects && sessions == manager->status_sessions)
                return;

        manager->status_objects = stats.objects;
        manager->status_sessions = sessions;
        (void) sd_notifyf(false, "%sSTATUS=%" PRIu64 " objects, %u sessions%s%s", also ?: "", stats.objects,
                          sessions, manager->refusal ? "; the last reload was refused: " : "",
                          manager->refusal ?: "");
}

/* ---- configuration ---- */

struct load {
        char *first_error;
        unsigned n_errors;
};

static void on_config_message(int level, const char *file, unsigned line, const char *text, void *userdata) {
        struct load *load = userdata;
        char number[16];
        struct log_field fields[] = {
                LOG_FIELD_STRING("CONFIG_FILE", file),
                LOG_FIELD("CONFIG_LINE", number, 0),
        };

        fields[1].size = (size_t) snprintf(number, sizeof(number), "%u", line);
        log_write(level, 0, NULL, fields, line > 0 ? 2 : 1, "%s", text);

        if (level <= LOG_ERR && load->n_errors++ == 0)
                load->first_error = strdup(text);
}

int manager_load_config(struct config *ret, const struct options *options, char **ret_text) {
        _cleanup_free_ char *name = NULL;
        struct load load = {};
        int r;

        if (asprintf(&name, "objmapper%s%s", options->instance ? "@" : "", options->instance ?: "") < 0) {
                name = NULL;
                return -ENOMEM;
        }

        r = config_load(ret,
                        &(struct config_source){
                                        .name = name,
                                        .user = options->user,
                                        .file = options->config,
                        },
                        on_config_message, &load);

        if (ret_text)
                *ret_text = TAKE_PTR(load.first_error);
        free(load.first_error);
        return r;
}

static unsigned count_processors(void) {
        cpu_set_t set;

        if (sched_getaffinity(0, sizeof(set), &set) < 0) /* more than fit: plenty */
                return WORKERS_MAX;

        return MIN((unsigned) CPU_COUNT(&set), WORKERS_MAX);
}

static struct server_config server_config_from(const struct config *config) {
        return (struct server_config){
                .workers = config->workers > 0 ? (unsigned) config->workers : count_processors(),
                .connections_max = (unsigned) config->connections_max,
                .connections_per_user_max = (unsigned) config->connections_per_user_max,
                .inline_max = (uint32_t) config->inline_max,
                .pipeline_max = (uint32_t) config->pipeline_max,
                .streams_max = (uint32_t) config->streams_max,
                .fds_in_flight_max = (uint32_t) config->fds_in_flight_max,
                .output_max = config->output_max,
                .object_max = config->object_max,
                .visible = config->durability == CONFIG_VISIBLE,
                .idle_timeout_usec = config->idle_timeout_usec == UINT64_MAX ? 0 : config->idle_timeout_usec,
                .write_timeout_usec = config->write_timeout_usec == UINT64_MAX ? 0
                                                                               : config->write_timeout_usec,
        };
}

/* Names that a reload's message has at most. */
#define CHANGES_TOLD 20

struct changes {
        char *text;
        size_t size;
        FILE *stream;
        unsigned n;
};

static void on_change(const char *section, const char *name, bool needs_restart, void *userdata) {
        struct changes *changes = userdata;

        if (needs_restart)
                log_notice("%s= has changed: that counts from the next restart.", name);
        else if (changes->n++ < CHANGES_TOLD)
                (void) fprintf(changes->stream, "%s [%s]%s%s%s", changes->n > 1 ? "," : ":", section,
                               name ? " " : "", name ?: "", name ? "=" : "");
}

/* Tells which settings have changed, of those that can: ": [Server] MaxStreams=, [Namespace a]". To be freed;
 * NULL: no memory. */
static char *describe_changes(const struct config *old, const struct config *new) {
        struct changes changes = {};
        int r;

        changes.stream = open_memstream(&changes.text, &changes.size);
        if (!changes.stream)
                return NULL;

        r = config_compare(old, new, on_change, &changes);
        if (changes.n > CHANGES_TOLD)
                (void) fprintf(changes.stream, " and %u more", changes.n - CHANGES_TOLD);
        else if (changes.n == 0)
                (void) fprintf(changes.stream, ": nothing has changed");
        if (fclose(changes.stream) != 0 || r < 0) {
                free(changes.text);
                return NULL;
        }

        return changes.text;
}

/* What only a start can change stays as it is. */
static void keep_fixed(struct config *old, struct config *new) {
        free(new->store_directory);
        new->store_directory = TAKE_PTR(old->store_directory);
        free(new->cache_path);
        new->cache_path = TAKE_PTR(old->cache_path);
        new->workers = old->workers;
}

/* All of it, or on an error nothing. */
static int apply(struct manager *manager, struct config *config, char **ret_text) {
        _cleanup_(access_rules_unrefp) struct access_rules *rules = NULL;
        const char *setting = "The configuration";
        struct server_config server_config;
        int r;

        r = namespaces_compile(&rules, config);
        if (r >= 0)
                r = store_reconfigure(manager->storage, manager->events->directory, &manager->config, config,
                                      &setting);
        if (r < 0) {
                if (asprintf(ret_text, "%s can't be applied: %s", setting, strerror(-r)) < 0)
                        *ret_text = NULL;
                return r;
        }

        server_config = server_config_from(config);
        server_reconfigure(manager->server, &server_config);
        server_set_rules(manager->server, rules);
        log_set_level(config->log_level);
        (void) idle_set_timeout(manager->idle, config->exit_idle_usec);
        return 0;
}

/* What a file is called may be any bytes, and more than the service manager takes: the reason stands at the end. To be
 * freed; NULL: no memory. */
static char *shorten(const char *text) {
        size_t size = strlen(text), skip = size > REFUSAL_MAX ? size - REFUSAL_MAX : 0, shortened_size;
        char *shortened = NULL;
        FILE *stream;

        stream = open_memstream(&shortened, &shortened_size);
        if (!stream)
                return NULL;

        (void) fprintf(stream, "%s", skip > 0 ? "..." : "");
        print_escaped(stream, text + skip, size - skip);
        if (fclose(stream) != 0) {
                free(shortened);
                return NULL;
        }

        return shortened;
}

static int refuse_reload(struct manager *manager, int error, char **ret_text) {
        log_write(LOG_ERR, error, MESSAGE_RELOAD_REFUSED, NULL, 0,
                  "The configuration was not reloaded, the one before stays in force: %s",
                  *ret_text ?: strerror(-error));
        free(manager->refusal);
        manager->refusal = *ret_text ? shorten(*ret_text) : NULL;
        tell_status(manager, "READY=1\n");
        return error;
}

static int reload(char **ret_text, void *userdata) {
        struct manager *manager = userdata;
        _cleanup_(config_done) struct config config = {};
        _cleanup_free_ char *changes = NULL;
        int r;

        *ret_text = NULL;

        (void) sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_usec(CLOCK_MONOTONIC));
        r = manager_load_config(&config, manager->options, ret_text);
        if (r >= 0)
                r = apply(manager, &config, ret_text);
        if (r < 0)
                return refuse_reload(manager, r, ret_text);

        changes = describe_changes(&manager->config, &config);
        log_write(LOG_INFO, 0, MESSAGE_RELOADED, NULL, 0, "The configuration was reloaded%s.", changes ?: "");
        keep_fixed(&manager->config, &config);
        config_done(&manager->config);
        manager->config = config_take(&config);
        free(TAKE_PTR(manager->refusal));
        tell_status(manager, "READY=1\n");
        bus_note_reloaded(manager->bus);
        return 0;
}

static int on_status_timer(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        int r;

        tell_status(userdata, NULL);

        r = sd_event_source_set_time_relative(source, STATUS_INTERVAL_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* ---- signals ---- */

static void on_drained(void *userdata) {
        struct manager *manager = userdata;

        (void) sd_event_exit(manager->event, 0);
}

static void drain(struct manager *manager) {
        static const char status[] = "Answering what was asked";

        manager->draining = true;
        (void) sd_notifyf(false, "STOPPING=1\nSTATUS=%s", status);
        extension_set(&manager->events->extension, status);
        server_drain(manager->server, DRAIN_USEC, on_drained, manager);
}

static void on_idle(void *userdata) {
        struct manager *manager = userdata;

        if (manager->draining)
                return;

        log_info("Nobody has needed this for a while: the next client starts it again.");
        drain(manager);
        bus_release_name(manager->bus);
}

static int on_stop(_unused_ sd_event_source *source,
                   _unused_ const struct signalfd_siginfo *info,
                   void *userdata) {
        struct manager *manager = userdata;

        if (manager->draining) /* asked a second time: at once */
                return sd_event_exit(manager->event, 0);

        drain(manager);
        return 0;
}

static int on_reload_signal(_unused_ sd_event_source *source,
                            _unused_ const struct signalfd_siginfo *info,
                            void *userdata) {
        struct manager *manager = userdata;
        char *text = NULL;

        if (manager->draining)
                return 0;

        (void) reload(&text, manager); /* which logs */
        free(text);
        return 0;
}

/* ---- start ---- */

static int add_listeners(struct manager *manager, struct sockets *sockets) {
        for (size_t i = 0; i < sockets->n; i++) {
                int r = server_add_listener(manager->server, TAKE_FD(sockets->socket[i].fd),
                                            sockets->socket[i].role);

                if (r < 0)
                        return log_errno(LOG_ERR, r, "A passed socket can't be used: %m");
        }

        return 0;
}

static int add_bus(struct manager *manager) {
        const struct bus_config config = {
                .user = manager->options->user,
                .instance = manager->options->instance,
                .reload = reload,
                .userdata = manager,
                .settings = &manager->config,
        };
        int r;

        r = bus_new(&manager->bus, manager->event, manager->storage, manager->server, &config);
        switch (r) {
        case 0:
                return 0;
        case -EEXIST:
                log_error("Another process has the bus name org.objmapper1%s%s.", config.instance ? "." : "",
                          config.instance ?: "");
                return r;
        case -ENOMEM:
        case -EMFILE:
        case -ENFILE:
        case -EAGAIN:
                return log_errno(LOG_ERR, r, "The bus can't be used: %m");
        case -EACCES:
        case -EPERM:
                log_notice("The bus's policy does not give this user the name org.objmapper1: going on "
                           "without "
                           "management over D-Bus.");
                return 0;
        default:
                (void) log_errno(LOG_NOTICE, r,
                                 "There is no bus, going on without management over D-Bus: %m");
                return 0;
        }
}

static int add_sources(struct manager *manager) {
        int r;

        r = sd_event_add_signal(manager->event, NULL, SIGTERM, on_stop, manager);
        if (r < 0)
                return r;
        r = sd_event_add_signal(manager->event, NULL, SIGINT, on_stop, manager);
        if (r < 0)
                return r;
        r = sd_event_add_signal(manager->event, NULL, SIGHUP, on_reload_signal, manager);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(manager->event, NULL, CLOCK_MONOTONIC, STATUS_INTERVAL_USEC,
                                       STATUS_ACCURACY_USEC, on_status_timer, manager);
        return r;
}

static void log_started(struct manager *manager, const char *sockets) {
        struct storage_stats stats;
        char objects[32];
        struct log_field fields[] = {
                LOG_FIELD_STRING("OBJMAPPER_VERSION", PROJECT_VERSION),
                LOG_FIELD_STRING("OBJMAPPER_STORE", manager->events->directory),
                LOG_FIELD_STRING("OBJMAPPER_SOCKETS", sockets),
                LOG_FIELD("OBJMAPPER_OBJECTS", objects, 0),
        };

        storage_get_stats(manager->storage, &stats);
        fields[3].size = (size_t) snprintf(objects, sizeof(objects), "%" PRIu64, stats.objects);
        log_write(LOG_INFO, 0, MESSAGE_STARTED, fields, ARRAY_SIZE(fields),
                  "objmapperd " PROJECT_VERSION " serves %s objects of %s on %s.", objects,
                  manager->events->directory, sockets);
}

int manager_new(struct manager **ret,
                const struct options *options,
                struct config *config,
                struct sockets *sockets,
                struct storage *storage,
                struct store_events *events) {
        _cleanup_(manager_freep) struct manager *manager = NULL;
        _cleanup_(access_rules_unrefp) struct access_rules *rules = NULL;
        _cleanup_free_ char *described = sockets_describe(sockets);
        struct server_config server_config = server_config_from(config);
        int r;

        assert(ret);

        manager = calloc(1, sizeof(*manager));
        if (!manager || !described)
                return log_errno(LOG_ERR, -ENOMEM, "The daemon can't start: %m");

        manager->options = options;
        manager->storage = storage;
        manager->events = events;
        manager->config = config_take(config);

        r = sd_event_new(&manager->event);
        if (r < 0)
                return log_errno(LOG_ERR, r, "There can be no event loop: %m");
        r = add_sources(manager);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The event loop can't be set up: %m");
        r = server_new(&manager->server, manager->event, storage, &server_config);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The server can't start: %m");
        r = namespaces_compile(&rules, &manager->config);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The rules of namespaces can't be made: %m");
        server_set_rules(manager->server, rules);
        r = watchdog_new(&manager->watchdog, manager->event, manager->server);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The service manager's watchdog can't be served: %m");
        r = pressure_new(&manager->pressure, storage);
        if (r < 0)
                return log_errno(LOG_ERR, r, "Memory pressure can't be watched for: %m");
        r = add_bus(manager);
        if (r < 0)
                return r;
        r = add_listeners(manager, sockets);
        if (r < 0)
                return r;
        r = idle_new(&manager->idle, manager->event, manager->server, manager->bus, on_idle, manager);
        if (r >= 0)
                r = idle_set_timeout(manager->idle, manager->config.exit_idle_usec);
        if (r < 0)
                return log_errno(LOG_ERR, r, "The time without clients can't be watched: %m");

        log_started(manager, described);
        tell_status(manager, "READY=1\n");
        *ret = TAKE_PTR(manager);
        return 0;
}

int manager_run(struct manager *manager) {
        int r = sd_event_loop(manager->event);

        if (r < 0)
                return log_errno(LOG_ERR, r, "The event loop failed: %m");

        return 0;
}

void manager_free(struct manager *manager) {
        if (!manager)
                return;

        idle_free(manager->idle);
        bus_free(manager->bus);
        watchdog_free(manager->watchdog);
        pressure_free(manager->pressure);
        server_free(manager->server);
        sd_event_unref(manager->event);
        config_done(&manager->config);
        free(manager->refusal);
        free(manager);
}
