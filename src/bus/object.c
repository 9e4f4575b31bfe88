/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "object.h"

#include <string.h>

#include "error.h"
#include "info.h"
#include "macro.h"
#include "option.h"
#include "protocol.h"

struct object_call {
        struct call call;
        const void *body;
        size_t body_size;
        uint8_t *metadata;
        size_t metadata_size;
        struct storage_change change;
        struct storage_info info;
};

static struct object_call *object_call(struct call *call) {
        return container_of(call, struct object_call, call);
}

static void done(struct call *call) {
        free(object_call(call)->metadata);
}

/* ---- the blocking part ---- */

static int run_change(struct call *call) {
        struct storage_change *change = &object_call(call)->change;

        change->uri = call->uri;
        change->uri_size = strlen(call->uri);
        return storage_change_wait(calls_storage(call->calls), change);
}

static int run_put(struct call *call) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        struct object_call *put = object_call(call);
        int r;

        r = storage_upload_new(calls_storage(call->calls), put->body_size, &upload);
        if (r < 0)
                return r;
        r = storage_upload_write(upload, put->body, put->body_size);
        if (r < 0)
                return r;
        r = put->change.visible ? storage_upload_finish_unsynced(upload) : storage_upload_finish(upload);
        if (r < 0)
                return r;

        put->change.upload = upload;
        put->change.metadata = put->metadata;
        put->change.metadata_size = put->metadata_size;
        return run_change(call);
}

static int run_get_info(struct call *call) {
        struct object_call *get = object_call(call);

        get->metadata = malloc(STORAGE_METADATA_MAX);
        if (!get->metadata)
                return -ENOMEM;

        get->metadata_size = STORAGE_METADATA_MAX;
        return storage_get_info(calls_storage(call->calls), call->uri, strlen(call->uri), &get->info,
                                get->metadata, &get->metadata_size);
}

/* ---- the answer ---- */

static int answer_change(struct call *call) {
        return sd_bus_reply_method_return(call->message, NULL);
}

static int answer_info(struct call *call) {
        const struct object_call *get = object_call(call);
        const struct proto_bytes metadata = { get->metadata, get->metadata_size };
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(call->message, &reply);
        if (r < 0)
                return r;

        r = info_append(reply, &get->info, &metadata, NULL);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);

        sd_bus_message_unref(reply);
        return r;
}

static int reply_no_room(struct call *call) {
        struct server *server = calls_server(call->calls);
        const char *namespace = access_find_namespace(server_get_rules(server), call->uri, strlen(call->uri));

        server_log_no_room(server, &(struct access_peer){ .uid = call->uid }, namespace);
        if (!namespace)
                return bus_reply_errno(call->message, call->uri, call->result);

        return bus_reject(call->message, BUS_ERROR_NO_SPACE, "%s: There is no room for it in namespace %s.",
                          call->uri, namespace);
}

static int answer_put(struct call *call) {
        char etag[ETAG_TEXT_SIZE];

        if (call->result == -ENOSPC || call->result == -EDQUOT)
                return reply_no_room(call);
        if (call->result < 0)
                return bus_reply_errno(call->message, call->uri, call->result);

        return sd_bus_reply_method_return(call->message, "s",
                                          info_format_etag(&object_call(call)->change.info.etag, etag));
}

static const struct method put_bytes = {
        .size = sizeof(struct object_call),
        .verb = ACCESS_PUT,
        .run = run_put,
        .answer = answer_put,
        .own_errors = true,
        .done = done,
};

static const struct method remove_object = {
        .size = sizeof(struct object_call),
        .verb = ACCESS_REMOVE,
        .run = run_change,
        .answer = answer_change,
};

static const struct method pin_object = {
        .size = sizeof(struct object_call),
        .verb = ACCESS_PIN,
        .run = run_change,
        .answer = answer_change,
};

static const struct method get_info = {
        .size = sizeof(struct object_call),
        .verb = ACCESS_STAT,
        .run = run_get_info,
        .answer = answer_info,
        .done = done,
};

/* ---- what is asked ---- */

