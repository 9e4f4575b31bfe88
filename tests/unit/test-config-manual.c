/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a reload finds changed; and what the manual says of each setting. */

#include <string.h>

#include "config-harness.h"
#include "harness.h"
#include "macro.h"
#include "setting.h"

static void add_difference(const char *section, const char *name, bool needs_restart, void *userdata) {
        g_string_append_printf(userdata, "[%s]%s%s%s ", section, name ?: "", name ? "=" : "",
                               needs_restart ? "!" : "");
}

static void assert_differences(const char *old_text, const char *new_text, const char *wanted) {
        struct config old = parse_good(old_text), new = parse_good(new_text);
        g_autoptr(GString) found = g_string_new(NULL);

        assert_ok(config_compare(&old, &new, add_difference, found));
        g_assert_cmpstr(found->str, ==, wanted);
        config_done(&old);
        config_done(&new);
}

static void test_compare(void) {
        static const char namespaces[] =
                        "[Namespace a]\nPrefix=a/\nReadUsers=root 0\n[Namespace b]\nPrefix=b/\n";

        assert_differences("", "", "");
        assert_differences("", "[Store]\nMaxBytes=80%\nCacheSize=131072K\n[Server]\nIdleTimeoutSec=600\n",
                           "");
        assert_differences("",
                           "[Store]\nMaxBytes=81%\nCacheSize=1M\nPolicy=lru\nEvict=no\nKeepFree=1G\n"
                           "[Server]\nMaxStreams=9\nIdleTimeoutSec=2s\nLogLevel=debug\n",
                           "[Store]MaxBytes= [Store]KeepFree= [Store]Policy= [Store]Evict= [Store]CacheSize= "
                           "[Server]MaxStreams= [Server]IdleTimeoutSec= [Server]LogLevel= ");
        assert_differences("[Store]\nStoreDirectory=/a\nCachePath=/c\n[Server]\nWorkers=2\n",
                           "[Store]\nCachePath=/d\n[Server]\nWorkers=3\n",
                           "[Store]StoreDirectory=! [Store]CachePath=! [Server]Workers=! ");

        assert_differences(namespaces, namespaces, "");
        assert_differences(namespaces, "", "[Namespace a] [Namespace b] ");
        assert_differences("", namespaces, "[Namespace a] [Namespace b] ");
        assert_differences(namespaces,
                           "[Namespace c]\nPrefix=a/\n[Namespace b]\nPrefix=b\nEvict=no\nDefaultTTLSec=1s\n"
                           "ReadGroups=root\n",
                           "[Namespace a] [Namespace b]Prefix= [Namespace b]ReadGroups= "
                           "[Namespace b]DefaultTTLSec= [Namespace b]Evict= [Namespace c] ");
        assert_differences(namespaces,
                           "[Namespace a]\nPrefix=a/\nReadUsers=root 1\n[Namespace b]\nPrefix=b/\n",
                           "[Namespace a]ReadUsers= ");
        assert_differences(namespaces, "[Namespace a]\nPrefix=a/\nReadUsers=root\n[Namespace b]\nPrefix=b/\n",
                           "[Namespace a]ReadUsers= ");
}

static void add_setting(const char *section, const char *name, const char *initial, void *userdata) {
        char *heading = g_ascii_strup(section, -1);

        g_ptr_array_add(userdata, g_strdup_printf("[%s] %s=%s", heading, name, initial));
        g_free(heading);
}

/* The settings of the manual page, in the same form: "[SECTION] SECTION", "``Name=``", "Default: ``value``." */
static GPtrArray *read_manual(void) {
        g_autofree char *path = g_build_filename(g_getenv("OBJMAPPER_SOURCE"), "man/objmapper.conf.5.rst",
                                                 NULL);
        g_autofree char *text = NULL, *section = NULL, *name = NULL;
        g_autoptr(GRegex) heading = g_regex_new("^\\[([A-Z]+)(?: NAME)?\\] SECTION$", 0, 0, NULL);
        g_autoptr(GRegex) setting = g_regex_new("^``([A-Za-z]+)=``$", 0, 0, NULL);
        g_autoptr(GRegex) initial = g_regex_new("^  Default: (?:``(.*)``|none: .*)\\.$", 0, 0, NULL);
        GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
        g_auto(GStrv) lines = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
                g_autoptr(GMatchInfo) match = NULL;

                if (g_regex_match(heading, *line, 0, &match)) {
                        g_free(section);
                        section = g_match_info_fetch(match, 1);
                        continue;
                }
                g_clear_pointer(&match, g_match_info_free);
                if (g_regex_match(setting, *line, 0, &match)) {
                        g_assert_null(name); /* the one before it has its default */
                        name = g_match_info_fetch(match, 1);
                        continue;
                }
                g_clear_pointer(&match, g_match_info_free);
                if (g_regex_match(initial, *line, 0, &match)) {
                        g_autofree char *value = g_match_info_fetch(match, 1);

                        g_ptr_array_add(found, g_strdup_printf("[%s] %s=%s", section, name, value));
                        g_clear_pointer(&name, g_free);
                }
        }
        g_assert_null(name);

        return found;
}

