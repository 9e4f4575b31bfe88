/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Text from the command line into values. Pure. */

#include "ctl.h"

/* A decimal number, nothing else. -EINVAL, -ERANGE. */
int parse_number(const char *text, uint64_t *ret);

/* A number of bytes, with K, M, G or T for powers of 1024. -EINVAL, -ERANGE. */
int parse_bytes(const char *text, uint64_t *ret);

/* "A-B" (both inclusive, as in HTTP), "A-", or "-N": the last N bytes. -EINVAL: none of these, or an empty
 * range; -ERANGE. */
int parse_range(const char *text, struct range *ret);

/* A time in microseconds: numbers with a unit (ms, s, min, h, d, w; none: seconds) that add up, as "1h30min".
 * -EINVAL, -ERANGE. */
int parse_time(const char *text, uint64_t *ret);

/* One of fdpass, copy, splice, auto: the mode; -EINVAL. And back; "nothing" for 0. */
int parse_mode(const char *text);
const char *mode_name(int mode);

/* KEY=VALUE with a key of 1 to 255 bytes: 0, or -EINVAL. */
int parse_pair(const char *text);
