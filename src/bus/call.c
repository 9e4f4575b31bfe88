/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "call.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "access.h"
#include "authority.h"
#include "error.h"
#include "job.h"
#include "log.h"
#include "macro.h"
#include "option.h"
#include "protocol.h"
#include "utf8.h"

struct calls {
        struct storage *storage;
        struct server *server;
        struct authority *authority;
        struct mailbox *mailbox;
        struct job_pool *pool;
        unsigned n_undecided, n_changes, n_asks;
        size_t undecided_bytes;
};

struct call {
        struct calls *calls;
        sd_bus_message *message; /* holds uri and body */
        enum access_verb verb;
        unsigned *counter;      /* among which it is now */
        size_t undecided_bytes; /* that it holds, as long as it is not decided whether it may be done */
        struct job job;

        uid_t uid; /* of the caller, once it is known */
        const char *uri;
        const void *body;
        size_t body_size;
        uint8_t *metadata;
        size_t metadata_size;
        struct storage_change change;

        int (*handle)(sd_bus_message *message, void *userdata);
        void *userdata;

        int result;
        struct storage_info info;
};

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

static void call_free(struct call *call) {
        call_count(call, NULL);
        sd_bus_message_unref(call->message);
        free(call->metadata);
        free(call);
}
DEFINE_CLEANUP(struct call, call_free)

static int reject_undecided(sd_bus_message *message) {
        return bus_reject(message, BUS_ERROR_BUSY, "Too many calls wait to be permitted: try again later.");
}

/* 0; 1: there are too many, and it was answered so; or a negative errno. */
static int call_new(struct call **ret, struct calls *calls, sd_bus_message *message, enum access_verb verb) {
        struct call *call;

        if (calls->n_undecided >= UNDECIDED_MAX)
                return reject_undecided(message);

        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;

        *call = (struct call){
                .calls = calls,
                .message = sd_bus_message_ref(message),
                .verb = verb,
        };
        call_count(call, &calls->n_undecided);

        *ret = call;
        return 0;
}

bool calls_are_under_way(const struct calls *calls) {
        return calls->n_undecided > 0 || calls->n_changes > 0 || calls->n_asks > 0;
}

/* ---- the blocking part, on the pool's thread ---- */

static int put(struct storage *storage, struct call *call) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        int r;

        r = storage_upload_new(storage, call->body_size, &upload);
        if (r < 0)
                return r;
        r = storage_upload_write(upload, call->body, call->body_size);
        if (r < 0)
                return r;
        r = call->change.visible ? storage_upload_finish_unsynced(upload) : storage_upload_finish(upload);
        if (r < 0)
                return r;

        call->change.upload = upload;
        return storage_change_wait(storage, &call->change);
}

static int get_info(struct storage *storage, struct call *call) {
        call->metadata = malloc(STORAGE_METADATA_MAX);
        if (!call->metadata)
                return -ENOMEM;

        call->metadata_size = STORAGE_METADATA_MAX;
        return storage_get_info(storage, call->uri, strlen(call->uri), &call->info, call->metadata,
                                &call->metadata_size);
}

static void run(struct job *job) {
        struct call *call = container_of(job, struct call, job);
        struct storage *storage = call->calls->storage;

        call->change.uri = call->uri;
        call->change.uri_size = strlen(call->uri);
        call->change.metadata = call->metadata;
        call->change.metadata_size = call->metadata_size;

        switch (call->verb) {
        case ACCESS_PUT:
                call->change.kind = STORAGE_PUT;
                call->result = put(storage, call);
                break;
        case ACCESS_REMOVE:
        case ACCESS_PIN:
                call->result = storage_change_wait(storage, &call->change);
                break;
        case ACCESS_STAT:
                call->result = get_info(storage, call);
                break;
        default:
                assert(false);
        }
}

/* ---- the answer ---- */

/* "%016x-%x-%x": 16 + 1 + 16 + 1 + 16 and a NUL. */
#define ETAG_TEXT_SIZE 51

static const char *format_etag(const struct storage_etag *etag, char text[static ETAG_TEXT_SIZE]) {
        (void) snprintf(text, ETAG_TEXT_SIZE, "%016" PRIx64 "-%" PRIx64 "-%" PRIx64, etag->store_id,
                        etag->generation, etag->metadata_version);
        return text;
}

