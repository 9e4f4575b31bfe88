/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What people and programs are shown. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "escape.h"

/* A JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
void print_json_string(FILE *out, const void *data, size_t size);

/* Microseconds since 1970 as "2026-01-31T12:34:56Z". */
#define TIME_TEXT_MAX 40
const char *time_text(uint64_t usec, char buffer[static TIME_TEXT_MAX]);

/* A number of bytes for people: "512 B", "1.5 MiB". */
#define BYTES_TEXT_MAX 32
const char *bytes_text(uint64_t bytes, char buffer[static BYTES_TEXT_MAX]);
