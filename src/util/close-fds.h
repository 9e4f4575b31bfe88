/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/* Closes n descriptors. Those whose numbers follow each other, as of what was opened in one go, cost one call. */
void close_fds(const int *fds, size_t n);
