/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The requests. Each request_*() takes a frame that was decoded and permitted, and answers it: at once, or by
 * a struct request that lives until its work is done. All of it on the worker's thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "counters.h"
#include "protocol.h"
#include "storage.h"

struct proto_plain_get;
struct session;
struct worker;

/* A request whose answer comes later. It outlives its session when work for it is under way. */
struct request {
        struct worker *worker;
        struct session *session; /* NULL: it is gone, nobody wants the answer */
        struct request *previous, *next;
        uint64_t id;
        uint64_t reserved;   /* bytes that it holds, or that its answer may need */
        uint64_t asked_usec; /* CLOCK_MONOTONIC: when it was taken from the socket; a put, when all of it was */
        uint16_t type;
        bool pending; /* it will be answered without anything more from the client */

        /* The session is gone (session is NULL already): give up what can be given up, free the request now
         * or when its work is done. */
        void (*orphaned)(struct request *request);
};

void request_begin(struct request *request, struct session *session, uint64_t id, uint16_t type);
/* From now on it counts against the depth, and ordered sessions wait for it. reserved: bytes of memory that it
 * holds or that its answer may need, which count as output. */
void request_set_pending(struct request *request, uint64_t reserved);
/* Its answer is given in its session, as of when it was asked for. */
void request_resume(const struct request *request);
/* Counts how long it took until now. */
void request_time(const struct request *request, enum timed timed);
/* Parts it from the session, when that is still there. Call it after the answer was given. */
void request_detach(struct request *request);
/* The same, and no work for it is under way any more: its memory is the caller's again. */
void request_end(struct request *request);

/* What goes out: a reply's head with a type, an id and a status, no fields yet. */
struct proto_message reply_message(uint16_t type, uint64_t id, uint16_t status);

static inline struct proto_info info_from(const struct storage_info *info) {
        return (struct proto_info){
                .etag = { info->etag.store_id, info->etag.generation, info->etag.metadata_version },
                .size = info->size,
                .checksum = info->checksum,
                .stored_usec = info->stored_usec,
                .expires_usec = info->expires_usec,
        };
}

void reply_set_info(struct proto_message *reply, const struct storage_info *info);
void reply_set_text(struct proto_message *reply, const char *text);

/* The status for an errno of the store, negative, and a text that goes with it. */
uint16_t status_from_error(int error);
const char *status_text(uint16_t status);

/* The answer "no": text NULL: what goes with the status. */
void request_refuse(struct session *session, uint16_t type, uint64_t id, uint16_t status, const char *text);

void request_get(struct session *session, const struct proto_message *message);
void request_stat(struct session *session, const struct proto_message *message);

/* Frames that were received, size bytes, the first of which may be begun: takes those at the beginning that are gets and
 * can be answered as request_get() would have, but without a detour, n_max at most, and of more than one no more than
 * bytes_max bytes of answers. n_max: at most OUTPUT_REPLIES_MAX. Returns how many; *ret_size: their bytes. */
unsigned request_plain_gets(struct session *session,
                            const uint8_t *p,
                            size_t size,
                            unsigned n_max,
                            uint64_t bytes_max,
                            size_t *ret_size);
/* The same for one that is not answered from memory. false: nothing was done. */
bool request_whole_get(struct session *session, const struct proto_plain_get *get);

void request_set_metadata(struct session *session, const struct proto_message *message);
void request_remove(struct session *session, const struct proto_message *message);
void request_purge(struct session *session, const struct proto_message *message);

void request_list(struct session *session, const struct proto_message *message);
void request_stats(struct session *session, const struct proto_message *message);

#define SESSION_READ_ONLY_TEXT "the readers' socket carries no changes: use the publishers' socket"

/* Puts. The body of a frame follows its head: when request_put() or request_data() return a put, the session
 * hands it those bytes; NULL: they are to be skipped, if there are any. */
struct put;

struct put *request_put(struct session *session, const struct proto_message *message);
struct put *request_data(struct session *session, const struct proto_message *message);
void request_end_stream(struct session *session, const struct proto_message *message);
void request_abort_stream(struct session *session, const struct proto_message *message);

/* Where the body's next bytes, left of them in this frame, are to be put: *ret_size bytes at most. 0: no room
 * before what is there was written; the session gets a turn then. -ENOLINK: the put has failed and was
 * answered, skip the rest. Otherwise 1. */
int put_room(struct put *put, uint64_t left, uint8_t **ret, size_t *ret_size);
/* size bytes were put there. */
void put_received(struct put *put, size_t size);
/* The frame's body is complete. */
void put_frame_done(struct put *put);
/* Gives up all puts of the session that are not whole. */
void put_abort_all(struct session *session);
/* Writes what has been received of puts that have come to a halt, so that they hold no buffers. */
void put_flush_stalled(struct session *session);
