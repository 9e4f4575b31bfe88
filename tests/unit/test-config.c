/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include "harness.h"
#include "macro.h"
#include "setting.h"
#include "value.h"

/* Messages of a load, one a line: "E text" or "W text". */
static void collect(int level, const char *file, unsigned line, const char *text, void *userdata) {
        g_autofree char *begin = line > 0 ? g_strdup_printf("%s:%u: ", file, line)
                                          : g_strdup_printf("%s: ", file);

        g_assert_true(g_str_has_prefix(text, begin));
        g_assert_true(level == LOG_ERR || level == LOG_WARNING);
        g_assert_true(g_utf8_validate(text, -1, NULL));
        g_string_append_printf(userdata, "%c %s\n", level == LOG_ERR ? 'E' : 'W', text);
}

static int parse_bytes(struct config *config, const char *text, size_t size, char **ret_messages) {
        GString *messages = g_string_new(NULL);
        int r;

        config_init(config);
        r = config_parse(config, "f", text, size, collect, messages);
        *ret_messages = g_string_free(messages, FALSE);
        return r;
}

/* Parses what must be right and say nothing. */
static struct config parse_good(const char *text) {
        g_autofree char *messages = NULL;
        struct config config;

        assert_ok(parse_bytes(&config, text, strlen(text), &messages));
        g_assert_cmpstr(messages, ==, "");
        return config;
}

/* Parses what must be wrong, in these words. */
static void parse_bad_bytes(const char *text, size_t size, const char *wanted) {
        g_autofree char *messages = NULL;
        struct config config;

        assert_errno(parse_bytes(&config, text, size, &messages), -EINVAL);
        g_assert_cmpstr(messages, ==, wanted);
        config_done(&config);
}

static void parse_bad(const char *text, const char *wanted) {
        parse_bad_bytes(text, strlen(text), wanted);
}

static void test_defaults(void) {
        struct config config;

        config_init(&config);
        g_assert_null(config.store_directory);
        g_assert_true(config.object_max == UINT64_MAX);
        g_assert_true(config.expired_keep_usec == UINT64_C(600) * G_USEC_PER_SEC);
        g_assert_cmpuint(config.cache_size, ==, 128U << 20);
        g_assert_false(config.check_on_fill);
        g_assert_cmpint(config.durability, ==, CONFIG_DURABLE);
        g_assert_cmpuint(config.workers, ==, 0);
        g_assert_cmpuint(config.connections_max, ==, 16384);
        g_assert_cmpuint(config.connections_per_user_max, ==, 8192);
        g_assert_cmpuint(config.inline_max, ==, 16 << 10);
        g_assert_cmpuint(config.pipeline_max, ==, 256);
        g_assert_cmpuint(config.streams_max, ==, 8);
        g_assert_cmpuint(config.fds_in_flight_max, ==, 1024);
        g_assert_cmpuint(config.output_max, ==, 4 << 20);
        g_assert_cmpuint(config.idle_timeout_usec, ==, UINT64_C(600) * G_USEC_PER_SEC);
        g_assert_cmpuint(config.write_timeout_usec, ==, UINT64_C(30) * G_USEC_PER_SEC);
        g_assert_cmpint(config.log_level, ==, LOG_INFO);
        config_done(&config);
        config_done(NULL);
}

static void test_syntax(void) {
        struct config config = parse_good("\xef\xbb\xbf# a comment\r\n"
                                          "; another\r\n"
                                          "\r\n"
                                          "[Server]\r\n"
                                          "  MaxPipeline = 7 \t\r\n"
                                          "MaxStreams=\\\r\n"
                                          "3\r\n");

        g_assert_cmpuint(config.pipeline_max, ==, 7);
        g_assert_cmpuint(config.streams_max, ==, 3);
        config_done(&config);
}

