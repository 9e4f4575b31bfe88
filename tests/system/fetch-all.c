/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fetch-all MODE PREFIX DIR: gets PREFIX + path for each regular file below DIR, 64 requests in flight, and
 * compares every body with its file. Tells how many there were, and how they came. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cleanup.h"
#include "objmapper.h"

#define DEPTH 64

static const char *const mode_names[] = {
        [OBJMAPPER_FDPASS] = "fdpass",
        [OBJMAPPER_COPY] = "copy",
        [OBJMAPPER_SPLICE] = "splice",
        [OBJMAPPER_AUTO] = "auto",
};

static unsigned n_same, n_different, n_by_mode[OBJMAPPER_AUTO + 1];

static int has_bytes_of(objmapper_object *object, const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        const void *data;
        void *wanted;
        size_t size;
        int r;

        if (fd < 0)
                return -errno;
        r = objmapper_object_get_data(object, &data, &size);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_END) != (off_t) size)
                return 0;
        if (size == 0)
                return 1;
        wanted = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (wanted == MAP_FAILED)
                return -errno;
        r = memcmp(data, wanted, size) == 0;
        (void) munmap(wanted, size);

        return r;
}

static void compare(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        _cleanup_free_ char *path = userdata;
        int r = error < 0 ? error : has_bytes_of(object, path);

        if (r > 0) {
                n_same++;
                n_by_mode[objmapper_object_get_mode(object)]++;
        } else {
                n_different++;
                fprintf(stderr, "%s: %s\n", path,
                        error < 0 ? objmapper_client_error(client)
                        : r < 0   ? strerror(-r)
                                  : "other bytes");
        }
        objmapper_object_free(object);
}

static int fetch(objmapper_client *client, enum objmapper_mode mode, const char *prefix, const FTSENT *file) {
        _cleanup_free_ char *uri = NULL, *path = strdup(file->fts_accpath);
        objmapper_request *request = NULL;
        int r;

        if (!path || asprintf(&uri, "%s%s", prefix, file->fts_path + strlen("./")) < 0)
                return -ENOMEM;
        r = objmapper_request_new(&request, OBJMAPPER_GET, uri, strlen(uri));
        if (r >= 0)
                r = objmapper_request_set_mode(request, mode);
        if (r >= 0)
                r = objmapper_client_submit(client, request, compare, path);
        objmapper_request_free(request);
        if (r < 0)
                return r;
        path = NULL; /* compare() frees it */
        while (objmapper_client_get_pending(client) >= DEPTH) {
                r = objmapper_client_wait(client, UINT64_MAX);
                if (r < 0)
                        return r;
        }

        return 0;
}

static enum objmapper_mode parse_mode(const char *name) {
        for (int mode = OBJMAPPER_FDPASS; mode <= OBJMAPPER_AUTO; mode++)
                if (strcmp(mode_names[mode], name) == 0)
                        return mode;
        errx(2, "no mode %s", name);
}

int main(int argc, char *argv[]) {
        objmapper_client *client;
        enum objmapper_mode mode;
        FTS *tree;
        int r;

        if (argc != 4)
                errx(2, "usage: %s MODE PREFIX DIR", argv[0]);
        mode = parse_mode(argv[1]);
        if (chdir(argv[3]) < 0)
                err(1, "%s", argv[3]);
        r = objmapper_client_new(&client);
        if (r < 0)
                errx(1, "%s", strerror(-r));

        tree = fts_open((char *[]){ (char *) ".", NULL }, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        for (FTSENT *entry; (entry = fts_read(tree));)
                if (entry->fts_info == FTS_F) {
                        r = fetch(client, mode, argv[2], entry);
                        if (r < 0)
                                errx(1, "%s: %s", entry->fts_path, objmapper_client_error(client));
                }
        while (objmapper_client_get_pending(client) > 0)
                if (objmapper_client_wait(client, UINT64_MAX) < 0)
                        errx(1, "%s", objmapper_client_error(client));
        (void) fts_close(tree);
        objmapper_client_close(client);

        printf("%u same, %u different", n_same, n_different);
        for (mode = OBJMAPPER_FDPASS; mode < OBJMAPPER_AUTO; mode++)
                printf(", %s %u", mode_names[mode], n_by_mode[mode]);
        printf("\n");

        return n_different > 0;
}
