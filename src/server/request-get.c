/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "deliver.h"
#include "job.h"
#include "macro.h"
#include "plain.h"
#include "request.h"
#include "session.h"
#include "worker.h"

/* Bytes that an answer may need which is not known yet: its metadata and a body from the dictionary. */
#define ANSWER_MAX ((uint64_t) PROTO_METADATA_MAX + (16U << 10))

/* A get or a stat, as it was asked for. */
struct query {
        uint16_t type;
        uint64_t id;
        const void *uri;
        size_t uri_size;
        unsigned flags;
        bool has_known, has_range;
        struct storage_etag known;
        struct proto_range range;
        uint8_t mode;
        uint64_t body_max; /* as storage_object.body_max */
};

static void set_metadata(struct proto_message *reply, const struct storage_object *object) {
        if (object->metadata_size == 0)
                return;

        reply->has |= PROTO_HAS(PROTO_TAG_METADATA);
        reply->metadata = (struct proto_bytes){ object->metadata, object->metadata_size };
}

/* What of the body is asked for. -ERANGE: nothing of it. */
static int apply_range(const struct query *query, struct delivery *delivery) {
        uint64_t size = delivery->object->info.size;

        delivery->offset = 0;
        delivery->size = size;
        if (!query->has_range)
                return 0;

        if (query->range.offset >= size && query->range.offset > 0)
                return -ERANGE;

        delivery->offset = query->range.offset;
        delivery->size = MIN(query->range.size, size - delivery->offset);
        delivery->reply->has |= PROTO_HAS(PROTO_TAG_RANGE);
        delivery->reply->range = (struct proto_range){ delivery->offset, delivery->size };
        return 0;
}

static void refuse(struct session *session,
                   const struct query *query,
                   const struct storage_object *object,
                   int error) {
        struct proto_message reply = reply_message(query->type, query->id, status_from_error(error));

        if (error == -ESTALE)
                reply_set_info(&reply, &object->info);
        reply_set_text(&reply, status_text(reply.head.status));
        output_add(session, &reply);
}

static void answer_stat(struct session *session,
                        const struct query *query,
                        const struct storage_object *object) {
        struct proto_message reply = reply_message(PROTO_STAT, query->id, PROTO_OK);

        reply_set_info(&reply, &object->info);
        reply.has |= PROTO_HAS(PROTO_TAG_USAGE);
        reply.usage = (struct proto_usage){ object->info.hits, object->info.used_usec };
        set_metadata(&reply, object);
        output_add(session, &reply);
}

static void deliver(const struct query *query, struct delivery *delivery) {
        if (query->mode == OP_SPLICE)
                deliver_splice(delivery);
        else if (query->mode == OP_COPY || query->has_range || delivery->object->fd < 0)
                deliver_copy(delivery);
        else if (query->mode == OP_FDPASS)
                deliver_fdpass(delivery);
        else
                deliver_auto(delivery);
}

static void answer_get(struct session *session,
                       const struct query *query,
                       struct storage_object *object,
                       bool is_known) {
        struct proto_message reply = reply_message(PROTO_GET, query->id,
                                                   is_known ? PROTO_NOT_MODIFIED : PROTO_OK);
        struct delivery delivery = {
                .session = session, .uri = { query->uri, query->uri_size }, .reply = &reply, .object = object
        };

        reply_set_info(&reply, &object->info);
        if (is_known) {
                set_metadata(&reply, object);
                output_add(session, &reply);
                return;
        }

        if (apply_range(query, &delivery) < 0) {
                object->fd = close_fd(object->fd);
                reply.head.status = PROTO_BAD_RANGE;
                reply_set_text(&reply, status_text(PROTO_BAD_RANGE));
                output_add(session, &reply);
                return;
        }

        set_metadata(&reply, object);
        deliver(query, &delivery);
}

/* result: what storage_get() returned. */
static void answer(struct session *session,
                   const struct query *query,
                   struct storage_object *object,
                   int result) {
        if (result < 0)
                refuse(session, query, object, result);
        else if (query->type == PROTO_STAT)
                answer_stat(session, query, object);
        else
                answer_get(session, query, object, result > 0);
}

static int look_up(struct storage *storage,
                   const struct query *query,
                   unsigned flags,
                   struct storage_object *object) {
        object->body_max = query->body_max;
        return storage_get(storage, query->uri, query->uri_size, query->flags | flags,
                           query->has_known ? &query->known : NULL, object);
}

/* Without waiting for the disk, into worker->object. */
static int look_up_now(struct worker *worker, const struct query *query) {
        worker->object.now_usec = worker->wall_usec;
        return look_up(worker->storage, query, STORAGE_GET_NOWAIT, &worker->object);
}

/* A lookup that may have to wait for the disk, by a job. */
struct lookup {
        struct request request;
        struct job job;
        struct storage *storage;
        struct query query;
        struct storage_object object;
        int result;
        uint8_t uri[];
};

