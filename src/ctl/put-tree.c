/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "bulk.h"
#include "macro.h"
#include "report.h"
#include "tree.h"

struct put_tree {
        struct bulk bulk;
        const char *prefix;
        uint64_t n_links, n_special;
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

static void file_failed(struct put_tree *put, const char *path, int error) {
        bulk_file_failed(&put->bulk, "can't read", path, error);
}

static void on_reply(objmapper_client *client _unused_, int error, objmapper_object *object, void *userdata) {
        _cleanup_(objmapper_object_freep) _unused_ objmapper_object *owned = object;
        _cleanup_(upload_freep) struct upload *upload = userdata;
        struct bulk *bulk = &upload->put->bulk;

        if (error < 0)
                bulk_request_failed(bulk, error);
        else
                bulk_done(bulk, object);
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
                progress_clear(&put->bulk.progress);
                complain("can't put: its URI would have %zu bytes, at most %i are possible: '%s'", uri_size,
                         OBJMAPPER_URI_MAX, upload->uri);
                bulk_failed(&put->bulk, EXIT_FAILED);
                return 0;
        }

        r = upload->fd = tree_open_file(tree);
        if (r >= 0)
                r = objmapper_request_new(&request, OBJMAPPER_PUT, upload->uri, uri_size);
        if (r >= 0)
                r = request_add_put_options(request, &put->bulk.ctl->arguments);
        if (r >= 0)
                r = objmapper_request_set_body_fd(request, upload->fd, OBJMAPPER_TO_END);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                file_failed(put, entry->path, r);
                return 0;
        }

        if (bulk_submit(&put->bulk, request, on_reply, upload) >= 0)
                TAKE_PTR(upload); /* the answer's */

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
                file_failed(put, *entry->path ? entry->path : put->bulk.ctl->arguments.operands[0],
                            entry->error);
                break;
        }

        return 0;
}

static int put_all(struct put_tree *put, struct tree *tree) {
        struct bulk *bulk = &put->bulk;
        struct tree_entry entry;
        size_t n;
        int r;

        while (!bulk->stop && (r = tree_next(tree, &entry)) != 0) {
                if (r > 0)
                        r = put_entry(put, tree, &entry);
                if (r >= 0)
                        r = bulk_wait(bulk, BULK_IN_FLIGHT_MAX - 1);
                if (r < 0)
                        return r;

                bulk_draw(bulk);
        }

        while ((n = objmapper_client_get_pending(bulk->ctl->client)) > 0) {
                r = bulk_wait(bulk, n - 1);
                if (r < 0)
                        return r;

                bulk_draw(bulk);
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
                .bulk = { .ctl = ctl, .progress.enabled = progress_wanted() },
                .prefix = ctl->arguments.operands[1],
        };
        int r;

        raise_descriptor_limit();

        r = tree_new(path, &tree);
        if (r >= 0 && put.bulk.progress.enabled)
                r = count_files(path, &put.bulk.progress);
        if (r < 0)
                return report_file("can't read", path, r);

        r = put_all(&put, tree);
        progress_clear(&put.bulk.progress);
        if (r < 0)
                return report_file("can't put what is below", path, r);

        if (put.bulk.stop)
                complain("stopped there: what follows would fail likewise");

        printf("%" PRIu64 " objects put, %" PRIu64 " bytes; skipped %" PRIu64 " links, %" PRIu64
               " special files; %" PRIu64 " failed\n",
               put.bulk.n_done, put.bulk.bytes_done, put.n_links, put.n_special, put.bulk.n_failed);
        return put.bulk.result;
}
