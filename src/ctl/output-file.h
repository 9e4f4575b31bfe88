/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A file that appears under its name when it is whole, or not at all. */

#include "cleanup.h"

struct output_file;

/* Begins a file that is to be path. What is there already is replaced, and gives its permissions; a symbolic
 * link is followed, if it leads somewhere; a device, pipe or socket is written to as it is. -EISDIR, -ENOENT,
 * -EACCES and so on. */
int output_file_new(const char *path, struct output_file **ret);
/* To write to; the file's. */
int output_file_get_fd(struct output_file *file);
/* Gives it its name. To be called once, when all is written. */
int output_file_commit(struct output_file *file);
/* Without a commit nothing remains. */
void output_file_free(struct output_file *file);
DEFINE_CLEANUP(struct output_file, output_file_free)
