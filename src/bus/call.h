/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A call of a method, from the message to the reply: who may make it, how many there may be, and on which thread it
 * does what may block. What each method does is in the files that define a struct method. The loop's thread only,
 * unless it says otherwise. */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "access.h"
#include "cleanup.h"
#include "job.h"
#include "server.h"
#include "storage.h"

/* Calls under way of those that change something, of those that ask, and of those that ask for long: these take a
 * while, and one user is not to have them all. */
#define CALLS_MAX          64
#define LONG_ASKS_PER_USER 16

/* Those before, of which it is not known yet whether they may be done, nor by which user, and the bytes that these
 * hold. Anybody can make them, and as many of those that ask. So a connection may have no more of either than it
 * leaves free: of hundreds that take all they can none is left with nothing, nor who comes after them. */
#define UNDECIDED_MAX       1024
#define UNDECIDED_BYTES_MAX ((size_t) 128 << 20)

struct calls;
struct call;

struct method {
        size_t size; /* of the struct that begins with a struct call */
        enum access_verb verb;
        bool is_long; /* on one of the threads for what may take long; else on the one on which calls are done in the
                         order in which they came */

        /* It may be done. 0, or what sd-bus handlers return: it was answered. NULL: nothing is to be seen to. */
        int (*permitted)(struct call *call, const struct access_peer *peer);
        /* What may block, on another thread: 0 or an errno. NULL: nothing, only answer is called. */
        int (*run)(struct call *call);
        /* Replies; result: of run. An error is answered by calls, unless own_errors. */
        int (*answer)(struct call *call);
        bool own_errors;
        void (*done)(struct call *call); /* frees what its struct holds; may be NULL */
};

struct call {
        const struct method *method;
        struct calls *calls;
        sd_bus_message *message; /* holds what was borrowed from it */
        const char *uri; /* that it is about, or what URIs begin with, as its verb has it; NULL: it is about none */
        size_t bytes; /* that the caller made it hold, besides a few */
        int result;

        uid_t uid; /* of the caller, once it is permitted and that was asked for */

        unsigned *counter; /* private */
        size_t undecided_bytes;
        struct call *previous, *next;
        struct job job;
};

/* event, storage and server, whose rules count, must outlive it. user_bus, own_uid: as access_check_bus() wants
 * them. -ENOMEM, -EAGAIN, -EMFILE. */
int calls_new(struct calls **ret,
              sd_event *event,
              struct storage *storage,
              struct server *server,
              bool user_bus,
              uid_t own_uid);

/* The bus says only of which user callers are. Before the first call. */
void calls_ask_uid_alone(struct calls *calls);
/* Waits until what was begun is done and answered; refuses the rest. NULL is fine. */
void calls_free(struct calls *calls);
DEFINE_CLEANUP(struct calls, calls_free)

bool calls_are_under_way(const struct calls *calls);
/* Any thread. */
struct storage *calls_storage(const struct calls *calls);
struct server *calls_server(const struct calls *calls);

/* A call of method, zeroed. 0; 1: there are too many, of this caller or of all, and it was answered so; or a negative
 * errno. */
int call_new(struct call **ret, struct calls *calls, sd_bus_message *message, const struct method *method);
void call_free(struct call *call);
DEFINE_CLEANUP(struct call, call_free)

/* Asks who calls and whether they may, and does it then. Takes the call. What sd-bus handlers return. */
int call_ask(struct call *call);
/* Does it: anybody may. */
int call_submit(struct call *call);

/* For what is done by another part: handle is called when the caller may, and answers the message at once or
 * later. */
int calls_permit(struct calls *calls,
                 sd_bus_message *message,
                 enum access_verb verb,
                 int (*handle)(sd_bus_message *message, void *userdata),
                 void *userdata);