static bool pair_is_text(const struct proto_pair *pair) {
        return utf8_is_valid(pair->key.data, pair->key.size) &&
               utf8_is_valid(pair->value.data, pair->value.size);
}

static int append_pair(sd_bus_message *reply, const struct proto_pair *pair) {
        char key[PROTO_KEY_MAX + 1];
        _cleanup_free_ char *value = strndup((const char *) pair->value.data, pair->value.size);

        if (!value)
                return -ENOMEM;

        memcpy(key, pair->key.data, pair->key.size);
        key[pair->key.size] = '\0';
        return sd_bus_message_append(reply, "{ss}", key, value);
}

/* Whether the pair that ends at position repeats an earlier one's key. */
static bool key_is_repeated(struct proto_bytes block, size_t position, const struct proto_pair *pair) {
        struct proto_pair earlier;
        size_t i = 0;

        while (proto_metadata_next(block, &i, &earlier) > 0 && i < position)
                if (earlier.key.size == pair->key.size &&
                    memcmp(earlier.key.data, pair->key.data, pair->key.size) == 0)
                        return true;

        return false;
}

/* A dictionary of text holds neither other bytes nor a key twice: those pairs are left out, and counted. */
static int append_metadata(sd_bus_message *reply, struct proto_bytes block) {
        struct proto_pair pair;
        size_t position = 0;
        uint64_t n_omitted = 0;
        int r;

        r = sd_bus_message_open_container(reply, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "s", "metadata");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'v', "a{ss}");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "{ss}");
        if (r < 0)
                return r;

        while (proto_metadata_next(block, &position, &pair) > 0) {
                if (!pair_is_text(&pair) || key_is_repeated(block, position, &pair)) {
                        n_omitted++;
                        continue;
                }
                r = append_pair(reply, &pair);
                if (r < 0)
                        return r;
        }

        for (unsigned i = 0; i < 3; i++) {
                r = sd_bus_message_close_container(reply);
                if (r < 0)
                        return r;
        }

        return sd_bus_message_append(reply, "{sv}", "metadata-omitted", "t", n_omitted);
}

static int append_info(sd_bus_message *reply, struct call *call) {
        struct proto_bytes block = { call->metadata, call->metadata_size };
        const struct storage_info *info = &call->info;
        char etag[ETAG_TEXT_SIZE], checksum[17];
        int r;

        (void) snprintf(checksum, sizeof(checksum), "%016" PRIx64, info->checksum);

        r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "etag", "s",
                                  format_etag(&info->etag, etag), "size", "t", info->size, "checksum", "s",
                                  checksum, "stored", "t", info->stored_usec, "expires", "t",
                                  info->expires_usec, "hits", "t", info->hits, "used", "t", info->used_usec,
                                  "pinned", "b", (int) info->pinned);
        if (r < 0)
                return r;
        r = append_metadata(reply, block);
        if (r < 0)
                return r;

        return sd_bus_message_close_container(reply);
}

static int reply_info(struct call *call) {
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(call->message, &reply);
        if (r < 0)
                return r;

        r = append_info(reply, call);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);

        sd_bus_message_unref(reply);
        return r;
}

static int reply_no_room(struct call *call) {
        struct server *server = call->calls->server;
        const char *namespace = access_find_namespace(server_get_rules(server), call->uri, strlen(call->uri));

        server_log_no_room(server, &(struct access_peer){ .uid = call->uid }, namespace);
        if (!namespace)
                return bus_reply_errno(call->message, call->uri, call->result);

        return bus_reject(call->message, BUS_ERROR_NO_SPACE, "%s: There is no room for it in namespace %s.",
                          call->uri, namespace);
}

static void done(struct job *job) {
        _cleanup_(call_freep) struct call *call = container_of(job, struct call, job);
        char etag[ETAG_TEXT_SIZE];
        int r;

        if (call->verb == ACCESS_PUT && (call->result == -ENOSPC || call->result == -EDQUOT))
                r = reply_no_room(call);
        else if (call->result < 0)
                r = bus_reply_errno(call->message, call->uri, call->result);
        else if (call->verb == ACCESS_STAT)
                r = reply_info(call);
        else if (call->verb == ACCESS_PUT)
                r = sd_bus_reply_method_return(call->message, "s",
                                               format_etag(&call->change.info.etag, etag));
        else
                r = sd_bus_reply_method_return(call->message, NULL);
        if (r < 0) /* the caller may be gone, and the bus too */
                (void) log_errno(LOG_DEBUG, r, "A call over the bus can't be answered: %m");
}

