/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An archive that is read from a file, pipe or socket, a member at a time, in bounded memory. What it holds is
 * believed nowhere: bodies are skipped by the size that a header says, never searched for headers. */

#include "bulk.h"
#include "cleanup.h"
#include "member.h"

struct archive_input;

/* fd is borrowed, and read from its position on. *ret_size: bytes that are there; 0: not known. */
int archive_input_new(int fd, struct archive_input **ret, uint64_t *ret_size);
void archive_input_free(struct archive_input *input);
DEFINE_CLEANUP(struct archive_input, archive_input_free)

/* Goes to the next file, over what was not read of the one before, and over the end where another archive
 * follows. 1: *ret is it, borrowed until the next call; or *ret_refusal says why it is no object. 0: the end.
 * -EBADMSG: no header where one should be; -ENODATA: it is cut off; -ENOMEM, or an errno of reading. */
int archive_input_next(struct archive_input *input, struct member *ret, const char **ret_refusal);

/* Reads the next size bytes of the present file, which must have them. 0, -ENODATA, or an errno of reading. */
int archive_input_read(struct archive_input *input, void *data, size_t size);
/* Puts the present file's bytes as the body of request, as they come, and waits for the answer, which is
 * told as bulk_submit() says. Nothing else may be under way. 0; -ENODATA: the input ended before, and nothing
 * was stored; or an errno of reading. */
int archive_input_put(struct archive_input *input,
                      struct bulk *bulk,
                      objmapper_request *request,
                      objmapper_reply_fn reply,
                      void *userdata);

/* The name of the present file in the archive, for people. Borrowed. */
const char *archive_input_name(const struct archive_input *input);
/* Bytes that were read or skipped. */
uint64_t archive_input_position(const struct archive_input *input);
