/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is told about the files, while they are read and after. */

#include <stdbool.h>

#include "config.h"

struct messenger {
        config_message_fn message; /* NULL: nobody listens */
        void *userdata;
        bool failed; /* there was an error */
};

/* line 0: the file as a whole. */
_printf_(5, 6) void message_tell(struct messenger *messenger,
                                 int level,
                                 const char *file,
                                 unsigned line,
                                 const char *format,
                                 ...);

#define MESSAGE_QUOTED_MAX 64 /* bytes of a value that a message repeats */

/* The begin of a text, in a form that can stand in a message. */
struct quoted {
        char text[MESSAGE_QUOTED_MAX + sizeof("...")];
};

const char *message_quote(struct quoted *quoted, const char *text);