/* It may be done. Takes it. */
static int submit(struct call *call) {
        struct calls *calls = call->calls;
        unsigned *counter = call->verb == ACCESS_STAT ? &calls->n_asks : &calls->n_changes;

        if (*counter >= CALLS_MAX) {
                int r = bus_reject(call->message, BUS_ERROR_BUSY,
                                   "%i calls of this kind are under way: try again later.", CALLS_MAX);

                call_free(call);
                return r;
        }

        call_count(call, counter);
        call->job.run = run;
        call->job.done = done;
        call->job.mailbox = calls->mailbox;
        job_submit(calls->pool, &call->job);
        return 1;
}

/* ---- who is asking ---- */

static int on_decided(const struct permission *permission, void *userdata) {
        _cleanup_(call_freep) struct call *call = userdata;
        struct calls *calls = call->calls;
        const char *namespace;
        uint32_t uid;
        int r;

        if (!permission)
                return 0;
        if (call->handle)
                return call->handle(call->message, call->userdata);

        uid = call->uid = permission->peer->uid;
        r = permission->by_polkit ? 0
                                  : access_check(server_get_rules(calls->server), permission->peer,
                                                 call->verb, call->uri, strlen(call->uri), &namespace);
        if (r < 0) {
                server_log_refusal(calls->server, permission->peer, call->verb, namespace);
                return bus_reject(call->message, BUS_ERROR_NOT_PERMITTED,
                                  "%s: The rules of namespace %s do not permit %s to uid %" PRIu32 ".",
                                  call->uri, namespace, sd_bus_message_get_member(call->message), uid);
        }

        return submit(TAKE_PTR(call));
}

/* Takes the call. */
static int ask(struct call *call) {
        struct calls *calls = call->calls;
        size_t bytes = call->body_size + call->metadata_size;
        int r;

        if (bytes > UNDECIDED_BYTES_MAX - calls->undecided_bytes)
                r = reject_undecided(call->message);
        else {
                call->undecided_bytes = bytes;
                calls->undecided_bytes += bytes;
                r = authority_ask(calls->authority, call->message, call->verb, call->uri, on_decided, call);
                if (r >= 0)
                        return 1;
        }

        call_free(call);
        return r;
}

/* ---- what is asked ---- */

/* Reads an a{ss} into a metadata block. 0; 1: it was answered with an error; or a negative errno. */
static int read_metadata(struct call *call) {
        const char *key, *value;
        int r;

        call->metadata = malloc(PROTO_METADATA_MAX);
        if (!call->metadata)
                return -ENOMEM;

        r = sd_bus_message_enter_container(call->message, 'a', "{ss}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_read(call->message, "{ss}", &key, &value)) > 0) {
                struct proto_pair pair = {
                        .key = { (const uint8_t *) key, strlen(key) },
                        .value = { (const uint8_t *) value, strlen(value) },
                };

                r = proto_metadata_append(call->metadata, PROTO_METADATA_MAX, &call->metadata_size, &pair);
                if (r == -EINVAL)
                        return bus_reject(call->message, BUS_ERROR_BAD_REQUEST,
                                          "%s: A key of the metadata has 1 to %i bytes.", call->uri,
                                          PROTO_KEY_MAX);
                if (r < 0)
                        return bus_reject(call->message, BUS_ERROR_TOO_LARGE,
                                          "%s: The metadata is larger than %i bytes.", call->uri,
                                          PROTO_METADATA_MAX);
        }
        if (r < 0)
                return r;

        r = sd_bus_message_exit_container(call->message);
        return r < 0 ? r : 0;
}

static int read_uri(struct call *call) {
        int r;

        r = sd_bus_message_read(call->message, "s", &call->uri);
        if (r < 0)
                return r;
        if (proto_uri_check(call->uri, strlen(call->uri)) < 0)
                return bus_reject(call->message, BUS_ERROR_BAD_REQUEST, "A URI has 1 to %i bytes.",
                                  PROTO_URI_MAX);

        return 0;
}

