/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The one table of what can be set. */

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

enum setting_kind {
        SETTING_COUNT,
        SETTING_SIZE,
        SETTING_AMOUNT, /* without bounds */
        SETTING_TIME,
        SETTING_LEVEL,
        SETTING_BOOL, /* an int: 1, 0, or -1 where it is not set and has no default */
        SETTING_WORD, /* an int: which of the words, or -1 likewise */
        SETTING_PATH,
        SETTING_PREFIX, /* bytes that URIs begin with */
        SETTING_USERS,
        SETTING_GROUPS,
};

/* Where something is said. */
struct place {
        const char *file;
        unsigned line;
};

struct setting {
        const char *section;
        const char *name;
        const char *initial; /* as it would be written; "": none */
        enum setting_kind kind;
        const char *min, *max;    /* of numbers, as they would be written; both included */
        size_t offset;            /* in struct config; of a namespace's, in struct config_namespace */
        const char *const *words; /* of SETTING_WORD; the last is NULL */
        bool needs_restart;       /* a reload does not change it */
};

extern const struct setting settings[];
extern const size_t n_settings;

#define NAMESPACE_SECTION "Namespace"

/* Whether it is one of each namespace, and not of struct config. */
bool setting_is_of_namespace(const struct setting *setting);

/* Whether settings of struct config are in it. */
bool setting_section_exists(const char *section);
/* NULL: there is none. */
const struct setting *setting_find(const char *section, const char *name);

/* Sets it in target, a struct config or config_namespace, to value, or to its default when that is empty.
 * place: remembered with what can't be judged yet. Returns 0, -EINVAL or -ERANGE (target is as it was),
 * -ENOMEM. */
int setting_apply(const struct setting *setting, void *target, const char *value, const struct place *place);

/* Sets all of a new struct config, or of a new namespace, to their defaults. */
void setting_apply_defaults(void *target, bool is_namespace);

/* What a value should have been, for people: "a size from 64K to 1G". */
void setting_describe(const struct setting *setting, char *ret, size_t size);
