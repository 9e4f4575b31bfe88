/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A trace through a real store. */

#include "trace.h"

/* Runs the requests against a new store that may hold bytes_max, and g_asserts after each that it holds no more
 * and that what was got is what was put. */
struct trace_ratios trace_run_store(const struct trace *trace,
                                    enum storage_policy policy,
                                    uint64_t bytes_max);