static void test_manual(void) {
        GPtrArray *in_code, *described;

        if (!g_getenv("OBJMAPPER_SOURCE")) {
                g_test_skip("$OBJMAPPER_SOURCE does not name the sources");
                return;
        }

        in_code = g_ptr_array_new_with_free_func(g_free);
        config_visit_settings(add_setting, in_code);
        described = read_manual();

        for (guint i = 0; i < MIN(in_code->len, described->len); i++)
                g_assert_cmpstr(in_code->pdata[i], ==, described->pdata[i]);
        g_assert_cmpuint(in_code->len, ==, described->len);

        g_ptr_array_unref(in_code);
        g_ptr_array_unref(described);
}

/* What the manual has to say of a setting's values, as an expression. */
static char *values_pattern(const struct setting *setting) {
        static const char *const kinds[] = {
                [SETTING_COUNT] = "",
                [SETTING_SIZE] = "\\bsize\\b",
                [SETTING_AMOUNT] = "\\bsize or a share\\b",
                [SETTING_TIME] = "\\btime\\b",
                [SETTING_LEVEL] = "``emerg``.*``debug``.*0 to 7",
                [SETTING_BOOL] = "``(yes|no)``",
                [SETTING_WORD] = "",
                [SETTING_PATH] = "\\bfolder\\b",
                [SETTING_PREFIX] = "\\b256 bytes\\b",
                [SETTING_USERS] = "\\bUsers\\b",
                [SETTING_GROUPS] = "\\bGroups\\b",
        };
        GString *pattern = g_string_new("");

        g_string_append_printf(pattern, "(?=.*%s)", kinds[setting->kind]);
        for (size_t i = 0; setting->words && setting->words[i]; i++)
                g_string_append_printf(pattern, "(?=.*``%s``)", setting->words[i]);
        if (setting->min && strcmp(setting->min, "0") != 0)
                g_string_append_printf(pattern, "(?=.*\\b%s\\b)", setting->min);
        if (setting->max)
                g_string_append_printf(pattern, "(?=.*\\b%s\\b)", setting->max);
        return g_string_free(pattern, FALSE);
}

/* Units and bounds of each setting are in the manual, and whether a reload changes it. */
static void test_manual_values(void) {
        g_autofree char *path = NULL, *text = NULL;
        const char *at;

        if (!g_getenv("OBJMAPPER_SOURCE")) {
                g_test_skip("$OBJMAPPER_SOURCE does not name the sources");
                return;
        }

        path = g_build_filename(g_getenv("OBJMAPPER_SOURCE"), "man/objmapper.conf.5.rst", NULL);
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        at = text;
        for (size_t i = 0; i < n_settings; i++) {
                g_autofree char *begin = g_strdup_printf("\n``%s=``\n", settings[i].name);
                g_autofree char *pattern = values_pattern(&settings[i]), *paragraph = NULL;
                const char *end;

                at = strstr(at, begin); /* they are in this order */
                g_assert_nonnull(at);
                end = strstr(at, "\n  Default: ");
                g_assert_nonnull(end);
                end = strchr(end + 1, '\n');
                paragraph = g_strndup(at, (gsize) (end - at));
                g_strdelimit(paragraph, "\n", ' ');
                at = end;

                if (!g_regex_match_simple(pattern, paragraph, 0, 0)) {
                        g_test_message("%s= is not described as %s", settings[i].name, pattern);
                        g_test_fail();
                }
                if (g_regex_match_simple("Counts +from the next +start\\.", paragraph, 0, 0) !=
                    settings[i].needs_restart) {
                        g_test_message("%s= is described as if a reload %s", settings[i].name,
                                       settings[i].needs_restart ? "changed it" : "did not change it");
                        g_test_fail();
                }
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/config/compare", test_compare);
        harness_add("/config/manual", test_manual);
        harness_add("/config/manual-values", test_manual_values);
        return g_test_run();
}
