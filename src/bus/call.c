/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "call.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "authority.h"
#include "error.h"
#include "log.h"
#include "macro.h"

#define LONG_THREADS 3 /* so that neither purges nor listings have all */

struct calls {
        struct storage *storage;
        struct server *server;
        struct authority *authority;
        struct mailbox *mailbox;
        struct job_pool *pool, *long_pool;
        struct call *all;
        unsigned n_undecided, n_changes, n_asks, n_long_asks;
        size_t undecided_bytes;
};

/* What one caller has of those that count there. */
struct share {
        size_t n, bytes;
};

static bool is_change(enum access_verb verb) {
        return verb != ACCESS_STAT && verb != ACCESS_LIST;
}

static struct share share_of(const struct calls *calls, const unsigned *counter, sd_bus_message *message) {
        const char *sender = sd_bus_message_get_sender(message);
        struct share share = {};

        for (const struct call *call = calls->all; call; call = call->next)
                if (call->counter == counter &&
                    strcmp(sd_bus_message_get_sender(call->message), sender) == 0) {
                        share.n++;
                        share.bytes += call->undecided_bytes;
                }

        return share;
}

/* Whether somebody who has own of all may have some more: no more than are left then. */
static bool may_have(size_t more, size_t own, size_t all, size_t max) {
        return own + more <= max - all;
}

static bool asks_for_too_long(const struct calls *calls, uid_t uid) {
        unsigned n = 0;

        for (const struct call *call = calls->all; call; call = call->next)
                n += call->counter == &calls->n_long_asks && call->uid == uid;

        return n >= LONG_ASKS_PER_USER;
}

/* NULL: it is none of them any more. */
static void call_count(struct call *call, unsigned *counter) {
        call->calls->undecided_bytes -= call->undecided_bytes;
        call->undecided_bytes = 0;

        if (call->counter)
                (*call->counter)--;
        call->counter = counter;
        if (counter)
                (*counter)++;
}

void call_free(struct call *call) {
        call_count(call, NULL);
        if (call->previous)
                call->previous->next = call->next;
        else
                call->calls->all = call->next;
        if (call->next)
                call->next->previous = call->previous;

        if (call->method->done)
                call->method->done(call);
        sd_bus_message_unref(call->message);
        free(call);
}

static int reject_undecided(sd_bus_message *message) {
        return bus_reject(message, BUS_ERROR_BUSY, "Too many calls wait to be permitted: try again later.");
}

int call_new(struct call **ret, struct calls *calls, sd_bus_message *message, const struct method *method) {
        struct call *call;

        assert(method->size >= sizeof(*call));

        if (!may_have(1, share_of(calls, &calls->n_undecided, message).n, calls->n_undecided, UNDECIDED_MAX))
                return reject_undecided(message);

        call = calloc(1, method->size);
        if (!call)
                return -ENOMEM;

        call->method = method;
        call->calls = calls;
        call->message = sd_bus_message_ref(message);
        call->next = calls->all;
        if (call->next)
                call->next->previous = call;
        calls->all = call;
        call_count(call, &calls->n_undecided);

        *ret = call;
        return 0;
}

bool calls_are_under_way(const struct calls *calls) {
        return calls->n_undecided > 0 || calls->n_changes > 0 || calls->n_asks > 0 || calls->n_long_asks > 0;
}

struct storage *calls_storage(const struct calls *calls) {
        return calls->storage;
}

struct server *calls_server(const struct calls *calls) {
        return calls->server;
}

/* ---- it is done ---- */

static void run(struct job *job) {
        struct call *call = container_of(job, struct call, job);

        call->result = call->method->run(call);
}

static void done(struct job *job) {
        _cleanup_(call_freep) struct call *call = container_of(job, struct call, job);
        int r;

        if (call->result < 0 && !call->method->own_errors)
                r = bus_reply_errno(call->message, call->uri ?: sd_bus_message_get_member(call->message),
                                    call->result);
        else
                r = call->method->answer(call);
        if (r < 0) /* the caller may be gone, and the bus too */
                (void) log_errno(LOG_DEBUG, r, "A call over the bus can't be answered: %m");
}

static bool is_too_much(const struct call *call, const unsigned *counter) {
        const struct calls *calls = call->calls;

        if (*counter >= CALLS_MAX)
                return true;
        if (counter == &calls->n_asks)
                return !may_have(1, share_of(calls, counter, call->message).n, *counter, CALLS_MAX);

        return counter == &calls->n_long_asks && asks_for_too_long(calls, call->uid);
}

