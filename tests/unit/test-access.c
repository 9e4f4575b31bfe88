/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "access.h"

#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "macro.h"

static void test_session(void) {
        static const struct {
                int reader, publisher;
        } wanted[ACCESS_VERB_MAX] = {
                [ACCESS_GET] = { 0, 0 },
                [ACCESS_STAT] = { 0, 0 },
                [ACCESS_LIST] = { 0, 0 },
                [ACCESS_STATS] = { 0, 0 },
                [ACCESS_PUT] = { -EPERM, 0 },
                [ACCESS_SET_METADATA] = { -EPERM, 0 },
                [ACCESS_REMOVE] = { -EPERM, 0 },
                [ACCESS_PURGE] = { -EPERM, 0 },
                [ACCESS_PIN] = { -EPERM, -EPERM },
                [ACCESS_FLUSH_CACHE] = { -EPERM, -EPERM },
                [ACCESS_VERIFY] = { -EPERM, -EPERM },
                [ACCESS_RELOAD] = { -EPERM, -EPERM },
        };

        for (unsigned verb = 0; verb < ACCESS_VERB_MAX; verb++) {
                assert_errno(access_check_session(ACCESS_READER, verb), wanted[verb].reader);
                assert_errno(access_check_session(ACCESS_PUBLISHER, verb), wanted[verb].publisher);
        }
}

static void test_bus(void) {
        enum { OWN = 990, OTHER = 1000, OVERFLOW = 65534 };
        static const struct {
                int own, own_user_bus, other;
        } wanted[ACCESS_VERB_MAX] = {
                [ACCESS_GET] = { -EPERM, 0, -EPERM },
                [ACCESS_STAT] = { 0, 0, 0 },
                [ACCESS_LIST] = { 0, 0, 0 },
                [ACCESS_STATS] = { 0, 0, 0 },
                [ACCESS_PUT] = { -EPERM, 0, -EPERM },
                [ACCESS_SET_METADATA] = { -EPERM, 0, -EPERM },
                [ACCESS_REMOVE] = { -EPERM, 0, -EPERM },
                [ACCESS_PURGE] = { -EPERM, 0, -EPERM },
                [ACCESS_PIN] = { -EPERM, 0, -EPERM },
                [ACCESS_FLUSH_CACHE] = { -EPERM, 0, -EPERM },
                [ACCESS_VERIFY] = { -EPERM, 0, -EPERM },
                [ACCESS_RELOAD] = { 0, 0, -EPERM },
        };

        for (unsigned verb = 0; verb < ACCESS_VERB_MAX; verb++) {
                assert_errno(access_check_bus(0, OWN, false, verb), 0);
                assert_errno(access_check_bus(0, OWN, true, verb), 0);
                assert_errno(access_check_bus(OWN, OWN, false, verb), wanted[verb].own);
                assert_errno(access_check_bus(OWN, OWN, true, verb), wanted[verb].own_user_bus);
                assert_errno(access_check_bus(OTHER, OWN, false, verb), wanted[verb].other);
                assert_errno(access_check_bus(OTHER, OWN, true, verb), wanted[verb].other);
                assert_errno(access_check_bus(OVERFLOW, OWN, false, verb), wanted[verb].other);
        }
}

/* ---- rules of namespaces ---- */

enum { OWN_UID = 990, ALICE = 1001, BOB = 1002, CAROL = 1003, TEAM = 2001, OTHERS = 2002, NOBODY = 65534 };

static const uid_t alice_only[] = { ALICE }, bob_only[] = { BOB }, nobody_only[] = { NOBODY };
static const gid_t team_only[] = { TEAM }, no_group[] = { NOBODY };
static const struct access_list alice = { .uids = alice_only, .n_uids = 1 };
static const struct access_list bob = { .uids = bob_only, .n_uids = 1 };
static const struct access_list team = { .gids = team_only, .n_gids = 1 };
static const struct access_list overflow = {
        .uids = nobody_only, .gids = no_group, .n_uids = 1, .n_gids = 1
};
static const struct access_list nobody = {};

