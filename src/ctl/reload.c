/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"
#include "manager.h"

static int call(struct ctl *ctl, const char *method, bool takes_options) {
        _cleanup_(manager_done) struct manager manager = {};
        sd_bus_message *message = NULL, *answer = NULL;
        int r, code;

        code = manager_connect(&manager, ctl);
        if (code != EXIT_DONE)
                return code;

        r = manager_new_call(&manager, &message, method);
        if (r >= 0 && takes_options)
                r = sd_bus_message_append(message, "a{sv}", 0);

        code = r < 0 ? manager_report(&manager, r) : manager_call(&manager, message, &answer);
        sd_bus_message_unref(answer);
        sd_bus_message_unref(message);
        return code;
}

int verb_reload(struct ctl *ctl) {
        return call(ctl, "Reload", false);
}

int verb_flush(struct ctl *ctl) {
        return call(ctl, "FlushCache", true);
}
