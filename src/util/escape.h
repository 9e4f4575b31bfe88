/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

/* Bytes from elsewhere, written so that they stay data on a terminal, in a line, and where only UTF-8 may be: control
 * characters, backslashes and bytes that are no UTF-8 become \n, \\, \x1b and so on. */
void print_escaped(FILE *out, const void *data, size_t size);