/* Reads an a{ss} into a metadata block. 0; 1: it was answered with an error; or a negative errno. */
static int read_metadata(struct object_call *put) {
        struct call *call = &put->call;
        const char *key, *value;
        int r;

        put->metadata = malloc(PROTO_METADATA_MAX);
        if (!put->metadata)
                return -ENOMEM;

        r = sd_bus_message_enter_container(call->message, 'a', "{ss}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_read(call->message, "{ss}", &key, &value)) > 0) {
                struct proto_pair pair = {
                        .key = { (const uint8_t *) key, strlen(key) },
                        .value = { (const uint8_t *) value, strlen(value) },
                };

                r = proto_metadata_append(put->metadata, PROTO_METADATA_MAX, &put->metadata_size, &pair);
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

int object_put_bytes(struct calls *calls, sd_bus_message *message) {
        _cleanup_(call_freep) struct call *call = NULL;
        const char *durability = NULL;
        int if_absent = false, r;
        struct object_call *put;

        r = call_new(&call, calls, message, &put_bytes);
        if (r != 0)
                return r;

        put = object_call(call);
        put->change.kind = STORAGE_PUT;
        r = read_uri(call);
        if (r != 0)
                return r;
        r = sd_bus_message_read_array(message, 'y', &put->body, &put->body_size);
        if (r < 0)
                return r;
        if (put->body_size > OBJECT_BODY_MAX)
                return bus_reject(
                                message, BUS_ERROR_TOO_LARGE,
                                "%s: The bus takes at most %u bytes: put it through the publishers' socket.",
                                call->uri, OBJECT_BODY_MAX);
        r = read_metadata(put);
        if (r != 0)
                return r;
        r = bus_read_options(message, call->uri,
                             (const struct bus_option[]){
                                             { "if-absent", 'b', &if_absent },
                                             { "if-generation", 't', &put->change.if_generation },
                                             { "ttl", 't', &put->change.ttl_msec },
                                             { "durability", 's', &durability },
                             },
                             4);
        if (r != 0)
                return r;

        if (if_absent && put->change.if_generation > 0)
                return bus_reject(message, BUS_ERROR_BAD_REQUEST,
                                  "%s: Options \"if-absent\" and \"if-generation\" exclude each other.",
                                  call->uri);
        put->change.if_absent = if_absent;

        put->change.visible = durability ? strcmp(durability, "visible") == 0
                                         : server_is_visible(calls_server(calls));
        if (durability && !put->change.visible && strcmp(durability, "durable") != 0)
                return bus_reject(message, BUS_ERROR_BAD_REQUEST,
                                  "%s: Option \"durability\" is \"durable\" or \"visible\".", call->uri);

        call->bytes = put->body_size + put->metadata_size;
        return call_ask(TAKE_PTR(call));
}

static int change_object(struct calls *calls,
                         sd_bus_message *message,
                         const struct method *method,
                         enum storage_change_kind kind) {
        _cleanup_(call_freep) struct call *call = NULL;
        struct storage_change *change;
        int r;

        r = call_new(&call, calls, message, method);
        if (r != 0)
                return r;

        change = &object_call(call)->change;
        change->kind = kind;
        r = read_uri(call);
        if (r != 0)
                return r;
        r = bus_read_options(message, call->uri,
                             &(struct bus_option){ "if-generation", 't', &change->if_generation }, 1);
        if (r != 0)
                return r;

        return call_ask(TAKE_PTR(call));
}

int object_remove(struct calls *calls, sd_bus_message *message) {
        return change_object(calls, message, &remove_object, STORAGE_REMOVE);
}

int object_pin(struct calls *calls, sd_bus_message *message) {
        return change_object(calls, message, &pin_object, STORAGE_PIN);
}

int object_unpin(struct calls *calls, sd_bus_message *message) {
        return change_object(calls, message, &pin_object, STORAGE_UNPIN);
}

int object_get_info(struct calls *calls, sd_bus_message *message) {
        _cleanup_(call_freep) struct call *call = NULL;
        int r;

        r = call_new(&call, calls, message, &get_info);
        if (r != 0)
                return r;

        r = read_uri(call);
        if (r != 0)
                return r;
        r = bus_read_options(message, call->uri, NULL, 0);
        if (r != 0)
                return r;

        if (access_has_rule(server_get_rules(calls_server(calls)), ACCESS_STAT, call->uri, strlen(call->uri)))
                return call_ask(TAKE_PTR(call));

        return call_submit(TAKE_PTR(call)); /* anybody may ask */
}
