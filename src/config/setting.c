/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "setting.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "macro.h"
#include "namespace.h"
#include "value.h"

#define STORE(name_, initial_, kind_, min_, max_, field) \
        { "Store", name_, initial_, kind_, min_, max_, offsetof(struct config, field) }
#define STORE_PATH(name_, field) \
        { "Store", name_, "", SETTING_PATH, NULL, NULL, offsetof(struct config, field), NULL, true }
#define SERVER(name_, initial_, kind_, min_, max_, field) \
        { "Server", name_, initial_, kind_, min_, max_, offsetof(struct config, field) }
#define NAMESPACE(name_, initial_, kind_, min_, max_, field) \
        { NAMESPACE_SECTION, name_, initial_, kind_, min_, max_, offsetof(struct config_namespace, field) }

static const char *const durabilities[] = {
        [CONFIG_DURABLE] = "durable", [CONFIG_VISIBLE] = "visible", NULL
};

#define NAMESPACE_WORD(name_, initial_, words_, field)                           \
        {                                                                        \
                NAMESPACE_SECTION, name_, initial_, SETTING_WORD, NULL, NULL,    \
                                offsetof(struct config_namespace, field), words_ \
        }

static const char *const policies[] = {
        [CONFIG_POLICY_S3FIFO] = "s3fifo",
        [CONFIG_POLICY_LRU] = "lru",
        [CONFIG_POLICY_LFU] = "lfu",
        NULL,
};

const struct setting settings[] = {
        STORE_PATH("StoreDirectory", store_directory),
        STORE("MaxObjectSize", "infinity", SETTING_SIZE, "1B", "infinity", object_max),
        STORE("ExpiredKeepSec", "10min", SETTING_TIME, "0", "infinity", expired_keep_usec),
        STORE("MaxBytes", "80%", SETTING_AMOUNT, NULL, NULL, bytes_max),
        STORE("MaxObjects", "infinity", SETTING_COUNT, "1", "infinity", objects_max),
        STORE("KeepFree", "5%", SETTING_AMOUNT, NULL, NULL, keep_free),
        { "Store", "Policy", "s3fifo", SETTING_WORD, NULL, NULL, offsetof(struct config, policy), policies },
        STORE("Evict", "yes", SETTING_BOOL, NULL, NULL, evict),
        { "Store", "Durability", "durable", SETTING_WORD, NULL, NULL, offsetof(struct config, durability),
          durabilities },
        STORE("CacheSize", "128M", SETTING_SIZE, "0", "1T", cache_size),
        STORE("CheckOnFill", "no", SETTING_BOOL, NULL, NULL, check_on_fill),
        STORE_PATH("CachePath", cache_path),
        STORE("CachePathSize", "80%", SETTING_AMOUNT, NULL, NULL, cache_path_max),

        { "Server", "Workers", "0", SETTING_COUNT, "0", "256", offsetof(struct config, workers), NULL, true },
        SERVER("MaxConnections", "16384", SETTING_COUNT, "1", "1000000", connections_max),
        SERVER("MaxConnectionsPerUser", "8192", SETTING_COUNT, "1", "1000000", connections_per_user_max),
        SERVER("InlineMax", "16K", SETTING_SIZE, "0", "1M", inline_max),
        SERVER("MaxPipeline", "256", SETTING_COUNT, "1", "65536", pipeline_max),
        SERVER("MaxStreams", "8", SETTING_COUNT, "1", "1024", streams_max),
        SERVER("MaxDescriptorsInFlight", "1024", SETTING_COUNT, "1", "65536", fds_in_flight_max),
        SERVER("MaxOutput", "4M", SETTING_SIZE, "64K", "1G", output_max),
        SERVER("IdleTimeoutSec", "10min", SETTING_TIME, "1s", "infinity", idle_timeout_usec),
        SERVER("WriteTimeoutSec", "30s", SETTING_TIME, "1s", "infinity", write_timeout_usec),
        SERVER("ExitIdleSec", "infinity", SETTING_TIME, "1s", "infinity", exit_idle_usec),
        SERVER("LogLevel", "info", SETTING_LEVEL, NULL, NULL, log_level),

        NAMESPACE("Prefix", "", SETTING_PREFIX, NULL, NULL, prefix),
        NAMESPACE("ReadUsers", "", SETTING_USERS, NULL, NULL, read_users),
        NAMESPACE("ReadGroups", "", SETTING_GROUPS, NULL, NULL, read_groups),
        NAMESPACE("PublishUsers", "", SETTING_USERS, NULL, NULL, publish_users),
        NAMESPACE("PublishGroups", "", SETTING_GROUPS, NULL, NULL, publish_groups),
        NAMESPACE("MaxBytes", "infinity", SETTING_SIZE, "1B", "infinity", bytes_max),
        NAMESPACE("MaxObjects", "infinity", SETTING_COUNT, "1", "infinity", objects_max),
        NAMESPACE("DefaultTTLSec", "infinity", SETTING_TIME, "1ms", "infinity", default_ttl_usec),
        NAMESPACE_WORD("Policy", "", policies, policy),
        NAMESPACE("Evict", "", SETTING_BOOL, NULL, NULL, evict),
};

const size_t n_settings = ARRAY_SIZE(settings);

