/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "namespace.h"

#include <assert.h>
#include <string.h>
#include <syslog.h>

#include "message.h"

static bool name_is_valid(const char *name) {
        size_t size = strlen(name);

        return size > 0 && size <= CONFIG_NAMESPACE_NAME_MAX &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == size;
}

int namespace_get(struct config *config,
                  const char *name,
                  const char *file,
                  unsigned line,
                  struct config_namespace **ret) {
        struct config_namespace *namespaces, *namespace;

        if (!name_is_valid(name))
                return -EINVAL;

        for (size_t i = 0; i < config->n_namespaces; i++)
                if (strcmp(config->namespaces[i].name, name) == 0) {
                        *ret = &config->namespaces[i];
                        return 0;
                }

        if (config->n_namespaces >= CONFIG_NAMESPACES_MAX)
                return -ERANGE;

        namespaces = reallocarray(config->namespaces, config->n_namespaces + 1, sizeof(*namespaces));
        if (!namespaces)
                return -ENOMEM;
        config->namespaces = namespaces;

        namespace = &namespaces[config->n_namespaces];
        *namespace = (struct config_namespace){ .name = strdup(name), .file = strdup(file), .line = line };
        if (!namespace->name || !namespace->file) {
                namespace_done(namespace);
                return -ENOMEM;
        }

        setting_apply_defaults(namespace, true);
        config->n_namespaces++;
        *ret = namespace;
        return 0;
}

void namespace_done(struct config_namespace *namespace) {
        prefix_done(&namespace->prefix);
        owners_done(&namespace->read_users);
        owners_done(&namespace->read_groups);
        owners_done(&namespace->publish_users);
        owners_done(&namespace->publish_groups);
        free(namespace->name);
        free(namespace->file);
}

void prefix_done(struct config_prefix *prefix) {
        free(prefix->data);
        free(prefix->file);
        *prefix = (struct config_prefix){};
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* The byte at *text, which may be escaped; moves past it. -EINVAL: no such escape. */
static int take_byte(const char **text, uint8_t *ret) {
        const char *p = *text;
        int high, low;

        if (*p != '\\') {
                *ret = (uint8_t) *p;
                *text = p + 1;
                return 0;
        }

        if (p[1] == '\\' || p[1] == '"') {
                *ret = (uint8_t) p[1];
                *text = p + 2;
                return 0;
        }

        high = p[1] == 'x' ? hex_digit(p[2]) : -1;
        low = high >= 0 ? hex_digit(p[3]) : -1;
        if (low < 0 || (high == 0 && low == 0))
                return -EINVAL;

        *ret = (uint8_t) (high << 4 | low);
        *text = p + 4;
        return 0;
}

static int read_prefix(const char *text, uint8_t *buffer, size_t *ret_size) {
        bool quoted = *text == '"';
        size_t size = 0;
        int r;

        for (text += quoted; *text; size++) {
                if (quoted && *text == '"') {
                        quoted = false;
                        if (text[1])
                                return -EINVAL;
                        break;
                }
                if (size == CONFIG_NAMESPACE_PREFIX_MAX)
                        return -ERANGE;
                r = take_byte(&text, &buffer[size]);
                if (r < 0)
                        return r;
        }

        *ret_size = size;
        return quoted ? -EINVAL : 0;
}

int prefix_apply(struct config_prefix *prefix, const char *value, const struct place *place) {
        uint8_t buffer[CONFIG_NAMESPACE_PREFIX_MAX];
        struct config_prefix new = {};
        int r;

        if (*value) {
                r = read_prefix(value, buffer, &new.size);
                if (r < 0)
                        return r;

                new.line = place->line;
                new.file = strdup(place->file);
                new.data = malloc(new.size + 1); /* of no bytes it is a prefix all the same */
                if (!new.file || !new.data) {
                        prefix_done(&new);
                        return -ENOMEM;
                }
                memcpy(new.data, buffer, new.size);
        }

        prefix_done(prefix);
        *prefix = new;
        return 0;
}

static bool same_prefix(const struct config_prefix *a, const struct config_prefix *b) {
        return a->data && b->data && a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

int config_check(struct config *config, config_message_fn message, void *userdata) {
        struct messenger messenger = { .message = message, .userdata = userdata };

        for (size_t i = 0; i < config->n_namespaces; i++) {
                const struct config_namespace *namespace = &config->namespaces[i];

                if (!namespace->prefix.data) {
                        message_tell(&messenger, LOG_ERR, namespace->file, namespace->line,
                                     "[Namespace %s] has no Prefix=; one of no bytes is \"\".",
                                     namespace->name);
                        continue;
                }

                for (size_t j = 0; j < i; j++)
                        if (same_prefix(&namespace->prefix, &config->namespaces[j].prefix)) {
                                message_tell(&messenger, LOG_ERR, namespace->prefix.file,
                                             namespace->prefix.line,
                                             "[Namespace %s] has the same Prefix= as [Namespace %s].",
                                             namespace->name, config->namespaces[j].name);
                                break;
                        }
        }

        return messenger.failed ? -EINVAL : 0;
}
