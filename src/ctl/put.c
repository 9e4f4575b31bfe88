/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl.h"
#include "print.h"
#include "report.h"
#include "stand-in.h"

int request_add_pairs(objmapper_request *request, const char *const *pairs, size_t n_pairs) {
        for (size_t i = 0; i < n_pairs; i++) {
                const char *value = strchr(pairs[i], '=') + 1;
                _cleanup_free_ char *key = NULL;
                int r;

                key = strndup(pairs[i], (size_t) (value - 1 - pairs[i]));
                if (!key)
                        return -ENOMEM;

                r = objmapper_request_add_metadata(request, key, value, strlen(value));
                if (r < 0)
                        return r;
        }

        return 0;
}

int request_add_put_options(objmapper_request *request, const struct arguments *a) {
        int r;

        r = request_add_pairs(request, a->metadata, a->n_metadata);
        if (r >= 0 && a->if_absent)
                r = objmapper_request_set_if_absent(request, true);
        if (r >= 0 && a->if_generation_set)
                r = objmapper_request_set_if_generation(request, a->if_generation);
        if (r >= 0 && a->ttl_msec > 0)
                r = objmapper_request_set_ttl(request, a->ttl_msec);
        if (r >= 0)
                r = objmapper_request_set_durability(request, a->durability);

        return r;
}

void say_object(objmapper_object *object) {
        const char *uri;
        size_t size;

        uri = objmapper_object_get_uri(object, &size);
        fputc('\'', stderr);
        print_escaped(stderr, uri, size);
        fprintf(stderr, "': %" PRIu64 " bytes, etag %s\n", objmapper_object_get_size(object),
                objmapper_object_get_etag(object));
}

int verb_put(struct ctl *ctl) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
        const struct arguments *a = &ctl->arguments;
        _cleanup_close_ int opened = -EBADF;
        const char *uri, *path;
        int fd = STDIN_FILENO, r;
        struct stat st;

        if (a->recursive)
                return put_tree(ctl);

        uri = a->operands[0];
        path = a->n_operands > 1 && strcmp(a->operands[1], "-") != 0 ? a->operands[1] : NULL;
        if (path) {
                opened = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
                if (opened < 0)
                        return report_file("can't read", path, -errno);
                fd = opened;
        }

        if (fstat(fd, &st) < 0)
                return report_file(path ? "can't read" : "can't read standard input", path, -errno);
        if (S_ISDIR(st.st_mode)) {
                complain("that is a folder: put --recursive DIR PREFIX stores what is below it");
                return EXIT_USAGE;
        }

        r = objmapper_request_new(&request, OBJMAPPER_PUT, uri, strlen(uri));
        if (r >= 0)
                r = request_add_put_options(request, a);
        if (r >= 0)
                r = objmapper_request_set_body_fd(request, fd, OBJMAPPER_TO_END);
        if (r < 0)
                return report_file("can't put", uri, r);

        r = objmapper_client_call(ctl->client, request, &object);
        if (stand_in_is_wanted(ctl, r))
                return stand_in_put(ctl, uri, fd);
        if (r < 0)
                return report(ctl, r);

        if (a->verbose)
                say_object(object);

        return EXIT_DONE;
}
