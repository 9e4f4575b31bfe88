/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A thread with the sessions that were dealt to it, and all that they share while it is their turn.
 *
 * Sessions are watched by an epoll of the worker's own, which takes many of them in one call; the sd-event
 * loop, for mails and timers, is one more descriptor in it. */

#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include "counters.h"
#include "job.h"
#include "mailbox.h"
#include "permission.h"
#include "storage.h"

#define RECEIVE_MAX ((size_t) 64 << 10)  /* bytes taken from a socket in one turn */
#define PIECE_MAX   ((size_t) 256 << 10) /* bytes of a put's body that are written at once */
#define COPY_MAX    ((size_t) 64 << 10)  /* bytes that are sent at once of a body that can only be read */

#define RECENT_MAX 64

struct output;
struct output_chunk;
struct server;
struct session;

struct worker {
        /* Of the server, and the same for all workers. */
        struct server *server;
        struct storage *storage;
        struct job_pool *jobs, *bulk; /* the server's */

        pthread_t thread;
        bool started;
        bool stop;

        int epoll_fd;
        sd_event *event;
        struct mailbox *mailbox;
        sd_event_source *sweep; /* looks for deadlines that passed */
        uint64_t sweep_interval_usec;
        uint64_t now_usec;  /* CLOCK_MONOTONIC, when this turn began */
        uint64_t wall_usec; /* CLOCK_REALTIME_COARSE, when the session's turn began */

        struct rules_view rules;

        struct session *sessions;
        struct session *dead;                /* freed when this turn is over: events may still name them */
        struct session *turns, **turns_last; /* those with work that no event will tell of */
        unsigned n_sessions;                 /* atomic, written by the thread that deals and by this one */
        unsigned n_requests; /* begun, their end not seen, whether or not their session still is */

        /* Of all sessions' answers that wait. */
        uint32_t n_files;     /* open */
        uint64_t output_size; /* bytes of memory */
        uint64_t reserved;    /* bytes that requests under way hold, or their answers may need */

        /* The scratch space of whoever's turn it is. */
        struct storage_object object;
        uint64_t may_send;       /* bytes, in this turn; a little more may come of it */
        uint64_t may_send_alone; /* of files, as long as no other session has a turn to come */
        bool small_first;        /* others wait: what has to be sent from files waits for a turn */
        uint8_t *received;       /* PROTO_HEAD_MAX + RECEIVE_MAX bytes */
        uint8_t *copied;         /* COPY_MAX bytes */
        int pipe_read, pipe_write, null_fd;
        size_t pipe_size;

        /* Bodies that were sent whole, from their beginning on: where their generation says. */
        struct recent {
                uint64_t generation; /* 0: none */
                uint64_t copy;       /* as of struct output_file */
                uint64_t size;       /* bytes that were sent */
                uint64_t sent_usec;  /* as now_usec */
        } recent[RECENT_MAX];

        /* What sessions have while they need it, kept for the next. */
        struct output *free_outputs;
        struct output_chunk *free_chunks;
        void *free_pieces;
        unsigned n_free_outputs, n_free_chunks, n_free_pieces;

        bool draining;
        struct mail drain_mail, cut_mail, stop_mail, drained_mail;
        struct mail alive_mail; /* there and back again */

        struct counters counters;
};

/* -ENOMEM, -EMFILE, -ENFILE. */
int worker_new(struct worker **ret, struct server *server);
/* Makes the thread. -EAGAIN. */
int worker_start(struct worker *worker);
/* Ends the thread: sessions are cut, what was begun in the store is waited for. Without a thread the caller
 * becomes it for this. What it posted to the server may be undelivered, and lies in the worker. */
void worker_stop(struct worker *worker);
/* Stops it when that was not done. NULL is fine. */
void worker_free(struct worker *worker);
DEFINE_CLEANUP(struct worker, worker_free)

/* server_worker_alive() is called on the worker's thread, when it comes to that. One question at a time. Any
 * thread. */
void worker_ask_alive(struct worker *worker);

/* One turn of the loop, waiting for at most timeout_msec (-1: for ever). For the worker's thread, or for a
 * test that has none. */
void worker_run_once(struct worker *worker, int timeout_msec);

/* The following are for the worker's thread. */

/* Gives the session a turn after those that are waiting for theirs. */
void worker_queue_turn(struct worker *worker, struct session *session);
/* Makes sure that deadlines of timeout_usec are looked at often enough. 0: none. */
void worker_watch_timeout(struct worker *worker, uint64_t timeout_usec);
/* To be called when a session or a request has ended: tells the server when that was the last of a drain. */
void worker_check_drained(struct worker *worker);

/* The rules that count now: good until it is asked again. NULL: there are none. */
struct access_rules *worker_rules(struct worker *worker);

/* Buffers of PIECE_MAX bytes. NULL: no memory. */
void *worker_take_piece(struct worker *worker);
void worker_return_piece(struct worker *worker, void *piece);
