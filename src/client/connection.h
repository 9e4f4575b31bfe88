/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One socket to the daemon and the calls on it: it is opened when a call waits, greeted, and opened again when
 * it was lost. Nothing waits here, but where it says so. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "call.h"
#include "clock.h"
#include "download.h"
#include "fdpass.h"
#include "protocol.h"

#define CONNECTION_INPUT_SIZE ((size_t) 2 * PROTO_HEAD_MAX) /* bytes: the largest head fits */
#define CONNECTION_WAIT_USEC  (1 * USEC_PER_SEC) /* that splice() waits for a body that it moves, at most */
#define CONNECTION_DEPTH_MAX  1024               /* requests in flight, whatever the daemon offers */

enum connection_state {
        CONNECTION_CLOSED,
        CONNECTION_PAUSED,   /* closed, and not to be tried again before retry_usec */
        CONNECTION_GREETING, /* the hello was sent, its answer is awaited */
        CONNECTION_OPEN,
};

struct connection {
        enum watch watch; /* first: events point here */
        objmapper_client *client;
        char *path;
        enum connection_state state;
        int fd;
        bool wanted;        /* somebody waits for the greeting alone */
        int wanted_error;   /* why it did not come to that */
        bool draining;      /* the daemon begins nothing more here */
        bool drained;       /* ... and has answered all that it had begun */
        bool output_broken; /* it reads nothing more; its answers may still come */
        bool watched;       /* the epoll set has the socket */
        bool output_armed;  /* ... and tells, as far as it has it, when the socket takes more */
        bool may_wait;   /* splice() waits, where no flag says otherwise, for CONNECTION_WAIT_USEC at most */
        int refusal;     /* why it is paused: of connect(2), negative; 0: it was lost */
        unsigned losses; /* connections in a row, without an answer in between */
        unsigned pauses; /* in a row: each is longer */
        uint64_t retry_usec;
        uint64_t refused_usec;  /* since when; 0: it is not */
        uint64_t progress_usec; /* when something of a call last came or went */

        /* The calls. All that have an id have a slot, too: id % CONNECTION_DEPTH_MAX. */
        struct call_list waiting, waiting_streams; /* to be sent, the oldest first */
        struct call_list pending;                  /* sent or being sent; whose progress is oldest first */
        struct call_list parked;                   /* being sent, but the source has nothing at present */
        struct call_list output;                   /* have something to send (output_link) */
        struct call *slot[CONNECTION_DEPTH_MAX];
        uint16_t free_slot[CONNECTION_DEPTH_MAX];
        unsigned n_free, depth;
        unsigned n_streams, streams; /* open ones, and how many the daemon allows */
        unsigned n_abandoned;
        unsigned n_fds_expected;     /* calls that may be answered with a descriptor */
        unsigned n_splices_expected; /* calls whose body is to stay out of memory */
        uint64_t serial;

        uint8_t hello[128];
        size_t hello_size, hello_sent;

        /* What was received and not yet taken. */
        uint8_t *input;
        size_t input_begin, input_end;
        struct fdpass_queue *fds;
        struct call *receiving;          /* whose body is coming; NULL: nobody's */
        struct objmapper_object *object; /* its answer so far */
        struct download download;
        bool in_body, no_splice;
        uint16_t n_late;  /* times to wait at once: to look again was in vain, or took long */
        bool after_large; /* the last body was a large one, into memory */
        int pipe[2];
};

/* Never fails. path is owned by the connection, and may be NULL as long as no call is added. */
void connection_init(struct connection *connection, objmapper_client *client);
/* Forgets everything, calls included. */
void connection_done(struct connection *connection);

/* ---- connection.c ---- */

