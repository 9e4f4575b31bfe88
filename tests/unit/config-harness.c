/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config-harness.h"

#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "harness.h"

void config_collect(int level, const char *file, unsigned line, const char *text, void *userdata) {
        g_autofree char *begin = line > 0 ? g_strdup_printf("%s:%u: ", file, line)
                                          : g_strdup_printf("%s: ", file);

        g_assert_true(g_str_has_prefix(text, begin));
        g_assert_true(level == LOG_ERR || level == LOG_WARNING);
        g_assert_true(g_utf8_validate(text, -1, NULL));
        g_string_append_printf(userdata, "%c %s\n", level == LOG_ERR ? 'E' : 'W', text);
}

int parse_bytes(struct config *config, const char *text, size_t size, char **ret_messages) {
        GString *messages = g_string_new(NULL);
        int r;

        config_init(config);
        r = config_parse(config, "f", text, size, config_collect, messages);
        *ret_messages = g_string_free(messages, FALSE);
        return r;
}

struct config parse_good(const char *text) {
        g_autofree char *messages = NULL;
        struct config config;

        assert_ok(parse_bytes(&config, text, strlen(text), &messages));
        g_assert_cmpstr(messages, ==, "");
        return config;
}

void parse_bad_bytes(const char *text, size_t size, const char *wanted) {
        g_autofree char *messages = NULL;
        struct config config;

        assert_errno(parse_bytes(&config, text, size, &messages), -EINVAL);
        g_assert_cmpstr(messages, ==, wanted);
        config_done(&config);
}

void parse_bad(const char *text, const char *wanted) {
        parse_bad_bytes(text, strlen(text), wanted);
}

struct tree tree_new(void) {
        return (struct tree){ harness_make_dir(), g_string_new(NULL) };
}

void tree_done(struct tree *tree) {
        harness_remove_dir(tree->root);
        g_string_free(tree->messages, TRUE);
}

char *tree_path(struct tree *tree, const char *below) {
        char *path = g_strconcat(tree->root, below, NULL);
        g_autofree char *folder = g_path_get_dirname(path);

        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        return path;
}

void tree_write(struct tree *tree, const char *below, const char *text) {
        g_autofree char *path = tree_path(tree, below);

        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

void tree_link(struct tree *tree, const char *below, const char *target) {
        g_autofree char *path = tree_path(tree, below);

        g_assert_cmpint(symlink(target, path), ==, 0);
}

int tree_load(struct tree *tree, struct config *ret) {
        struct config_source source = { .name = "objmapper", .root = tree->root };
        int r;

        g_string_truncate(tree->messages, 0);
        r = config_load(ret, &source, config_collect, tree->messages);

        /* The folder's name is random: as if it were /. */
        g_string_replace(tree->messages, tree->root, "", 0);
        return r;
}
