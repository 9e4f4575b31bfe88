/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "option.h"

#include <string.h>

#include "error.h"

int bus_read_options(sd_bus_message *message,
                     const char *subject,
                     const struct bus_option *options,
                     size_t n_options) {
        const char *name;
        unsigned seen = 0; /* a bit for each option */
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                const struct bus_option *option = NULL;
                char type[2] = {};

                r = sd_bus_message_read(message, "s", &name);
                if (r < 0)
                        return r;

                for (size_t i = 0; i < n_options; i++)
                        if (strcmp(options[i].name, name) == 0)
                                option = &options[i];
                if (!option)
                        return bus_reject(message, BUS_ERROR_BAD_REQUEST, "%s: Unknown option \"%s\".",
                                          subject, name);
                if (seen & 1U << (option - options)) /* else a message could be as large as the bus lets it */
                        return bus_reject(message, BUS_ERROR_BAD_REQUEST, "%s: Option \"%s\" is there twice.",
                                          subject, name);
                seen |= 1U << (option - options);

                type[0] = option->type;
                r = sd_bus_message_read(message, "v", type, option->value);
                if (r == -ENXIO)
                        return bus_reject(message, BUS_ERROR_BAD_REQUEST,
                                          "%s: Option \"%s\" has to be of type %s.", subject, name, type);
                if (r < 0)
                        return r;
                if (option->type == 't' && *(uint64_t *) option->value == 0)
                        return bus_reject(message, BUS_ERROR_BAD_REQUEST, "%s: Option \"%s\" can't be 0.",
                                          subject, name);

                r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;

        r = sd_bus_message_exit_container(message);
        return r < 0 ? r : 0;
}
