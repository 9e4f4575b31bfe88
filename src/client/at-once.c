/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A get that nothing else is under way beside, as most gets of who waits for them are: to the socket, and from there to
 * the object. Where anything is not as it is most of the time it becomes a call like others, at the point that it has
 * come to. */

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "bytes.h"
#include "client.h"
#include "macro.h"
#include "plain.h"

struct quick_get {
        objmapper_client *client;
        struct connection *connection;
        struct proto_bytes uri; /* the copy in the head */
        uint64_t id;
        ssize_t received;     /* bytes, at the beginning of the connection's input, or -errno */
        uint64_t waited_usec; /* since when; 0: there was no need */
        struct fdpass_fds fds;
};

/* Whether there is nothing that a turn would have to look at before, or meanwhile. */
static bool is_quiet(const objmapper_client *client, const struct connection *connection) {
        return connection_is_idle(connection) && client->n_calls == 0 && !client->running && !client->woken &&
               client->connection[PUBLISHER].state == CONNECTION_CLOSED && !connection->draining &&
               !connection->output_broken && !connection->in_body &&
               connection->input_begin == connection->input_end;
}

/* Whether the answer, if it is what is expected, will be small: a large body is read to its own place. */
static bool is_small(const objmapper_client *client, const struct connection *connection) {
        return client->mode != OP_SPLICE && !connection->after_large;
}

static ssize_t receive(void *userdata) {
        struct quick_get *get = userdata;
        struct connection *connection = get->connection;
        bool takes_fds = get->client->mode == OP_FDPASS || get->client->mode == OP_AUTO;

        return fdpass_read(connection->fd, connection->input, CONNECTION_INPUT_SIZE,
                           takes_fds ? &get->fds : NULL);
}

static void receive_answer(struct quick_get *get) {
        uint64_t wait_usec = get->client->timeout_usec > 0 ? get->client->timeout_usec : UINT64_MAX;

        get->received = receive(get);
        if (get->received != -EAGAIN)
                return;

        get->received = connection_look(get->connection, receive, get, &get->waited_usec);
        if (get->received != -EAGAIN)
                return;

        wait_usec = connection_left(wait_usec, get->waited_usec);
        if (get->waited_usec == 0 && wait_usec < UINT64_MAX)
                get->waited_usec = clock_usec(CLOCK_MONOTONIC);
        connection_wait(get->connection, wait_usec);
        get->received = receive(get);
}

/* What was received is the answer, all of it, and nothing else. */
static bool is_answer(const struct quick_get *get, struct proto_message *ret) {
        const uint8_t *p = get->connection->input;
        size_t size = (size_t) MAX(get->received, 0), head_size;

        if (size < PROTO_HEAD_FIXED)
                return false;

        head_size = load_le32(p);
        if (head_size > size || !proto_plain_reply_decode(p, head_size, ret) || ret->head.id != get->id ||
            ret->head.mode == OP_SPLICE || ret->head.body_size != size - head_size || get->fds.truncated)
                return false;

        return get->fds.n == ret->head.fd_count && get->fds.n <= 1;
}

/* The object that the answer is. reused is consumed. */
static int make_object(struct quick_get *get,
                       const struct proto_message *message,
                       objmapper_object *reused,
                       objmapper_object **ret) {
        _cleanup_(objmapper_object_freep) objmapper_object *object = NULL;
        int r;

        r = object_new(&object, reused, get->uri, message);
        if (r < 0)
                return r;

        object->mode = message->head.mode;
        if (get->fds.n > 0) {
                object->body_size = object->info.size;
                object->fd = TAKE_FD(get->fds.fd[0]);
                get->fds.n = 0;
        } else {
                r = object_set_body(object, get->connection->input + message->head.head_size,
                                    (size_t) message->head.body_size);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(object);
        return 0;
}

/* sent bytes of it are, and something that is no answer may have come. */
static void become_call(struct quick_get *get,
                        const void *uri,
                        size_t sent,
                        objmapper_object *reused,
                        objmapper_reply_fn reply,
                        void *userdata) {
        struct connection *connection = get->connection;
        struct call *call;
        int r;

        r = call_new_get(&call, client_take_spare(get->client), uri, get->uri.size);
        assert(r == 0); /* it had room for the same head */
        (void) r;
        call->reused = reused;

        (void) client_read_clock(get->client);
        if (get->waited_usec > 0) { /* its time-out counts from when it was asked */
                get->client->now = get->waited_usec;
                get->client->is_timely = false;
        }
        client_take_call(get->client, connection, call, reply, userdata);
        connection_admit(connection, call);
        assert(call->id == get->id);
        connection_note_sent(connection, sent);
        if (get->received > 0)
                connection_take(connection, (size_t) get->received, &get->fds);
}

enum at_once client_get_at_once(objmapper_client *client,
                                const void *uri,
                                size_t uri_size,
                                objmapper_object *reused,
                                objmapper_reply_fn reply,
                                void *userdata,
                                objmapper_object **ret,
                                int *ret_error) {
        struct connection *connection = &client->connection[READER];
        size_t size = proto_plain_get_size(uri_size);
        struct proto_message message;
        struct quick_get get;
        struct call *spare;
        ssize_t sent;

        if (!uri || !is_quiet(client, connection) || !is_small(client, connection) ||
            proto_uri_check(uri, uri_size) < 0)
                return AT_ONCE_NOT;

        spare = client_find_spare(client, size); /* to become a call, or only for its memory */
        if (!spare)
                return AT_ONCE_NOT;

        get.client = client;
        get.connection = connection;
        /* The caller's may be that of the object whose memory is used again. */
        get.uri = (struct proto_bytes){ spare->head + size - uri_size, uri_size };
        get.id = connection_next_id(connection);
        get.received = 0;
        get.waited_usec = 0;
        get.fds.n = 0;
        get.fds.truncated = false;

        proto_plain_get_encode(spare->head, uri, uri_size);
        proto_head_set_request(spare->head, get.id, OP_DEFAULT, 0);
        sent = send(connection->fd, spare->head, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0)
                return AT_ONCE_NOT; /* the usual way meets the same, and knows what to do */

        if ((size_t) sent == size)
                receive_answer(&get);
        if (!is_answer(&get, &message)) {
                become_call(&get, uri, (size_t) sent, reused, reply, userdata);
                return AT_ONCE_BEGUN;
        }

        connection_note_quick(connection);
        *ret_error = make_object(&get, &message, reused, ret);
        if (*ret_error < 0)
                (void) client_fail(client, *ret_error, "get: %s", error_meaning(*ret_error));
        fdpass_fds_close(&get.fds);
        return AT_ONCE_ANSWERED;
}
