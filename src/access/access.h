/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Who may do what. Asked by the server for every request and by the bus for every call. Pure. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a peer came through: the socket's file mode and group let it in. */
enum access_role {
        ACCESS_READER,    /* the readers' socket */
        ACCESS_PUBLISHER, /* the publishers' socket */
        ACCESS_ROLE_MAX,
};

enum access_verb {
        ACCESS_GET,
        ACCESS_STAT,
        ACCESS_LIST,
        ACCESS_STATS,
        ACCESS_PUT,
        ACCESS_SET_METADATA,
        ACCESS_REMOVE,
        ACCESS_PURGE,
        ACCESS_RELOAD,
        ACCESS_VERB_MAX,
};

struct access_peer {
        uid_t uid; /* 65534 where the kernel could not map it */
        gid_t gid;
        pid_t pid; /* for the log only: a number can be used again */
};

/* 0, or -EPERM: a reader asks for a change, or a client for what only the bus has. */
int access_check_session(enum access_role role, enum access_verb verb);

/* The bus knows a uid alone. Anybody may ask for an object's description and for the counters, never for a
 * body or a list of names; root may do everything. own_uid: the daemon's own, which may reload (ExecReload=
 * runs as it), and on its user's own bus (user_bus) do everything. 0 or -EPERM. */
int access_check_bus(uid_t uid, uid_t own_uid, bool user_bus, enum access_verb verb);
