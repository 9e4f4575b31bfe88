/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The rules of namespaces under running workers, and what is said to who is refused by them. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "access.h"
#include "log.h"
#include "protocol.h"

struct session;

/* What counts now. Set by the thread of the caller's loop. */
struct rules {
        pthread_mutex_t lock;
        struct access_rules *rules;
        uint64_t version; /* atomic; grows with each change */
};

/* What a worker knows of it: looked up again when the version is another, so that a request takes no lock. */
struct rules_view {
        struct access_rules *rules;
        uint64_t version;
};

/* Takes a reference of new ones. The loop's thread. */
void rules_set(struct rules *rules, struct access_rules *new);
/* Those that count now: good until the view's next use. The view's thread. */
static inline struct access_rules *rules_look(struct rules *rules, struct rules_view *view);
void rules_view_done(struct rules_view *view);
void rules_done(struct rules *rules);

/* For rules_look(): when they are others. */
__attribute__((noinline)) struct access_rules *rules_look_again(struct rules *rules, struct rules_view *view);

static inline struct access_rules *rules_look(struct rules *rules, struct rules_view *view) {
        return __atomic_load_n(&rules->version, __ATOMIC_ACQUIRE) == view->version
                               ? view->rules
                               : rules_look_again(rules, view);
}

#define REFUSALS 1024

/* Who was refused lately. */
struct refusals {
        uint64_t entries[REFUSALS]; /* atomic; of a user, a namespace and why: a hash, and when that was logged */
        struct log_ratelimit limit; /* of all together */
};

/* Whether the request may be done: by its session's role, and by the rules for what it names. If not, *ret_text, a
 * buffer of PROTO_TEXT_MAX bytes, is told to the client. The worker's thread. */
bool permission_check(struct session *session,
                      enum access_verb verb,
                      const struct proto_message *message,
                      char ret_text[static PROTO_TEXT_MAX]);

/* Whether permission_check() would permit a get, when that is easily said. The worker's thread. */
bool permission_may_get(struct session *session, struct proto_bytes uri);

/* A put of this session was refused since there is no room for it: logs that, and says what to tell the client. The
 * worker's thread. */
void permission_no_room(struct session *session,
                        const void *uri,
                        size_t uri_size,
                        char ret_text[static PROTO_TEXT_MAX]);
