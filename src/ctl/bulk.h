/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What verbs about many objects have in common: many requests are under way, one that fails is told and
 * counted, and the others go on. */

#include "ctl.h"
#include "progress.h"

/* Puts are durable when they are answered: with many under way, many share one commit. */
#define BULK_IN_FLIGHT_MAX 64

struct bulk {
        struct ctl *ctl;
        struct progress progress;
        uint64_t n_done, bytes_done, n_failed;
        int result; /* exit code: of the first failure */
        bool stop;  /* what failed would fail for all that follow */
};

/* One failed, and that was told. */
void bulk_failed(struct bulk *bulk, int exit_code);
/* The same; tells first that a file of this machine failed, as report_file(). */
void bulk_file_failed(struct bulk *bulk, const char *action, const char *path, int error);
/* The same, of what was asked of the daemon: where that holds for all that follow, it is told once. */
void bulk_request_failed(struct bulk *bulk, int error);
/* One is done. */
void bulk_done(struct bulk *bulk, objmapper_object *object);

/* Draws the progress, by the objects' bytes. */
void bulk_draw(struct bulk *bulk);

/* Submits. 0, or an error, told and counted already: reply is not called then. */
int bulk_submit(struct bulk *bulk, objmapper_request *request, objmapper_reply_fn reply, void *userdata);
/* Waits until at most n are under way. 0, or what objmapper_client_wait() says. */
int bulk_wait(struct bulk *bulk, size_t n);
