/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An input is the text of a configuration file. Whatever it says, every setting stays within its bounds, and
 * what is refused is told, in text that can be shown. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "config.h"
#include "fuzz.h"
#include "setting.h"
#include "utf8.h"
#include "value.h"

struct messages {
        unsigned n_errors;
};

static void on_message(int level, const char *file, unsigned line, const char *text, void *userdata) {
        struct messages *messages = userdata;
        size_t size = strlen(text);
        char begin[32];

        (void) snprintf(begin, sizeof(begin), line > 0 ? "%s:%u: " : "%s: ", file, line);
        CHECK(strncmp(text, begin, strlen(begin)) == 0);
        CHECK(level == LOG_ERR || level == LOG_WARNING);
        CHECK(size < 1000 && utf8_is_valid(text, size) && !strpbrk(text, "\r\n\x1b"));
        messages->n_errors += level == LOG_ERR;
}

static void check_number(const struct setting *setting,
                         const void *field,
                         int (*parse)(const char *text, uint64_t *ret)) {
        uint64_t n = *(const uint64_t *) field, bound;

        CHECK(parse(setting->min, &bound) == 0 && n >= bound);
        CHECK(parse(setting->max, &bound) == 0 && n <= bound);
}

/* Whatever kind it is, its value is one that it can have. target: a struct config or config_namespace. */
static void check_setting(const struct setting *setting, const void *target) {
        const void *field = (const char *) target + setting->offset;
        int least = *setting->initial ? 0 : -1;

        switch (setting->kind) {
        case SETTING_COUNT:
                check_number(setting, field, value_parse_count);
                break;
        case SETTING_SIZE:
                check_number(setting, field, value_parse_size);
                break;
        case SETTING_TIME:
                check_number(setting, field, value_parse_time);
                break;
        case SETTING_AMOUNT: {
                const struct config_amount *amount = field;

                CHECK(amount->percent <= 100 && (amount->percent == 0 || amount->bytes == 0));
                break;
        }
        case SETTING_LEVEL:
                CHECK(*(const int *) field >= LOG_EMERG && *(const int *) field <= LOG_DEBUG);
                break;
        case SETTING_BOOL:
                CHECK(*(const int *) field >= least && *(const int *) field <= 1);
                break;
        case SETTING_WORD: {
                int n = 0;

                while (setting->words[n])
                        n++;
                CHECK(*(const int *) field >= least && *(const int *) field < n);
                break;
        }
        case SETTING_PATH: {
                const char *path = *(char *const *) field;

                CHECK(!path || (path[0] == '/' && !strstr(path, "/../")));
                break;
        }
        case SETTING_PREFIX:
        case SETTING_USERS:
        case SETTING_GROUPS: /* check_namespace() */
                break;
        }
}

static void check_settings(const void *target, bool of_namespace) {
        for (size_t i = 0; i < n_settings; i++)
                if (setting_is_of_namespace(&settings[i]) == of_namespace)
                        check_setting(&settings[i], target);
}

static size_t print_owners(char *text, size_t size, const char *setting, const struct config_owners *owners) {
        size_t n = (size_t) snprintf(text, size, "%s=", setting);

        CHECK(owners->n_owners <= CONFIG_OWNERS_MAX);
        for (size_t i = 0; i < owners->n_owners; i++) {
                const char *name = owners->owners[i].name;

                CHECK(*name && utf8_is_valid(name, strlen(name)) && !strpbrk(name, " \t\r\n\x1b"));
                /* The last one's backslash would go on in the next line. */
                n += (size_t) snprintf(text + n, size - n, " %s", name);
                if (i + 1 == owners->n_owners)
                        n += (size_t) snprintf(text + n, size - n, " 0");
        }

        return n + (size_t) snprintf(text + n, size - n, "\n");
}

static void check_owners(const struct config_owners *a, const struct config_owners *b) {
        CHECK(b->n_owners == a->n_owners + (a->n_owners > 0) || a->n_owners == CONFIG_OWNERS_MAX);
        for (size_t i = 0; i < a->n_owners && b->n_owners > 0; i++)
                CHECK(strcmp(a->owners[i].name, b->owners[i].name) == 0);
}

