/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bodies that are not in the page cache are read by a job before a worker touches them: a disk must not hold
 * up the worker's other sessions. The worker's thread only. */

#include <stdbool.h>
#include <stdint.h>

#include "deliver.h"

/* Reads at most size bytes as far as they are in memory. Returns how many, -EAGAIN: none is, or the file
 * system can't tell; or another errno. */
ssize_t cold_read(int fd, void *buffer, size_t size, uint64_t offset);

/* Whether size bytes from offset on look as if they were in memory: a few of them are looked at. */
bool cold_is_cached(int fd, uint64_t offset, uint64_t size);

/* Has the next window of the item's file read, after which item->warm is moved and the session gets a turn.
 * Sets session->output_wait. Returns 0, or -ENOMEM, -EMFILE, -ENFILE. */
int cold_warm_output(struct session *session, struct output_item *item);

/* Answers the delivery when the first window of its body was read; others may overtake it until then. */
void cold_deliver(struct delivery *delivery, enum timed timed);
