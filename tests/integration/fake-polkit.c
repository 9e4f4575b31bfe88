/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* polkit's name on a bus of a test's own ($DBUS_SYSTEM_BUS_ADDRESS). To each question it answers what standard
 * input says next, a word a line: yes, no, challenge, error, odd (an answer of another form) or silence. It
 * writes what it was asked: action, URI, flags, and whether the subject is a name on the bus. */

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "cleanup.h"

static int answer(sd_bus_message *message, _unused_ void *userdata, _unused_ sd_bus_error *error) {
        const char *kind, *key, *name, *action, *detail = NULL, *value = NULL;
        char word[16] = "";
        uint32_t flags;
        int r;

        r = sd_bus_message_read(message, "(sa{sv})s", &kind, 1, &key, "s", &name, &action);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(message, 'a', "{ss}");
        if (r < 0)
                return r;
        if (sd_bus_message_read(message, "{ss}", &detail, &value) > 0 &&
            strcmp(detail, strcmp(action, "org.objmapper1.purge") == 0 ? "prefix" : "uri") != 0)
                return -EINVAL;
        r = sd_bus_message_exit_container(message);
        if (r < 0)
                return r;
        r = sd_bus_message_read(message, "u", &flags);
        if (r < 0)
                return r;

        printf("%s %s %u %s\n", action, value ?: "-", flags,
               strcmp(kind, "system-bus-name") == 0 && strcmp(key, "name") == 0 && name[0] == ':' ? "name"
                                                                                                  : "?");
        fflush(stdout);

        if (scanf("%15s", word) != 1)
                errx(1, "no answer is prepared");
        if (strcmp(word, "silence") == 0)
                return 1;
        if (strcmp(word, "error") == 0)
                return sd_bus_reply_method_errorf(message, "org.freedesktop.PolicyKit1.Error.Failed",
                                                  "out of order");
        if (strcmp(word, "odd") == 0)
                return sd_bus_reply_method_return(message, "s", "odd");

        return sd_bus_reply_method_return(message, "(bba{ss})", strcmp(word, "yes") == 0,
                                          strcmp(word, "challenge") == 0, 0);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("CheckAuthorization",
                      "(sa{sv})sa{ss}us",
                      "(bba{ss})",
                      answer,
                      SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

int main(void) {
        sd_bus *bus;
        int r;

        r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/PolicyKit1/Authority",
                                             "org.freedesktop.PolicyKit1.Authority", vtable, NULL);
        if (r >= 0)
                r = sd_bus_request_name(bus, "org.freedesktop.PolicyKit1", 0);
        if (r < 0)
                errx(1, "%s", strerror(-r));
        printf("ready\n");
        fflush(stdout);

        for (;;) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
                if (r < 0)
                        return 0; /* the bus is gone: the test is over */
        }
}
