/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "call.h"
#include "connection.h"
#include "objmapper.h"
#include "words.h"

enum role { READER, PUBLISHER, ROLE_MAX };

struct objmapper_client {
        enum proto_mode mode;
        bool fd_fallback;
        bool running; /* calls are being served: what is added now is sent at the end */
        bool woken;   /* sources may have something */
        int epoll_fd;
        bool watches; /* the sockets are in it: somebody waits there */
        uint64_t timeout_usec;
        uint64_t now;   /* of this turn */
        bool is_timely; /* nothing was waited for since then */
        size_t n_calls;
        struct call_list done;  /* answered, to be told */
        struct call_list spare; /* calls that are over, for their memory */
        unsigned n_spare;
        struct call *failed; /* the last that failed: its words are made when they are asked for */
        struct connection connection[ROLE_MAX];
        char words[WORDS_MAX];
};

/* Has client->now be what the clock says, and returns it; the second one only when it may be old. */
uint64_t client_read_clock(objmapper_client *client);
void client_look_at_clock(objmapper_client *client);
/* The words of the next objmapper_client_error(). Returns error. */
int client_fail(objmapper_client *client, int error, const char *format, ...) _printf_(3, 4);
/* The same: those of call, which is freed. */
void client_keep_failed(objmapper_client *client, struct call *call);

/* Adds a request, with an output, too. armed: the poll descriptor tells that it can be sent, unless it is sent at once. */
int client_add(objmapper_client *client,
               const objmapper_request *request,
               objmapper_reply_fn reply,
               void *userdata,
               bool armed);
/* The same for a get of a whole object. reused: NULL, or an object whose memory the answer may take; consumed on
 * success. */
int client_add_get(objmapper_client *client,
                   const char *uri,
                   objmapper_object *reused,
                   objmapper_reply_fn reply,
                   void *userdata);

/* A call that has not been counted yet becomes one of the connection's. */
void client_take_call(objmapper_client *client,
                      struct connection *connection,
                      struct call *call,
                      objmapper_reply_fn reply,
                      void *userdata);
/* One that is over, for its memory; NULL: there is none. And one that has room for a head of size bytes, and is made where
 * there is none: it stays there, the first one to be taken; NULL: no memory. */
struct call *client_take_spare(objmapper_client *client);
struct call *client_find_spare(objmapper_client *client, size_t size);

/* Asks for a whole object and waits for it, where nothing else is under way. AT_ONCE_NOT: nothing was done, the usual way
 * is to be gone. AT_ONCE_BEGUN: it is a call now, reply will be called. AT_ONCE_ANSWERED: *ret_error is 0 and *ret the
 * caller's, or it is -ENOMEM. reused: NULL, or an object whose memory the answer may take; consumed unless nothing was
 * done. */
enum at_once { AT_ONCE_NOT, AT_ONCE_BEGUN, AT_ONCE_ANSWERED };
enum at_once client_get_at_once(objmapper_client *client,
                                const void *uri,
                                size_t uri_size,
                                objmapper_object *reused,
                                objmapper_reply_fn reply,
                                void *userdata,
                                objmapper_object **ret,
                                int *ret_error);

/* One turn: sends, waits up to usec for something, receives, tells the answers. Their number, or -EDEADLK. */
int client_turn(objmapper_client *client, uint64_t usec);

/* Connects and waits for the daemon's greeting, at most for the time-out. */
int client_greet(objmapper_client *client);
