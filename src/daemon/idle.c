/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "idle.h"

#include "clock.h"
#include "macro.h"

#define LOOKS_PER_TIMEOUT 4

struct idle {
        struct server *server;
        struct bus *bus;
        void (*exit)(void *userdata);
        void *userdata;

        sd_event_source *timer;
        uint64_t timeout_usec;
        uint64_t since_usec; /* CLOCK_MONOTONIC */
        uint64_t n_seen;     /* connections and messages, when it was looked last */
};

/* Connections are accepted on this loop, so that none is made between this and the exit: it waits in its
 * socket. */
static bool is_idle(struct idle *idle) {
        uint64_t n = server_count_connections(idle->server) + bus_count_messages(idle->bus);
        bool is_quiet = n == idle->n_seen;

        idle->n_seen = n;
        return is_quiet && server_get_sessions(idle->server) == 0 && !bus_is_busy(idle->bus);
}

static int on_timer(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        struct idle *idle = userdata;
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);
        int r;

        if (!is_idle(idle))
                idle->since_usec = now_usec;
        else if (now_usec - idle->since_usec >= idle->timeout_usec) {
                idle->exit(idle->userdata);
                return 0;
        }

        r = sd_event_source_set_time_relative(source, idle->timeout_usec / LOOKS_PER_TIMEOUT);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int idle_set_timeout(struct idle *idle, uint64_t usec) {
        int r;

        if (usec == UINT64_MAX)
                return sd_event_source_set_enabled(idle->timer, SD_EVENT_OFF);

        idle->timeout_usec = usec;
        idle->since_usec = clock_usec(CLOCK_MONOTONIC);
        r = sd_event_source_set_time_relative(idle->timer, usec / LOOKS_PER_TIMEOUT);
        return r < 0 ? r : sd_event_source_set_enabled(idle->timer, SD_EVENT_ONESHOT);
}

int idle_new(struct idle **ret,
             sd_event *event,
             struct server *server,
             struct bus *bus,
             void (*exit)(void *userdata),
             void *userdata) {
        _cleanup_(idle_freep) struct idle *idle = calloc(1, sizeof(*idle));
        int r;

        if (!idle)
                return -ENOMEM;

        *idle = (struct idle){ .server = server, .bus = bus, .exit = exit, .userdata = userdata };
        r = sd_event_add_time(event, &idle->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer, idle);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(idle->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(idle);
        return 0;
}

void idle_free(struct idle *idle) {
        if (!idle)
                return;

        sd_event_source_disable_unref(idle->timer);
        free(idle);
}