static void lookup_run(struct job *job) {
        struct lookup *lookup = container_of(job, struct lookup, job);

        lookup->result = look_up(lookup->storage, &lookup->query, 0, &lookup->object);
}

static void lookup_done(struct job *job) {
        struct lookup *lookup = container_of(job, struct lookup, job);
        struct session *session = lookup->request.session;

        lookup->request.worker->n_files--;
        if (session) {
                session->n_lookups--;
                request_resume(&lookup->request);
                answer(session, &lookup->query, &lookup->object, lookup->result);
        }

        request_end(&lookup->request);
        storage_object_done(&lookup->object);
        free(lookup);
}

static void orphaned(_unused_ struct request *request) {
        /* The job is under way: lookup_done() frees it. */
}

static void submit(struct session *session, const struct query *query) {
        struct worker *worker = session->worker;
        struct lookup *lookup = malloc(sizeof(*lookup) + query->uri_size);

        if (!lookup) {
                request_refuse(session, query->type, query->id, PROTO_BUSY, NULL);
                return;
        }

        *lookup = (struct lookup){
                .request.orphaned = orphaned,
                .job = { .run = lookup_run,
                         .done = lookup_done,
                         .mailbox = worker->mailbox,
                         .owner = session->peer.uid },
                .storage = worker->storage,
                .query = *query,
                .object = STORAGE_OBJECT_INIT,
        };
        lookup->query.uri = memcpy(lookup->uri, query->uri, query->uri_size);

        count_add(&worker->counters.lookups_submitted, 1);
        session->n_lookups++;
        worker->n_files++; /* it may open one */
        request_begin(&lookup->request, session, query->id, query->type);
        request_set_pending(&lookup->request, sizeof(*lookup) + query->uri_size + ANSWER_MAX);
        job_submit(worker->jobs, &lookup->job);
}

static void handle(struct session *session, const struct query *query) {
        int r = look_up_now(session->worker, query);

        if (r == -EINPROGRESS)
                submit(session, query);
        else
                answer(session, query, &session->worker->object, r);
}

static struct query query_from(const struct proto_message *message) {
        return (struct query){
                .type = message->head.type,
                .id = message->head.id,
                .uri = message->uri.data,
                .uri_size = message->uri.size,
                .flags = message->has & PROTO_HAS(PROTO_TAG_STALE_OK) ? STORAGE_GET_STALE : 0,
        };
}

/* A body from memory comes as a copy: only where that is what the client gets anyway. */
static uint64_t body_max(const struct session *session, const struct query *query) {
        if (query->mode == OP_FDPASS || query->mode == OP_SPLICE)
                return 0;

        return query->mode == OP_COPY || query->has_range ? UINT64_MAX : session->limits.inline_max;
}

/* What deliver() would choose. */
static bool passes_fd(const struct session *session,
                      const struct query *query,
                      const struct storage_object *object) {
        return object->fd >= 0 &&
               (query->mode == OP_FDPASS ||
                (query->mode == OP_AUTO && object->info.size > session->limits.inline_max));
}

bool request_whole_get(struct session *session, const struct proto_plain_get *get) {
        struct worker *worker = session->worker;
        struct query query;
        int r;

        /* What is not asked for need not be zeroed. */
        query.type = PROTO_GET;
        query.id = get->id;
        query.uri = get->uri.data;
        query.uri_size = get->uri.size;
        query.flags = STORAGE_GET_OPEN;
        query.has_known = query.has_range = false;
        query.mode = get->mode == OP_DEFAULT ? session->mode : get->mode;
        query.body_max = body_max(session, &query);
        r = look_up_now(worker, &query);
        if (r == -EINVAL)
                return false;

        count_add(&worker->counters.requests[PROTO_GET], 1);
        if (r == -EINPROGRESS)
                submit(session, &query);
        else if (r == 0 && passes_fd(session, &query, &worker->object))
                deliver_fdpass_whole(session, get->id, &worker->object);
        else
                answer(session, &query, &worker->object, r);
        return true;
}

void request_get(struct session *session, const struct proto_message *message) {
        struct query query = query_from(message);

        query.flags |= STORAGE_GET_OPEN;
        query.mode = message->head.mode == OP_DEFAULT ? session->mode : message->head.mode;
        query.has_range = message->has & PROTO_HAS(PROTO_TAG_RANGE);
        if (query.has_range)
                query.range = message->range;
        query.has_known = message->has & PROTO_HAS(PROTO_TAG_IF_NONE_MATCH);
        if (query.has_known)
                query.known = (struct storage_etag){ message->if_none_match.store_id,
                                                     message->if_none_match.generation,
                                                     message->if_none_match.metadata_version };
        query.body_max = body_max(session, &query);
        handle(session, &query);
}

void request_stat(struct session *session, const struct proto_message *message) {
        struct query query = query_from(message);

        handle(session, &query);
}
