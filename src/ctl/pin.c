/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "ctl.h"
#include "manager.h"
#include "report.h"
#include "utf8.h"

static int call_for(struct manager *manager, const char *method, const char *uri) {
        sd_bus_message *call = NULL, *answer = NULL;
        int r, code;

        if (!utf8_is_valid(uri, strlen(uri))) {
                complain("'%s' is not UTF-8, and D-Bus takes nothing else", uri);
                return EXIT_USAGE;
        }

        r = manager_new_call(manager, &call, method);
        if (r >= 0)
                r = sd_bus_message_append(call, "sa{sv}", uri, 0);

        code = r < 0 ? manager_report(manager, r) : manager_call(manager, call, &answer);
        sd_bus_message_unref(answer);
        sd_bus_message_unref(call);
        return code;
}

static int call_for_all(struct ctl *ctl, const char *method) {
        _cleanup_(manager_done) struct manager manager = {};
        int result;

        result = manager_connect(&manager, ctl);
        if (result != EXIT_DONE)
                return result;

        for (size_t i = 0; i < ctl->arguments.n_operands; i++) {
                int r;

                if (result == EXIT_NO_DAEMON || result == EXIT_NOT_PERMITTED)
                        break; /* the others would fail in the same way */

                r = call_for(&manager, method, ctl->arguments.operands[i]);
                if (result == EXIT_DONE)
                        result = r;
        }

        return result;
}

int verb_pin(struct ctl *ctl) {
        return call_for_all(ctl, "Pin");
}

int verb_unpin(struct ctl *ctl) {
        return call_for_all(ctl, "Unpin");
}
