/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "output-file.h"
#include "parse.h"
#include "print.h"
#include "report.h"

/* Errors of writing the body to where it should go, which are not the daemon's. */
static bool is_output_error(int error) {
        return error == -EPIPE || error == -ENOSPC || error == -EDQUOT || error == -EFBIG || error == -EIO ||
               error == -EBADF;
}

static void say_how(const char *uri, objmapper_object *object) {
        fprintf(stderr, "'");
        print_escaped(stderr, uri, strlen(uri));
        fprintf(stderr, "': %" PRIu64 " of %" PRIu64 " bytes, %s, etag %s\n",
                objmapper_object_get_body_size(object), objmapper_object_get_size(object),
                mode_name(objmapper_object_get_mode(object)), objmapper_object_get_etag(object));
}

/* The last N bytes need the size first. */
static int resolve_range(struct ctl *ctl, const char *uri, struct range *range, uint64_t *ret_generation) {
        _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
        uint64_t size;
        int r;

        r = objmapper_stat(ctl->client, uri, &object);
        if (r < 0)
                return r;

        size = objmapper_object_get_size(object);
        range->offset = size > range->size ? size - range->size : 0;
        range->size = OBJMAPPER_TO_END;
        *ret_generation = objmapper_object_get_generation(object);
        return 0;
}

int verb_get(struct ctl *ctl) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
        _cleanup_(output_file_freep) struct output_file *file = NULL;
        const struct arguments *a = &ctl->arguments;
        const char *uri = a->operands[0];
        struct range range = a->range;
        uint64_t generation = 0;
        int r;

        if (range.from_end) {
                r = resolve_range(ctl, uri, &range, &generation);
                if (r < 0)
                        return report(ctl, r);
        }

        r = objmapper_request_new(&request, OBJMAPPER_GET, uri, strlen(uri));
        if (r >= 0 && a->mode != 0)
                r = objmapper_request_set_mode(request, (enum objmapper_mode) a->mode);
        if (r >= 0 && range.set)
                r = objmapper_request_set_range(request, range.offset, range.size);
        if (r < 0)
                return report_file("can't get", uri, r);

        if (a->output) {
                r = output_file_new(a->output, &file);
                if (r < 0)
                        return report_file("can't write", a->output, r);
        }

        r = objmapper_request_set_output(request, file ? output_file_get_fd(file) : STDOUT_FILENO);
        if (r < 0)
                return report_file("can't get", uri, r);

        r = objmapper_client_call(ctl->client, request, &object);
        if (is_output_error(r)) {
                if (r == -EPIPE)
                        die_of_broken_pipe();
                return report_file(a->output ? "can't write" : "can't write standard output", a->output, r);
        }
        if (r < 0)
                return report(ctl, r);

        if (generation != 0 && objmapper_object_get_generation(object) != generation) {
                complain("the object was replaced meanwhile, so these may not be its last bytes: ask again");
                return EXIT_BUSY;
        }

        if (file) {
                r = output_file_commit(file);
                if (r < 0)
                        return report_file("can't write", a->output, r);
        }

        if (a->verbose)
                say_how(uri, object);

        return EXIT_DONE;
}
