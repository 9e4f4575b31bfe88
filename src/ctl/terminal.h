/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The terminal as a screen of its own, on standard input and output: keys come one by one and are not shown, and what
 * was there before comes back. */

#include <stdbool.h>
#include <termios.h>

struct terminal {
        struct termios before;
        bool is_entered;
};

/* Whether there is one that can be a screen. */
bool terminal_is_there(void);

/* Makes it a screen, once more if somebody may have changed it. An errno. */
int terminal_enter(struct terminal *terminal);
/* Gives it back as it was, if it is one. */
void terminal_leave(struct terminal *terminal);

/* Shows what fits of text, with first in its first line, inverted, unless that is NULL. An errno. */
int terminal_show(const char *first, const char *text);
