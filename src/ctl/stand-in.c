/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stand-in.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manager.h"
#include "report.h"
#include "utf8.h"

#define BODY_MAX ((size_t) 1 << 20) /* that the bus takes */

bool stand_in_is_wanted(const struct ctl *ctl, int error) {
        const struct arguments *a = &ctl->arguments;
        char path[256];

        if (error != -EACCES || a->socket || a->publish_socket || a->user)
                return false;

        /* The daemon may have said it, of a namespace, say: that holds. */
        (void) snprintf(path, sizeof(path), "/run/objmapper%s%s/%s.sock", a->instance ? "-" : "",
                        a->instance ?: "", ctl->changes ? "publish" : "objmapper");
        return access(path, W_OK) < 0 && errno == EACCES;
}

static bool is_text(const char *text) {
        if (utf8_is_valid(text, strlen(text)))
                return true;

        complain("'%s' is not UTF-8, and D-Bus takes nothing else", text);
        return false;
}

/* Makes the call that fill() fills in, or tells why not. *ret: the answer. */
static int make_call(struct ctl *ctl,
                     const char *method,
                     int (*fill)(sd_bus_message *call, const struct ctl *ctl, const void *what),
                     const void *what,
                     sd_bus_message **ret) {
        _cleanup_(manager_done) struct manager manager = {};
        sd_bus_message *call = NULL;
        int r, code;

        code = manager_connect(&manager, ctl);
        if (code == EXIT_DONE) {
                r = manager_new_call(&manager, &call, method);
                if (r >= 0)
                        r = fill(call, ctl, what);
                code = r < 0 ? manager_report(&manager, r) : manager_call(&manager, call, ret);
                sd_bus_message_unref(call);
        }
        if (code == EXIT_NOT_PERMITTED || code == EXIT_NO_DAEMON) {
                complain("without D-Bus: %s", objmapper_client_error(ctl->client));
                return EXIT_NOT_PERMITTED;
        }

        return code;
}

static int append_generation(sd_bus_message *call, const struct arguments *a) {
        return a->if_generation_set
                               ? sd_bus_message_append(call, "{sv}", "if-generation", "t", a->if_generation)
                               : 0;
}

/* ---- put ---- */

struct body {
        const char *uri;
        uint8_t *data;
        size_t size;
};

static int append_metadata(sd_bus_message *call, const struct arguments *a) {
        int r;

        r = sd_bus_message_open_container(call, 'a', "{ss}");
        for (size_t i = 0; i < a->n_metadata && r >= 0; i++) {
                const char *value = strchr(a->metadata[i], '=') + 1;
                _cleanup_free_ char *key = strndup(a->metadata[i], (size_t) (value - 1 - a->metadata[i]));

                r = key ? sd_bus_message_append(call, "{ss}", key, value) : -ENOMEM;
        }

        return r < 0 ? r : sd_bus_message_close_container(call);
}

static int fill_put(sd_bus_message *call, const struct ctl *ctl, const void *what) {
        const struct arguments *a = &ctl->arguments;
        const struct body *body = what;
        int r;

        r = sd_bus_message_append(call, "s", body->uri);
        if (r >= 0)
                r = sd_bus_message_append_array(call, 'y', body->data, body->size);
        if (r >= 0)
                r = append_metadata(call, a);
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{sv}");
        if (r >= 0 && a->if_absent)
                r = sd_bus_message_append(call, "{sv}", "if-absent", "b", 1);
        if (r >= 0)
                r = append_generation(call, a);
        if (r >= 0 && a->ttl_msec > 0)
                r = sd_bus_message_append(call, "{sv}", "ttl", "t", a->ttl_msec);
        if (r >= 0 && (a->durability == OBJMAPPER_DURABLE || a->durability == OBJMAPPER_VISIBLE))
                r = sd_bus_message_append(call, "{sv}", "durability", "s",
                                          a->durability == OBJMAPPER_DURABLE ? "durable" : "visible");

        return r < 0 ? r : sd_bus_message_close_container(call);
}

