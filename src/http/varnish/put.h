/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A response on its way into objmapper, while Varnish fetches it. One thread's at a time; only put_cancel() is for any.
 * Nothing waits for the daemon but put_finish(). Varnish's headers come before this. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "objmapper.h"

struct body;
struct put;
struct storage;

/* A put of what the fetch is about to get, under uri; its metadata is that of the response as it is now. body is borrowed
 * until the end. *ret_why: why the response is not kept (returns 0 and *ret is NULL). -EINVAL, -ENAMETOOLONG: it has too
 * many fields; -ENOMEM. */
int put_new(struct put **ret,
            const char **ret_why,
            struct storage *storage,
            const struct busyobj *bo,
            const struct objcore *oc,
            const char *uri,
            size_t uri_size,
            struct body *body);
/* There is more of the body; what can be sent without waiting is. */
void put_feed(struct put *put);
/* The body is whole: sends the rest, and waits for the answer and for what else the daemon is asked then, put_map()
 * included, at most so long in all (UINT64_MAX: each until there is no progress for the storage's timeout). -EAGAIN: it is
 * still under way, and to be called again; 0: it is stored; another errno: it is not. */
int put_finish(struct put *put, uint64_t usec);
/* After put_finish() returned 0: the stored body as a mapping of the caller's. NULL: it can't be had. */
const void *put_map(struct put *put, size_t *ret_size);
/* What put_finish() said, for people. */
const char *put_error(struct put *put);
const char *put_etag(struct put *put);
/* The URI that it has in objmapper, with its size. */
const char *put_uri(struct put *put, int *ret_size);
/* Ends it, however far it is; what was not finished leaves nothing behind. NULL is fine. */
void put_free(struct put *put);

/* Whatever is under way for this URI, or with prefix for all that begin with it, is not stored. Any thread. */
void put_cancel(struct storage *storage, const char *uri, size_t size, bool prefix);