/* Written as a file again, a namespace is the same. */
static void check_namespace(const struct config_namespace *namespace) {
        const size_t size = CONFIG_FILE_MAX;
        struct messages messages = {};
        const struct config_namespace *read;
        struct config again;
        char *text = malloc(size);
        size_t n;

        CHECK(text);
        n = (size_t) snprintf(text, size, "[Namespace %s]\n", namespace->name);
        if (namespace->prefix.data) {
                CHECK(namespace->prefix.size <= CONFIG_NAMESPACE_PREFIX_MAX);
                n += (size_t) snprintf(text + n, size - n, "Prefix=\"");
                for (size_t i = 0; i < namespace->prefix.size; i++)
                        n += (size_t) snprintf(text + n, size - n, "\\x%02x", namespace->prefix.data[i]);
                n += (size_t) snprintf(text + n, size - n, "\"\n");
        }
        n += print_owners(text + n, size - n, "ReadUsers", &namespace->read_users);
        n += print_owners(text + n, size - n, "ReadGroups", &namespace->read_groups);
        n += print_owners(text + n, size - n, "PublishUsers", &namespace->publish_users);
        n += print_owners(text + n, size - n, "PublishGroups", &namespace->publish_groups);
        CHECK(n < size);

        config_init(&again);
        (void) config_parse(&again, "f", text, n, on_message, &messages);
        CHECK(again.n_namespaces == 1);
        read = &again.namespaces[0];
        CHECK(strcmp(read->name, namespace->name) == 0);
        CHECK(!read->prefix.data == !namespace->prefix.data && read->prefix.size == namespace->prefix.size &&
              (read->prefix.size == 0 ||
               memcmp(read->prefix.data, namespace->prefix.data, read->prefix.size) == 0));
        check_owners(&namespace->read_users, &read->read_users);
        check_owners(&namespace->read_groups, &read->read_groups);
        check_owners(&namespace->publish_users, &read->publish_users);
        check_owners(&namespace->publish_groups, &read->publish_groups);

        config_done(&again);
        free(text);
}

static void check_namespaces(struct config *config) {
        struct messages messages = {};
        bool whole = config_check(config, on_message, &messages) == 0;

        CHECK(whole == (messages.n_errors == 0));
        CHECK(config->n_namespaces <= CONFIG_NAMESPACES_MAX);
        for (size_t i = 0; i < config->n_namespaces; i++) {
                const struct config_namespace *namespace = &config->namespaces[i];

                CHECK(!whole || namespace->prefix.data);
                CHECK(strlen(namespace->name) <= CONFIG_NAMESPACE_NAME_MAX);
                check_settings(namespace, true);
                check_namespace(namespace);
        }
}

/* Every setting, empty. */
static char reset[4096];

static void add_reset(const char *section,
                      const char *name,
                      _unused_ const char *initial,
                      _unused_ void *userdata) {
        size_t n = strlen(reset);

        if (strcmp(section, NAMESPACE_SECTION) != 0)
                CHECK((size_t) snprintf(reset + n, sizeof(reset) - n, "[%s]\n%s=\n", section, name) <
                      sizeof(reset) - n);
}

static void check_default(const struct setting *setting,
                          const struct config *config,
                          const struct config *unread) {
        const void *a = (const char *) config + setting->offset, *b = (const char *) unread + setting->offset;

        switch (setting->kind) {
        case SETTING_PATH:
                CHECK(!*(char *const *) a && !*(char *const *) b);
                break;
        case SETTING_AMOUNT: {
                const struct config_amount *x = a, *y = b;

                CHECK(x->bytes == y->bytes && x->percent == y->percent);
                break;
        }
        case SETTING_LEVEL:
        case SETTING_BOOL:
        case SETTING_WORD:
                CHECK(*(const int *) a == *(const int *) b);
                break;
        default:
                CHECK(*(const uint64_t *) a == *(const uint64_t *) b);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct messages messages = {}, again = {};
        struct config config, unread;
        char *text = malloc(size + 1);
        int r;

        CHECK(text);
        memcpy(text, data, size);

        config_init(&config);
        r = config_parse(&config, "f", text, size, on_message, &messages);
        CHECK(r == (messages.n_errors > 0 ? -EINVAL : 0));
        check_settings(&config, false);
        check_namespaces(&config);

        /* A setting that is empty is at its default: nothing read is left. */
        config_init(&unread);
        if (!*reset)
                config_visit_settings(add_reset, NULL);
        CHECK(config_parse(&config, "f", reset, strlen(reset), on_message, &again) == 0);
        CHECK(again.n_errors == 0);
        for (size_t i = 0; i < n_settings; i++)
                if (strcmp(settings[i].section, NAMESPACE_SECTION) != 0)
                        check_default(&settings[i], &config, &unread);

        config_done(&config);
        config_done(&unread);
        free(text);
        return 0;
}
