/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is not the same in two configurations. */

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "setting.h"

static bool is_same_text(const char *a, const char *b) {
        return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_same_prefix(const struct config_prefix *a, const struct config_prefix *b) {
        return !a->data == !b->data && a->size == b->size &&
               (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* One that was looked up and is another now counts as another. */
static bool is_same_owners(const struct config_owners *a, const struct config_owners *b) {
        if (a->n_owners != b->n_owners)
                return false;

        for (size_t i = 0; i < a->n_owners; i++) {
                const struct config_owner *x = &a->owners[i], *y = &b->owners[i];

                if (strcmp(x->name, y->name) != 0 || x->known != y->known || (x->known && x->id != y->id))
                        return false;
        }

        return true;
}

/* a, b: two structs config, or two of namespaces. */
static bool is_same(const struct setting *setting, const void *a, const void *b) {
        const void *x = (const char *) a + setting->offset, *y = (const char *) b + setting->offset;

        switch (setting->kind) {
        case SETTING_COUNT:
        case SETTING_SIZE:
        case SETTING_TIME:
                return *(const uint64_t *) x == *(const uint64_t *) y;
        case SETTING_LEVEL:
        case SETTING_BOOL:
        case SETTING_WORD:
                return *(const int *) x == *(const int *) y;
        case SETTING_AMOUNT: {
                const struct config_amount *m = x, *n = y;

                return m->bytes == n->bytes && m->percent == n->percent;
        }
        case SETTING_PATH:
                return is_same_text(*(char *const *) x, *(char *const *) y);
        case SETTING_PREFIX:
                return is_same_prefix(x, y);
        case SETTING_USERS:
        case SETTING_GROUPS:
                return is_same_owners(x, y);
        }

        return false;
}

static const struct config_namespace *find_namespace(const struct config *config, const char *name) {
        for (size_t i = 0; i < config->n_namespaces; i++)
                if (strcmp(config->namespaces[i].name, name) == 0)
                        return &config->namespaces[i];

        return NULL;
}

struct comparison {
        void (*visit)(const char *section, const char *name, bool needs_restart, void *userdata);
        void *userdata;
};

static void compare_settings(const struct comparison *comparison,
                             bool of_namespace,
                             const char *section,
                             const void *a,
                             const void *b) {
        for (size_t i = 0; i < n_settings; i++) {
                const struct setting *setting = &settings[i];

                if (setting_is_of_namespace(setting) == of_namespace && !is_same(setting, a, b))
                        comparison->visit(section ?: setting->section, setting->name, setting->needs_restart,
                                          comparison->userdata);
        }
}

/* Those of config, each with its like in other; both: compared where there is one. */
static int compare_namespaces(const struct comparison *comparison,
                              const struct config *config,
                              const struct config *other,
                              bool both) {
        for (size_t i = 0; i < config->n_namespaces; i++) {
                const struct config_namespace *namespace = &config->namespaces[i];
                const struct config_namespace *like = find_namespace(other, namespace->name);
                _cleanup_free_ char *section = NULL;

                if (like && !both)
                        continue;
                if (asprintf(&section, NAMESPACE_SECTION " %s", namespace->name) < 0) {
                        section = NULL;
                        return -ENOMEM;
                }

                if (like)
                        compare_settings(comparison, true, section, namespace, like);
                else
                        comparison->visit(section, NULL, false, comparison->userdata);
        }

        return 0;
}

int config_compare(const struct config *old,
                   const struct config *new,
                   void (*visit)(const char *section, const char *name, bool needs_restart, void *userdata),
                   void *userdata) {
        const struct comparison comparison = { visit, userdata };
        int r;

        compare_settings(&comparison, false, NULL, old, new);
        r = compare_namespaces(&comparison, old, new, true);
        return r < 0 ? r : compare_namespaces(&comparison, new, old, false);
}
