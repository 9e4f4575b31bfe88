/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bulk.h"

#include <errno.h>

#include "clock.h"
#include "report.h"

void bulk_failed(struct bulk *bulk, int exit_code) {
        bulk->n_failed++;
        if (bulk->result == EXIT_DONE)
                bulk->result = exit_code;
}

void bulk_file_failed(struct bulk *bulk, const char *action, const char *path, int error) {
        progress_clear(&bulk->progress);
        bulk_failed(bulk, report_file(action, path, error));
}

void bulk_request_failed(struct bulk *bulk, int error) {
        progress_clear(&bulk->progress);

        /* Where nobody answers, thousands more would each fail in the same way. */
        if (bulk->stop)
                bulk_failed(bulk, exit_code_of(bulk->ctl, error));
        else
                bulk_failed(bulk, report(bulk->ctl, error));

        if (error == -EHOSTDOWN || error == -ETIMEDOUT || error == -EPROTO)
                bulk->stop = true;
}

void bulk_done(struct bulk *bulk, objmapper_object *object) {
        bulk->n_done++;
        bulk->bytes_done += objmapper_object_get_size(object);

        if (bulk->ctl->arguments.verbose) {
                progress_clear(&bulk->progress);
                say_object(object);
        }
}

void bulk_draw(struct bulk *bulk) {
        progress_draw(&bulk->progress, bulk->n_done + bulk->n_failed, bulk->bytes_done);
}

int bulk_submit(struct bulk *bulk, objmapper_request *request, objmapper_reply_fn reply, void *userdata) {
        int r;

        r = objmapper_client_submit(bulk->ctl->client, request, reply, userdata);
        if (r < 0) {
                bulk_request_failed(bulk, r);
                if (r == -EACCES) /* the socket's word, not the daemon's: it holds for all */
                        bulk->stop = true;
        }

        return r;
}

int bulk_wait(struct bulk *bulk, size_t n) {
        while (objmapper_client_get_pending(bulk->ctl->client) > n) {
                int r = objmapper_client_wait(bulk->ctl->client, USEC_PER_SEC);

                if (r < 0)
                        return r;
        }

        return 0;
}
