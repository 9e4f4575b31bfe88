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

/* The answer with the bytes through user space: of a body in memory, or of its file. */
void deliver_copy(struct delivery *delivery);

/* The answer with the file's bytes moved by the kernel. */
void deliver_splice(struct delivery *delivery);

/* Small bodies by copy, others by descriptor. */
void deliver_auto(struct delivery *delivery);

/* For the output: bytes of the item's file, at most max, to send behind what is in memory. Returns how many
 * are in *ret; 0: it waits, session->output_wait says for what; or the error that ends the session. */
ssize_t deliver_copy_fill(struct session *session, struct output_item *item, size_t max, struct iovec *ret);

/* For the output: sends of the item's file. Returns the bytes sent, or as above. */
ssize_t deliver_splice_send(struct session *session, struct output_item *item);

/* Large bodies go out in few turns when the socket takes much at once. */
void deliver_raise_buffer(struct session *session);
