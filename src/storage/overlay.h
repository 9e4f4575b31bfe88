/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Puts that were acknowledged before their commit: gets find them here until the dictionary has them. The
 * writer adds and drops; any thread looks things up, and before it begins to read from anything that is
 * older: what is not here any more is there by then. And once more after that: what has come here since is what
 * others may have found before something newer that was read there. */

#include "record.h"
#include "upload.h"

struct overlay;

/* The store's own copy of a put, the memory that record points at included. */
struct overlay_put {
        struct storage_change change; /* as it is committed */
        struct storage_upload upload;
        struct record record;
        uint64_t hash;            /* private */
        struct overlay_put *next; /* private */
        uint8_t data[];           /* URI, metadata, body when it is not in a file */
};

int overlay_new(struct overlay **ret);
void overlay_free(struct overlay *overlay);
DEFINE_CLEANUP(struct overlay, overlay_free)

/* Copies a put whose info and blob are known, and takes the body's file from its upload. -ENOMEM. */
int overlay_put_new(struct overlay_put **ret, const struct storage_change *change);
void overlay_put_free(struct overlay_put *put);
struct overlay_put *overlay_put_of(struct storage_change *change);

/* From now on put is what a lookup of its URI finds. */
void overlay_add(struct overlay *overlay, struct overlay_put *put);
void overlay_drop(struct overlay *overlay, struct overlay_put *put);

/* There are none: no lookup would find one. Any thread. */
bool overlay_is_empty(const struct overlay *overlay);

/* Calls visit with the newest of the URI's puts, which is valid until visit returns, and returns what it returns.
 * -ENOENT: there is none. Any thread. */
int overlay_find(struct overlay *overlay,
                 const void *uri,
                 size_t uri_size,
                 int (*visit)(const struct record *record, void *userdata),
                 void *userdata);
