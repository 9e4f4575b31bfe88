/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where the configuration is read from: files and folders, what masks what, and what is wrong with one. */

#include <string.h>
#include <sys/stat.h>

#include "config-harness.h"
#include "harness.h"

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
        assert_errno(config_load(&config, &source, config_collect, tree.messages), -ENOENT);
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

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/config/no-files", test_no_files);
        harness_add("/config/folders", test_folders);
        harness_add("/config/masks", test_masks);
        harness_add("/config/bad-files", test_bad_files);
        harness_add("/config/one-file", test_one_file);
        harness_add("/config/user", test_user);
        return g_test_run();
}
