/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The running daemon: store, server and bus on one event loop, from READY=1 to the last reply. */

#include <systemd/sd-event.h>

#include "config.h"
#include "options.h"
#include "sockets.h"
#include "storage.h"
#include "store.h"

struct manager;

/* Reads the configuration that options ask for; what is wrong is logged. *ret_text, which may be NULL: the
 * first error, to be freed. Errors of config_load(). */
int manager_load_config(struct config *ret, const struct options *options, char **ret_text);

/* Starts serving. options, sockets (whose descriptors it takes), storage and its events must outlive it, but
 * config it takes. What goes wrong is logged. */
int manager_new(struct manager **ret,
                const struct options *options,
                struct config *config,
                struct sockets *sockets,
                struct storage *storage,
                struct store_events *events);

/* Until SIGTERM or SIGINT, and until what was begun then is answered. 0, or what the loop ended with. */
int manager_run(struct manager *manager);

/* NULL is fine. */
void manager_free(struct manager *manager);
DEFINE_CLEANUP(struct manager, manager_free)
