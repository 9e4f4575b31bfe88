/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What syscall() was given, for who stands in for it: more than it was given is read, and means nothing. */

#include <stdarg.h>
#include <stddef.h>

#define SYSCALL_ARGUMENTS 6

static inline void take_arguments(long ret[static SYSCALL_ARGUMENTS], va_list list) {
        for (size_t i = 0; i < SYSCALL_ARGUMENTS; i++)
                ret[i] = va_arg(list, long);
}
