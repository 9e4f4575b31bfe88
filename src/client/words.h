/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is said to people, and ETags as text. Pure but for remedies, which look at the socket's file. */

#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

#define WORDS_MAX 2048 /* bytes, with the NUL */
#define ETAG_MAX  52   /* bytes of an ETag's text, with the NUL */

/* The negative errno that stands for a reply's status; 0 for PROTO_OK and PROTO_NOT_MODIFIED. */
int status_to_errno(unsigned status);

/* What an error of objmapper.h means: a constant, or strerror()'s. */
const char *error_meaning(int error);

/* Copies size bytes for people to look at: what is not printable becomes '?', what is too long ends in "...".
 * Returns buffer. */
char *printable(char *buffer, size_t buffer_size, const void *bytes, size_t size);

/* Why the socket at path can't be connected to (error: of connect(2), negative), and what to do about it. */
void explain_connect(char *buffer, size_t size, const char *path, int error);
/* That the daemon behind path went away, and where to look. */
void explain_lost(char *buffer, size_t size, const char *path);

void etag_format(char text[static ETAG_MAX], const struct proto_etag *etag);
/* 0, or -EINVAL. */
int etag_parse(const char *text, struct proto_etag *ret);
