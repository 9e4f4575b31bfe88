/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "prefix.h"

#include <string.h>

#include "error.h"
#include "info.h"
#include "macro.h"
#include "option.h"
#include "protocol.h"
#include "utf8.h"

static int read_prefix(struct call *call) {
        int r;

        r = sd_bus_message_read(call->message, "s", &call->uri);
        if (r < 0)
                return r;
        if (strlen(call->uri) > PROTO_URI_MAX)
                return bus_reject(call->message, BUS_ERROR_BAD_REQUEST, "A prefix has at most %i bytes.",
                                  PROTO_URI_MAX);

        return 0;
}

/* ---- Purge ---- */

struct purge_call {
        struct call call;
        struct storage_change change;
};

static int run_purge(struct call *call) {
        struct purge_call *purge = container_of(call, struct purge_call, call);

        purge->change.kind = STORAGE_PURGE;
        purge->change.uri = call->uri;
        purge->change.uri_size = strlen(call->uri);
        return storage_change_wait(calls_storage(call->calls), &purge->change);
}

static int answer_purge(struct call *call) {
        return sd_bus_reply_method_return(call->message, "t",
                                          container_of(call, struct purge_call, call)->change.count);
}

static const struct method purge_method = {
        .size = sizeof(struct purge_call),
        .verb = ACCESS_PURGE,
        .is_long = true,
        .run = run_purge,
        .answer = answer_purge,
};

int prefix_purge(struct calls *calls, sd_bus_message *message) {
        _cleanup_(call_freep) struct call *call = NULL;
        int all = false, r;

        r = call_new(&call, calls, message, &purge_method);
        if (r != 0)
                return r;

        r = read_prefix(call);
        if (r != 0)
                return r;
        r = bus_read_options(message, call->uri, &(struct bus_option){ "all", 'b', &all }, 1);
        if (r != 0)
                return r;
        if (!*call->uri && !all) /* an argument that was forgotten is not to cost everything */
                return bus_reject(message, BUS_ERROR_BAD_REQUEST,
                                  "The empty prefix is that of all objects: option \"all\" says that it is "
                                  "meant.");

        return call_ask(TAKE_PTR(call));
}

/* ---- List ---- */

struct entry {
        struct storage_info info;
        size_t offset, size; /* of its URI in the page */
};

struct list_call {
        struct call call;
        struct storage_cursor cursor;
        uint32_t max;

        struct access_rules *rules;
        struct access_peer peer; /* with groups of its own: those of the bus's answer are gone by then */
        gid_t *groups;

        struct entry *entries;
        size_t n_entries;
        uint8_t *uris;
        size_t uris_size, uris_allocated;
};

static struct list_call *list_call(struct call *call) {
        return container_of(call, struct list_call, call);
}

static void list_done(struct call *call) {
        struct list_call *list = list_call(call);

        access_rules_unref(list->rules);
        free(list->groups);
        free(list->entries);
        free(list->uris);
}

static int list_permitted(struct call *call, const struct access_peer *peer) {
        struct list_call *list = list_call(call);

        list->rules = access_rules_ref(server_get_rules(calls_server(call->calls)));
        list->peer = *peer;
        if (peer->n_groups == 0)
                return 0;

        list->groups = calloc(peer->n_groups, sizeof(list->groups[0]));
        if (!list->groups)
                return -ENOMEM;

        memcpy(list->groups, peer->groups, peer->n_groups * sizeof(list->groups[0]));
        list->peer.groups = list->groups;
        return 0;
}

static size_t skip_entry(const void *uri, size_t uri_size, void *userdata) {
        const struct list_call *list = userdata;

        return access_skip(list->rules, &list->peer, uri, uri_size);
}

static int add_entry(const void *uri, size_t uri_size, const struct storage_info *info, void *userdata) {
        struct list_call *list = userdata;
        size_t size = list->uris_size + uri_size;

        if (size > PAGE_BYTES_MAX)
                return -ENOBUFS;

        if (size > list->uris_allocated) {
                size_t doubled = MAX(2 * list->uris_allocated, (size_t) 2 * PROTO_URI_MAX);
                size_t allocated = MIN(doubled, PAGE_BYTES_MAX);
                uint8_t *uris = realloc(list->uris, allocated);

                if (!uris)
                        return -ENOMEM;
                list->uris = uris;
                list->uris_allocated = allocated;
        }

        memcpy(list->uris + list->uris_size, uri, uri_size);
        list->entries[list->n_entries++] = (struct entry){ *info, list->uris_size, uri_size };
        list->uris_size = size;
        return 0;
}