static void test_continuation(void) {
        struct config config;

        /* A comment does not end what goes on; a backslash at the end of the file is none. */
        config = parse_good("[Server]\n"
                            "IdleTimeoutSec=1min \\\n"
                            "# in between\n"
                            "   30s\n"
                            "MaxStreams=2 \\");
        g_assert_cmpuint(config.idle_timeout_usec, ==, UINT64_C(90) * G_USEC_PER_SEC);
        g_assert_cmpuint(config.streams_max, ==, 2);
        config_done(&config);

        /* Two backslashes are no continuation, and no number. Its first line is named. */
        parse_bad("[Server]\nMaxStreams=2\\\\\nMaxPipeline=\\\n\\\nx\n",
                  "E f:2: MaxStreams=2\\\\: not understood: expected a whole number from 1 to 1024.\n"
                  "E f:3: MaxPipeline=x: not understood: expected a whole number from 1 to 65536.\n");
}

static void test_last_wins(void) {
        struct config config = parse_good("[Server]\nMaxStreams=2\nMaxPipeline=9\nMaxStreams=4\n"
                                          "[Store]\nStoreDirectory=/a\n[Server]\nMaxPipeline=\n"
                                          "[Store]\nStoreDirectory=/b\n");

        g_assert_cmpuint(config.streams_max, ==, 4);
        g_assert_cmpuint(config.pipeline_max, ==, 256); /* reset */
        g_assert_cmpstr(config.store_directory, ==, "/b");
        config_done(&config);

        config = parse_good("[Store]\nStoreDirectory=/a\nStoreDirectory=\n");
        g_assert_null(config.store_directory);
        config_done(&config);
}

static void test_unknown(void) {
        static const char text[] = "[Serve]\nMaxStreams=2\n[X-Mine]\na=b\n[Server]\nMaxStream=2\nX-a=b\n"
                                   "maxstreams=2\nStoreDirectory=/a\n";
        g_autofree char *messages = NULL;
        struct config config;

        assert_ok(parse_bytes(&config, text, strlen(text), &messages));
        g_assert_cmpstr(messages, ==,
                        "W f:1: Unknown section [Serve], ignored.\n"
                        "W f:6: Unknown setting MaxStream= in section [Server], ignored.\n"
                        "W f:8: Unknown setting maxstreams= in section [Server], ignored.\n"
                        "W f:9: Unknown setting StoreDirectory= in section [Server], ignored.\n");
        g_assert_cmpuint(config.streams_max, ==, 8);
        g_assert_null(config.store_directory);
        config_done(&config);
}

static void test_lines_that_are_none(void) {
        parse_bad("[Server]\nhello\n[Server\n[]\n=7\nMaxStreams=3\n",
                  "E f:2: \"hello\": expected Name=value, a [Section] or a # comment.\n"
                  "E f:3: \"[Server\": expected a section such as [Server].\n"
                  "E f:4: \"[]\": expected a section such as [Server].\n"
                  "E f:5: \"=7\": expected Name=value, a [Section] or a # comment.\n");
        parse_bad("MaxStreams=3\n",
                  "E f:1: MaxStreams= stands before any section: expected [Server] or [Store] above it.\n");
}

static void test_bytes(void) {
        static const char nul[] = "[Server]\nMax\0Streams=1 \\\nMaxPipeline=1\n";
        g_autofree char *line = g_strnfill(CONFIG_LINE_MAX + 1, 'x');
        g_autofree char *comment = g_strdup_printf("[Server]\n# %s\n", line);
        g_autofree char *joined = NULL, *file = NULL, *cut = NULL;
        struct config config;

        parse_bad_bytes(nul, sizeof(nul) - 1, "E f:2: There is a NUL byte in the line.\n");
        parse_bad("[Server]\nMaxStreams=\xff\n", "E f:2: The line is not UTF-8.\n");
        parse_bad(line, "E f:1: The line is longer than 64K.\n");

        config = parse_good(comment); /* it is never looked at */
        config_done(&config);

        line[CONFIG_LINE_MAX / 2] = '\0';
        joined = g_strdup_printf("[Server]\n%s\\\n%s\\\n%s\\\nMaxStreams=1\nMaxStreams=2\n", line, line,
                                 line);
        parse_bad(joined, "E f:3: The line is longer than 64K.\n");

        file = g_strnfill(CONFIG_FILE_MAX + 1, '\n');
        parse_bad(file, "E f: The file is larger than 1M.\n");
        file[CONFIG_FILE_MAX] = '\0';
        config = parse_good(file);
        config_done(&config);

        /* A value is repeated in part only, cut between characters. */
        line[40] = '\0';
        cut = g_strdup_printf("[Server]\nMaxStreams=\x01%s%s\n", line,
                              "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
                              "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac");
        parse_bad(cut, "E f:2: MaxStreams=?xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                       "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
                       "\xe2\x82\xac...: not understood: expected a whole number from 1 to 1024.\n");
}

