/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Keeps the service manager from ending a start or a stop that takes longer than TimeoutStartSec= or
 * TimeoutStopSec=, for as long as it comes on: one that hangs is ended. */

#include <stdint.h>

/* Zero it before the first use. */
struct extension {
        const char *status; /* atomic; what is under way; NULL: nothing that the service manager waits for */
        uint64_t told_usec; /* atomic; CLOCK_MONOTONIC */
};

/* A start or a stop is under way from now on; status: as systemctl status shows it, of static storage. NULL: none is
 * any more. */
void extension_set(struct extension *extension, const char *status);

/* It has come on a step. Any thread. */
void extension_note_progress(struct extension *extension);