static int run_list(struct call *call) {
        struct list_call *list = list_call(call);
        int r;

        list->entries = calloc(list->max, sizeof(list->entries[0]));
        if (!list->entries)
                return -ENOMEM;

        r = storage_list_except(calls_storage(call->calls), call->uri, strlen(call->uri), &list->cursor,
                                list->max, list->rules ? skip_entry : NULL, add_entry, list);
        return r == -ENOBUFS ? 0 : r; /* the page is full, the cursor is where the next begins */
}

static int append_entry(sd_bus_message *reply, const struct list_call *list, const struct entry *entry) {
        const struct proto_bytes uri = { list->uris + entry->offset, entry->size };
        bool is_text = utf8_is_valid(uri.data, uri.size);
        char text[PROTO_URI_MAX + 1];
        int r;

        if (is_text)
                memcpy(text, uri.data, uri.size);
        text[is_text ? uri.size : 0] = '\0';

        r = sd_bus_message_open_container(reply, 'r', "sa{sv}");
        if (r >= 0)
                r = sd_bus_message_append_basic(reply, 's', text);
        if (r >= 0)
                r = info_append(reply, &entry->info, NULL, is_text ? NULL : &uri);

        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void format_cursor(const struct storage_cursor *cursor, char text[static 2 * STORAGE_CURSOR_MAX + 1]) {
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < cursor->size; i++) {
                text[2 * i] = digits[cursor->data[i] >> 4];
                text[2 * i + 1] = digits[cursor->data[i] & 15];
        }
        text[2 * cursor->size] = '\0';
}

static int append_page(sd_bus_message *reply, const struct list_call *list) {
        char next[2 * STORAGE_CURSOR_MAX + 1];
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(sa{sv})");
        for (size_t i = 0; i < list->n_entries && r >= 0; i++)
                r = append_entry(reply, list, &list->entries[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r < 0)
                return r;

        format_cursor(&list->cursor, next);
        return sd_bus_message_append_basic(reply, 's', next);
}

static int reject_cursor(struct call *call) {
        return bus_reject(call->message, BUS_ERROR_BAD_REQUEST, "The cursor is not one of this store.");
}

static int answer_list(struct call *call) {
        sd_bus_message *reply = NULL;
        int r;

        if (call->result == -EINVAL)
                return reject_cursor(call);
        if (call->result < 0)
                return bus_reply_errno(call->message, *call->uri ? call->uri : "List", call->result);

        r = sd_bus_message_new_method_return(call->message, &reply);
        if (r < 0)
                return r;

        r = append_page(reply, list_call(call));
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);

        sd_bus_message_unref(reply);
        return r;
}

static const struct method list_method = {
        .size = sizeof(struct list_call),
        .verb = ACCESS_LIST,
        .is_long = true,
        .permitted = list_permitted,
        .run = run_list,
        .answer = answer_list,
        .own_errors = true,
        .done = list_done,
};

static int digit_of(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_cursor(const char *text, struct storage_cursor *ret) {
        size_t size = strlen(text);

        if (size % 2 != 0 || size / 2 > STORAGE_CURSOR_MAX)
                return false;

        for (size_t i = 0; i < size / 2; i++) {
                int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);

                if (high < 0 || low < 0)
                        return false;
                ret->data[i] = (uint8_t) (high << 4 | low);
        }

        ret->size = size / 2;
        return true;
}

int prefix_list(struct calls *calls, sd_bus_message *message) {
        _cleanup_(call_freep) struct call *call = NULL;
        struct list_call *list;
        const char *cursor;
        uint32_t limit;
        int r;

        r = call_new(&call, calls, message, &list_method);
        if (r != 0)
                return r;

        list = list_call(call);
        r = read_prefix(call);
        if (r != 0)
                return r;
        r = sd_bus_message_read(message, "su", &cursor, &limit);
        if (r < 0)
                return r;
        if (!parse_cursor(cursor, &list->cursor))
                return reject_cursor(call);
        r = bus_read_options(message, "List", NULL, 0);
        if (r != 0)
                return r;

        list->max = limit == 0 ? PAGE_ENTRIES_MAX : MIN(limit, PAGE_ENTRIES_MAX);
        return call_ask(TAKE_PTR(call));
}
