/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The methods that concern one object, from the message to the reply. What may block on the disk runs on the
 * one thread of a pool, so that calls are done in the order in which they came. */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "access.h"
#include "cleanup.h"
#include "server.h"
#include "storage.h"

/* Calls under way of those that change something, and of those that ask. */
#define CALLS_MAX 64

/* Those before, of which it is not known yet whether they may be done, and the bytes that these hold. Anybody can
 * make them: so many that one caller can't hold up those who may. */
#define UNDECIDED_MAX       1024
#define UNDECIDED_BYTES_MAX ((size_t) 128 << 20)

/* Bytes of a body that the bus takes: what is larger belongs on the publishers' socket. */
#define CALL_BODY_MAX (1U << 20)

struct calls;

/* event, storage and server, whose rules count, must outlive it. user_bus, own_uid: as access_check_bus() wants
 * them. -ENOMEM, -EAGAIN, -EMFILE. */
int calls_new(struct calls **ret,
              sd_event *event,
              struct storage *storage,
              struct server *server,
              bool user_bus,
              uid_t own_uid);

/* Waits until what was begun is done and answered; refuses the rest. NULL is fine. */
void calls_free(struct calls *calls);
DEFINE_CLEANUP(struct calls, calls_free)

bool calls_are_under_way(const struct calls *calls);

/* Handlers: answer the message at once or later. What sd-bus handlers return. */
int calls_put_bytes(struct calls *calls, sd_bus_message *message);
int calls_remove(struct calls *calls, sd_bus_message *message);
int calls_pin(struct calls *calls, sd_bus_message *message);
int calls_unpin(struct calls *calls, sd_bus_message *message);
int calls_get_info(struct calls *calls, sd_bus_message *message);
/* For what concerns no object: handle is called when the caller may, and answers the message at once or later. */
int calls_permit(struct calls *calls,
                 sd_bus_message *message,
                 enum access_verb verb,
                 int (*handle)(sd_bus_message *message, void *userdata),
                 void *userdata);