/* Up to a byte more than the bus takes. */
static int read_body(struct body *body, int fd) {
        body->data = malloc(BODY_MAX + 1);
        if (!body->data)
                return -ENOMEM;

        while (body->size <= BODY_MAX) {
                ssize_t n = read(fd, body->data + body->size, BODY_MAX + 1 - body->size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                body->size += (size_t) n;
        }

        return 0;
}

static int put_body(struct ctl *ctl, const struct body *body) {
        const struct arguments *a = &ctl->arguments;
        sd_bus_message *answer = NULL;
        const char *etag;
        int code;

        code = make_call(ctl, "PutBytes", fill_put, body, &answer);
        if (code == EXIT_DONE && a->verbose && sd_bus_message_read(answer, "s", &etag) >= 0)
                complain("'%s': %zu bytes, etag %s, over D-Bus", body->uri, body->size, etag);
        sd_bus_message_unref(answer);
        return code;
}

int stand_in_put(struct ctl *ctl, const char *uri, int fd) {
        const struct arguments *a = &ctl->arguments;
        struct body body = { .uri = uri };
        int r;

        for (size_t i = 0; i < a->n_metadata; i++)
                if (!is_text(a->metadata[i]))
                        return EXIT_USAGE;
        if (!is_text(uri))
                return EXIT_USAGE;

        r = read_body(&body, fd);
        if (r < 0)
                r = report_file("can't read what is to be put as", uri, r);
        else if (body.size > BODY_MAX) {
                complain("%s", objmapper_client_error(ctl->client));
                complain("over D-Bus at most %zu bytes can be put", BODY_MAX);
                r = EXIT_NOT_PERMITTED;
        } else
                r = put_body(ctl, &body);

        free(body.data);
        return r;
}

/* ---- rm and purge ---- */

static int fill_remove(sd_bus_message *call, const struct ctl *ctl, const void *what) {
        int r;

        r = sd_bus_message_append(call, "s", (const char *) what);
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{sv}");
        if (r >= 0)
                r = append_generation(call, &ctl->arguments);

        return r < 0 ? r : sd_bus_message_close_container(call);
}

int stand_in_remove(struct ctl *ctl, const char *uri) {
        sd_bus_message *answer = NULL;
        int code;

        if (!is_text(uri))
                return EXIT_USAGE;

        code = make_call(ctl, "Remove", fill_remove, uri, &answer);
        sd_bus_message_unref(answer);
        return code;
}

static int fill_purge(sd_bus_message *call, const struct ctl *ctl, const void *what) {
        return sd_bus_message_append(call, "sa{sv}", (const char *) what, 1, "all", "b",
                                     (int) ctl->arguments.all);
}

int stand_in_purge(struct ctl *ctl, const char *prefix) {
        sd_bus_message *answer = NULL;
        uint64_t count = 0;
        int code;

        if (!is_text(prefix))
                return EXIT_USAGE;

        code = make_call(ctl, "Purge", fill_purge, prefix, &answer);
        if (code == EXIT_DONE && sd_bus_message_read(answer, "t", &count) >= 0)
                printf("%" PRIu64 " object%s removed\n", count, count == 1 ? "" : "s");
        sd_bus_message_unref(answer);
        return code;
}

/* ---- counters ---- */

static int fill_nothing(_unused_ sd_bus_message *call,
                        _unused_ const struct ctl *ctl,
                        _unused_ const void *what) {
        return 0;
}

int get_stats(struct ctl *ctl,
              int (*take)(const char *name, uint64_t value, void *userdata),
              void *userdata) {
        sd_bus_message *answer = NULL;
        const char *name;
        uint64_t value;
        int r, taken = 0;

        r = objmapper_stats(ctl->client, take, userdata);
        if (!stand_in_is_wanted(ctl, r))
                return r;
        if (make_call(ctl, "GetStats", fill_nothing, NULL, &answer) != EXIT_DONE)
                return r;

        r = sd_bus_message_enter_container(answer, 'a', "{sv}");
        while (r >= 0 && taken >= 0 && (r = sd_bus_message_read(answer, "{sv}", &name, "t", &value)) > 0)
                taken = take(name, value, userdata);
        sd_bus_message_unref(answer);

        return r < 0 ? r : taken < 0 ? taken : 0;
}
