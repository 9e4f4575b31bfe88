/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The method Verify and the signal VerifyProgress. One verification at a time, in a thread of the store's; what it
 * finds is logged and gathered for its caller, and when the caller leaves the bus it is cancelled. The loop's thread
 * only. */

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "cleanup.h"
#include "storage.h"

struct verifier;

/* event and storage must outlive it. path, interface: what the signal is of; borrowed. -ENOMEM, -EMFILE. */
int verifier_new(struct verifier **ret,
                 sd_event *event,
                 struct storage *storage,
                 const char *path,
                 const char *interface);
/* Cancels what is under way and tells its caller. NULL is fine. */
void verifier_free(struct verifier *verifier);
DEFINE_CLEANUP(struct verifier, verifier_free)

bool verifier_is_busy(const struct verifier *verifier);

/* For a call of Verify that is permitted: answers it now or later. Always 1, as sd-bus has it. */
int verifier_handle(sd_bus_message *message, void *userdata);