static void test_sizes(void) {
        static const struct {
                const char *text;
                uint64_t wanted;
        } good[] = {
                { "1", 1 },
                { "1B", 1 },
                { "512K", 512 << 10 },
                { "3 M", 3 << 20 },
                { "2G", UINT64_C(2) << 30 },
                { "16777215T", UINT64_C(16777215) << 40 },
                { "7P", UINT64_C(7) << 50 },
                { "15E", UINT64_C(15) << 60 },
                { "infinity", UINT64_MAX },
                { "18446744073709551615", UINT64_MAX },
        };
        static const struct {
                const char *text, *wanted;
        } bad[] = {
                { "0", "out of range" },     { "16E", "out of range" },
                { "-1", "not understood" },  { "18446744073709551616", "out of range" },
                { "+1", "not understood" },  { "1k", "not understood" },
                { "1KB", "not understood" }, { "1.5G", "not understood" },
                { "K", "not understood" },   { "0x10", "not understood" },
                { "1 2", "not understood" }, { "Infinity", "not understood" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                g_autofree char *text = g_strdup_printf("[Store]\nMaxObjectSize=%s\n", good[i].text);
                struct config config = parse_good(text);

                g_assert_true(config.object_max == good[i].wanted);
                config_done(&config);
        }

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                g_autofree char *text = g_strdup_printf("[Store]\nMaxObjectSize=%s\n", bad[i].text);
                g_autofree char *wanted = g_strdup_printf(
                                "E f:2: MaxObjectSize=%s: %s: expected a size such as "
                                "16K or 4M, at least 1B, or infinity.\n",
                                bad[i].text, bad[i].wanted);

                parse_bad(text, wanted);
        }

        parse_bad("[Server]\nMaxOutput=1K\nInlineMax=infinity\n",
                  "E f:2: MaxOutput=1K: out of range: expected a size such as 16K or 4M, from 64K to 1G.\n"
                  "E f:3: InlineMax=infinity: out of range: expected a size such as 16K or 4M, from 0 to "
                  "1M.\n");
}

static void test_amounts(void) {
        static const struct {
                const char *text;
                int result;
                struct config_amount wanted;
        } cases[] = {
                { "80%", 0, { .percent = 80 } },
                { "5 %", 0, { .percent = 5 } },
                { "100%", 0, { .percent = 100 } },
                { "0%", 0, {} },
                { "0", 0, {} },
                { "16M", 0, { .bytes = 16 << 20 } },
                { "infinity", 0, { .bytes = UINT64_MAX } },
                { "101%", -ERANGE, {} },
                { "18446744073709551616%", -ERANGE, {} },
                { "%", -EINVAL, {} },
                { "8%0", -EINVAL, {} },
                { "-1%", -EINVAL, {} },
                { "1.5%", -EINVAL, {} },
                { "1M%", -EINVAL, {} },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct config_amount amount = { 1, 2 };
                int r = value_parse_amount(cases[i].text, &amount);

                g_test_message("%s", cases[i].text);
                assert_errno(r, cases[i].result);
                if (r < 0) /* untouched */
                        g_assert_true(amount.bytes == 1 && amount.percent == 2);
                else
                        g_assert_true(amount.bytes == cases[i].wanted.bytes &&
                                      amount.percent == cases[i].wanted.percent);
        }
}

static void test_words(void) {
        static const char *const yes[] = { "yes", "true", "on", "1", "y", "T", "Yes", "ON" };
        static const char *const no[] = { "no", "false", "off", "0", "n", "F", "No", "OFF" };
        static const char *const neither[] = { "", "ye", "yess", "01", "infinity" };
        uint64_t n;

        for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
                assert_ok(value_parse_bool(yes[i], &n));
                g_assert_cmpuint(n, ==, 1);
                assert_ok(value_parse_bool(no[i], &n));
                g_assert_cmpuint(n, ==, 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(neither); i++)
                assert_errno(value_parse_bool(neither[i], &n), -EINVAL);

        assert_ok(value_parse_count("infinity", &n));
        g_assert_true(n == UINT64_MAX);
        parse_bad("[Server]\nMaxStreams=infinity\n",
                  "E f:2: MaxStreams=infinity: out of range: expected a whole number from 1 to 1024.\n");
}

