/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One client's connection: a state machine on a non-blocking socket, driven by its worker. */

#include <stdbool.h>
#include <stdint.h>

#include "access.h"
#include "mailbox.h"
#include "protocol.h"

struct output;
struct put;
struct request;
struct server;
struct user;
struct worker;

#define HELLO_TIMEOUT_USEC (10 * UINT64_C(1000000))

/* Those of the configuration at the time when the session came. What each request looks at comes first. */
struct session_limits {
        uint64_t output_max;
        /* Of all sessions of a worker together: from there on each has little. */
        uint64_t worker_output_max;
        uint32_t worker_files_max;
        uint32_t fds_in_flight_max;
        uint32_t inline_max;

        uint32_t pipeline_max;
        uint32_t streams_max;
        uint64_t object_max;
        uint64_t idle_timeout_usec;
        uint64_t write_timeout_usec;
};

/* What the output waits for. */
enum output_wait {
        OUTPUT_READY,
        OUTPUT_WAIT_ROOM, /* for room in the socket */
        OUTPUT_WAIT_FDS,  /* for the client to receive descriptors */
        OUTPUT_WAIT_BODY, /* for a body to come from the disk */
};

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76 /* of a socket, from Linux 6.5 on: whether each message tells who sent it */
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* ... from Linux 6.16 on: whether it takes descriptors */
#endif

struct session {
        /* What each request touches comes first, on few lines of memory: where there are many sessions, none of them is
         * in a cache when its session is woken. */

        struct worker *worker;
        int fd;
        uint32_t events;  /* that epoll watches for */
        bool reads_whole; /* a read brings all that there is, but where more than it could */
        bool hears_edges; /* epoll tells of requests only when more of them come: it need not look at the socket twice for each */
        bool unread; /* something may be left in the socket that epoll told of */

        bool turn_queued;
        bool closing; /* no more is read; closed when all that was begun is answered */
        bool dead;    /* closed, to be freed */
        int broken;   /* the error for which it will be dropped at the end of its turn */

        /* As agreed in the hello. */
        bool greeted;
        bool ordered;
        uint8_t mode;
        uint16_t fds_per_batch;
        uint32_t depth;

        /* Input: bytes received and not consumed. */
        bool input_incomplete; /* they are no whole head */
        bool input_blocked;    /* what comes next has to wait for what was begun */
        uint16_t blocked_type; /* of the frame that has to wait */
        uint32_t input_size;
        uint64_t body_left;   /* bytes of the current frame's body to come */
        struct put *body_put; /* which takes them; NULL: they are skipped */

        /* Requests begun and not answered. */
        uint32_t n_pending, n_lookups;
        uint64_t reserved; /* bytes that they hold, or that their answers may need */

        struct output *output; /* NULL: nothing waits */
        enum output_wait output_wait;
        uint32_t fds_sent; /* since the client was last seen to have received all */

        /* When there was the last progress. Before the hello input_usec is the beginning. */
        uint64_t input_usec, output_usec;
        uint64_t asked_usec; /* when what is being answered was taken from the socket */

        struct session_limits limits;

        /* The rest of it. */

        struct server *server;
        struct user *user;
        struct mail mail; /* the way to the worker */
        struct session *previous, *next;
        struct session *next_turn;
        struct session *next_dead;
        const char *broken_reason;

        uint8_t *input;
        uint32_t input_allocated;

        struct request *requests;
        uint32_t n_streams;

        bool draining;       /* closing, and the client is then told so */
        bool big_buffer;     /* SO_SNDBUF was raised */
        bool warming;        /* a job reads the next of the first body that waits from the disk */
        uint8_t n_room_late; /* times to wait at once when the socket is full */
        uint64_t full_usec;  /* since when it is, and room is looked for again and again; 0: it is not */

        enum access_role role;
        struct access_peer peer;
        gid_t groups[]; /* of the peer */
};

/* Takes fd, user and what they count on; copies peer. Any thread. -ENOMEM: fd stays the caller's. */
int session_new(struct session **ret,
                struct worker *worker,
                int fd,
                struct user *user,
                const struct access_peer *peer,
                enum access_role role,
                const struct session_limits *limits);
/* Hands the session to its worker, who owns it from then on. */
void session_deal(struct session *session);

/* The following are for the worker's thread. */

/* Bytes that a session sends in one turn, but for some; and of a file when no other session has a turn to come. */
#define TURN_SEND_MAX  ((uint64_t) 256 << 10)
#define ALONE_SEND_MAX ((uint64_t) 1 << 20)

/* Does what can be done now, within bounds. events: what epoll said, 0 for none. */
void session_turn(struct session *session, uint32_t events);
/* What its output waited for is there: it gets a turn. */
void session_may_send(struct session *session);
/* Closes it at once; freed by the worker when its turn is over. */
void session_close(struct session *session);
/* The same, with the reason logged as a dropped session. */
void session_drop(struct session *session, int error, const char *reason);
/* The same at the end of its turn, for who may be in the midst of it. reason: a constant. */
void session_break(struct session *session, int error, const char *reason);
/* Tells the client why, begins nothing more, closes when all is answered. */
void session_finish(struct session *session, uint16_t status, const char *text);
/* Looks at the deadlines. */
void session_sweep(struct session *session);
void session_free(struct session *session);
