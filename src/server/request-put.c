/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "job.h"
#include "macro.h"
#include "output.h"
#include "permission.h"
#include "request.h"
#include "server-internal.h"
#include "session.h"
#include "worker.h"

#define STALLED_USEC USEC_PER_SEC
#define SMALL_MAX    2000 /* bytes of a body that the store keeps in memory until the change is made: no job */

struct piece {
        uint8_t *data;
        size_t size, allocated;
};

/* A put from its first frame until nothing refers to it: the session, a job, or the store. */
struct put {
        struct request request;
        struct job job;
        struct mail mail;
        struct storage_change change;
        struct storage_upload *upload;

        uint32_t owner;
        bool stream;
        bool over;     /* no frame can belong to it any more */
        bool answered; /* and failed: what still comes is skipped */
        bool busy;     /* a job or the store has it */
        bool finished; /* the last job is that which has it synced, or was */

        bool has_checksum;
        uint64_t checksum;
        uint64_t size; /* UINT64_MAX: not known */
        uint64_t received;
        uint64_t received_usec; /* when bytes came last */

        struct piece filling, writing; /* so that receiving goes on while the disk is written */
        int result;                    /* of the last job */

        uint8_t *end_metadata;
        uint8_t data[]; /* URI and metadata */
};

static void go_on(struct put *put);

static struct put *put_of(struct request *request) {
        return container_of(request, struct put, request);
}

static bool is_put(const struct request *request) {
        return request->type == PROTO_PUT;
}

static struct put *find_stream(struct session *session, uint64_t id) {
        for (struct request *request = session->requests; request; request = request->next)
                if (is_put(request) && request->id == id && put_of(request)->stream && !put_of(request)->over)
                        return put_of(request);

        return NULL;
}

static int piece_new(struct put *put, struct piece *piece, uint64_t wanted) {
        size_t allocated = (size_t) MIN(wanted, (uint64_t) PIECE_MAX);

        *piece = (struct piece){
                .data = allocated == PIECE_MAX ? worker_take_piece(put->request.worker) : malloc(allocated),
                .allocated = allocated,
        };
        return piece->data ? 0 : -ENOMEM;
}

static void piece_done(struct put *put, struct piece *piece) {
        if (piece->allocated == PIECE_MAX && piece->data)
                worker_return_piece(put->request.worker, piece->data);
        else
                free(piece->data);
        *piece = (struct piece){};
}

static void set_over(struct put *put) {
        if (put->over)
                return;

        put->over = true;
        if (put->stream && put->request.session)
                put->request.session->n_streams--;
}

static void fail(struct put *put, uint16_t status, const char *text) {
        if (put->answered)
                return;

        put->answered = true;
        piece_done(put, &put->filling);
        if (put->request.session)
                request_refuse(put->request.session, PROTO_PUT, put->request.id, status, text);
}

static void fail_by_error(struct put *put, int error) {
        uint16_t status = status_from_error(error);
        char text[PROTO_TEXT_MAX];

        if (status == PROTO_NO_SPACE && put->request.session && !put->answered) {
                permission_no_room(put->request.session, put->change.uri, put->change.uri_size, text);
                fail(put, status, text);
        } else
                fail(put, status, NULL);
}

static void discard(struct job *job) {
        struct put *put = container_of(job, struct put, job);

        storage_upload_free(TAKE_PTR(put->upload));
}

static void discarded(struct job *job) {
        struct put *put = container_of(job, struct put, job);

        request_end(&put->request);
        free(put->end_metadata);
        free(put);
}

/* Nothing refers to it any more. */
static void release(struct put *put) {
        assert(put->over && !put->busy);

        request_detach(&put->request);
        piece_done(put, &put->filling);
        piece_done(put, &put->writing);

        /* Giving a large file's space back takes time. */
        put->job = (struct job){ .run = discard,
                                 .done = discarded,
                                 .mailbox = put->request.worker->mailbox,
                                 .owner = put->owner,
                                 .is_write = true };
        if (put->upload && put->received > SMALL_MAX) {
                put->busy = true;
                job_submit(put->request.worker->jobs, &put->job);
        } else {
                discard(&put->job);
                discarded(&put->job);
        }
}

