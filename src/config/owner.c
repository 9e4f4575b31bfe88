/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Users and groups: named by the files, looked up when all of those were read. */

#include <assert.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <syslog.h>

#include "macro.h"
#include "message.h"
#include "namespace.h"
#include "utf8.h"
#include "value.h"

#define WHITESPACE      " \t\f\v"
#define OWNER_NAME_MAX  255
#define OVERFLOW_ID     65534 /* whoever the kernel can't tell: many at once */
#define RECORD_SIZE     1024
#define RECORD_SIZE_MAX (1U << 20) /* bytes of a group with all its members */

static void owner_done(struct config_owner *owner) {
        free(owner->name);
        free(owner->file);
}

void owners_done(struct config_owners *owners) {
        for (size_t i = 0; i < owners->n_owners; i++)
                owner_done(&owners->owners[i]);
        free(owners->owners);
        *owners = (struct config_owners){};
}

static bool is_number(const char *word) {
        return strspn(word, "0123456789") == strlen(word);
}

static int check_word(const char *word) {
        uint64_t n;
        int r;

        if (is_number(word)) {
                r = value_parse_count(word, &n);
                return r < 0 ? r : n >= UINT32_MAX ? -ERANGE : 0;
        }

        if (strlen(word) > OWNER_NAME_MAX || word[0] == '-' || strpbrk(word, ",:/\"'"))
                return -EINVAL;
        for (const char *p = word; *p; p++)
                if ((uint8_t) *p < ' ' || *p == 0x7f)
                        return -EINVAL;

        return 0;
}

static int add(struct config_owners *owners, const char *word, const struct place *place) {
        struct config_owner *grown, *owner;
        int r;

        r = check_word(word);
        if (r < 0)
                return r;
        if (owners->n_owners >= CONFIG_OWNERS_MAX)
                return -ERANGE;

        grown = reallocarray(owners->owners, owners->n_owners + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        owners->owners = grown;

        owner = &grown[owners->n_owners];
        *owner = (struct config_owner){
                .name = strdup(word),
                .file = strdup(place->file),
                .line = place->line,
        };
        if (!owner->name || !owner->file) {
                owner_done(owner);
                return -ENOMEM;
        }

        owners->n_owners++;
        return 0;
}

int owners_apply(struct config_owners *owners, const char *value, const struct place *place) {
        size_t n_before = owners->n_owners;

        if (!*value) {
                owners_done(owners);
                return 0;
        }

        while (*value) {
                size_t size = strcspn(value, WHITESPACE);
                _cleanup_free_ char *word = strndup(value, size);
                int r = word ? add(owners, word, place) : -ENOMEM;

                if (r < 0) {
                        while (owners->n_owners > n_before)
                                owner_done(&owners->owners[--owners->n_owners]);
                        return r;
                }

                value += size;
                value += strspn(value, WHITESPACE);
        }

        return 0;
}

/* What a lookup returned: 0, -ENOENT, or why nobody can tell. Libraries differ in how they say "none". */
static int lookup_result(int r, bool found) {
        switch (r) {
        case 0:
                return found ? 0 : -ENOENT;
        case ENOENT:
        case ESRCH:
        case EBADF:
        case EPERM:
                return -ENOENT;
        default:
                return -r;
        }
}

static int look_up(const char *name, bool group, uint32_t *ret) {
        for (size_t size = RECORD_SIZE;; size *= 2) {
                _cleanup_free_ char *buffer = malloc(size);
                struct passwd passwd, *user = NULL;
                struct group record, *found = NULL;
                int r;

                if (!buffer)
                        return -ENOMEM;

                r = group ? getgrnam_r(name, &record, buffer, size, &found)
                          : getpwnam_r(name, &passwd, buffer, size, &user);
                if (r == ERANGE && size < RECORD_SIZE_MAX)
                        continue;

                r = lookup_result(r, found || user);
                if (r == 0)
                        *ret = found ? found->gr_gid : user->pw_uid;
                return r;
        }
}

static int resolve(struct messenger *messenger, struct config_owner *owner, bool group, const char *setting) {
        const char *kind = group ? "group" : "user";
        struct quoted quoted;
        uint64_t n;
        int r = 0;

        if (is_number(owner->name)) {
                r = value_parse_count(owner->name, &n);
                assert(r == 0 && n < UINT32_MAX);
                owner->id = (uint32_t) n;
        } else
                r = look_up(owner->name, group, &owner->id);

        if (r == -ENOMEM)
                return r;
        if (r == -ENOENT)
                message_tell(messenger, LOG_WARNING, owner->file, owner->line,
                             "%s=%s: there is no such %s: it is as good as nobody until the next reload.",
                             setting, message_quote(&quoted, owner->name), kind);
        else if (r < 0)
                message_tell(messenger, LOG_ERR, owner->file, owner->line,
                             "%s=%s: the %s can't be looked up: %s.", setting,
                             message_quote(&quoted, owner->name), kind, strerror(-r));
        else if (owner->id == OVERFLOW_ID)
                message_tell(messenger, LOG_WARNING, owner->file, owner->line,
                             "%s=%s: this %s stands for many who can't be told apart: it is as good as "
                             "nobody.",
                             setting, message_quote(&quoted, owner->name), kind);
        else
                owner->known = true;

        return 0;
}

int config_resolve(struct config *config, config_message_fn message, void *userdata) {
        struct messenger messenger = { .message = message, .userdata = userdata };

        for (size_t i = 0; i < config->n_namespaces; i++) {
                struct config_namespace *namespace = &config->namespaces[i];
                const struct {
                        const char *setting;
                        struct config_owners *owners;
                        bool group;
                } lists[] = {
                        { "ReadUsers", &namespace->read_users, false },
                        { "ReadGroups", &namespace->read_groups, true },
                        { "PublishUsers", &namespace->publish_users, false },
                        { "PublishGroups", &namespace->publish_groups, true },
                };

                for (size_t j = 0; j < ARRAY_SIZE(lists); j++)
                        for (size_t k = 0; k < lists[j].owners->n_owners; k++) {
                                int r = resolve(&messenger, &lists[j].owners->owners[k], lists[j].group,
                                                lists[j].setting);

                                if (r < 0)
                                        return r;
                        }
        }

        return messenger.failed ? -EINVAL : 0;
}
