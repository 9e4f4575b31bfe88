/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Objects as a backend's responses. Varnish's headers come before this. */

#include "store.h"

struct reply;

/* Makes the backend's response of the object, which it takes from the task. 0; -1: logged. */
int response_begin(VRT_CTX, struct vmod_objmapper_store *store, struct task *task);
/* The same for a request that has no object (404) or a method that reads nothing (405). */
int response_begin_without_object(VRT_CTX, unsigned status, const char *reason);
void response_finish(VRT_CTX);

/* Bytes of its body. */
uint64_t response_get_size(const struct reply *reply);
/* A copy that comes back from objmapper lives on as long as when it was stored, whatever the VCL makes of responses. */
void response_keep_times(const struct reply *reply, struct objcore *oc);
/* The response's whole body as a mapping, of which the caller becomes the owner, where nothing on its way changes it: it
 * is then to be the room that Varnish asks for. NULL: it is to be copied. */
const void *response_map(struct reply *reply, struct vfp_ctx *vfc, size_t *ret_size);