/* On a thread of the pool. */
static void write_piece(struct job *job) {
        struct put *put = container_of(job, struct put, job);
        int r = 0;

        if (!put->upload)
                r = storage_upload_new(put->request.worker->storage, put->size, &put->upload);
        if (r >= 0 && put->writing.size > 0)
                r = storage_upload_write(put->upload, put->writing.data, put->writing.size);
        if (r >= 0 && put->finished) {
                if (put->has_checksum && storage_upload_checksum(put->upload) != put->checksum)
                        r = -EBADMSG;
                else if (put->change.visible)
                        r = storage_upload_finish_unsynced(put->upload);
                else
                        r = storage_upload_finish(put->upload);
        }
        put->result = r;
}

static void answer(struct mail *mail) {
        struct put *put = container_of(mail, struct put, mail);
        struct session *session = put->request.session;

        put->busy = false;
        if (put->change.result < 0)
                fail_by_error(put, put->change.result);
        else {
                storage_upload_free(TAKE_PTR(put->upload));
                request_time(&put->request, put->change.visible ? TIMED_PUT_VISIBLE : TIMED_PUT_DURABLE);
                if (session) {
                        struct proto_message reply = reply_message(PROTO_PUT, put->request.id, PROTO_OK);

                        reply_set_info(&reply, &put->change.info);
                        output_add(session, &reply);
                }
                put->answered = true;
        }
        go_on(put);
}

static void on_changed(struct storage_change *change) {
        struct put *put = change->userdata;

        mailbox_post(put->request.worker->mailbox, &put->mail);
}

static void submit(struct put *put) {
        put->busy = true;
        put->change.upload = put->upload;
        put->change.done = on_changed;
        put->change.userdata = put;
        put->mail.deliver = answer;
        storage_submit(put->request.worker->storage, &put->change);
}

static void written(struct job *job) {
        struct put *put = container_of(job, struct put, job);

        put->busy = false;
        piece_done(put, &put->writing);
        if (put->result == -EBADMSG)
                fail(put, PROTO_BAD_CHECKSUM, NULL);
        else if (put->result == -EMSGSIZE)
                fail(put, PROTO_BAD_REQUEST, "the body is shorter than was said");
        else if (put->result < 0)
                fail_by_error(put, put->result);

        /* There is room for its body again. */
        if (put->request.session)
                worker_queue_turn(put->request.worker, put->request.session);
        go_on(put);
}

static void write_on(struct put *put) {
        assert(!put->busy && !put->writing.data);

        put->writing = put->filling;
        put->filling = (struct piece){};
        put->finished = put->over;
        put->busy = true;
        put->job = (struct job){ .run = write_piece,
                                 .done = written,
                                 .mailbox = put->request.worker->mailbox,
                                 .owner = put->owner,
                                 .is_write = true };

        if (put->finished && !put->upload && put->received <= SMALL_MAX) {
                write_piece(&put->job);
                written(&put->job);
        } else
                job_submit(put->request.worker->jobs, &put->job);
}

/* Does what comes next, if it is the put's to do. It may be freed. */
static void go_on(struct put *put) {
        if (put->busy)
                return;

        if (put->answered) {
                if (put->over)
                        release(put);
        } else if (put->over) {
                if (put->finished)
                        submit(put);
                else
                        write_on(put);
        } else if (put->filling.data && put->filling.size == put->filling.allocated)
                write_on(put);
}

static void orphaned(struct request *request) {
        struct put *put = put_of(request);

        if (!put->change.done)
                count_add(&request->worker->counters.puts_aborted, 1);
        put->over = put->answered = true;
        go_on(put);
}