static void test_times(void) {
        static const struct {
                const char *text;
                uint64_t wanted;
        } good[] = {
                { "30", UINT64_C(30) * G_USEC_PER_SEC },
                { "30s", UINT64_C(30) * G_USEC_PER_SEC },
                { "10min", UINT64_C(600) * G_USEC_PER_SEC },
                { "1min 30s", UINT64_C(90) * G_USEC_PER_SEC },
                { "1min30s", UINT64_C(90) * G_USEC_PER_SEC },
                { "1 h  2 m", UINT64_C(3720) * G_USEC_PER_SEC },
                { "1500ms", 1500000 },
                { "1000001us", 1000001 },
                { "2days", UINT64_C(172800) * G_USEC_PER_SEC },
                { "2weeks 1w", UINT64_C(1814400) * G_USEC_PER_SEC },
                { "1M 1month 1months", UINT64_C(7889400) * G_USEC_PER_SEC },
                { "292000y", UINT64_C(292000) * UINT64_C(31557600) * G_USEC_PER_SEC },
                { "1y 1year 1years", UINT64_C(94672800) * G_USEC_PER_SEC },
                { "1000001\u00b5s 1\u03bcs", 1000002 },
                { "infinity", UINT64_MAX },
        };
        static const struct {
                const char *text, *wanted;
        } bad[] = {
                { "0", "out of range" },
                { "1.5h", "not understood" },
                { "1S", "not understood" },
                { "999ms", "out of range" },
                { "1 fortnight", "not understood" },
                { "s", "not understood" },
                { "-1s", "not understood" },
                { "1s infinity", "not understood" },
                { "300000000000d", "out of range" },
                { "18446744073709s 18446744073709s", "out of range" },
                { "18446744073709s", "out of range" },
                { "300000y", "out of range" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                g_autofree char *text = g_strdup_printf("[Server]\nIdleTimeoutSec=%s\n", good[i].text);
                struct config config = parse_good(text);

                g_assert_cmpuint(config.idle_timeout_usec, ==, good[i].wanted);
                config_done(&config);
        }

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                g_autofree char *text = g_strdup_printf("[Server]\nWriteTimeoutSec=%s\n", bad[i].text);
                g_autofree char *wanted = g_strdup_printf(
                                "E f:2: WriteTimeoutSec=%s: %s: expected a time such as "
                                "30s or 1min 30s, at least 1s, or infinity.\n",
                                bad[i].text, bad[i].wanted);

                parse_bad(text, wanted);
        }
}

static void test_levels(void) {
        static const char *const names[] = { "emerg",   "alert",  "crit", "err",
                                             "warning", "notice", "info", "debug" };

        for (int i = 0; i < (int) ARRAY_SIZE(names); i++) {
                g_autofree char *text = g_strdup_printf("[Server]\nLogLevel=%s\n", names[i]);
                g_autofree char *number = g_strdup_printf("[Server]\nLogLevel=%i\n", i);
                struct config config = parse_good(text);

                g_assert_cmpint(config.log_level, ==, i);
                config = parse_good(number);
                g_assert_cmpint(config.log_level, ==, i);
        }

        parse_bad("[Server]\nLogLevel=8\nLogLevel=loud\n",
                  "E f:2: LogLevel=8: not understood: expected emerg, alert, crit, err, warning, notice, "
                  "info, "
                  "debug or 0 to 7.\n"
                  "E f:3: LogLevel=loud: not understood: expected emerg, alert, crit, err, warning, notice, "
                  "info, debug or 0 to 7.\n");
}