static struct access_namespace space(const char *name,
                                     const char *prefix,
                                     const struct access_list *readers,
                                     const struct access_list *publishers) {
        return (struct access_namespace){ name, prefix, strlen(prefix), readers, publishers };
}

static struct access_rules *make_rules(const struct access_namespace *namespaces, size_t n) {
        struct access_rules *rules;

        assert_ok(access_rules_new(&rules, namespaces, n, OWN_UID));
        return rules;
}

static struct access_peer user(uid_t uid) {
        return (struct access_peer){ .uid = uid, .gid = uid };
}

/* The namespace that refuses, or "". */
static const char *refused(const struct access_rules *rules,
                           struct access_peer peer,
                           enum access_verb verb,
                           const char *uri) {
        const char *namespace = NULL;
        int r = access_check(rules, &peer, verb, uri, strlen(uri), &namespace);

        if (r == 0) {
                g_assert_null(namespace);
                return "";
        }

        assert_errno(r, -EPERM);
        return namespace;
}

static void test_no_rules(void) {
        struct access_rules *rules = make_rules(NULL, 0);

        g_assert_cmpstr(refused(NULL, user(ALICE), ACCESS_PUT, "a"), ==, "");
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_PURGE, ""), ==, "");
        g_assert_cmpuint(access_skip(NULL, &(struct access_peer){ .uid = ALICE }, "a", 1), ==, 0);
        g_assert_false(access_has_rule(NULL, ACCESS_STAT, "a", 1));
        g_assert_false(access_has_rule(rules, ACCESS_STAT, "a", 1));
        access_rules_unref(access_rules_ref(rules));
        access_rules_unref(rules);
        access_rules_unref(NULL);
}

static void test_longest_prefix(void) {
        const struct access_namespace namespaces[] = {
                space("abc", "a/b/c", &alice, NULL), space("a", "a/", &alice, NULL),
                space("ab", "a/b", NULL, NULL),      space("az", "a/z", &bob, NULL),
                space("b", "b", &bob, NULL),
        };
        struct access_rules *rules = make_rules(namespaces, ARRAY_SIZE(namespaces));
        static const struct {
                const char *uri, *to_alice, *to_bob;
        } cases[] = {
                { "a", "", "" },       { "a/", "", "a" },   { "a/a", "", "a" },     { "a/b", "", "" },
                { "a/b/", "", "" },    { "a/b/b", "", "" }, { "a/b/c", "", "abc" }, { "a/b/cd", "", "abc" },
                { "a/b/d", "", "" },   { "a/c", "", "a" },  { "a/y/z", "", "a" },   { "a/z", "az", "" },
                { "a/z/a", "az", "" }, { "a/{", "", "a" },  { "A/", "", "" },       { "b", "b", "" },
                { "b/a/", "b", "" },   { "c", "", "" },     { "a//b", "", "a" },    { "\xff", "", "" },
                { "a/\xff", "", "a" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                g_autofree char *shown = g_strescape(cases[i].uri, NULL);

                g_test_message("%s", shown);
                g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_GET, cases[i].uri), ==, cases[i].to_alice);
                g_assert_cmpstr(refused(rules, user(BOB), ACCESS_STAT, cases[i].uri), ==, cases[i].to_bob);
                g_assert_cmpint(access_has_rule(rules, ACCESS_STAT, cases[i].uri, strlen(cases[i].uri)), ==,
                                cases[i].to_alice[0] || cases[i].to_bob[0]);
        }

        access_rules_unref(rules);
}