void put_abort_all(struct session *session) {
        for (struct request *request = session->requests, *next; request; request = next) {
                struct put *put = put_of(request);

                next = request->next;
                if (!is_put(request) || put->over)
                        continue;

                if (!put->answered)
                        count_add(&request->worker->counters.puts_aborted, 1);
                set_over(put);
                put->answered = true;
                go_on(put);
        }
}

void put_flush_stalled(struct session *session) {
        for (struct request *request = session->requests, *next; request; request = next) {
                struct put *put = put_of(request);

                next = request->next;
                if (is_put(request) && !put->over && !put->answered && !put->busy && put->filling.size > 0 &&
                    request->worker->now_usec > put->received_usec + STALLED_USEC)
                        write_on(put);
        }
}

int put_room(struct put *put, uint64_t left, uint8_t **ret, size_t *ret_size) {
        struct piece *piece = &put->filling;

        if (put->answered)
                return -ENOLINK;

        if (piece->data && piece->size == piece->allocated) {
                if (put->busy)
                        return 0;
                write_on(put);
        }

        if (!piece->data &&
            piece_new(put, piece, put->size == UINT64_MAX ? PIECE_MAX : put->size - put->received) < 0) {
                fail(put, PROTO_BUSY, NULL);
                return -ENOLINK;
        }

        *ret = piece->data + piece->size;
        *ret_size = (size_t) MIN(left, (uint64_t) (piece->allocated - piece->size));
        return 1;
}

void put_received(struct put *put, size_t size) {
        put->filling.size += size;
        put->received += size;
        put->received_usec = put->request.worker->now_usec;
}

static void set_whole(struct put *put) {
        set_over(put);
        put->request.asked_usec = put->request.worker->now_usec;
        if (!put->answered)
                request_set_pending(&put->request,
                                    sizeof(*put) + put->change.uri_size + put->change.metadata_size);
        go_on(put);
}

void put_frame_done(struct put *put) {
        if (!put->stream)
                set_whole(put);
        else
                go_on(put);
}

/* What speaks against the body's size at this point; 0: nothing. */
static uint16_t check_size(struct put *put, uint64_t coming, const char **ret_text) {
        uint64_t object_max = put->request.session->limits.object_max;

        *ret_text = NULL;
        if (coming > object_max || coming == UINT64_MAX || put->received > object_max - coming)
                return PROTO_TOO_LARGE;

        if (put->size != UINT64_MAX && coming > put->size - put->received) {
                *ret_text = "the body is longer than its SIZE field said";
                return PROTO_BAD_REQUEST;
        }

        return 0;
}

static bool is_visible(const struct session *session, uint8_t flags) {
        if (flags & PROTO_FLAG_DURABLE)
                return false;

        return flags & PROTO_FLAG_VISIBLE || server_is_visible(session->worker->server);
}

struct put *request_put(struct session *session, const struct proto_message *message) {
        uint64_t id = message->head.id;
        bool stream = message->head.flags & PROTO_FLAG_STREAM;
        char refusal[PROTO_TEXT_MAX];
        bool permitted = permission_check(session, ACCESS_PUT, message, refusal);
        /* Of one that is refused nothing is kept. */
        struct proto_bytes uri = permitted ? message->uri : (struct proto_bytes){};
        struct proto_bytes metadata = permitted ? message->metadata : (struct proto_bytes){};
        const char *text;
        uint16_t status;
        struct put *put;

        if (find_stream(session, id)) {
                request_refuse(session, PROTO_PUT, id, PROTO_BAD_REQUEST,
                               "put: a stream with this id is open");
                return NULL;
        }

        if (stream && session->n_streams >= session->limits.streams_max) {
                request_refuse(session, PROTO_PUT, id, PROTO_BUSY, "put: too many streams are open");
                return NULL;
        }

