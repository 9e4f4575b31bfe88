/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "varnish.h"

#include "body.h"
#include "clock.h"
#include "http-object.h"
#include "map.h"
#include "pool.h"
#include "put.h"
#include "storable.h"
#include "storage.h"
#include "uri.h"

#define INLINE_MAX \
        (UINT64_C(64) << 10) /* until a body has more it waits for its end, and goes in one piece */

struct put {
        struct storage *storage;
        struct body *body;
        struct put *previous, *next; /* in the storage's list */
        bool listed;
        atomic_bool cancelled;

        objmapper_request *request;
        objmapper_client *client; /* NULL: it has not begun, or is over */
        objmapper_object *answer;
        uint64_t position; /* bytes of the body that the source has given */
        bool ended;        /* no more will come */
        bool begun, answered, again;
        int64_t end; /* CLOCK_MONOTONIC, when who waits has waited long enough; INT64_MAX: nobody waits */
        int error;
        char words[256];

        char uri[OBJMAPPER_URI_MAX]; /* of the response */
        size_t uri_size;
        char variant[OBJMAPPER_URI_MAX]; /* what is put: that, or a variant */
        size_t variant_size;
        char vary[STORABLE_VARY_MAX];
        char *whole; /* a small body in one piece */
};

static void enlist(struct put *put) {
        struct storage *storage = put->storage;

        (void) pthread_mutex_lock(&storage->mutex);
        put->next = storage->puts;
        if (put->next)
                put->next->previous = put;
        storage->puts = put;
        put->listed = true;
        (void) pthread_mutex_unlock(&storage->mutex);
}

static void delist(struct put *put) {
        struct storage *storage = put->storage;

        (void) pthread_mutex_lock(&storage->mutex);
        if (put->previous)
                put->previous->next = put->next;
        else
                storage->puts = put->next;
        if (put->next)
                put->next->previous = put->previous;
        (void) pthread_mutex_unlock(&storage->mutex);
}

void put_cancel(struct storage *storage, const char *uri, size_t size, bool prefix) {
        (void) pthread_mutex_lock(&storage->mutex);
        for (struct put *put = storage->puts; put; put = put->next)
                if (prefix ? put->uri_size >= size : put->uri_size == size)
                        if (memcmp(put->uri, uri, size) == 0)
                                atomic_store(&put->cancelled, true);
        (void) pthread_mutex_unlock(&storage->mutex);
}

int put_new(struct put **ret,
            const char **ret_why,
            struct storage *storage,
            const struct busyobj *bo,
            const struct objcore *oc,
            const char *uri,
            size_t uri_size,
            struct body *body) {
        struct put *put;
        int r;

        *ret = NULL;
        put = calloc(1, sizeof(*put));
        if (!put)
                return -ENOMEM;
        put->storage = storage;
        put->body = body;

        *ret_why = storable_check(bo, put->vary);
        if (*ret_why) {
                put_free(put);
                return 0;
        }

        memcpy(put->uri, uri, uri_size);
        put->uri_size = uri_size;
        memcpy(put->variant, uri, uri_size);
        put->variant_size = uri_size;
        if (put->vary[0]) {
                r = http_variant_uri(put->variant, sizeof(put->variant), uri, uri_size, put->vary,
                                     strlen(put->vary), uri_request_field, bo->bereq);
                if (r < 0)
                        goto failed;
                put->variant_size = (size_t) r;
        }

        r = objmapper_request_new(&put->request, OBJMAPPER_PUT, put->variant, put->variant_size);
        if (r < 0)
                goto failed;
        r = storable_describe(bo, oc, put->request);
        if (r < 0)
                goto failed;
        /* Who waits for the end of the response does not wait for the disk: what a crash takes is fetched again. */
        r = objmapper_request_set_durability(put->request, OBJMAPPER_VISIBLE);
        if (r < 0)
                goto failed;

        enlist(put);
        *ret = put;
        return 0;

failed:
        put_free(put);
        return r;
}

static void fail(struct put *put, int error) {
        const char *words = put->client ? objmapper_client_error(put->client) : NULL;

        put->answered = true;
        put->error = error;
        (void) snprintf(put->words, sizeof(put->words), "%s", words && words[0] ? words : strerror(-error));
}

static int64_t give(void *data, size_t size, void *userdata) {
        struct put *put = userdata;
        size_t n;

        if (atomic_load(&put->cancelled))
                return -ECANCELED;
        n = body_copy(put->body, put->position, data, size);
        put->position += n;
        return n > 0 || put->ended ? (int64_t) n : -EAGAIN;
}

