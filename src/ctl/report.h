/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What went wrong, for people on standard error and for scripts as an exit code. */

#include "ctl.h"

/* A line of its own on standard error, after the program's name; escaped as print_escaped() does. */
void complain(const char *format, ...) _printf_(1, 2);

/* Tells what the library says of the last call, which failed by error, and what to do about it where that is
 * known. Returns the exit code. */
int report(const struct ctl *ctl, int error);

/* Tells that a file of this machine (NULL: standard input or output) failed. Returns EXIT_FAILED. */
int report_file(const char *action, const char *path, int error);

/* The exit code alone. */
int exit_code_of(const struct ctl *ctl, int error);

/* Flushes standard output: EXIT_DONE, or says that it can't be written and returns EXIT_FAILED. Where the
 * reader of a pipe is gone it ends the process by SIGPIPE, as that signal would have. */
int finish_output(void);

/* Ends the process by SIGPIPE, unless that is ignored. */
void die_of_broken_pipe(void);
