/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The text of the configuration: its lines, and the values of settings. */

#include <string.h>
#include <syslog.h>

#include "config-harness.h"
#include "harness.h"
#include "macro.h"
#include "value.h"

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
        return g_test_run();
}