static void on_answer(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct put *put = userdata;

        (void) client;
        put->answer = object;
        if (error < 0)
                fail(put, error);
        put->answered = true;
}

/* A small body is there in memory until the answer; another is taken piece by piece. */
static int set_source(struct put *put) {
        uint64_t size = body_get_size(put->body);

        put->position = 0;
        if (!put->ended || size > INLINE_MAX)
                return objmapper_request_set_body_source(put->request, give, put, OBJMAPPER_TO_END);

        if (!put->whole)
                put->whole = malloc(size > 0 ? size : 1);
        if (!put->whole)
                return -ENOMEM;
        (void) body_copy(put->body, 0, put->whole, size);
        return objmapper_request_set_body(put->request, put->whole, size);
}

static void begin(struct put *put) {
        struct storage *storage = put->storage;
        int r;

        put->begun = true;
        if (atomic_load(&put->cancelled)) {
                fail(put, -ECANCELED);
                return;
        }
        if (!turn_take(&storage->turn, atomic_load(&storage->timeout_usec))) {
                fail(put, -EBUSY);
                (void) snprintf(put->words, sizeof(put->words), "not asked, as it did not answer in time");
                return;
        }

        r = pool_take(storage->pool, &put->client);
        if (r >= 0) {
                objmapper_client_set_timeout(put->client, atomic_load(&storage->timeout_usec));
                r = set_source(put);
        }
        if (r >= 0)
                r = objmapper_client_submit(put->client, put->request, on_answer, put);
        if (r < 0) {
                turn_note(&storage->turn, r);
                fail(put, r);
        }
}

/* An answer that came, or that never will, ends the connection's use. */
static void give_client_back(struct put *put, bool broken) {
        if (put->client)
                pool_give(put->storage->pool, put->client, broken);
        put->client = NULL;
}

void put_feed(struct put *put) {
        if (put->answered || (!put->begun && body_get_size(put->body) <= INLINE_MAX))
                return;
        if (!put->begun)
                begin(put);
        if (put->answered)
                return;

        objmapper_client_wake(put->client);
        (void) objmapper_client_process(put->client);
}

/* INT64_MAX: there is no end. */
static int64_t get_left(const struct put *put) {
        return put->end == INT64_MAX ? INT64_MAX : put->end - clock_usec(CLOCK_MONOTONIC);
}

static void wait_for_answer(struct put *put) {
        if (!put->begun)
                begin(put);
        while (!put->answered) {
                int64_t left = get_left(put);

                if (left <= 0)
                        break;
                objmapper_client_wake(put->client);
                (void) objmapper_client_wait(put->client, left == INT64_MAX ? UINT64_MAX : (uint64_t) left);
                if (!put->answered && objmapper_client_get_pending(put->client) == 0)
                        fail(put, -EIO);
        }
}

/* What is asked next has what is left of the time. */
static int allot_time(struct put *put) {
        int64_t left = get_left(put);
        int r;

        if (left <= 0)
                return -ETIMEDOUT;
        if (!put->client) {
                r = pool_take(put->storage->pool, &put->client);
                if (r < 0)
                        return r;
        }
        objmapper_client_set_timeout(put->client, left == INT64_MAX ? atomic_load(&put->storage->timeout_usec)
                                                                    : (uint64_t) left);
        return 0;
}

static int call(struct put *put, objmapper_request *request, objmapper_object **ret) {
        int r;

        r = allot_time(put);
        return r < 0 ? r : objmapper_client_call(put->client, request, ret);
}

/* ---- the index of variants ---- */

static bool is_current(objmapper_object *index, const struct put *put) {
        uint64_t expires = objmapper_object_get_expires(index);
        uint64_t wanted = objmapper_object_get_expires(put->answer);
        const char *vary = objmapper_object_get_metadata(index, ":vary", NULL);

        return vary && strcmp(vary, put->vary) == 0 && (expires == 0 || (wanted != 0 && expires >= wanted));
}

