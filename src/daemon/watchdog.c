/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "watchdog.h"

#include <systemd/sd-daemon.h>

#include "macro.h"

#define QUESTIONS_PER_TIMEOUT 3 /* so that a late one is not yet too late */

struct watchdog {
        struct server *server;
        sd_event_source *timer;
        uint64_t interval_usec;
};

static void on_all_alive(_unused_ void *userdata) {
        (void) sd_notify(false, "WATCHDOG=1");
}

static int on_timer(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        struct watchdog *watchdog = userdata;
        int r;

        /* Told as soon as all have answered: what hangs after that is found out a whole timeout later, not
         * a timeout and an interval. */
        server_ask_alive(watchdog->server, on_all_alive, NULL);

        r = sd_event_source_set_time_relative(source, watchdog->interval_usec);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int watchdog_new(struct watchdog **ret, sd_event *event, struct server *server) {
        _cleanup_(watchdog_freep) struct watchdog *watchdog = NULL;
        uint64_t timeout_usec;
        int r;

        *ret = NULL;
        r = sd_watchdog_enabled(false, &timeout_usec);
        if (r <= 0)
                return r;

        watchdog = calloc(1, sizeof(*watchdog));
        if (!watchdog)
                return -ENOMEM;

        watchdog->server = server;
        watchdog->interval_usec = timeout_usec / QUESTIONS_PER_TIMEOUT;
        r = sd_event_add_time_relative(event, &watchdog->timer, CLOCK_MONOTONIC, 0,
                                       watchdog->interval_usec / 4, on_timer, watchdog);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(watchdog);
        return 0;
}

void watchdog_free(struct watchdog *watchdog) {
        if (!watchdog)
                return;

        sd_event_source_disable_unref(watchdog->timer);
        free(watchdog);
}