static void test_who(void) {
        const struct access_namespace namespaces[] = {
                space("open", "open/", NULL, NULL),
                space("users", "users/", &alice, &bob),
                space("group", "group/", &team, NULL),
                space("nobody", "nobody/", &nobody, &nobody),
                space("overflow", "overflow/", &overflow, &overflow),
        };
        struct access_rules *rules = make_rules(namespaces, ARRAY_SIZE(namespaces));
        const gid_t groups[] = { OTHERS, TEAM }, other_groups[] = { OTHERS, NOBODY };
        struct access_peer peer;

        /* Reading and publishing are apart. */
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_GET, "users/1"), ==, "");
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_LIST, "users/"), ==, "");
        for (enum access_verb verb = ACCESS_PUT; verb <= ACCESS_PURGE; verb++) {
                g_assert_cmpstr(refused(rules, user(ALICE), verb, "users/1"), ==, "users");
                g_assert_cmpstr(refused(rules, user(BOB), verb, "users/1"), ==, "");
                g_assert_cmpstr(refused(rules, user(CAROL), verb, "open/1"), ==, "");
                g_assert_cmpstr(refused(rules, user(CAROL), verb, "group/1"), ==, "");
        }
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_GET, "users/1"), ==, "users");

        /* Groups: the peer's own and its further ones; a user's number is no group's. */
        peer = (struct access_peer){ .uid = CAROL, .gid = TEAM };
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "group/1"), ==, "");
        peer = (struct access_peer){ .uid = CAROL, .gid = OTHERS, .groups = groups, .n_groups = 2 };
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "group/1"), ==, "");
        peer.n_groups = 1;
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "group/1"), ==, "group");
        peer = (struct access_peer){ .uid = TEAM, .gid = ALICE };
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "group/1"), ==, "group");
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "users/1"), ==, "users");

        /* A rule that names nobody permits nobody; who can't be mapped matches none. */
        peer = (struct access_peer){ .uid = NOBODY, .gid = NOBODY, .groups = other_groups, .n_groups = 2 };
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "nobody/1"), ==, "nobody");
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "overflow/1"), ==, "overflow");
        g_assert_cmpstr(refused(rules, peer, ACCESS_PUT, "overflow/1"), ==, "overflow");
        g_assert_cmpstr(refused(rules, peer, ACCESS_GET, "open/1"), ==, "");
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_GET, "overflow/1"), ==, "overflow");

        /* They can reach the files anyway. */
        g_assert_cmpstr(refused(rules, user(0), ACCESS_GET, "nobody/1"), ==, "");
        g_assert_cmpstr(refused(rules, user(OWN_UID), ACCESS_PURGE, ""), ==, "");

        access_rules_unref(rules);
}

static void test_prefixes(void) {
        const struct access_namespace namespaces[] = {
                space("a", "a/", NULL, NULL),
                space("deep", "a/b/c/", &alice, &alice),
                space("b", "b/", &bob, &bob),
        };
        struct access_rules *rules = make_rules(namespaces, ARRAY_SIZE(namespaces));

        /* A purge touches all that lies below it. */
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_PURGE, "a/"), ==, "");
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_PURGE, "a"), ==, "");
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_PURGE, ""), ==, "b");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_PURGE, ""), ==, "deep");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_PURGE, "a/b"), ==, "deep");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_PURGE, "a/b/c/d"), ==, "deep");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_PURGE, "a/b/d"), ==, "");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_PURGE, "a/c"), ==, "");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_PURGE, "b"), ==, "");
        g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_PURGE, "b"), ==, "b");
        g_assert_cmpstr(refused(rules, user(CAROL), ACCESS_PURGE, "c"), ==, "");

        /* A listing leaves out what lies below it. */
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_LIST, ""), ==, "");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_LIST, "a/b/c"), ==, "");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_LIST, "a/b/c/"), ==, "deep");
        g_assert_cmpstr(refused(rules, user(BOB), ACCESS_LIST, "a/b/c/d"), ==, "deep");

        access_rules_unref(rules);
}

static size_t skip(const struct access_rules *rules, uid_t uid, const char *uri) {
        struct access_peer peer = user(uid);

        return access_skip(rules, &peer, uri, strlen(uri));
}