static int put_index(struct put *put) {
        objmapper_request *request = NULL;
        uint64_t expires = objmapper_object_get_expires(put->answer);
        int64_t left = (int64_t) expires - clock_usec(CLOCK_REALTIME);
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_PUT, put->uri, put->uri_size);
        if (r >= 0)
                r = objmapper_request_add_metadata(request, ":vary", put->vary, strlen(put->vary));
        if (r >= 0 && expires != 0)
                r = objmapper_request_set_ttl(request, left > 1000 ? (uint64_t) left / 1000 + 1 : 1);
        if (r >= 0)
                r = objmapper_request_set_durability(request, OBJMAPPER_VISIBLE);
        if (r >= 0)
                r = call(put, request, NULL);
        objmapper_request_free(request);

        return r;
}

/* After the variant, so that the index never leads to nothing. */
static int update_index(struct put *put) {
        objmapper_request *request = NULL;
        objmapper_object *index = NULL;
        bool current = false;
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_STAT, put->uri, put->uri_size);
        if (r >= 0)
                r = call(put, request, &index);
        objmapper_request_free(request);
        if (r >= 0)
                current = is_current(index, put);
        objmapper_object_free(index);
        if (r < 0 && r != -ENOENT && r != -ESTALE)
                return r;

        return current ? 0 : put_index(put);
}

/* ---- the end ---- */

/* What an invalidation came in the way of, after the end was sent, is taken back. */
static int take_back(struct put *put) {
        objmapper_request *request = NULL;
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_REMOVE, put->variant, put->variant_size);
        if (r >= 0)
                r = objmapper_request_set_if_generation(request,
                                                        objmapper_object_get_generation(put->answer));
        if (r >= 0)
                r = call(put, request, NULL);
        objmapper_request_free(request);

        return r == -ETIMEDOUT ? r : -ECANCELED;
}

/* -EAGAIN: not while somebody waits. */
static int conclude(struct put *put) {
        int r = put->error;

        if (r >= 0 && put->vary[0])
                r = update_index(put);
        if (r >= 0 && atomic_load(&put->cancelled))
                r = take_back(put);
        if (r == -ETIMEDOUT && put->error >= 0 && put->end != INT64_MAX)
                return -EAGAIN;
        turn_note(&put->storage->turn, r);
        if (r < 0 && put->error >= 0)
                fail(put, r);

        return r;
}

int put_finish(struct put *put, uint64_t usec) {
        int r;

        put->ended = true;
        put->end = usec == UINT64_MAX ? INT64_MAX : clock_usec(CLOCK_MONOTONIC) + (int64_t) usec;
        wait_for_answer(put);

        /* A daemon that went away in the middle of it: all that it needs is here, and its successor gets it. */
        if (put->answered && !put->again && (put->error == -ECONNRESET || put->error == -EINPROGRESS)) {
                put->again = true;
                give_client_back(put, true);
                put->answered = put->begun = false;
                put->error = 0;
                wait_for_answer(put);
        }
        if (!put->answered)
                return -EAGAIN;

        r = conclude(put);
        if (r < 0) /* also to ask again: an answer that is late would be before that */
                give_client_back(put, true);
        return r;
}

const void *put_map(struct put *put, size_t *ret_size) {
        objmapper_object *object = NULL;
        const void *mapping = NULL;
        uint64_t size = body_get_size(put->body);
        int r, fd;

        r = allot_time(put);
        if (r >= 0)
                r = objmapper_client_request(put->client, put->variant, put->variant_size, &object);
        if (r >= 0 &&
            objmapper_object_get_generation(object) == objmapper_object_get_generation(put->answer) &&
            objmapper_object_get_size(object) == size &&
            objmapper_object_get_mode(object) == OBJMAPPER_FDPASS) {
                fd = objmapper_object_get_fd(object);
                if (fd >= 0)
                        mapping = map_file(fd, size);
        }
        objmapper_object_free(object);
        if (r < 0)
                give_client_back(put, true);

        *ret_size = size;
        return mapping;
}

const char *put_error(struct put *put) {
        return atomic_load(&put->cancelled) ? "it was invalidated meanwhile" : put->words;
}

const char *put_etag(struct put *put) {
        return objmapper_object_get_etag(put->answer);
}

const char *put_uri(struct put *put, int *ret_size) {
        *ret_size = (int) put->variant_size;
        return put->variant;
}

void put_free(struct put *put) {
        if (!put)
                return;
        if (put->listed)
                delist(put);
        /* Closing the connection is what undoes a put that is under way. */
        give_client_back(put, put->begun && !put->answered);
        objmapper_object_free(put->answer);
        objmapper_request_free(put->request);
        free(put->whole);
        free(put);
}
