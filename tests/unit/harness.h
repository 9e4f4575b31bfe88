/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "cleanup.h"

/* Adds a g_test case that also fails when it leaves a descriptor open that was not open before. */
void harness_add(const char *path, void (*function)(void));

/* A new folder on a real file system below $OBJMAPPER_TEST_DIR or /var/tmp; free with harness_remove_dir().
 */
char *harness_make_dir(void);
/* Has new folders made in memory, where the disk is not what is tested; not when OBJMAPPER_TEST_DIR= says
 * where. */
void harness_use_memory(void);
/* Removes the folder and all below it, and frees the name. */
void harness_remove_dir(char *path);

/* Descriptors that this process has open. */
unsigned harness_count_fds(void);

/* g_assert that an int result is the wanted errno, with both in words. */
#define assert_errno(result, wanted)                                                                       \
        do {                                                                                               \
                int _result = (result), _wanted = (wanted);                                                \
                if (_result != _wanted)                                                                    \
                        g_error("%s:%d: %s is %d (%s), not %d (%s)", __FILE__, __LINE__, #result, _result, \
                                _result < 0 ? g_strerror(-_result) : "no error", _wanted,                  \
                                _wanted < 0 ? g_strerror(-_wanted) : "no error");                          \
        } while (FALSE)
#define assert_ok(result) assert_errno((result), 0)
