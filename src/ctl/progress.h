/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A progress bar on standard error where that is a terminal; nothing elsewhere. */

#include <stdbool.h>
#include <stdint.h>

struct progress {
        bool enabled;
        bool shown;
        uint64_t total, total_bytes; /* objects and bytes in all; 0: not known */
        uint64_t drawn_usec;         /* CLOCK_MONOTONIC of the last drawing */
};

/* Whether there is a terminal to draw on. */
bool progress_wanted(void);
/* Draws, but not more than some times a second. */
void progress_draw(struct progress *progress, uint64_t done, uint64_t done_bytes);
/* Clears the line: before a message, and at the end. */
void progress_clear(struct progress *progress);
