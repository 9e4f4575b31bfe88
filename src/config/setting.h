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
        SETTING_PATH,
};

struct setting {
        const char *section;
        const char *name;
        const char *initial; /* as it would be written; "": none */
        enum setting_kind kind;
        const char *min, *max; /* of numbers, as they would be written; both included */
        size_t offset;         /* in struct config */
};

extern const struct setting settings[];
extern const size_t n_settings;

bool setting_section_exists(const char *section);
/* NULL: there is none. */
const struct setting *setting_find(const char *section, const char *name);

/* Sets it to value, or to its default when that is empty. Returns 0, -EINVAL or -ERANGE (config is as it
 * was), -ENOMEM. */
int setting_apply(const struct setting *setting, struct config *config, const char *value);

/* What a value should have been, for people: "a size from 64K to 1G". */
void setting_describe(const struct setting *setting, char *ret, size_t size);
