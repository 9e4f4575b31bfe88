/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The command line: one table of verbs and one of options, which the parser and --help both follow. */

#include "ctl.h"

struct verb {
        const char *name;
        const char *usage;   /* the operands */
        const char *summary; /* a line for --help */
        const char *help;    /* what the verb's own --help adds */
        size_t min_operands, max_operands;
        bool changes;
        int (*run)(struct ctl *ctl);
};

/* Parses the command line into arguments; arguments->metadata and ->operands are to be freed by the caller in
 * any case. Returns 1 and the verb when there is something to run; 0 when help or the version was shown;
 * -EINVAL when the command line is wrong (said on standard error); -ENOMEM. */
int options_parse(int argc, char **argv, struct arguments *arguments, const struct verb **ret);