static void test_paths(void) {
        g_autofree char *name = g_strnfill(4096, 'a');
        g_autofree char *text = g_strdup_printf("[Store]\nStoreDirectory=/%s\n", name);
        g_autofree char *messages = NULL;
        struct config config;

        config = parse_good("[Store]\nStoreDirectory=/srv/a b/..c/d..\n");
        g_assert_cmpstr(config.store_directory, ==, "/srv/a b/..c/d..");
        config_done(&config);

        parse_bad("[Store]\nStoreDirectory=a\nStoreDirectory=/a/../b\nStoreDirectory=/..\n",
                  "E f:2: StoreDirectory=a: not understood: expected an absolute path without \"..\".\n"
                  "E f:3: StoreDirectory=/a/../b: not understood: expected an absolute path without \"..\".\n"
                  "E f:4: StoreDirectory=/..: not understood: expected an absolute path without \"..\".\n");
        assert_errno(parse_bytes(&config, text, strlen(text), &messages), -EINVAL);
        g_assert_nonnull(strstr(messages, "...: out of range: "));
        config_done(&config);
}

/* A tree of files that stands for /. */
struct tree {
        char *root;
        GString *messages;
};

static struct tree tree_new(void) {
        return (struct tree){ harness_make_dir(), g_string_new(NULL) };
}

static void tree_done(struct tree *tree) {
        harness_remove_dir(tree->root);
        g_string_free(tree->messages, TRUE);
}

static char *tree_path(struct tree *tree, const char *below) {
        char *path = g_strconcat(tree->root, below, NULL);
        g_autofree char *folder = g_path_get_dirname(path);

        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        return path;
}

static void tree_write(struct tree *tree, const char *below, const char *text) {
        g_autofree char *path = tree_path(tree, below);

        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void tree_link(struct tree *tree, const char *below, const char *target) {
        g_autofree char *path = tree_path(tree, below);

        g_assert_cmpint(symlink(target, path), ==, 0);
}

static int tree_load(struct tree *tree, struct config *ret) {
        struct config_source source = { .name = "objmapper", .root = tree->root };
        int r;

        g_string_truncate(tree->messages, 0);
        r = config_load(ret, &source, collect, tree->messages);

        /* The folder's name is random: as if it were /. */
        g_string_replace(tree->messages, tree->root, "", 0);
        return r;
}

static void test_no_files(void) {
        struct tree tree = tree_new();
        struct config config;

        assert_ok(tree_load(&tree, &config));
        g_assert_cmpuint(config.pipeline_max, ==, 256);
        g_assert_cmpstr(tree.messages->str, ==, "");
        config_done(&config);
        tree_done(&tree);
}

static void test_folders(void) {
        struct tree tree = tree_new();
        struct config config;

        tree_write(&tree, "/usr/lib/objmapper/objmapper.conf", "[Server]\nMaxStreams=2\nMaxPipeline=2\n");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpuint(config.streams_max, ==, 2);
        config_done(&config);

        /* One main file alone counts. */
        tree_write(&tree, "/etc/objmapper/objmapper.conf",
                   "[Server]\nMaxStreams=3\n[Store]\nStoreDirectory=/x\n");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpuint(config.streams_max, ==, 3);
        g_assert_cmpuint(config.pipeline_max, ==, 256);
        g_assert_cmpstr(config.store_directory, ==, "/x");
        config_done(&config);

        /* Drop-ins of all folders are read after it, in the order of their names. */
        tree_write(&tree, "/usr/lib/objmapper/objmapper.conf.d/90-z.conf", "[Server]\nMaxStreams=9\n");
        tree_write(&tree, "/run/objmapper/objmapper.conf.d/50-m.conf",
                   "[Server]\nMaxStreams=5\nInlineMax=5\n");
        tree_write(&tree, "/usr/local/lib/objmapper/objmapper.conf.d/60-n.conf", "[Server]\nInlineMax=6\n");
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/10-a.conf",
                   "[Server]\nMaxStreams=1\nMaxPipeline=1\n");
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/99-no.conf.bak", "nonsense");
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/.99-no.conf", "nonsense");
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/.conf", "nonsense");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpuint(config.streams_max, ==, 9);
        g_assert_cmpuint(config.pipeline_max, ==, 1);
        g_assert_cmpuint(config.inline_max, ==, 6);
        config_done(&config);

        /* Of the same name, /etc counts more than /run, and that more than /usr. */
        tree_write(&tree, "/run/objmapper/objmapper.conf.d/90-z.conf", "[Server]\nMaxStreams=10\n");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpuint(config.streams_max, ==, 10);
        config_done(&config);
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/90-z.conf", "[Server]\nMaxStreams=11\n");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpuint(config.streams_max, ==, 11);
        g_assert_cmpstr(tree.messages->str, ==, "");
        config_done(&config);

        tree_done(&tree);
}

