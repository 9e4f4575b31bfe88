/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Connections to the daemon that no thread uses at present. A client is one thread's at a time: a thread takes
 * one for a request and gives it back. */

#include <stddef.h>
#include <stdint.h>

#include "objmapper.h"

struct pool;

/* reader, publisher: of the sockets; copied. *ret goes to pool_free(). -ENOMEM; -EINVAL: one does not fit into a socket
 * address. */
int pool_new(struct pool **ret, const char *reader, const char *publisher, uint64_t timeout_usec);
/* Closes all that are in it; none may be out. NULL is fine. */
void pool_free(struct pool *pool);

/* An idle client, or a new one. -ENOMEM, -EMFILE. Any thread. */
int pool_take(struct pool *pool, objmapper_client **ret);
/* Gives a client back; broken: it is closed. Any thread. */
void pool_give(struct pool *pool, objmapper_client *client, int broken);
/* Closes those that are idle. Any thread. */
void pool_drain(struct pool *pool);
size_t pool_get_idle(struct pool *pool);
