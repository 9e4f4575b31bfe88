/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* org.objmapper1.Manager on the bus, on the caller's event loop. Changes go to the store without waiting;
 * their reply follows when they are durable. Takes no descriptor from anybody. All functions: the loop's
 * thread only. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "cleanup.h"
#include "server.h"
#include "storage.h"

struct bus;

struct bus_config {
        bool user;            /* the user's bus, not the system's */
        const char *instance; /* NULL: org.objmapper1; NAME: org.objmapper1.NAME */

        /* Reads the configuration again. 0, or an error with *ret_text (to be freed) for the caller. */
        int (*reload)(char **ret_text, void *userdata);
        void *userdata;
};

/* Connects and asks for the name. event, storage and server must outlive it. -ENOENT, -ECONNREFUSED, ...: no
 * bus here; -EEXIST: the name is another's; -ENOMEM. */
int bus_new(struct bus **ret,
            sd_event *event,
            struct storage *storage,
            struct server *server,
            const struct bus_config *config);

/* Gives the name back and answers what is under way; changes still in the store must be done before. NULL is
 * fine. */
void bus_free(struct bus *bus);
DEFINE_CLEANUP(struct bus, bus_free)
