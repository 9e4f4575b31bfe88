/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* org.objmapper1.Manager on the bus, on the caller's event loop. What may block on the disk runs on a thread
 * of its own; a change is answered when it is durable, a put maybe when it is visible. Takes no descriptor from anybody. All functions: the
 * loop's thread only. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "cleanup.h"
#include "config.h"
#include "server.h"
#include "storage.h"

struct bus;

struct bus_config {
        bool user;            /* the user's bus, not the system's */
        const char *instance; /* NULL: org.objmapper1; NAME: org.objmapper1.NAME. Borrowed by bus_new() */

        /* Reads the configuration again. 0, or a negative errno with *ret_text for the caller, to be freed,
         * or NULL. */
        int (*reload)(char **ret_text, void *userdata);
        void *userdata;

        const struct config *settings; /* in force, the same struct after a reload; outlives the bus */
};

/* Connects and asks for the name; waits for the bus to answer. event, storage and server must outlive it.
 * -EEXIST: the name is another's; -EAGAIN, -EMFILE, -ENOMEM; else what keeps this process from the bus:
 * -ENOENT, -ECONNREFUSED, ... (none here), -EACCES (its policy does not give this user the name). */
int bus_new(struct bus **ret,
            sd_event *event,
            struct storage *storage,
            struct server *server,
            const struct bus_config *config);

/* Tells that the configuration was read again and is in force. NULL is fine. */
void bus_note_reloaded(struct bus *bus);

/* How many messages have come so far; 0 for NULL. */
uint64_t bus_count_messages(const struct bus *bus);
/* Whether calls are under way. NULL is not busy. */
bool bus_is_busy(const struct bus *bus);
/* Gives the name back and begins what was sent to it before: a later call is for whoever takes the name next.
 * Blocks on the bus. NULL is fine. */
void bus_release_name(struct bus *bus);

/* Gives the name back, waits for what was begun, and answers all that was sent to it until then: with "busy", where it
 * would have to ask others first. NULL is fine. */
void bus_free(struct bus *bus);
DEFINE_CLEANUP(struct bus, bus_free)