static const struct {
        const char *noun;
        int (*parse)(const char *text, uint64_t *ret);
} kinds[] = {
        [SETTING_COUNT] = { "a whole number", value_parse_count },
        [SETTING_SIZE] = { "a size such as 16K or 4M,", value_parse_size },
        [SETTING_AMOUNT] = { "a size such as 16K or 4M, a share of the file system such as 80%, or infinity",
                             NULL },
        [SETTING_TIME] = { "a time such as 30s or 1min 30s,", value_parse_time },
        [SETTING_LEVEL] = { "emerg, alert, crit, err, warning, notice, info, debug or 0 to 7",
                            value_parse_level },
        [SETTING_BOOL] = { "yes or no", value_parse_bool },
        [SETTING_WORD] = { "one of", NULL },
        [SETTING_PATH] = { "an absolute path without \"..\"", NULL },
        [SETTING_PREFIX] = { "at most 256 bytes, as they are or in double quotes, with \\xHH for any byte "
                             "but "
                             "NUL, \\\\ and \\\"",
                             NULL },
        [SETTING_USERS] = { "at most 1024 users, by name or number, with spaces between them", NULL },
        [SETTING_GROUPS] = { "at most 1024 groups, by name or number, with spaces between them", NULL },
};

bool setting_is_of_namespace(const struct setting *setting) {
        return strcmp(setting->section, NAMESPACE_SECTION) == 0;
}

bool setting_section_exists(const char *section) {
        for (size_t i = 0; i < n_settings; i++)
                if (strcmp(settings[i].section, section) == 0 && !setting_is_of_namespace(&settings[i]))
                        return true;

        return false;
}

const struct setting *setting_find(const char *section, const char *name) {
        for (size_t i = 0; i < n_settings; i++)
                if (strcmp(settings[i].section, section) == 0 && strcmp(settings[i].name, name) == 0)
                        return &settings[i];

        return NULL;
}

static int apply_path(char **path, const char *value) {
        char *copy = NULL;

        if (*value) {
                if (value[0] != '/')
                        return -EINVAL;
                if (strlen(value) >= PATH_MAX)
                        return -ERANGE;
                for (const char *p = value; (p = strstr(p, "/..")); p += 3)
                        if (p[3] == '/' || !p[3])
                                return -EINVAL;

                copy = strdup(value);
                if (!copy)
                        return -ENOMEM;
        }

        free(*path);
        *path = copy;
        return 0;
}

static int find_word(const struct setting *setting, const char *value, uint64_t *ret) {
        for (uint64_t i = 0; setting->words[i]; i++)
                if (strcmp(setting->words[i], value) == 0) {
                        *ret = i;
                        return 0;
                }

        return -EINVAL;
}

static int parse_bounded(const struct setting *setting, const char *value, uint64_t *ret) {
        uint64_t n, bound;
        int r;

        r = kinds[setting->kind].parse(value, &n);
        if (r < 0)
                return r;

        if (setting->min) {
                r = kinds[setting->kind].parse(setting->min, &bound);
                assert(r == 0);
                if (n < bound)
                        return -ERANGE;
        }
        if (setting->max) {
                r = kinds[setting->kind].parse(setting->max, &bound);
                assert(r == 0);
                if (n > bound)
                        return -ERANGE;
        }

        *ret = n;
        return 0;
}

int setting_apply(const struct setting *setting, void *target, const char *value, const struct place *place) {
        void *field = (char *) target + setting->offset;
        uint64_t n;
        int r;

        if (!*value)
                value = setting->initial;

        if (setting->kind == SETTING_PATH)
                return apply_path(field, value);
        if (setting->kind == SETTING_AMOUNT)
                return value_parse_amount(value, field);
        if (setting->kind == SETTING_PREFIX)
                return prefix_apply(field, value, place);
        if (setting->kind == SETTING_USERS || setting->kind == SETTING_GROUPS)
                return owners_apply(field, value, place);

        if (!*value) { /* not set */
                *(int *) field = -1;
                return 0;
        }

        r = setting->kind == SETTING_WORD ? find_word(setting, value, &n) : parse_bounded(setting, value, &n);
        if (r < 0)
                return r;

        if (setting->kind == SETTING_LEVEL || setting->kind == SETTING_BOOL || setting->kind == SETTING_WORD)
                *(int *) field = (int) n;
        else
                *(uint64_t *) field = n;

        return 0;
}

void setting_apply_defaults(void *target, bool is_namespace) {
        for (size_t i = 0; i < n_settings; i++)
                if (setting_is_of_namespace(&settings[i]) == is_namespace) {
                        _unused_ int r = setting_apply(&settings[i], target, "", NULL);

                        assert(r == 0); /* defaults are numbers, or nothing: nothing to allocate */
                }
}

void setting_describe(const struct setting *setting, char *ret, size_t size) {
        const char *noun = kinds[setting->kind].noun;

        if (setting->min && setting->max && strcmp(setting->max, "infinity") == 0)
                (void) snprintf(ret, size, "%s at least %s, or infinity", noun, setting->min);
        else if (setting->min && setting->max)
                (void) snprintf(ret, size, "%s from %s to %s", noun, setting->min, setting->max);
        else {
                int n = snprintf(ret, size, "%s", noun);

                for (size_t i = 0; setting->words && setting->words[i] && n >= 0 && (size_t) n < size; i++)
                        n += snprintf(ret + n, size - (size_t) n, "%s %s", i > 0 ? "," : "",
                                      setting->words[i]);
        }
}