static void test_masks(void) {
        struct tree tree = tree_new();
        struct config config;

        tree_write(&tree, "/usr/lib/objmapper/objmapper.conf", "[Server]\nMaxStreams=2\n");
        tree_link(&tree, "/run/objmapper/objmapper.conf", "/dev/null");
        tree_write(&tree, "/usr/lib/objmapper/objmapper.conf.d/1.conf", "[Server]\nMaxPipeline=2\n");
        tree_link(&tree, "/etc/objmapper/objmapper.conf.d/1.conf", "/dev/null");
        tree_write(&tree, "/usr/lib/objmapper/objmapper.conf.d/2.conf", "[Server]\nInlineMax=2\n");
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d/2.conf", "");
        assert_ok(tree_load(&tree, &config));
        g_assert_cmpuint(config.streams_max, ==, 8);
        g_assert_cmpuint(config.pipeline_max, ==, 256);
        g_assert_cmpuint(config.inline_max, ==, 16 << 10);
        g_assert_cmpstr(tree.messages->str, ==, "");
        config_done(&config);
        tree_done(&tree);
}

static void test_bad_files(void) {
        struct tree tree = tree_new();
        struct config config = { .pipeline_max = 77 };

        /* All that is wrong is told, and nothing is given out. */
        tree_write(&tree, "/etc/objmapper/objmapper.conf", "[Server]\nMaxStreams=x\nMaxPipeline=1\n");
        tree_write(&tree, "/run/objmapper/objmapper.conf.d/1.conf", "[Server]\nUnknown=1\nMaxOutput=y\n");
        assert_errno(tree_load(&tree, &config), -EINVAL);
        g_assert_cmpstr(tree.messages->str, ==,
                        "E /etc/objmapper/objmapper.conf:2: MaxStreams=x: not understood: expected a whole "
                        "number from 1 to 1024.\n"
                        "W /run/objmapper/objmapper.conf.d/1.conf:2: Unknown setting Unknown= in section "
                        "[Server], ignored.\n"
                        "E /run/objmapper/objmapper.conf.d/1.conf:3: MaxOutput=y: not understood: expected a "
                        "size such as 16K or 4M, from 64K to 1G.\n");
        g_assert_cmpuint(config.pipeline_max, ==, 77);
        tree_done(&tree);

        /* Neither a folder nor a pipe is a file; a dangling link is no file. */
        tree = tree_new();
        g_free(tree_path(&tree, "/etc/objmapper/objmapper.conf/x"));
        tree_link(&tree, "/etc/objmapper/objmapper.conf.d/1.conf", "nowhere");
        {
                g_autofree char *path = tree_path(&tree, "/etc/objmapper/objmapper.conf.d/2.conf");

                g_assert_cmpint(mkfifo(path, 0644), ==, 0);
        }
        assert_errno(tree_load(&tree, &config), -EINVAL);
        g_assert_cmpstr(tree.messages->str, ==,
                        "E /etc/objmapper/objmapper.conf: Can't read: not a regular file.\n"
                        "E /etc/objmapper/objmapper.conf.d/2.conf: Can't read: not a regular file.\n");
        tree_done(&tree);

        tree = tree_new();
        tree_write(&tree, "/etc/objmapper/objmapper.conf.d", "");
        tree_link(&tree, "/etc/objmapper/objmapper.conf", "objmapper.conf");
        assert_errno(tree_load(&tree, &config), -ELOOP);
        g_assert_cmpstr(tree.messages->str, ==,
                        "E /etc/objmapper/objmapper.conf: Can't open: Too many levels of symbolic links.\n"
                        "E /etc/objmapper/objmapper.conf.d: Can't open: Not a directory.\n");
        tree_done(&tree);
}

