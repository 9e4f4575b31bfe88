/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "message.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "utf8.h"

void message_tell(struct messenger *messenger,
                  int level,
                  const char *file,
                  unsigned line,
                  const char *format,
                  ...) {
        char text[PATH_MAX + 1024];
        int n;
        va_list ap;

        if (level <= LOG_ERR)
                messenger->failed = true;
        if (!messenger->message)
                return;

        n = line > 0 ? snprintf(text, PATH_MAX, "%s:%u: ", file, line)
                     : snprintf(text, PATH_MAX, "%s: ", file);
        if (n >= PATH_MAX)
                n = PATH_MAX - 1;
        va_start(ap, format);
        (void) vsnprintf(text + n, sizeof(text) - (size_t) n, format, ap);
        va_end(ap);

        messenger->message(level, file, line, text, messenger->userdata);
}

const char *message_quote(struct quoted *quoted, const char *text) {
        size_t size = strlen(text), n = 0;

        while (n < size) {
                size_t next = utf8_character((const uint8_t *) text + n, size - n);

                if (next == 0 || n + next > MESSAGE_QUOTED_MAX)
                        break;
                memcpy(quoted->text + n, text + n, next);
                if ((uint8_t) text[n] < ' ' || text[n] == 0x7f)
                        quoted->text[n] = '?';
                n += next;
        }

        strcpy(quoted->text + n, n < size ? "..." : "");
        return quoted->text;
}
