/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The configuration's namespaces: prefixes, limits, owners. */

#include <string.h>

#include "config-harness.h"
#include "harness.h"
#include "macro.h"

static const struct config_namespace *find_namespace(const struct config *config, const char *name) {
        for (size_t i = 0; i < config->n_namespaces; i++)
                if (strcmp(config->namespaces[i].name, name) == 0)
                        return &config->namespaces[i];

        g_assert_not_reached();
}

static void check_prefix(const struct config *config, const char *name, const char *wanted) {
        const struct config_namespace *namespace = find_namespace(config, name);

        g_assert_nonnull(namespace->prefix.data);
        g_assert_cmpmem(namespace->prefix.data, namespace->prefix.size, wanted, strlen(wanted));
}

/* Names with spaces between them. */
static void check_owners(const struct config_owners *owners, const char *wanted) {
        g_autoptr(GString) names = g_string_new(NULL);

        for (size_t i = 0; i < owners->n_owners; i++)
                g_string_append_printf(names, "%s%s", i > 0 ? " " : "", owners->owners[i].name);
        g_assert_cmpstr(names->str, ==, wanted);
}

static void test_namespaces(void) {
        struct config config = parse_good(
                        "[Namespace images]\nPrefix=http://example.org/images/\n"
                        "ReadUsers=alice 1002\nReadUsers= bob\t0 \n"
                        "[Server]\nMaxStreams=2\n"
                        "[Namespace  a.b-c_D9 ]\nPrefix=\"\"\nPublishGroups=x\nPublishGroups=\n"
                        "PublishUsers=a b\nPublishUsers=\nPublishUsers=c\n"
                        "[Namespace images]\nReadGroups=www-data DOM\\\\adm+x@y\n");

        g_assert_cmpuint(config.n_namespaces, ==, 2);
        g_assert_cmpuint(config.streams_max, ==, 2);
        check_prefix(&config, "images", "http://example.org/images/");
        check_owners(&find_namespace(&config, "images")->read_users, "alice 1002 bob 0");
        check_owners(&find_namespace(&config, "images")->read_groups, "www-data DOM\\\\adm+x@y");
        check_owners(&find_namespace(&config, "images")->publish_users, "");
        check_prefix(&config, "a.b-c_D9", "");
        check_owners(&find_namespace(&config, "a.b-c_D9")->publish_groups, "");
        check_owners(&find_namespace(&config, "a.b-c_D9")->publish_users, "c");
        assert_ok(config_check(&config, NULL, NULL));
        config_done(&config);
}

static void test_namespace_limits(void) {
        struct config config = parse_good(
                        "[Namespace a]\nPrefix=a\nMaxBytes=2G\nMaxObjects=7\nDefaultTTLSec=1min\n"
                        "Policy=lfu\nEvict=no\n"
                        "[Namespace b]\nPrefix=b\nMaxBytes=1\nMaxBytes=\nPolicy=lru\nPolicy=\n"
                        "Evict=yes\nEvict=\n"
                        "[Namespace c]\nPrefix=c\nPolicy=s3fifo\nEvict=on\nMaxObjects=infinity\n");
        const struct config_namespace *namespace;

        namespace = find_namespace(&config, "a");
        g_assert_cmpuint(namespace->bytes_max, ==, UINT64_C(2) << 30);
        g_assert_cmpuint(namespace->objects_max, ==, 7);
        g_assert_cmpuint(namespace->default_ttl_usec, ==, UINT64_C(60) * G_USEC_PER_SEC);
        g_assert_cmpint(namespace->policy, ==, CONFIG_POLICY_LFU);
        g_assert_cmpint(namespace->evict, ==, 0);
        namespace = find_namespace(&config, "b");
        g_assert_true(namespace->bytes_max == UINT64_MAX && namespace->objects_max == UINT64_MAX &&
                      namespace->default_ttl_usec == UINT64_MAX);
        g_assert_cmpint(namespace->policy, ==, -1);
        g_assert_cmpint(namespace->evict, ==, -1);
        namespace = find_namespace(&config, "c");
        g_assert_cmpint(namespace->policy, ==, CONFIG_POLICY_S3FIFO);
        g_assert_cmpint(namespace->evict, ==, 1);
        g_assert_true(namespace->objects_max == UINT64_MAX);
        config_done(&config);

        parse_bad("[Namespace "
                  "a]\nPrefix=a\nMaxBytes=0\nMaxBytes=80%\nMaxObjects=0\nDefaultTTLSec=0\nPolicy=fifo\n"
                  "Evict=maybe\n",
                  "E f:3: MaxBytes=0: out of range: expected a size such as 16K or 4M, at least 1B, or "
                  "infinity.\n"
                  "E f:4: MaxBytes=80%: not understood: expected a size such as 16K or 4M, at least 1B, or "
                  "infinity.\n"
                  "E f:5: MaxObjects=0: out of range: expected a whole number at least 1, or infinity.\n"
                  "E f:6: DefaultTTLSec=0: out of range: expected a time such as 30s or 1min 30s, at least "
                  "1ms, or "
                  "infinity.\n"
                  "E f:7: Policy=fifo: not understood: expected one of s3fifo, lru, lfu.\n"
                  "E f:8: Evict=maybe: not understood: expected yes or no.\n");
}

