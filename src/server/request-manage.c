/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "job.h"
#include "macro.h"
#include "output.h"
#include "request.h"
#include "server-internal.h"
#include "session.h"
#include "worker.h"

/* A change that needs no body, on its way through the store. */
struct change {
        struct request request;
        struct storage_change change;
        struct mail mail;
        uint8_t data[]; /* URI and metadata */
};

static void orphaned(_unused_ struct request *request) {
        /* It is the store's: what it did comes back all the same. */
}

static void answer(struct mail *mail) {
        struct change *change = container_of(mail, struct change, mail);
        struct session *session = change->request.session;

        if (session) {
                struct proto_message reply = reply_message(change->request.type, change->request.id,
                                                           status_from_error(change->change.result));

                if (change->change.result < 0)
                        reply_set_text(&reply, status_text(reply.head.status));
                else if (change->change.kind == STORAGE_PURGE) {
                        reply.has |= PROTO_HAS(PROTO_TAG_COUNT);
                        reply.count = change->change.count;
                } else
                        reply_set_info(&reply, &change->change.info);
                output_add(session, &reply);
        }

        if (change->change.kind == STORAGE_REMOVE && change->change.result >= 0)
                request_time(&change->request, TIMED_REMOVE);
        request_end(&change->request);
        free(change);
}

static void on_changed(struct storage_change *storage_change) {
        struct change *change = storage_change->userdata;

        mailbox_post(change->request.worker->mailbox, &change->mail);
}

static void submit(struct session *session,
                   const struct proto_message *message,
                   enum storage_change_kind kind,
                   struct proto_bytes uri) {
        struct change *change = malloc(sizeof(*change) + uri.size + message->metadata.size);

        if (!change) {
                request_refuse(session, message->head.type, message->head.id, PROTO_BUSY, NULL);
                return;
        }

        *change = (struct change){
                .request.orphaned = orphaned,
                .mail.deliver = answer,
                .change = {
                        .kind = kind,
                        .uri = change->data,
                        .uri_size = uri.size,
                        .metadata = change->data + uri.size,
                        .metadata_size = message->metadata.size,
                        .if_generation = message->if_generation,
                        .done = on_changed,
                        .userdata = change,
                },
        };
        if (uri.size > 0)
                memcpy(change->data, uri.data, uri.size);
        if (message->metadata.size > 0)
                memcpy(change->data + uri.size, message->metadata.data, message->metadata.size);

        request_begin(&change->request, session, message->head.id, message->head.type);
        request_set_pending(&change->request, sizeof(*change) + uri.size + message->metadata.size);
        storage_submit(session->worker->storage, &change->change);
}

void request_set_metadata(struct session *session, const struct proto_message *message) {
        submit(session, message, STORAGE_SET_METADATA, message->uri);
}

void request_remove(struct session *session, const struct proto_message *message) {
        submit(session, message, STORAGE_REMOVE, message->uri);
}

void request_purge(struct session *session, const struct proto_message *message) {
        submit(session, message, STORAGE_PURGE, message->prefix);
}

/* A page of a listing, walked by a job. */
struct list {
        struct request request;
        struct job job;
        struct storage *storage;
        struct storage_cursor cursor;
        struct access_rules *rules;
        struct access_peer peer; /* with groups of its own: the session may be gone */
        uint32_t max, n;
        int result;
        uint8_t *page;
        size_t size, allocated;
        const uint8_t *prefix;
        size_t prefix_size;
        gid_t data[]; /* groups, and then the prefix */
};

#define STATS_STEP     ((size_t) 8192) /* bytes; more than a counter takes */
#define LIST_ENTRY_MAX (sizeof(uint32_t) + 56 + PROTO_URI_MAX)

static int add_entry(const void *uri, size_t uri_size, const struct storage_info *info, void *userdata) {
        struct list *list = userdata;
        struct proto_message message = {};
        size_t most = list->size + LIST_ENTRY_MAX;
        int r;

        if (most > PROTO_PAGE_BODY_MAX)
                return -ENOBUFS;

        if (most > list->allocated) {
                size_t doubled = MAX(2 * list->allocated, 4 * LIST_ENTRY_MAX);
                size_t allocated = MIN(doubled, (size_t) PROTO_PAGE_BODY_MAX);
                uint8_t *page = realloc(list->page, allocated);

                if (!page)
                        return -ENOMEM;
                list->page = page;
                list->allocated = allocated;
        }

        reply_set_info(&message, info);
        r = proto_entry_append(list->page, list->allocated, &list->size,
                               &(struct proto_entry){ .info = message.info, .uri = { uri, uri_size } });
        if (r < 0)
                return r;

        list->n++;
        return 0;
}