int call_submit(struct call *call) {
        struct calls *calls = call->calls;
        bool changes = is_change(call->method->verb);
        unsigned *counter = changes                 ? &calls->n_changes
                            : call->method->is_long ? &calls->n_long_asks
                                                    : &calls->n_asks;

        if (is_too_much(call, counter)) {
                int r = bus_reject(call->message, BUS_ERROR_BUSY,
                                   "Too many calls of this kind are under way: try again later.");

                call_free(call);
                return r;
        }

        call_count(call, counter);
        call->job = (struct job){
                .run = run,
                .done = done,
                .mailbox = calls->mailbox,
                .owner = call->uid,
                .is_write = changes,
        };
        job_submit(call->method->is_long ? calls->long_pool : calls->pool, &call->job);
        return 1;
}

/* ---- who is asking ---- */

static int on_decided(const struct permission *permission, void *userdata) {
        _cleanup_(call_freep) struct call *call = userdata;
        const struct method *method = call->method;
        struct server *server = call->calls->server;
        const char *namespace;
        int r;

        if (!permission)
                return 0;

        call->uid = permission->peer->uid;
        r = permission->by_polkit || !call->uri
                            ? 0
                            : access_check(server_get_rules(server), permission->peer, method->verb,
                                           call->uri, strlen(call->uri), &namespace);
        if (r < 0) {
                server_log_refusal(server, permission->peer, method->verb, namespace);
                return bus_reject(call->message, BUS_ERROR_NOT_PERMITTED,
                                  "%s: The rules of namespace %s do not permit %s to uid %" PRIu32 ".",
                                  call->uri, namespace, sd_bus_message_get_member(call->message),
                                  (uint32_t) call->uid);
        }

        r = method->permitted ? method->permitted(call, permission->peer) : 0;
        if (r < 0)
                return bus_reply_errno(call->message, sd_bus_message_get_member(call->message), r);

        return r > 0 ? r : call_submit(TAKE_PTR(call));
}

int call_ask(struct call *call) {
        struct calls *calls = call->calls;
        int r;

        if (!may_have(call->bytes, share_of(calls, &calls->n_undecided, call->message).bytes,
                      calls->undecided_bytes, UNDECIDED_BYTES_MAX))
                r = reject_undecided(call->message);
        else {
                call->undecided_bytes = call->bytes;
                calls->undecided_bytes += call->bytes;
                r = authority_ask(calls->authority, call->message, call->method->verb, call->uri, on_decided,
                                  call);
                if (r >= 0)
                        return 1;
        }

        call_free(call);
        return r;
}

/* ---- for another part ---- */

struct permit {
        struct call call;
        int (*handle)(sd_bus_message *message, void *userdata);
        void *userdata;
};

static int permit_handle(struct call *call, _unused_ const struct access_peer *peer) {
        struct permit *permit = container_of(call, struct permit, call);
        int r = permit->handle(call->message, permit->userdata);

        return r == 0 ? 1 : r;
}

static const struct method permit_verify = {
        .size = sizeof(struct permit),
        .verb = ACCESS_VERIFY,
        .permitted = permit_handle,
};

static const struct method permit_reload = {
        .size = sizeof(struct permit),
        .verb = ACCESS_RELOAD,
        .permitted = permit_handle,
};

int calls_permit(struct calls *calls,
                 sd_bus_message *message,
                 enum access_verb verb,
                 int (*handle)(sd_bus_message *message, void *userdata),
                 void *userdata) {
        struct permit *permit;
        struct call *call;
        int r;

        assert(verb == ACCESS_VERIFY || verb == ACCESS_RELOAD);

        r = call_new(&call, calls, message, verb == ACCESS_VERIFY ? &permit_verify : &permit_reload);
        if (r != 0)
                return r;

        permit = container_of(call, struct permit, call);
        permit->handle = handle;
        permit->userdata = userdata;
        return call_ask(call);
}

int calls_new(struct calls **ret,
              sd_event *event,
              struct storage *storage,
              struct server *server,
              bool user_bus,
              uid_t own_uid) {
        _cleanup_(calls_freep) struct calls *calls = NULL;
        int r;

        assert(ret);

        calls = calloc(1, sizeof(*calls));
        if (!calls)
                return -ENOMEM;

        calls->storage = storage;
        calls->server = server;

        r = authority_new(&calls->authority, own_uid, user_bus);
        if (r < 0)
                return r;
        r = mailbox_new(&calls->mailbox, event);
        if (r < 0)
                return r;
        r = job_pool_new(&calls->pool, 1, 0);
        if (r < 0)
                return r;
        r = job_pool_new(&calls->long_pool, LONG_THREADS, 0);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(calls);
        return 0;
}

void calls_ask_uid_alone(struct calls *calls) {
        authority_ask_uid_alone(calls->authority);
}

void calls_free(struct calls *calls) {
        if (!calls)
                return;

        authority_free(calls->authority);
        job_pool_free(calls->pool);
        job_pool_free(calls->long_pool);
        if (calls->mailbox)
                mailbox_free(calls->mailbox);
        assert(calls->n_undecided == 0 && calls->n_changes == 0 && calls->n_asks == 0 &&
               calls->n_long_asks == 0);
        free(calls);
}
