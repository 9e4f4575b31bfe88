/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* From the text of a value to a number. The text ends in a NUL and has no space around it. All return 0,
 * -EINVAL (not such a value) or -ERANGE (more than 64 bits). */

#include <stdint.h>

#include "config.h"

/* Decimal digits, nothing else; "infinity" is UINT64_MAX. */
int value_parse_count(const char *text, uint64_t *ret);

/* Bytes: digits and B, K, M, G, T, P or E, powers of 1024; "infinity" is UINT64_MAX. */
int value_parse_size(const char *text, uint64_t *ret);

/* A size, or a whole number of per cent up to 100 with a "%". */
int value_parse_amount(const char *text, struct config_amount *ret);
/* Microseconds: one or more of digits and a unit (us, ms, s, min, h, d, w, M, y and systemd's other names; none is
 * seconds), added; "infinity" is UINT64_MAX. */
int value_parse_time(const char *text, uint64_t *ret);

/* "yes", "y", "true", "t", "on", "1" and their opposites, in any case: 1 or 0. */
int value_parse_bool(const char *text, uint64_t *ret);

/* A syslog level by name or number. */
int value_parse_level(const char *text, uint64_t *ret);
