/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "access.h"

#include <assert.h>
#include <errno.h>

/* What changes nothing; everything else needs a right of its own. */
static bool is_read(enum access_verb verb) {
        switch (verb) {
        case ACCESS_GET:
        case ACCESS_STAT:
        case ACCESS_LIST:
        case ACCESS_STATS:
                return true;
        default:
                return false;
        }
}

int access_check_session(enum access_role role, enum access_verb verb) {
        assert(role < ACCESS_ROLE_MAX);
        assert(verb < ACCESS_VERB_MAX);

        if (verb == ACCESS_PIN || verb == ACCESS_FLUSH_CACHE || verb == ACCESS_VERIFY ||
            verb == ACCESS_RELOAD) /* the bus's alone */
                return -EPERM;

        return role == ACCESS_PUBLISHER || is_read(verb) ? 0 : -EPERM;
}

int access_check_bus(uid_t uid, uid_t own_uid, bool user_bus, enum access_verb verb) {
        assert(verb < ACCESS_VERB_MAX);

        /* Groups may ask about objects, and only the bus's policy knows groups. */
        if (verb == ACCESS_STAT || verb == ACCESS_LIST || verb == ACCESS_STATS)
                return 0;
        if (uid == 0)
                return 0;

        return uid == own_uid && (user_bus || verb == ACCESS_RELOAD) ? 0 : -EPERM;
}
