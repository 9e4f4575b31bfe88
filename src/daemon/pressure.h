/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Gives memory back when the system is short of it. What tells so: the file that the service manager names in
 * $MEMORY_PRESSURE_WATCH (systemd 254, MemoryPressureWatch=), else the memory.events of the daemon's control group:
 * that it was held at MemoryHigh= or MemoryMax=. A thread of its own waits for it, so that no loop is held up. */

#include "cleanup.h"
#include "storage.h"

struct pressure;

/* storage must outlive it. *ret becomes NULL where nothing tells of it. -ENOMEM, -EMFILE, -EAGAIN (no thread to be
 * had). */
int pressure_new(struct pressure **ret, struct storage *storage);
/* NULL is fine. */
void pressure_free(struct pressure *pressure);
DEFINE_CLEANUP(struct pressure, pressure_free)