static size_t skip_entry(const void *uri, size_t uri_size, void *userdata) {
        const struct list *list = userdata;

        return access_skip(list->rules, &list->peer, uri, uri_size);
}

static void list_run(struct job *job) {
        struct list *list = container_of(job, struct list, job);

        list->result = storage_list_except(list->storage, list->prefix, list->prefix_size, &list->cursor,
                                           list->max, list->rules ? skip_entry : NULL, add_entry, list);
        if (list->result == -ENOBUFS)
                list->result = 0; /* the page is full, the cursor is where the next begins */
}

static void list_done(struct job *job) {
        struct list *list = container_of(job, struct list, job);
        struct session *session = list->request.session;
        uint64_t id = list->request.id;

        if (session && list->result < 0)
                request_refuse(session, PROTO_LIST, id, status_from_error(list->result),
                               list->result == -EINVAL ? "the cursor is not one of this store" : NULL);
        else if (session) {
                struct proto_message reply = reply_message(PROTO_LIST, id, PROTO_OK);

                reply.has |= PROTO_HAS(PROTO_TAG_COUNT);
                reply.count = list->n;
                if (list->cursor.size > 0) {
                        reply.has |= PROTO_HAS(PROTO_TAG_CURSOR);
                        reply.cursor = (struct proto_bytes){ list->cursor.data, list->cursor.size };
                }
                output_add_block(session, &reply, TAKE_PTR(list->page), list->size);
        }

        request_end(&list->request);
        access_rules_unref(list->rules);
        free(list->page);
        free(list);
}

void request_list(struct session *session, const struct proto_message *message) {
        uint32_t max = message->has & PROTO_HAS(PROTO_TAG_LIMIT) && message->limit > 0
                                       ? MIN(message->limit, (uint32_t) PROTO_PAGE_MAX)
                                       : PROTO_PAGE_MAX;
        size_t groups_size = session->peer.n_groups * sizeof(gid_t);
        struct list *list = malloc(sizeof(*list) + groups_size + message->prefix.size);
        uint8_t *memory;

        if (!list) {
                request_refuse(session, PROTO_LIST, message->head.id, PROTO_BUSY, NULL);
                return;
        }

        memory = (uint8_t *) list->data + groups_size;
        *list = (struct list){
                .request.orphaned = orphaned,
                .job = { .run = list_run,
                         .done = list_done,
                         .mailbox = session->worker->mailbox,
                         .owner = session->peer.uid },
                .storage = session->worker->storage,
                .rules = access_rules_ref(worker_rules(session->worker)),
                .peer = session->peer,
                .max = max,
                .prefix = memory,
                .prefix_size = message->prefix.size,
                .cursor.size = message->cursor.size,
        };
        list->peer.groups = list->data;
        if (groups_size > 0)
                memcpy(list->data, session->peer.groups, groups_size);
        if (message->cursor.size > 0)
                memcpy(list->cursor.data, message->cursor.data, message->cursor.size);
        if (message->prefix.size > 0)
                memcpy(memory, message->prefix.data, message->prefix.size);

        request_begin(&list->request, session, message->head.id, PROTO_LIST);
        request_set_pending(&list->request,
                            sizeof(*list) + groups_size + message->prefix.size + max * LIST_ENTRY_MAX);
        job_submit(session->worker->bulk, &list->job);
}

/* The counters, as the body of an answer. */
struct page {
        uint8_t *data;
        size_t size, allocated;
        int error;
};

static void add_counter(const char *name, uint64_t value, void *userdata) {
        const struct proto_counter counter = { { (const uint8_t *) name, strlen(name) }, value };
        struct page *page = userdata;
        uint8_t *grown;

        if (page->error < 0)
                return;

        page->error = proto_counter_append(page->data, page->allocated, &page->size, &counter);
        if (page->error != -ENOBUFS)
                return;

        grown = realloc(page->data, page->allocated + STATS_STEP);
        page->error = grown ? 0 : -ENOMEM;
        if (!grown)
                return;

        page->data = grown;
        page->allocated += STATS_STEP;
        page->error = proto_counter_append(page->data, page->allocated, &page->size, &counter);
}

void request_stats(struct session *session, const struct proto_message *message) {
        struct proto_message reply = reply_message(PROTO_STATS, message->head.id, PROTO_OK);
        struct page page = {};

        server_count(session->server, add_counter, &page);
        if (page.error < 0) {
                free(page.data);
                request_refuse(session, PROTO_STATS, message->head.id, PROTO_BUSY, NULL);
                return;
        }

        output_add_block(session, &reply, page.data, page.size);
}
