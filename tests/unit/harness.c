/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "harness.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>

unsigned harness_count_fds(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        g_assert_nonnull(dir);
        for (struct dirent *entry; (entry = readdir(dir));)
                n += entry->d_name[0] != '.';
        (void) closedir(dir);

        return n - 1; /* the folder's own */
}

static void run_counted(gconstpointer function) {
        unsigned before = harness_count_fds();

        ((void (*)(void)) function)();
        g_assert_cmpuint(harness_count_fds(), ==, before);
}

void harness_add(const char *path, void (*function)(void)) {
        g_test_add_data_func(path, (gconstpointer) function, run_counted);
}

char *harness_make_dir(void) {
        const char *below = g_getenv("OBJMAPPER_TEST_DIR");
        char *path = g_strdup_printf("%s/objmapper-test-XXXXXX", below ?: "/var/tmp");

        g_assert_nonnull(g_mkdtemp(path));
        return path;
}

static int remove_one(const char *path,
                      _unused_ const struct stat *st,
                      _unused_ int type,
                      _unused_ struct FTW *ftw) {
        return remove(path);
}

void harness_use_memory(void) {
        if (access("/dev/shm", W_OK) >= 0)
                g_setenv("OBJMAPPER_TEST_DIR", "/dev/shm", FALSE);
}

void harness_remove_dir(char *path) {
        g_assert_cmpint(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), ==, 0);
        g_free(path);
}
