/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Makes n trips after a tenth of that for warming up, and prints as JSON what one took, in nanoseconds. trip()
 * ends the process when it fails. */
void measure_trips(unsigned n, void (*trip)(void *userdata), void *userdata);