        put = malloc(sizeof(*put) + uri.size + metadata.size);
        if (!put) {
                request_refuse(session, PROTO_PUT, id, PROTO_BUSY, NULL);
                return NULL;
        }

        *put = (struct put){
                .request.orphaned = orphaned,
                .owner = session->peer.uid,
                .stream = stream,
                .has_checksum = message->has & PROTO_HAS(PROTO_TAG_CHECKSUM),
                .checksum = message->checksum,
                .size = !stream                                     ? message->head.body_size
                        : message->has & PROTO_HAS(PROTO_TAG_SIZE) ? message->size
                                                                    : UINT64_MAX,
                .change = {
                        .kind = STORAGE_PUT,
                        .uri = put->data,
                        .uri_size = uri.size,
                        .metadata = put->data + uri.size,
                        .metadata_size = metadata.size,
                        .ttl_msec = message->ttl_msec,
                        .visible = is_visible(session, message->head.flags),
                        .if_absent = message->has & PROTO_HAS(PROTO_TAG_IF_ABSENT),
                        .if_generation = message->if_generation,
                },
        };
        if (uri.size > 0)
                memcpy(put->data, uri.data, uri.size);
        if (metadata.size > 0)
                memcpy(put->data + uri.size, metadata.data, metadata.size);

        request_begin(&put->request, session, id, PROTO_PUT);
        session->n_streams += stream;

        status = check_size(put, stream ? message->size : message->head.body_size, &text);
        if (!permitted)
                fail(put, PROTO_NOT_PERMITTED, refusal);
        else if (status != 0)
                fail(put, status, text);

        return stream ? NULL : put;
}

static void refuse_no_stream(struct session *session, const struct proto_message *message) {
        if (access_check_session(session->role, ACCESS_PUT) < 0)
                request_refuse(session, message->head.type, message->head.id, PROTO_NOT_PERMITTED,
                               SESSION_READ_ONLY_TEXT);
        else
                request_refuse(session, message->head.type, message->head.id, PROTO_BAD_REQUEST,
                               "no streamed put with this id is open");
}

struct put *request_data(struct session *session, const struct proto_message *message) {
        struct put *put = find_stream(session, message->head.id);
        const char *text;
        uint16_t status;

        if (!put) {
                refuse_no_stream(session, message);
                return NULL;
        }

        if (put->answered)
                return NULL;

        status = check_size(put, message->head.body_size, &text);
        if (status != 0) {
                fail(put, status, text);
                return NULL;
        }

        return put;
}

void request_end_stream(struct session *session, const struct proto_message *message) {
        struct put *put = find_stream(session, message->head.id);

        if (!put) {
                refuse_no_stream(session, message);
                return;
        }

        if (put->size != UINT64_MAX && put->received < put->size)
                fail(put, PROTO_BAD_REQUEST, "the body is shorter than its SIZE field said");

        if (message->has & PROTO_HAS(PROTO_TAG_CHECKSUM)) {
                put->has_checksum = true;
                put->checksum = message->checksum;
        }

        if (message->has & PROTO_HAS(PROTO_TAG_METADATA) && !put->answered) {
                put->end_metadata = malloc(message->metadata.size + 1);
                if (put->end_metadata) {
                        if (message->metadata.size > 0)
                                memcpy(put->end_metadata, message->metadata.data, message->metadata.size);
                        put->change.metadata = put->end_metadata;
                        put->change.metadata_size = message->metadata.size;
                } else
                        fail(put, PROTO_BUSY, NULL);
        }

        set_whole(put);
}

void request_abort_stream(struct session *session, const struct proto_message *message) {
        struct put *put = find_stream(session, message->head.id);

        if (!put) {
                refuse_no_stream(session, message);
                return;
        }

        count_add(&session->worker->counters.puts_aborted, 1);
        fail(put, PROTO_ABORTED, NULL);
        set_over(put);
        go_on(put);
}