static void test_skip(void) {
        const struct access_namespace namespaces[] = {
                space("a", "a/", &bob, NULL),
                space("mine", "a/mine/", &alice, NULL),
                space("his", "a/mine/his/", &bob, NULL),
                space("all", "a/my/", NULL, NULL),
                space("none", "b/", &nobody, NULL),
        };
        struct access_rules *rules = make_rules(namespaces, ARRAY_SIZE(namespaces));
        struct access_namespace everything = space("everything", "", &bob, NULL);

        /* Nothing is skipped that she may see, and as much as can be of the rest. */
        g_assert_cmpuint(skip(rules, ALICE, "a"), ==, 0);
        g_assert_cmpuint(skip(rules, ALICE, "a/b"), ==, strlen("a/b"));
        g_assert_cmpuint(skip(rules, ALICE, "a/bcd"), ==, strlen("a/b"));
        g_assert_cmpuint(skip(rules, ALICE, "a/m"), ==, strlen("a/m") + 1); /* this one alone */
        g_assert_cmpuint(skip(rules, ALICE, "a/mi/x"), ==, strlen("a/mi/"));
        g_assert_cmpuint(skip(rules, ALICE, "a/mine"), ==, strlen("a/mine") + 1);
        g_assert_cmpuint(skip(rules, ALICE, "a/mine/"), ==, 0);
        g_assert_cmpuint(skip(rules, ALICE, "a/mine/x"), ==, 0);
        g_assert_cmpuint(skip(rules, ALICE, "a/mine/his/1"), ==, strlen("a/mine/his/"));
        g_assert_cmpuint(skip(rules, ALICE, "a/my/1"), ==, 0);
        g_assert_cmpuint(skip(rules, ALICE, "b/1"), ==, strlen("b/"));
        g_assert_cmpuint(skip(rules, BOB, "a/b"), ==, 0);
        g_assert_cmpuint(skip(rules, BOB, "a/mine/x"), ==, strlen("a/mine/x"));
        g_assert_cmpuint(skip(rules, 0, "b/1"), ==, 0);
        access_rules_unref(rules);

        rules = make_rules(&everything, 1);
        g_assert_cmpuint(skip(rules, ALICE, "xyz"), ==, 1);
        g_assert_cmpuint(skip(rules, BOB, "xyz"), ==, 0);
        access_rules_unref(rules);
}

/* The same as looking at each of them. */
static void test_many(void) {
        enum { N = 256, URIS = 20000 };
        g_autoptr(GRand) random = g_rand_new_with_seed(7);
        struct access_namespace namespaces[N];
        char prefixes[N][8], names[N][8];
        struct access_rules *rules;
        size_t n = 0;

        while (n < N) {
                size_t size = (size_t) g_rand_int_range(random, 0, 7);
                bool used = false;

                for (size_t i = 0; i < size; i++)
                        prefixes[n][i] = "ab\xff"[g_rand_int_range(random, 0, 3)];
                prefixes[n][size] = '\0';
                for (size_t i = 0; i < n; i++)
                        used = used || strcmp(prefixes[i], prefixes[n]) == 0;
                if (used)
                        continue;
                (void) snprintf(names[n], sizeof(names[n]), "%zu", n);
                namespaces[n] = space(names[n], prefixes[n],
                                      n % 3 == 0   ? NULL
                                      : n % 3 == 1 ? &alice
                                                   : &bob,
                                      NULL);
                n++;
        }
        rules = make_rules(namespaces, N);

        for (size_t i = 0; i < URIS; i++) {
                const struct access_namespace *best = NULL;
                char uri[12] = "";
                size_t size = (size_t) g_rand_int_range(random, 1, 11);

                for (size_t j = 0; j < size; j++)
                        uri[j] = "ab\xff"[g_rand_int_range(random, 0, 3)];
                for (size_t j = 0; j < N; j++)
                        if (g_str_has_prefix(uri, prefixes[j]) &&
                            (!best || namespaces[j].prefix_size > best->prefix_size))
                                best = &namespaces[j];

                g_assert_cmpstr(refused(rules, user(ALICE), ACCESS_GET, uri), ==,
                                best && best->readers == &bob ? best->name : "");
        }

        access_rules_unref(rules);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/access/session", test_session);
        harness_add("/access/bus", test_bus);
        harness_add("/access/no-rules", test_no_rules);
        harness_add("/access/longest-prefix", test_longest_prefix);
        harness_add("/access/who", test_who);
        harness_add("/access/prefixes", test_prefixes);
        harness_add("/access/skip", test_skip);
        harness_add("/access/many", test_many);
        return g_test_run();
}
