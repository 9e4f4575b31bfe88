/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A daemon that does what a test tells it: a thread that runs the test's script over blocking sockets. What
 * the script does not expect ends the test. */

#include <pthread.h>
#include <stdint.h>

#include "harness.h"
#include "protocol.h"

struct mock {
        char *directory, *path;
        int listener;
        int connection; /* the present one, or negative */
        pthread_t thread;
        void (*script)(struct mock *mock);
        void *userdata;             /* the test's */
        struct proto_limits limits; /* of the greetings to come */
        unsigned requests;          /* that the script read */
};

/* A frame that was received. */
struct frame {
        struct proto_message message; /* borrows from head */
        uint8_t *head, *body;
};

/* Listens and starts the script. */
struct mock *mock_new(void (*script)(struct mock *mock), void *userdata);
/* Waits for the script's end, and fails when it left something open. */
void mock_free(struct mock *mock);

/* For scripts. Accepts the next connection, the one before being closed, and reads and answers its hello. */
void mock_accept(struct mock *mock);
void mock_greet(struct mock *mock);
void mock_close(struct mock *mock);
/* The socket vanishes, and comes back. */
void mock_unlisten(struct mock *mock);
void mock_listen(struct mock *mock);

/* Reads one frame, which must be of type (0: any); frame_done() frees its bytes. */
void mock_read(struct mock *mock, uint16_t type, struct frame *ret);
void frame_done(struct frame *frame);
/* Reads and forgets it; returns its id. */
uint64_t mock_skip(struct mock *mock, uint16_t type);
/* Whether the client closed its end without another byte. */
gboolean mock_at_end(struct mock *mock);

/* Sends one frame. */
void mock_send(struct mock *mock, const struct proto_message *message, const void *body);
/* The same with descriptors. */
void mock_send_fds(struct mock *mock, const struct proto_message *message, const int *fds, size_t n_fds);
void mock_send_raw(struct mock *mock, const void *p, size_t size);

/* The usual answers. */
struct proto_message mock_ok(uint16_t type, uint64_t id);
void mock_reply_copy(struct mock *mock, uint64_t id, const char *body);
void mock_reply_fd(struct mock *mock, uint64_t id, const char *body);
void mock_reply_error(
                struct mock *mock, uint16_t type, uint64_t id, enum proto_status status, const char *text);
void mock_reply_put(struct mock *mock, uint64_t id, uint64_t generation);
void mock_notice(struct mock *mock, enum proto_status status, const char *text);

/* A read-only descriptor of a file that holds body. */
int file_with(const char *body);