static void test_bad_namespaces(void) {
        g_autofree char *name = g_strnfill(CONFIG_NAMESPACE_NAME_MAX + 1, 'n');
        g_autofree char *long_name = g_strdup_printf("[Namespace %s]\nPrefix=a\n", name);
        g_autofree char *wanted = g_strdup_printf(
                        "E f:1: [Namespace %s]: expected a name of 1 to 32 letters, digits, "
                        "\"-\", \"_\" and \".\".\n",
                        name);
        g_autoptr(GString) many = g_string_new(NULL);

        parse_bad(long_name, wanted);
        parse_bad("[Namespace]\nPrefix=\n[Namespace a/b]\nPrefix=x\n[Namespace a b]\n",
                  "E f:1: [Namespace ]: expected a name of 1 to 32 letters, digits, \"-\", \"_\" and \".\".\n"
                  "E f:3: [Namespace a/b]: expected a name of 1 to 32 letters, digits, \"-\", \"_\" and "
                  "\".\".\n"
                  "E f:5: [Namespace a b]: expected a name of 1 to 32 letters, digits, \"-\", \"_\" and "
                  "\".\".\n");

        for (unsigned i = 0; i <= CONFIG_NAMESPACES_MAX; i++)
                g_string_append_printf(many, "[Namespace n%u]\nPrefix=%u\n", i, i);
        parse_bad(many->str, "E f:513: [Namespace n256]: there are more than 256 namespaces.\n");
}

static void test_prefixes(void) {
        static const struct {
                const char *text, *wanted; /* NULL: not understood */
        } cases[] = {
                { "a", "a" },         { "a b  c", "a b  c" },     { "\"\"", "" },
                { "\" a \"", " a " }, { "\"\\\"\\\\\"", "\"\\" }, { "\\x20a\\xfF\\x01", " a\xff\x01" },
                { "a\"b", "a\"b" },   { "a\\\"b\"", "a\"b\"" },   { "\xc3\xa9/", "\xc3\xa9/" },
                { "\"a", NULL },      { "\"a\"b", NULL },         { "\"a\\\"", NULL },
                { "\\x00", NULL },    { "\\x2", NULL },           { "\\xg0", NULL },
                { "\\n", NULL },
        };
        g_autofree char *longest = g_strnfill(CONFIG_NAMESPACE_PREFIX_MAX + 1, 'p');
        g_autofree char *too_long = g_strdup_printf("[Namespace a]\nPrefix=%s\n", longest);
        g_autofree char *messages = NULL, *fits = NULL;
        struct config config;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                g_autofree char *text = g_strdup_printf("[Namespace a]\nPrefix=%s\n", cases[i].text);
                g_autofree char *told = NULL;

                g_test_message("%s", cases[i].text);
                assert_errno(parse_bytes(&config, text, strlen(text), &told), cases[i].wanted ? 0 : -EINVAL);
                if (cases[i].wanted)
                        check_prefix(&config, "a", cases[i].wanted);
                else
                        g_assert_nonnull(strstr(told, ": not understood: expected at most 256 bytes"));
                config_done(&config);
        }

        assert_errno(parse_bytes(&config, too_long, strlen(too_long), &messages), -EINVAL);
        g_assert_nonnull(strstr(messages, ": out of range: "));
        config_done(&config);

        longest[CONFIG_NAMESPACE_PREFIX_MAX] = '\0';
        fits = g_strdup_printf("[Namespace a]\nPrefix=%s\n", longest);
        config = parse_good(fits);
        check_prefix(&config, "a", longest);
        config_done(&config);
}

