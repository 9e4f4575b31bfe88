/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Gives a fuzz target the files that are named, and those in the folders that are: replay-TARGET PATH... */

#include <dirent.h>
#include <string.h>

#include "cleanup.h"
#include "fuzz.h"

static unsigned replay(const char *path) {
        FILE *file = fopen(path, "re");
        uint8_t *data = NULL;
        size_t size = 0, n;

        if (!file) {
                perror(path);
                exit(EXIT_FAILURE);
        }
        do { /* exactly as large as it is, so that a sanitizer sees a read beyond it */
                data = realloc(data, size + 4096);
                CHECK(data);
                n = fread(data + size, 1, 4096, file);
                size += n;
        } while (n > 0);
        data = realloc(data, size + (size == 0));
        CHECK(data);
        (void) fclose(file);

        (void) LLVMFuzzerTestOneInput(data, size);
        free(data);
        return 1;
}

static unsigned replay_folder(const char *path, DIR *folder) {
        unsigned n = 0;

        for (struct dirent *entry; (entry = readdir(folder));) {
                _cleanup_free_ char *name = NULL;

                if (entry->d_name[0] == '.')
                        continue;
                CHECK(asprintf(&name, "%s/%s", path, entry->d_name) > 0);
                n += replay(name);
        }

        (void) closedir(folder);
        return n;
}

int main(int argc, char **argv) {
        unsigned n = 0;

        for (int i = 1; i < argc; i++) {
                DIR *folder = opendir(argv[i]);

                n += folder ? replay_folder(argv[i], folder) : replay(argv[i]);
        }

        printf("%u inputs\n", n);
        return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
