/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Who may do what. Asked by the server for every request and by the bus for every call. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cleanup.h"

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
        ACCESS_PIN, /* and unpin: the bus's alone, as the next ones */
        ACCESS_FLUSH_CACHE,
        ACCESS_VERIFY,
        ACCESS_RELOAD,
        ACCESS_VERB_MAX,
};

#define ACCESS_GROUPS_MAX 1024 /* of a peer; one that is in more counts as in none of them */

struct access_peer {
        uid_t uid; /* 65534 where the kernel could not map it */
        gid_t gid;
        pid_t pid;           /* for the log only: a number can be used again */
        const gid_t *groups; /* the supplementary ones, in any order */
        size_t n_groups;
};

/* 0, or -EPERM: a reader asks for a change, or a client for what only the bus has. Pure. */
int access_check_session(enum access_role role, enum access_verb verb);

/* Anybody may ask for an object's description, for a list of them, as far as rules and the bus's policy let them, and
 * for the counters, never for a body; root may do everything. own_uid: the daemon's own, which may reload (ExecReload=
 * runs as it), and on its user's own bus (user_bus) do everything. 0 or -EPERM. Pure. */
int access_check_bus(uid_t uid, uid_t own_uid, bool user_bus, enum access_verb verb);

/* The rules of namespaces: what the two above permit is permitted in each namespace to those alone whom it
 * names, where it names anybody. A URI belongs to the namespace with the longest prefix that it begins with;
 * what belongs to none has no rules. Root and the daemon's own user are always permitted: they can read and
 * write the store's files. Ids of 65534 match no rule, since everybody who can't be mapped has them.
 *
 * Rules never change; they are shared by reference, and may be used by any thread that has one. */
struct access_rules;

/* Users and groups; nobody at all when both are empty. */
struct access_list {
        const uid_t *uids;
        const gid_t *gids;
        size_t n_uids, n_gids;
};

struct access_namespace {
        const char *name;
        const void *prefix;
        size_t prefix_size;
        const struct access_list *readers;    /* NULL: all who could connect to a socket */
        const struct access_list *publishers; /* NULL: all who could connect to the publishers' socket */
};

/* Copies all. No two namespaces have the same prefix. own_uid: the daemon's. The caller has the one reference.
 * -ENOMEM. */
int access_rules_new(struct access_rules **ret,
                     const struct access_namespace *namespaces,
                     size_t n_namespaces,
                     uid_t own_uid);
struct access_rules *access_rules_ref(struct access_rules *rules);
/* NULL is fine. */
void access_rules_unref(struct access_rules *rules);
DEFINE_CLEANUP(struct access_rules, access_rules_unref)

/* Whether the peer, of whom its role was asked already, may do this to the object uri, or with
 * ACCESS_LIST and ACCESS_PURGE to what begins with uri (which may be empty then). A purge is permitted in all
 * namespaces that it touches or not at all; a listing in that to which the prefix belongs: of those below it,
 * see access_skip(). rules may be NULL: there are none. 0, or -EPERM with the namespace's name in
 * *ret_namespace, which is good as long as the rules. */
int access_check(const struct access_rules *rules,
                 const struct access_peer *peer,
                 enum access_verb verb,
                 const void *uri,
                 size_t uri_size,
                 const char **ret_namespace);

/* In a listing: 0 when the peer may know of the object. Otherwise n: of no object that begins with the first n
 * bytes of uri it may know; more than uri_size: of this one it may not, and nothing is said of others. */
size_t access_skip(const struct access_rules *rules,
                   const struct access_peer *peer,
                   const void *uri,
                   size_t uri_size);

/* Whether a rule says who may do this to uri: where not, it need not be known who asks. */
bool access_has_rule(const struct access_rules *rules,
                     enum access_verb verb,
                     const void *uri,
                     size_t uri_size);

/* The name of the namespace that uri belongs to, good as long as the rules; NULL: it belongs to none. */
const char *access_find_namespace(const struct access_rules *rules, const void *uri, size_t uri_size);
