/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of libobjmapper share. */

#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "mock-server.h"
#include "objmapper.h"

DEFINE_CLEANUP(objmapper_client, objmapper_client_close)
DEFINE_CLEANUP(objmapper_request, objmapper_request_free)
DEFINE_CLEANUP(objmapper_object, objmapper_object_free)

#define _cleanup_client_  _cleanup_(objmapper_client_closep)
#define _cleanup_request_ _cleanup_(objmapper_request_freep)
#define _cleanup_object_  _cleanup_(objmapper_object_freep)

static inline objmapper_client *connect_to(struct mock *mock) {
        objmapper_client *client;

        assert_ok(objmapper_client_new(&client));
        assert_ok(objmapper_client_set_sockets(client, mock->path, NULL));
        objmapper_client_set_timeout(client, 20 * G_USEC_PER_SEC);
        return client;
}

static inline objmapper_request *request_for(enum objmapper_verb verb, const char *uri) {
        objmapper_request *request;

        assert_ok(objmapper_request_new(&request, verb, uri, strlen(uri)));
        return request;
}

static inline void assert_data(objmapper_object *object, const char *body) {
        const void *data;
        size_t size;

        assert_ok(objmapper_object_get_data(object, &data, &size));
        g_assert_cmpmem(data, size, body, strlen(body));
}

/* In memory and as a descriptor. */
static inline void assert_body(objmapper_object *object, const char *body) {
        g_autofree char *read_back = g_malloc0(strlen(body) + 2);
        int fd;

        assert_data(object, body);
        fd = objmapper_object_get_fd(object);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pread(fd, read_back, strlen(body) + 1, 0), ==, (ssize_t) strlen(body));
        g_assert_cmpstr(read_back, ==, body);
        g_assert_cmpint(lseek(fd, 0, SEEK_CUR), ==, 0);
        g_assert_cmpint(write(fd, "x", 1), <, 0);
}

/* Words for people: that they contain these. */
static inline void assert_words(objmapper_client *client, const char *part) {
        const char *words = objmapper_client_error(client);

        if (!strstr(words, part))
                g_error("\"%s\" does not say \"%s\"", words, part);
}

/* Collects one answer of the non-blocking face. */
struct answer {
        unsigned n;
        int error;
        objmapper_object *object;
};

static inline void take_answer(_unused_ objmapper_client *client,
                               int error,
                               objmapper_object *object,
                               void *userdata) {
        struct answer *answer = userdata;

        g_assert_true((error == 0) == (object != NULL));
        answer->n++;
        answer->error = error;
        objmapper_object_free(answer->object);
        answer->object = object;
}

static inline void answer_done(struct answer *answer) {
        objmapper_object_free(answer->object);
}

/* Processes until nothing is pending. */
static inline void finish(objmapper_client *client) {
        while (objmapper_client_get_pending(client) > 0)
                g_assert_cmpint(objmapper_client_wait(client, 20 * G_USEC_PER_SEC), >, 0);
}

/* Answers a request as if it had been done. */
static inline void reply_to(struct mock *mock, uint16_t verb, uint64_t id) {
        struct proto_message message = mock_ok(verb, id);

        switch (verb) {
        case PROTO_GET:
                mock_reply_copy(mock, id, "again");
                return;
        case PROTO_STAT:
                message.has = PROTO_HAS(PROTO_TAG_INFO) | PROTO_HAS(PROTO_TAG_USAGE);
                break;
        case PROTO_PURGE:
        case PROTO_LIST:
                message.has = PROTO_HAS(PROTO_TAG_COUNT);
                break;
        case PROTO_STATS:
                break;
        default:
                message.has = PROTO_HAS(PROTO_TAG_INFO);
        }
        mock_send(mock, &message, NULL);
}
