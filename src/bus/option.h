/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The a{sv} at the end of a method's arguments. */

#include <stddef.h>
#include <systemd/sd-bus.h>

struct bus_option {
        const char *name;
        char type; /* D-Bus's: b is an int of 0 or 1, t an uint64_t that may not be 0, s a borrowed string */
        void *value; /* untouched where the option is not given */
};

/* Reads an a{sv} of which only these are known. subject: what an error is about. 0; 1: it was answered with an
 * error; or a negative errno. */
int bus_read_options(sd_bus_message *message,
                     const char *subject,
                     const struct bus_option *options,
                     size_t n_options);
