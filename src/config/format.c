/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Settings that are in force, as they would be written. */

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "macro.h"
#include "setting.h"

static void format_size(FILE *out, uint64_t bytes) {
        static const char units[] = "BKMGT";
        size_t unit = 0;

        while (bytes > 0 && bytes % 1024 == 0 && unit < strlen(units) - 1) {
                bytes /= 1024;
                unit++;
        }

        fprintf(out, "%" PRIu64 "%c", bytes, units[unit]);
}

static void format_time(FILE *out, uint64_t usec) {
        static const struct {
                const char *name;
                uint64_t usec;
        } units[] = {
                { "d", 24 * 3600 * USEC_PER_SEC }, { "h", 3600 * USEC_PER_SEC },
                { "min", 60 * USEC_PER_SEC },      { "s", USEC_PER_SEC },
                { "ms", USEC_PER_MSEC },           { "us", 1 },
        };
        const char *space = "";

        if (usec == 0)
                fputc('0', out);
        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                if (usec >= units[i].usec) {
                        fprintf(out, "%s%" PRIu64 "%s", space, usec / units[i].usec, units[i].name);
                        usec %= units[i].usec;
                        space = " ";
                }
}

static void format_prefix(FILE *out, const struct config_prefix *prefix) {
        if (!prefix->data)
                return;

        fputc('"', out);
        for (size_t i = 0; i < prefix->size; i++) {
                uint8_t c = prefix->data[i];

                if (c == '"' || c == '\\')
                        fprintf(out, "\\%c", c);
                else if (c < ' ' || c > '~')
                        fprintf(out, "\\x%02x", c);
                else
                        fputc(c, out);
        }
        fputc('"', out);
}

static void format_owners(FILE *out, const struct config_owners *owners) {
        for (size_t i = 0; i < owners->n_owners; i++)
                fprintf(out, "%s%s", i > 0 ? " " : "", owners->owners[i].name);
}

static void format_number(FILE *out, enum setting_kind kind, uint64_t n) {
        if (n == UINT64_MAX)
                fputs("infinity", out);
        else if (kind == SETTING_SIZE)
                format_size(out, n);
        else if (kind == SETTING_TIME)
                format_time(out, n);
        else
                fprintf(out, "%" PRIu64, n);
}

static void format(FILE *out, const struct setting *setting, const void *target) {
        static const char *const levels[] = { "emerg",   "alert",  "crit", "err",
                                              "warning", "notice", "info", "debug" };
        const void *field = (const char *) target + setting->offset;
        const struct config_amount *amount = field;

        switch (setting->kind) {
        case SETTING_COUNT:
        case SETTING_SIZE:
        case SETTING_TIME:
                format_number(out, setting->kind, *(const uint64_t *) field);
                break;
        case SETTING_AMOUNT:
                if (amount->percent > 0)
                        fprintf(out, "%u%%", amount->percent);
                else
                        format_number(out, SETTING_SIZE, amount->bytes);
                break;
        case SETTING_LEVEL:
                fputs(levels[*(const int *) field], out);
                break;
        case SETTING_BOOL:
                if (*(const int *) field >= 0)
                        fputs(*(const int *) field ? "yes" : "no", out);
                break;
        case SETTING_WORD:
                if (*(const int *) field >= 0)
                        fputs(setting->words[*(const int *) field], out);
                break;
        case SETTING_PATH:
                fputs(*(char *const *) field ?: "", out);
                break;
        case SETTING_PREFIX:
                format_prefix(out, field);
                break;
        case SETTING_USERS:
        case SETTING_GROUPS:
                format_owners(out, field);
                break;
        }
}

struct visitor {
        int (*visit)(const char *section, const char *name, const char *value, void *userdata);
        void *userdata;
};

static int visit_one(const struct visitor *visitor,
                     const char *section,
                     const struct setting *setting,
                     const void *target) {
        _cleanup_free_ char *value = NULL;
        size_t size;
        FILE *out;
        int r;

        out = open_memstream(&value, &size);
        if (!out)
                return -ENOMEM;

        format(out, setting, target);
        if (fclose(out) == EOF)
                return -ENOMEM;

        r = visitor->visit(section, setting->name, value, visitor->userdata);
        return r < 0 ? r : 0;
}

static int visit_namespace(const struct visitor *visitor, const struct config_namespace *namespace) {
        _cleanup_free_ char *section = NULL;

        if (asprintf(&section, NAMESPACE_SECTION " %s", namespace->name) < 0) {
                section = NULL;
                return -ENOMEM;
        }

        for (size_t i = 0; i < n_settings; i++)
                if (strcmp(settings[i].section, NAMESPACE_SECTION) == 0) {
                        int r = visit_one(visitor, section, &settings[i], namespace);

                        if (r < 0)
                                return r;
                }

        return 0;
}

int config_visit_values(
                const struct config *config,
                int (*visit)(const char *section, const char *name, const char *value, void *userdata),
                void *userdata) {
        const struct visitor visitor = { visit, userdata };
        int r;

        assert(config);
        assert(visit);

        for (size_t i = 0; i < n_settings; i++)
                if (strcmp(settings[i].section, NAMESPACE_SECTION) != 0) {
                        r = visit_one(&visitor, settings[i].section, &settings[i], config);
                        if (r < 0)
                                return r;
                }

        for (size_t i = 0; i < config->n_namespaces; i++) {
                r = visit_namespace(&visitor, &config->namespaces[i]);
                if (r < 0)
                        return r;
        }

        return 0;
}