static void test_one_file(void) {
        struct tree tree = tree_new();
        g_autofree char *path = tree_path(&tree, "/my.conf");
        struct config_source source = { .name = "objmapper", .root = tree.root, .file = path };
        struct config config;

        tree_write(&tree, "/etc/objmapper/objmapper.conf", "[Server]\nMaxStreams=2\n");
        assert_errno(config_load(&config, &source, collect, tree.messages), -ENOENT);
        g_assert_nonnull(strstr(tree.messages->str, "/my.conf: Can't open: No such file or directory.\n"));

        tree_write(&tree, "/my.conf", "[Server]\nMaxPipeline=3\n");
        assert_ok(config_load(&config, &source, NULL, NULL));
        g_assert_cmpuint(config.streams_max, ==, 8);
        g_assert_cmpuint(config.pipeline_max, ==, 3);
        config_done(&config);

        source.file = "/dev/null";
        assert_ok(config_load(&config, &source, NULL, NULL));
        config_done(&config);
        tree_done(&tree);
}

static void test_user(void) {
        struct tree tree = tree_new();
        struct config_source source = { .name = "objmapper@one", .root = tree.root, .user = true };
        struct config config;

        tree_write(&tree, "/etc/objmapper/objmapper@one.conf", "[Server]\nMaxStreams=2\n");
        tree_write(&tree, "/h/.config/objmapper/objmapper@one.conf", "[Server]\nMaxStreams=3\n");
        tree_write(&tree, "/h/.local/share/objmapper/objmapper@one.conf.d/a.conf",
                   "[Server]\nMaxPipeline=3\n");
        tree_write(&tree, "/c/objmapper/objmapper@one.conf", "[Server]\nMaxStreams=4\n");
        tree_write(&tree, "/r/objmapper/objmapper@one.conf.d/b.conf", "[Server]\nMaxPipeline=4\n");

        g_setenv("HOME", "/h", TRUE);
        g_unsetenv("XDG_CONFIG_HOME");
        g_unsetenv("XDG_RUNTIME_DIR");
        assert_ok(config_load(&config, &source, NULL, NULL));
        g_assert_cmpuint(config.streams_max, ==, 3);
        g_assert_cmpuint(config.pipeline_max, ==, 3);
        config_done(&config);

        g_setenv("XDG_CONFIG_HOME", "/c", TRUE);
        g_setenv("XDG_RUNTIME_DIR", "/r", TRUE);
        assert_ok(config_load(&config, &source, NULL, NULL));
        g_assert_cmpuint(config.streams_max, ==, 4);
        g_assert_cmpuint(config.pipeline_max, ==, 4);
        config_done(&config);

        g_unsetenv("HOME");
        g_unsetenv("XDG_CONFIG_HOME");
        g_unsetenv("XDG_RUNTIME_DIR");
        assert_ok(config_load(&config, &source, NULL, NULL));
        g_assert_cmpuint(config.streams_max, ==, 8);
        config_done(&config);
        tree_done(&tree);
}

/* ---- namespaces ---- */

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
        harness_add("/config/defaults", test_defaults);
        harness_add("/config/syntax", test_syntax);
        harness_add("/config/continuation", test_continuation);
        harness_add("/config/last-wins", test_last_wins);
        harness_add("/config/unknown", test_unknown);
        harness_add("/config/lines-that-are-none", test_lines_that_are_none);
        harness_add("/config/bytes", test_bytes);
        harness_add("/config/sizes", test_sizes);
        harness_add("/config/amounts", test_amounts);
        harness_add("/config/words", test_words);
        harness_add("/config/times", test_times);
        harness_add("/config/levels", test_levels);
        harness_add("/config/paths", test_paths);
        harness_add("/config/no-files", test_no_files);
        harness_add("/config/folders", test_folders);
        harness_add("/config/masks", test_masks);
        harness_add("/config/bad-files", test_bad_files);
        harness_add("/config/one-file", test_one_file);
        harness_add("/config/user", test_user);
        harness_add("/config/namespaces", test_namespaces);
        harness_add("/config/namespace-limits", test_namespace_limits);
        harness_add("/config/bad-namespaces", test_bad_namespaces);
        harness_add("/config/prefixes", test_prefixes);
        harness_add("/config/bad-owners", test_bad_owners);
        harness_add("/config/whole-namespaces", test_whole_namespaces);
        harness_add("/config/resolve", test_resolve);
        harness_add("/config/compare", test_compare);
        harness_add("/config/manual", test_manual);
        harness_add("/config/manual-values", test_manual_values);
        return g_test_run();
}
