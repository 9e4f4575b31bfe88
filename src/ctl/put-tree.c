/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "clock.h"
#include "ctl.h"
#include "macro.h"
#include "progress.h"
#include "report.h"
#include "tree.h"

/* Puts are durable when they are answered: with many under way, many share one commit. */
#define IN_FLIGHT_MAX 64

struct put_tree {
        struct ctl *ctl;
        const char *prefix;
        struct progress progress;
        size_t n_in_flight;
        uint64_t n_put, bytes_put, n_failed, n_links, n_special;
        int result; /* exit code: of the first failure */
        bool stop;  /* what failed would fail for all that follow */
};

/* One file under way. */
struct upload {
        struct put_tree *put;
        int fd;
        char uri[];
};

static void upload_free(struct upload *upload) {
        close_fd(upload->fd);
        free(upload);
}
DEFINE_CLEANUP(struct upload, upload_free)

static void failed(struct put_tree *put, int exit_code) {
        put->n_failed++;
        if (put->result == EXIT_DONE)
                put->result = exit_code;
}

static void file_failed(struct put_tree *put, const char *path, int error) {
        progress_clear(&put->progress);
        failed(put, report_file("can't read", path, error));
}

static void request_failed(struct put_tree *put, int error) {
        progress_clear(&put->progress);

        /* Where nobody answers, thousands more would each fail in the same way. */
        if (put->stop)
                failed(put, exit_code_of(put->ctl, error));
        else
                failed(put, report(put->ctl, error));

        if (error == -EHOSTDOWN || error == -ETIMEDOUT || error == -EPROTO)
                put->stop = true;
}

static void on_reply(objmapper_client *client _unused_, int error, objmapper_object *object, void *userdata) {
        _cleanup_(objmapper_object_freep) _unused_ objmapper_object *owned = object;
        _cleanup_(upload_freep) struct upload *upload = userdata;
        struct put_tree *put = upload->put;

        put->n_in_flight--;

        if (error < 0) {
                request_failed(put, error);
                return;
        }

        put->n_put++;
        put->bytes_put += objmapper_object_get_size(object);

        if (put->ctl->arguments.verbose) {
                progress_clear(&put->progress);
                say_put(object);
        }
}

static int put_file(struct put_tree *put, struct tree *tree, const struct tree_entry *entry) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        _cleanup_(upload_freep) struct upload *upload = NULL;
        size_t prefix_size = strlen(put->prefix), uri_size = prefix_size + entry->path_size;
        int r;

        upload = malloc(sizeof(*upload) + uri_size + 1);
        if (!upload)
                return -ENOMEM;

        *upload = (struct upload){ .put = put, .fd = -EBADF };
        memcpy(upload->uri, put->prefix, prefix_size);
        memcpy(upload->uri + prefix_size, entry->path, entry->path_size + 1);

        if (uri_size > OBJMAPPER_URI_MAX) {
                progress_clear(&put->progress);
                complain("can't put: its URI would have %zu bytes, at most %i are possible: '%s'", uri_size,
                         OBJMAPPER_URI_MAX, upload->uri);
                failed(put, EXIT_FAILED);
                return 0;
        }

        r = upload->fd = tree_open_file(tree);
        if (r >= 0)
                r = objmapper_request_new(&request, OBJMAPPER_PUT, upload->uri, uri_size);
        if (r >= 0)
                r = request_add_put_options(request, &put->ctl->arguments);
        if (r >= 0)
                r = objmapper_request_set_body_fd(request, upload->fd, OBJMAPPER_TO_END);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                file_failed(put, entry->path, r);
                return 0;
        }

        r = objmapper_client_submit(put->ctl->client, request, on_reply, upload);
        if (r < 0) {
                request_failed(put, r);
                if (r == -EACCES) /* the socket's word, not the daemon's: it holds for all */
                        put->stop = true;
                return 0;
        }

        TAKE_PTR(upload); /* the answer's */
        put->n_in_flight++;
        return 0;
}

static int put_entry(struct put_tree *put, struct tree *tree, const struct tree_entry *entry) {
        switch (entry->kind) {
        case TREE_FILE:
                return put_file(put, tree, entry);
        case TREE_LINK:
                put->n_links++;
                break;
        case TREE_SPECIAL:
                put->n_special++;
                break;
        case TREE_ERROR:
                file_failed(put, *entry->path ? entry->path : put->ctl->arguments.operands[0], entry->error);
                break;
        }

        return 0;
}

static int put_all(struct put_tree *put, struct tree *tree) {
        bool more = true;
        int r;

        while (more || put->n_in_flight > 0) {
                while (more && put->n_in_flight < IN_FLIGHT_MAX) {
                        struct tree_entry entry;

                        r = put->stop ? 0 : tree_next(tree, &entry);
                        if (r > 0)
                                r = put_entry(put, tree, &entry);
                        else if (r == 0)
                                more = false;
                        if (r < 0)
                                return r;
                }

                if (put->n_in_flight > 0) {
                        r = objmapper_client_wait(put->ctl->client, USEC_PER_SEC);
                        if (r < 0)
                                return r;
                }

                progress_draw(&put->progress, put->n_put + put->n_failed, put->bytes_put);
        }

        return 0;
}

/* What a bar needs to know before the first byte is sent. */
static int count_files(const char *path, struct progress *progress) {
        _cleanup_(tree_freep) struct tree *tree = NULL;
        struct tree_entry entry;
        int r;

        r = tree_new(path, &tree);
        if (r < 0)
                return r;

        while ((r = tree_next(tree, &entry)) > 0)
                if (entry.kind == TREE_FILE) {
                        progress->total++;
                        progress->total_bytes += (uint64_t) entry.st.st_size;
                }

        return r;
}

/* A deep tree needs a descriptor for each level, and files under way one each. */
static void raise_descriptor_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) >= 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &limit);
        }
}

int put_tree(struct ctl *ctl) {
        const char *path = ctl->arguments.operands[0];
        _cleanup_(tree_freep) struct tree *tree = NULL;
        struct put_tree put = {
                .ctl = ctl,
                .prefix = ctl->arguments.operands[1],
                .progress.enabled = progress_wanted(),
        };
        int r;

        raise_descriptor_limit();

        r = tree_new(path, &tree);
        if (r >= 0 && put.progress.enabled)
                r = count_files(path, &put.progress);
        if (r < 0)
                return report_file("can't read", path, r);

        r = put_all(&put, tree);
        progress_clear(&put.progress);
        if (r < 0)
                return report_file("can't put what is below", path, r);

        if (put.stop)
                complain("stopped there: what follows would fail likewise");

        printf("%" PRIu64 " objects put, %" PRIu64 " bytes; skipped %" PRIu64 " links, %" PRIu64
               " special files; %" PRIu64 " failed\n",
               put.n_put, put.bytes_put, put.n_links, put.n_special, put.n_failed);
        return put.result;
}
