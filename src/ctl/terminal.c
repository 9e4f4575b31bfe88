/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "terminal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "write-all.h"

/* ECMA-48, and xterm's second screen. */
#define SCREEN_ENTER    "\033[?1049h\033[?25l"
#define SCREEN_LEAVE    "\033[?25h\033[?1049l"
#define CURSOR_HOME     "\033[H"
#define INVERT          "\033[7m"
#define PLAIN           "\033[m"
#define ERASE_LINE      "\033[K"
#define ERASE_TO_END    "\033[J"
#define ROWS_DEFAULT    24
#define COLUMNS_DEFAULT 80

bool terminal_is_there(void) {
        const char *kind = getenv("TERM");

        return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind && *kind && strcmp(kind, "dumb") != 0;
}

static int write_text(const char *text) {
        return write_all(STDOUT_FILENO, text, strlen(text));
}

int terminal_enter(struct terminal *terminal) {
        struct termios raw;

        if (!terminal->is_entered && tcgetattr(STDIN_FILENO, &terminal->before) < 0)
                return -errno;

        /* Signals still come by their keys; output is not stopped by one. */
        raw = terminal->before;
        raw.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
        raw.c_iflag &= ~(tcflag_t) IXON;
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
                return -errno;

        terminal->is_entered = true;
        return write_text(SCREEN_ENTER);
}

void terminal_leave(struct terminal *terminal) {
        if (!terminal->is_entered)
                return;

        terminal->is_entered = false;
        (void) write_text(SCREEN_LEAVE);
        (void) tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal->before);
}

static void get_size(size_t *ret_rows, size_t *ret_columns) {
        struct winsize size = {};

        (void) ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        *ret_rows = size.ws_row > 0 ? size.ws_row : ROWS_DEFAULT;
        *ret_columns = size.ws_col > 0 ? size.ws_col : COLUMNS_DEFAULT;
}

/* The lines of text that fit, none of them wrapped, and none after the last: that would scroll. */
int terminal_show(const char *first, const char *text) {
        _cleanup_free_ char *frame = NULL;
        size_t rows, columns, size;
        FILE *out = open_memstream(&frame, &size);

        if (!out)
                return -errno;

        get_size(&rows, &columns);
        fputs(CURSOR_HOME, out);
        for (size_t row = 0; row < rows; row++) {
                size_t length = strcspn(text, "\n");

                fputs(row > 0 ? "\r\n" ERASE_LINE : ERASE_LINE, out);
                if (row == 0 && first)
                        fprintf(out, INVERT "%.*s" PLAIN, (int) MIN(columns, strlen(first)), first);
                else
                        fwrite(text, 1, MIN(columns, length), out);

                text += length;
                if (*text == '\0') {
                        if (row + 1 < rows)
                                fputs("\r\n" ERASE_TO_END, out);
                        break;
                }
                text++;
        }

        if (fclose(out) != 0)
                return -ENOMEM;

        return write_all(STDOUT_FILENO, frame, size);
}
