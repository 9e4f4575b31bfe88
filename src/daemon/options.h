/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

struct options {
        bool user;
        const char *instance; /* NULL: the one without a name */
        const char *config;   /* NULL: where configuration is looked for */
};

/* Reads the command line. Returns 1: go on; 0: help or the version was printed; -EINVAL: bad usage, which was
 * said on standard error. */
int options_parse(struct options *ret, int argc, char *argv[]);
