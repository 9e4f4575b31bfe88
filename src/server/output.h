/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What waits to be sent in a session: replies' heads and small bodies in chunks of memory, descriptors with
 * the head they belong to, and bodies that are delivered from their file. Small things that follow each other
 * go out in one sendmsg(), with up to 253 descriptors.
 *
 * The worker's thread only. An output_add_*() that fails for lack of memory breaks the session, which is then
 * dropped: an answer can't be left out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "counters.h"
#include "fdpass.h"
#include "protocol.h"
#include "session.h"

struct worker;

#define OUTPUT_CHUNK_SIZE (((size_t) 80 << 10) - 64) /* more than any head */

struct output_chunk {
        struct output_chunk *next;
        size_t size; /* bytes used */
        uint8_t data[OUTPUT_CHUNK_SIZE];
};

/* size bytes of a body's file from offset on. */
struct output_file {
        int fd;
        uint64_t offset, size;
        uint64_t warm;       /* reading up to this offset need not block */
        uint64_t copy;       /* as of struct storage_object */
        uint64_t generation; /* of the object; 0: not known */
};

enum output_kind {
        OUTPUT_BYTES, /* in a chunk */
        OUTPUT_BLOCK, /* in memory of its own */
        OUTPUT_FILE,  /* from a file */
};

struct output_item {
        uint8_t kind;
        uint8_t n_replies;   /* that are sent when this is */
        uint8_t timed;       /* as what they are timed: enum timed */
        int fd;              /* OUTPUT_BYTES: goes with the head at p, or -EBADF. Of a file: the file */
        uint64_t size;       /* bytes to send */
        uint64_t asked_usec; /* CLOCK_MONOTONIC: when they were asked for */
        union {
                struct {
                        uint8_t *p;
                        struct output_chunk *chunk;
                };
                struct {
                        uint8_t *position;
                        void *block;
                };
                struct {
                        uint64_t offset;
                        uint64_t warm; /* reading up to this offset need not block */
                        uint64_t copy; /* as of struct output_file, as the next */
                        uint64_t generation;
                        uint32_t piece; /* bytes that are moved at once */
                        bool is_whole;  /* it began at 0 */
                        bool is_recent; /* all of it was sent a moment ago */
                        bool is_read;   /* it can't be spliced */
                };
        };
};

struct output {
        struct output *next_free;
        struct worker *worker;
        struct output_chunk *first, *last;
        struct output_item *items;                 /* a ring */
        uint32_t items_first, n_items, items_size; /* items_size: a power of two */
        uint32_t n_replies;
        uint32_t n_fds;   /* descriptors that go with a head */
        uint32_t n_files; /* those, and bodies' files: all are open */
        bool begun;       /* the first item is sent in part: what is left may begin inside a body */
        uint64_t size;    /* bytes in memory */
};

void output_free(struct output *output);

/* Replies queued and not sent; bytes of memory they take; files they hold open, and those of them that are
 * bodies to be sent. */
static inline uint32_t output_n_replies(const struct session *session) {
        return session->output ? session->output->n_replies : 0;
}
static inline uint64_t output_size(const struct session *session) {
        return session->output ? session->output->size : 0;
}
static inline uint32_t output_n_files(const struct session *session) {
        return session->output ? session->output->n_files : 0;
}
static inline uint32_t output_n_bodies(const struct session *session) {
        return session->output ? session->output->n_files - session->output->n_fds : 0;
}

/* Room for size bytes (at most OUTPUT_CHUNK_SIZE) in one piece, to be filled and given to output_commit().
 * NULL: no memory, the session is broken. */
uint8_t *output_reserve(struct session *session, size_t size);
/* Bytes that there is room for where it was reserved. */
static inline size_t output_room(const struct session *session) {
        return OUTPUT_CHUNK_SIZE - session->output->last->size;
}
/* size bytes at p, which was reserved, are a reply, or its beginning. fd (-EBADF: none) goes with its first
 * byte, and is the output's. timed: as what it is timed. n_replies: that end with these bytes, at most
 * OUTPUT_REPLIES_MAX; 0: a body from a file follows. */
#define OUTPUT_REPLIES_MAX UINT8_MAX
void output_commit(struct session *session,
                   uint8_t *p,
                   size_t size,
                   int fd,
                   enum timed timed,
                   unsigned n_replies);

/* A reply without a body; a get's with size bytes that are copied; one with a block from malloc() that becomes the
 * output's; a get's with a descriptor that becomes the output's. The reply's body_size is set here. */
void output_add(struct session *session, struct proto_message *reply);
void output_add_data(struct session *session, struct proto_message *reply, const void *data, size_t size);
void output_add_block(struct session *session, struct proto_message *reply, void *block, size_t size);
void output_add_fd(struct session *session, struct proto_message *reply, int fd);

/* The body of the reply that was committed with more. file->fd becomes the output's. And the same together with the
 * reply. */
void output_add_file(struct session *session, enum timed timed, const struct output_file *file);
void output_add_file_reply(struct session *session,
                           struct proto_message *reply,
                           enum timed timed,
                           const struct output_file *file);

/* Sends what can be sent, of worker->may_send bytes and a piece of a body at most; sets session->output_wait
 * when something is left. Returns 1: the turn's share is used up; 0: all is sent, or it waits; or the error that
 * ends the session. */
int output_flush(struct session *session);

/* The first body from a file that waits; NULL: none. */
struct output_item *output_first_file(struct session *session);

/* Closes and frees everything that waits. */
void output_discard(struct session *session);
