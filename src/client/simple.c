/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

/* ---- ask and wait ---- */

struct waiter {
        bool answered;
        int error;
        objmapper_object *object;
        struct call *failed; /* for its words */
        char *words;
};

static void note_answer(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct waiter *waiter = userdata;

        waiter->answered = true;
        waiter->error = error;
        waiter->object = object;
        if (error == 0)
                return;

        /* Others may fail before the waiter is awake. */
        waiter->failed = TAKE_PTR(client->failed);
        if (!waiter->failed)
                waiter->words = strdup(client->words);
}

/* Gives the object to the caller if he wants it. Returns error. */
static int hand_over(objmapper_object *object, int error, objmapper_object **ret) {
        if (ret && error == 0)
                *ret = object;
        else
                objmapper_object_free(object);

        return error;
}

static int wait_for(objmapper_client *client, struct waiter *waiter, objmapper_object **ret) {
        while (!waiter->answered)
                (void) client_turn(client, UINT64_MAX);

        if (waiter->failed)
                client_keep_failed(client, waiter->failed);
        else if (waiter->words)
                (void) client_fail(client, waiter->error, "%s", waiter->words);
        free(waiter->words);

        return hand_over(waiter->object, waiter->error, ret);
}

int objmapper_client_call(objmapper_client *client, objmapper_request *request, objmapper_object **ret) {
        struct waiter waiter = {};
        int r;

        if (!request)
                return client_fail(client, -EINVAL, "a request is needed");
        if (client->running)
                return client_fail(client, -EDEADLK,
                                   "called from inside a reply: submit the request instead");

        r = client_add(client, request, note_answer, &waiter, false);
        if (r < 0)
                return r;

        return wait_for(client, &waiter, ret);
}

/* ---- the simple calls ---- */

DEFINE_CLEANUP(objmapper_client, objmapper_client_close)
DEFINE_CLEANUP(objmapper_request, objmapper_request_free)

static int make_request(objmapper_client *client,
                        objmapper_request **ret,
                        enum objmapper_verb verb,
                        const void *uri,
                        size_t uri_size) {
        int r = objmapper_request_new(ret, verb, uri, uri_size);

        if (r == -EINVAL)
                return client_fail(client, r, "not a URI: 1 to %i bytes, and no NUL", OBJMAPPER_URI_MAX);
        if (r < 0)
                return client_fail(client, r, "out of memory");

        return 0;
}

static int ask(objmapper_client *client,
               enum objmapper_verb verb,
               const void *uri,
               size_t uri_size,
               objmapper_object **ret) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        int r;

        r = make_request(client, &request, verb, uri, uri_size);
        if (r < 0)
                return r;

        return objmapper_client_call(client, request, ret);
}

int objmapper_client_request(objmapper_client *client,
                             const void *uri,
                             size_t uri_size,
                             objmapper_object **ret) {
        objmapper_object *object = NULL;
        struct waiter waiter = {};
        int error = 0;

        switch (client_get_at_once(client, uri, uri_size, NULL, note_answer, &waiter, &object, &error)) {
        case AT_ONCE_ANSWERED:
                return hand_over(object, error, ret);
        case AT_ONCE_BEGUN:
                return wait_for(client, &waiter, ret);
        case AT_ONCE_NOT:
                break;
        }

        return ask(client, OBJMAPPER_GET, uri, uri_size, ret);
}

int objmapper_get(objmapper_client *client, const char *uri, objmapper_object **ret) {
        return objmapper_client_request(client, uri, strlen(uri), ret);
}

int objmapper_stat(objmapper_client *client, const char *uri, objmapper_object **ret) {
        return ask(client, OBJMAPPER_STAT, uri, strlen(uri), ret);
}

int objmapper_put(objmapper_client *client,
                  const char *uri,
                  const void *data,
                  size_t size,
                  objmapper_object **ret) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        int r;

        r = make_request(client, &request, OBJMAPPER_PUT, uri, strlen(uri));
        if (r < 0)
                return r;
        r = objmapper_request_set_body(request, data, size);
        if (r < 0)
                return client_fail(client, r, "there is no body to put");

        return objmapper_client_call(client, request, ret);
}

int objmapper_put_fd(objmapper_client *client, const char *uri, int fd, objmapper_object **ret) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        int r;

        r = make_request(client, &request, OBJMAPPER_PUT, uri, strlen(uri));
        if (r < 0)
                return r;
        r = objmapper_request_set_body_fd(request, fd, OBJMAPPER_TO_END);
        if (r < 0)
                return client_fail(client, r, "%i is no descriptor", fd);

        return objmapper_client_call(client, request, ret);
}

int objmapper_remove(objmapper_client *client, const char *uri) {
        return ask(client, OBJMAPPER_REMOVE, uri, strlen(uri), NULL);
}

int objmapper_purge(objmapper_client *client, const char *prefix, uint64_t *ret_count) {
        _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
        int r;

        r = ask(client, OBJMAPPER_PURGE, prefix, strlen(prefix), &object);
        if (r < 0)
                return r;

        if (ret_count)
                *ret_count = object->count;
        return 0;
}

static int visit_page(objmapper_client *client,
                      objmapper_object *page,
                      objmapper_visit_fn visit,
                      void *userdata) {
        size_t position = 0;

        for (;;) {
                _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
                int r;

                r = objmapper_object_next_entry(page, &position, &object);
                if (r < 0)
                        return client_fail(client, r, "list: %s",
                                           r == -EPROTO ? "the daemon sends a malformed page"
                                                        : error_meaning(r));
                if (r == 0)
                        return 0;

                r = visit(object, userdata);
                if (r != 0)
                        return r;
        }
}

int objmapper_list(objmapper_client *client, const char *prefix, objmapper_visit_fn visit, void *userdata) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        int r;

        r = make_request(client, &request, OBJMAPPER_LIST, prefix, strlen(prefix));
        if (r < 0)
                return r;

        for (;;) {
                _cleanup_(objmapper_object_freep) objmapper_object *page = NULL;

                r = objmapper_client_call(client, request, &page);
                if (r < 0)
                        return r;

                r = visit_page(client, page, visit, userdata);
                if (r != 0 || page->cursor_size == 0)
                        return r;

                r = objmapper_request_set_cursor(request, page->cursor, page->cursor_size);
                if (r < 0)
                        return client_fail(client, r, "out of memory");
        }
}

int objmapper_stats(objmapper_client *client, objmapper_counter_fn visit, void *userdata) {
        _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
        size_t position = 0;
        int r;

        r = ask(client, OBJMAPPER_STATS, NULL, 0, &object);
        if (r < 0)
                return r;

        for (;;) {
                const char *name;
                uint64_t value;

                r = objmapper_object_next_counter(object, &position, &name, &value);
                if (r < 0)
                        return client_fail(client, r, "stats: the daemon sends malformed counters");
                if (r == 0)
                        return 0;

                r = visit(name, value, userdata);
                if (r != 0)
                        return r;
        }
}

/* ---- connect ---- */

int objmapper_client_connect(objmapper_client **ret, const char *path, enum objmapper_mode mode) {
        _cleanup_(objmapper_client_closep) objmapper_client *client = NULL;
        int r;

        if (!ret)
                return -EINVAL;

        r = objmapper_client_new(&client);
        if (r < 0)
                return r;

        r = objmapper_client_set_mode(client, mode);
        if (r >= 0 && path)
                r = objmapper_client_set_sockets(client, path, NULL);
        if (r >= 0)
                r = client_greet(client);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(client);
        return 0;
}
