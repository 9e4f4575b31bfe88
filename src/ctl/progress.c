/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "macro.h"
#include "print.h"

#define BAR_WIDTH     30
#define INTERVAL_USEC (100 * USEC_PER_MSEC)

bool progress_wanted(void) {
        const char *terminal = getenv("TERM");

        return isatty(STDERR_FILENO) && (!terminal || strcmp(terminal, "dumb") != 0);
}

void progress_draw(struct progress *progress, uint64_t done, uint64_t done_bytes) {
        uint64_t now = clock_usec(CLOCK_MONOTONIC);
        char bar[BAR_WIDTH + 1], bytes[BYTES_TEXT_MAX], total_bytes[BYTES_TEXT_MAX];
        double part;
        size_t filled;

        if (!progress->enabled || (progress->shown && now - progress->drawn_usec < INTERVAL_USEC))
                return;

        /* The tree may grow or shrink while it is walked. */
        if (progress->total_bytes > 0)
                part = (double) done_bytes / (double) progress->total_bytes;
        else
                part = progress->total > 0 ? (double) done / (double) progress->total : 1;
        part = MIN(part, 1.0);

        filled = (size_t) (part * BAR_WIDTH);
        memset(bar, '#', filled);
        memset(bar + filled, '.', BAR_WIDTH - filled);
        bar[BAR_WIDTH] = '\0';

        fprintf(stderr, "\r[%s] %3.0f%%  %" PRIu64, bar, part * 100, done);
        if (progress->total > 0)
                fprintf(stderr, "/%" PRIu64, progress->total);
        fprintf(stderr, "  %s", bytes_text(done_bytes, bytes));
        if (progress->total_bytes > 0)
                fprintf(stderr, " of %s", bytes_text(progress->total_bytes, total_bytes));
        fputs("\033[K", stderr);
        progress->shown = true;
        progress->drawn_usec = now;
}

void progress_clear(struct progress *progress) {
        if (!progress->shown)
                return;

        fputs("\r\033[K", stderr);
        progress->shown = false;
}
