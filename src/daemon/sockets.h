/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The listening sockets that the service manager passed, by name. */

#include <stddef.h>

#include "access.h"
#include "cleanup.h"

#define SOCKETS_MAX 16

struct sockets {
        size_t n;
        struct {
                int fd;
                enum access_role role;
        } socket[SOCKETS_MAX];
};

/* Takes them out of the environment: before there are threads. Returns 0; -ENOENT: there is none; -EINVAL:
 * one is not what the daemon knows; both were logged, with what to do about it. */
int sockets_take(struct sockets *ret);

/* Closes those whose fd is still there. */
void sockets_done(struct sockets *sockets);

/* Where they listen, for people: "/run/a.sock (reader), /run/b.sock (publisher)". To be freed; NULL: -ENOMEM.
 */
char *sockets_describe(const struct sockets *sockets);
