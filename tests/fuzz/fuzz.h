/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A fuzz target defines LLVMFuzzerTestOneInput(). libFuzzer drives it; so does replay.c, with files, under any
 * compiler. What must hold is said with CHECK(), also where asserts are compiled out. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                               \
        do {                                                                                           \
                if (!(condition)) {                                                                    \
                        (void) fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                       \
                }                                                                                      \
        } while (0)