/* Connects and greets. 0: under way, or paused; or why it can't: -EHOSTDOWN, -EACCES, -EMFILE, -ENOMEM, ... */
int connection_open(struct connection *connection);
/* The stream ended, or has to: calls wait for the next connection or get their errors. */
void connection_lost(struct connection *connection);
/* The same for something that must not be tried again: every call ends with error and these words. */
void connection_fail(struct connection *connection, int error, const char *format, ...) _printf_(3, 4);
/* Ends what has waited too long. */
void connection_end_overdue(struct connection *connection);
/* Opens it where calls wait and it is time, and leaves it when it drains and all is answered. */
void connection_tend(struct connection *connection);
/* When one of these has something to do; UINT64_MAX: never. */
uint64_t connection_deadline(const struct connection *connection);
void connection_add(struct connection *connection, struct call *call);
/* Has the socket in the epoll set, from now on. Whoever waits in connection_receive() alone never comes here: the kernel
 * then has nothing to note there for each request and answer. 0, or -ENOMEM, -ENOSPC. */
int connection_watch(struct connection *connection);
/* Asks epoll to tell when the socket can be written, or not to. */
void connection_arm_output(struct connection *connection, bool on);

/* A call has come on, as of client->now: who moved bytes, and may have waited for an output or a source, looks at the
 * clock before. */
void connection_progress(struct connection *connection, struct call *call);
/* Gives the call a slot and an id, and begins to send it. The id is what connection_next_id() said before. */
void connection_admit(struct connection *connection, struct call *call);
uint64_t connection_next_id(const struct connection *connection);
/* A get with the next id was sent and answered without ever being a call. */
void connection_note_quick(struct connection *connection);
/* The head of its reply has arrived. */
void connection_unexpect(struct connection *connection, struct call *call);
/* Its answer is known: it is told as soon as nothing of it is being sent any more. */
void connection_reply(struct connection *connection, struct call *call);
/* Nothing of it is being sent any more. */
void connection_sent(struct connection *connection, struct call *call);
/* Ends it with its error, whatever was sent of it. Where a frame was begun, the connection must be given up. */
void connection_cut(struct connection *connection, struct call *call);
/* Back to the waiting calls, as if it had never been sent. */
void connection_requeue(struct connection *connection, struct call *call);

/* ---- output.c ---- */

/* Sends what can be sent. */
void connection_flush(struct connection *connection);
/* n bytes of what was to be sent are, by somebody else. */
void connection_note_sent(struct connection *connection, uint64_t n);
/* The call's parked source has something. */
void connection_unpark(struct connection *connection, struct call *call);
/* All sources that are not descriptors may have something. */
void connection_wake_sources(struct connection *connection);
bool connection_has_output(const struct connection *connection);
/* Whether it is open and nothing but what waits is under way. */
bool connection_is_idle(const struct connection *connection);

/* ---- input.c ---- */

/* Receives what is there, and takes it. Where nothing is, waits for something for up to wait_usec (UINT64_MAX: for ever);
 * more than 0 only where connection_can_wait(). */
void connection_receive(struct connection *connection, uint64_t wait_usec);
bool connection_can_wait(const struct connection *connection);
/* Where receive() said that nothing is there, calls it some times again before connection_wait(). The daemon has the
 * processor first if it wants it, and then what is awaited is often there: to go to sleep, and be woken, costs both of them
 * more than it takes to come. Where that was in vain, or somebody else took the processor, it is not tried again until as
 * much time is made good. Returns what receive() did; *ret_begun_usec: since when, by CLOCK_MONOTONIC; 0: it was not. */
ssize_t connection_look(struct connection *connection,
                        ssize_t (*receive)(void *userdata),
                        void *userdata,
                        uint64_t *ret_begun_usec);
/* What is left of a wait that has begun then; 0: it has not. */
uint64_t connection_left(uint64_t wait_usec, uint64_t begun_usec);
/* Waits for up to usec (UINT64_MAX: for ever) until something has come, or a signal. */
void connection_wait(const struct connection *connection, uint64_t usec);
/* Takes what somebody else received: size bytes at the input's beginning, and descriptors. */
void connection_take(struct connection *connection, size_t size, struct fdpass_fds *fds);
/* From now on the socket never waits, not even where a flag of the call can't say so. */
void connection_never_wait(struct connection *connection);
