/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "macro.h"
#include "report.h"

#define BUS_NAME "org.objmapper1"
#define ERROR    "org.objmapper1.Error."
#define NO_LIMIT UINT64_MAX /* a call takes as long as it takes */

int manager_report(const struct manager *manager, int error) {
        complain("the %s bus: %s", manager->ctl->arguments.user ? "user's" : "system", strerror(-error));
        return EXIT_FAILED;
}

int manager_connect(struct manager *ret, const struct ctl *ctl) {
        const struct arguments *a = &ctl->arguments;
        int r;

        *ret = (struct manager){ .ctl = ctl };

        r = a->user ? sd_bus_open_user(&ret->bus) : sd_bus_open_system(&ret->bus);
        if (r < 0) {
                complain("can't reach the %s bus: %s", a->user ? "user's" : "system", strerror(-r));
                return EXIT_NO_DAEMON;
        }

        if (asprintf(&ret->name, "%s%s%s", BUS_NAME, a->instance ? "." : "", a->instance ?: "") < 0) {
                ret->name = NULL;
                return manager_report(ret, -ENOMEM);
        }
        if (!sd_bus_service_name_is_valid(ret->name)) {
                complain("--instance: '%s' can't be the name of an instance", a->instance);
                return EXIT_USAGE;
        }

        return EXIT_DONE;
}

void manager_done(struct manager *manager) {
        sd_bus_flush_close_unref(manager->bus);
        free(manager->name);
}

int manager_new_call(struct manager *manager, sd_bus_message **ret, const char *method) {
        int r = sd_bus_message_new_method_call(manager->bus, ret, manager->name, MANAGER_PATH,
                                               MANAGER_INTERFACE, method);

        /* Where there is a person, polkit may ask for a password. */
        return r < 0 ? r : sd_bus_message_set_allow_interactive_authorization(*ret, isatty(STDIN_FILENO));
}

static int exit_code_of_error(const char *name) {
        static const struct {
                const char *name;
                enum exit_code code;
        } codes[] = {
                { ERROR "Absent", EXIT_ABSENT },
                { ERROR "Expired", EXIT_ABSENT },
                { ERROR "Exists", EXIT_CONFLICT },
                { ERROR "Conflict", EXIT_CONFLICT },
                { ERROR "NotPermitted", EXIT_NOT_PERMITTED },
                { SD_BUS_ERROR_ACCESS_DENIED, EXIT_NOT_PERMITTED },
                { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EXIT_NOT_PERMITTED },
                { ERROR "NoSpace", EXIT_NO_ROOM },
                { ERROR "TooLarge", EXIT_NO_ROOM },
                { ERROR "ReadOnly", EXIT_NO_ROOM },
                { ERROR "Busy", EXIT_BUSY },
                { SD_BUS_ERROR_SERVICE_UNKNOWN, EXIT_NO_DAEMON },
                { SD_BUS_ERROR_NAME_HAS_NO_OWNER, EXIT_NO_DAEMON },
                { SD_BUS_ERROR_NO_REPLY, EXIT_UNKNOWN },
                { SD_BUS_ERROR_DISCONNECTED, EXIT_UNKNOWN },
        };

        for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
                if (strcmp(codes[i].name, name) == 0)
                        return codes[i].code;

        return EXIT_FAILED;
}

static int report_error(const struct manager *manager, const sd_bus_error *error) {
        const struct arguments *a = &manager->ctl->arguments;
        int code = exit_code_of_error(error->name);
        const char *at = a->instance ? "@" : "", *instance = a->instance ?: "";

        if (code == EXIT_NO_DAEMON || strncmp(error->name, "org.freedesktop.systemd1.", 25) == 0) {
                complain("there is no daemon on the %s bus, and the bus can't start one: %s",
                         a->user ? "user's" : "system", error->message ?: error->name);
                complain("systemctl %sstatus objmapper%s%s.service tells more", a->user ? "--user " : "", at,
                         instance);
                return EXIT_NO_DAEMON;
        }
        if (code == EXIT_UNKNOWN) {
                complain("the daemon ended before it answered: journalctl %s-u objmapper%s%s.service tells "
                         "more",
                         a->user ? "--user " : "", at, instance);
                return code;
        }

        if (strcmp(error->name, SD_BUS_ERROR_ACCESS_DENIED) == 0) /* its text names rules of the bus */
                complain("the bus's policy does not let you call %s", manager->name);
        else
                complain("%s", error->message ?: error->name);
        if (code == EXIT_NOT_PERMITTED)
                complain(a->user ? "this is for the user whose daemon it is"
                                 : "this is for root, and for whom polkit permits it: try sudo");
        return code;
}

static int on_answer(sd_bus_message *answer, void *userdata, sd_bus_error *error _unused_) {
        sd_bus_message **ret = userdata;

        *ret = sd_bus_message_ref(answer);
        return 1;
}

int manager_call(struct manager *manager, sd_bus_message *call, sd_bus_message **ret) {
        sd_bus_message *answer = NULL;
        int r, code;

        r = sd_bus_call_async(manager->bus, NULL, call, on_answer, &answer, NO_LIMIT);
        while (r >= 0 && !answer) {
                r = sd_bus_process(manager->bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(manager->bus, UINT64_MAX);
                if (r == -EINTR)
                        r = 0;
        }
        if (r < 0 && !answer)
                return manager_report(manager, r);

        if (sd_bus_message_is_method_error(answer, NULL)) {
                code = report_error(manager, sd_bus_message_get_error(answer));
                sd_bus_message_unref(answer);
                return code;
        }

        *ret = answer;
        return EXIT_DONE;
}
