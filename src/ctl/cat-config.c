/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "ctl.h"
#include "report.h"

static void close_file(FILE **file) {
        if (*file)
                (void) fclose(*file);
}

/* One that can't be read is told of, and the others are shown all the same. */
static int show_file(const char *path, void *userdata) {
        _cleanup_(close_file) FILE *file = fopen(path, "re");
        int *exit_code = userdata;
        char last = '\n', buffer[4096];
        size_t n;

        printf("# %s\n", path);
        while (file && (n = fread(buffer, 1, sizeof(buffer), file)) > 0) {
                (void) fwrite(buffer, 1, n, stdout);
                last = buffer[n - 1];
        }
        if (!file || ferror(file)) {
                complain("can't read %s: %s", path, strerror(errno));
                *exit_code = EXIT_FAILED;
        }

        (void) fputs(last == '\n' ? "\n" : "\n\n", stdout);
        return 0;
}

int verb_cat_config(struct ctl *ctl) {
        _cleanup_free_ char *name = NULL;
        int exit_code = EXIT_DONE, r;

        if (asprintf(&name, "objmapper%s%s", ctl->arguments.instance ? "@" : "",
                     ctl->arguments.instance ?: "") < 0) {
                name = NULL;
                r = -ENOMEM;
        } else
                r = config_visit_files(&(struct config_source){ .name = name, .user = ctl->arguments.user },
                                       show_file, &exit_code);
        if (r < 0) {
                complain("can't look for the configuration: %s", strerror(-r));
                return EXIT_FAILED;
        }

        return exit_code;
}
