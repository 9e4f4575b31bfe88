/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How bodies reach a client: one file for each mode. All on the worker's thread. */

#include <stdbool.h>
#include <stdint.h>

#include "output.h"
#include "protocol.h"
#include "storage.h"

/* Bytes of a file that are looked at, or read by a job, at once: what takes longer keeps a processor from others. And
 * those on their way from the disk, that one included. */
#define WARM_WINDOW ((uint64_t) 256 << 10)
#define WARM_AHEAD  ((uint64_t) 1 << 20)

/* A get that is to be answered: found, permitted, its range checked. */
struct delivery {
        struct session *session;
        struct proto_bytes uri;
        struct proto_message *reply;   /* all fields set; mode and body_size are the delivery's to set */
        struct storage_object *object; /* its descriptor may be taken */
        uint64_t offset, size;         /* of the body, what is asked for */
};

/* The answer with the descriptor of the whole body's file. */
void deliver_fdpass(struct delivery *delivery);

/* The same of a get that asked for nothing else, without a detour. */
void deliver_fdpass_whole(struct session *session, uint64_t id, struct storage_object *object);

/* The answer with the bytes on the socket, for the client's memory: of a body in memory, or of its file. */
void deliver_copy(struct delivery *delivery);

/* The same, for a client who has them moved on by the kernel. */
void deliver_splice(struct delivery *delivery);

/* Small bodies by copy, others by descriptor. */
void deliver_auto(struct delivery *delivery);

/* The answer with the bytes of its file, which is open. */
void deliver_file(struct delivery *delivery, enum timed timed);

/* For the output: sends a piece of the item's file, of max bytes or a page at most. Returns the bytes sent; 0: it waits,
 * session->output_wait says for what; or the error that ends the session. */
ssize_t deliver_file_send(struct session *session, struct output_item *item, uint64_t max);
