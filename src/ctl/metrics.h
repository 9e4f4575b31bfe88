/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

#include "ctl.h"

/* Writes the daemon's counters as OpenMetrics text. 0, or what the daemon said or did not say. */
int metrics_print(struct ctl *ctl, FILE *out);

/* Answers the one HTTP request that comes on standard input with them, on standard output. An exit code. */
int serve_metrics(struct ctl *ctl);