static void test_bad_owners(void) {
        static const char *const words[] = { "a,b",   "a:b",   "/bin",       "-a",
                                             "\"a\"", "a\x01", "4294967295", "99999999999" };
        g_autoptr(GString) many = g_string_new("[Namespace a]\nReadUsers=");
        g_autofree char *messages = NULL;
        struct config config;

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                g_autofree char *text = g_strdup_printf("[Namespace a]\nReadUsers=before\nReadUsers=b %s c\n",
                                                        words[i]);
                g_autofree char *told = NULL;

                g_test_message("%s", words[i]);
                assert_errno(parse_bytes(&config, text, strlen(text), &told), -EINVAL);
                g_assert_nonnull(strstr(told, "expected at most 1024 users, by name or number"));
                check_owners(&config.namespaces[0].read_users, "before"); /* all of a line, or nothing */
                config_done(&config);
        }

        for (unsigned i = 0; i <= CONFIG_OWNERS_MAX; i++)
                g_string_append_printf(many, " %u", i);
        assert_errno(parse_bytes(&config, many->str, many->len, &messages), -EINVAL);
        g_assert_nonnull(strstr(messages, ": out of range: "));
        config_done(&config);
}

static void test_whole_namespaces(void) {
        struct tree tree = tree_new();
        struct config config = {};

        /* What one file leaves open another may say. */
        tree_write(&tree, "/etc/objmapper/objmapper.conf",
                   "[Namespace a]\nReadUsers=0\n[Namespace b]\n\nPrefix=x/\n");
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/1.conf",
                   "[Namespace c]\nPrefix=y/\n[Namespace a]\nPrefix=x\\x2f\n");
        assert_errno(tree_load(&tree, &config), -EINVAL);
        g_assert_cmpstr(tree.messages->str, ==,
                        "E /etc/objmapper/objmapper.conf:5: [Namespace b] has the same Prefix= as [Namespace "
                        "a].\n");

        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/2.conf", "[Namespace a]\nPrefix=\n");
        assert_errno(tree_load(&tree, &config), -EINVAL);
        g_assert_cmpstr(tree.messages->str, ==,
                        "E /etc/objmapper/objmapper.conf:1: [Namespace a] has no Prefix=; one of no bytes is "
                        "\"\".\n");

        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/3.conf", "[Namespace a]\nPrefix=z\n");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpstr(tree.messages->str, ==, "");
        check_prefix(&config, "a", "z");
        config_done(&config);
        tree_done(&tree);
}

/* Who is not there is warned of, and stays in the list: it must not become an empty one. */
static void test_resolve(void) {
        struct tree tree = tree_new();
        const struct config_owners *owners;
        struct config config;

        tree_write(&tree, "/etc/objmapper/objmapper.conf",
                   "[Namespace a]\nPrefix=a\nReadUsers=root 12345 \\\n no-such-user\nReadGroups=root nogroup "
                   "65534\n"
                   "PublishUsers=nobody\nPublishGroups=no-such-group\n");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpstr(tree.messages->str, ==,
                        "W /etc/objmapper/objmapper.conf:3: ReadUsers=no-such-user: there is no such user: "
                        "it is as "
                        "good as nobody until the next reload.\n"
                        "W /etc/objmapper/objmapper.conf:5: ReadGroups=nogroup: this group stands for many "
                        "who can't "
                        "be told apart: it is as good as nobody.\n"
                        "W /etc/objmapper/objmapper.conf:5: ReadGroups=65534: this group stands for many who "
                        "can't "
                        "be told apart: it is as good as nobody.\n"
                        "W /etc/objmapper/objmapper.conf:6: PublishUsers=nobody: this user stands for many "
                        "who can't "
                        "be told apart: it is as good as nobody.\n"
                        "W /etc/objmapper/objmapper.conf:7: PublishGroups=no-such-group: there is no such "
                        "group: it "
                        "is as good as nobody until the next reload.\n");

        owners = &config.namespaces[0].read_users;
        g_assert_cmpuint(owners->n_owners, ==, 3);
        g_assert_true(owners->owners[0].known && owners->owners[0].id == 0);
        g_assert_true(owners->owners[1].known && owners->owners[1].id == 12345);
        g_assert_false(owners->owners[2].known);
        owners = &config.namespaces[0].read_groups;
        g_assert_true(owners->owners[0].known && owners->owners[0].id == 0);
        g_assert_false(owners->owners[1].known || owners->owners[2].known);
        g_assert_cmpuint(config.namespaces[0].publish_groups.n_owners, ==, 1);

        config_done(&config);
        tree_done(&tree);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/config/namespaces", test_namespaces);
        harness_add("/config/namespace-limits", test_namespace_limits);
        harness_add("/config/bad-namespaces", test_bad_namespaces);
        harness_add("/config/prefixes", test_prefixes);
        harness_add("/config/bad-owners", test_bad_owners);
        harness_add("/config/whole-namespaces", test_whole_namespaces);
        harness_add("/config/resolve", test_resolve);
        return g_test_run();
}
