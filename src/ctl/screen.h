/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What top shows, as text. Pure. */

#include <stdio.h>

#include "snapshot.h"

/* What happened between before and now, in lines that fit 80 columns. Without a before (its usec is 0) rates and
 * times are left open. ASCII only. */
void screen_write(FILE *out, const struct snapshot *before, const struct snapshot *now);