int calls_put_bytes(struct calls *calls, sd_bus_message *message) {
        _cleanup_(call_freep) struct call *call = NULL;
        const char *durability = NULL;
        int if_absent = false, r;

        r = call_new(&call, calls, message, ACCESS_PUT);
        if (r != 0)
                return r;

        r = read_uri(call);
        if (r != 0)
                return r;
        r = sd_bus_message_read_array(message, 'y', &call->body, &call->body_size);
        if (r < 0)
                return r;
        if (call->body_size > CALL_BODY_MAX)
                return bus_reject(
                                message, BUS_ERROR_TOO_LARGE,
                                "%s: The bus takes at most %u bytes: put it through the publishers' socket.",
                                call->uri, CALL_BODY_MAX);
        r = read_metadata(call);
        if (r != 0)
                return r;
        r = bus_read_options(message, call->uri,
                             (const struct bus_option[]){
                                             { "if-absent", 'b', &if_absent },
                                             { "if-generation", 't', &call->change.if_generation },
                                             { "ttl", 't', &call->change.ttl_msec },
                                             { "durability", 's', &durability },
                             },
                             4);
        if (r != 0)
                return r;

        if (if_absent && call->change.if_generation > 0)
                return bus_reject(message, BUS_ERROR_BAD_REQUEST,
                                  "%s: Options \"if-absent\" and \"if-generation\" exclude each other.",
                                  call->uri);
        call->change.if_absent = if_absent;

        call->change.visible = durability ? strcmp(durability, "visible") == 0
                                          : server_is_visible(calls->server);
        if (durability && !call->change.visible && strcmp(durability, "durable") != 0)
                return bus_reject(message, BUS_ERROR_BAD_REQUEST,
                                  "%s: Option \"durability\" is \"durable\" or \"visible\".", call->uri);

        return ask(TAKE_PTR(call));
}

static int change_object(struct calls *calls,
                         sd_bus_message *message,
                         enum access_verb verb,
                         enum storage_change_kind kind) {
        _cleanup_(call_freep) struct call *call = NULL;
        int r;

        r = call_new(&call, calls, message, verb);
        if (r != 0)
                return r;

        call->change.kind = kind;
        r = read_uri(call);
        if (r != 0)
                return r;
        r = bus_read_options(message, call->uri,
                             &(struct bus_option){ "if-generation", 't', &call->change.if_generation }, 1);
        if (r != 0)
                return r;

        return ask(TAKE_PTR(call));
}

int calls_remove(struct calls *calls, sd_bus_message *message) {
        return change_object(calls, message, ACCESS_REMOVE, STORAGE_REMOVE);
}

int calls_pin(struct calls *calls, sd_bus_message *message) {
        return change_object(calls, message, ACCESS_PIN, STORAGE_PIN);
}

int calls_unpin(struct calls *calls, sd_bus_message *message) {
        return change_object(calls, message, ACCESS_PIN, STORAGE_UNPIN);
}

int calls_get_info(struct calls *calls, sd_bus_message *message) {
        _cleanup_(call_freep) struct call *call = NULL;
        int r;

        r = call_new(&call, calls, message, ACCESS_STAT);
        if (r != 0)
                return r;

        r = read_uri(call);
        if (r != 0)
                return r;

        if (access_has_rule(server_get_rules(calls->server), ACCESS_STAT, call->uri, strlen(call->uri)))
                return ask(TAKE_PTR(call));

        return submit(TAKE_PTR(call)); /* anybody may ask */
}

int calls_permit(struct calls *calls,
                 sd_bus_message *message,
                 enum access_verb verb,
                 int (*handle)(sd_bus_message *message, void *userdata),
                 void *userdata) {
        _cleanup_(call_freep) struct call *call = NULL;
        int r;

        r = call_new(&call, calls, message, verb);
        if (r != 0)
                return r;

        call->handle = handle;
        call->userdata = userdata;
        return ask(TAKE_PTR(call));
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

        *ret = TAKE_PTR(calls);
        return 0;
}

void calls_free(struct calls *calls) {
        if (!calls)
                return;

        authority_free(calls->authority);
        job_pool_free(calls->pool);
        if (calls->mailbox)
                mailbox_free(calls->mailbox);
        assert(calls->n_undecided == 0 && calls->n_changes == 0 && calls->n_asks == 0);
        free(calls);
}
