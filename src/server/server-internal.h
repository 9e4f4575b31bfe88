/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of the server know of it. */

#include "job.h"
#include "log.h"
#include "mailbox.h"
#include "permission.h"
#include "server.h"
#include "session.h"
#include "worker.h"

#define USER_BUCKETS 64

/* Who has sessions. Made and freed by the thread of the caller's loop; a worker only counts down. */
struct user {
        struct user *next;
        uid_t uid;
        unsigned n_sessions; /* atomic */
};

struct listener;

struct server {
        sd_event *event;
        struct storage *storage;
        uint64_t start_usec; /* CLOCK_REALTIME */
        unsigned connections_max, connections_per_user_max;
        struct session_limits limits;
        bool visible; /* atomic */

        struct rules rules;
        struct refusals refusals;

        struct mailbox *mailbox; /* what the workers have to tell */
        struct job_pool *jobs;
        struct job_pool *bulk; /* for what goes over many objects: gets' jobs do not wait behind it */
        struct worker **workers;
        unsigned n_workers, next_worker;

        struct listener *listeners;
        int reserve_fd; /* given up to refuse a client when there is no other descriptor left */

        struct user *users[USER_BUCKETS];
        unsigned n_sessions; /* atomic */
        uint64_t n_connections;
        uint64_t n_refused; /* atomic, relaxed */

        struct log_ratelimit refused_limit, dropped_limit, accept_limit;

        unsigned n_silent; /* workers that have still to give a sign of life */
        void (*all_alive)(void *userdata);
        void *all_alive_userdata;

        bool draining;
        unsigned n_draining; /* workers with sessions */
        sd_event_source *drain_timer;
        void (*drained)(void *userdata);
        void *drained_userdata;
};

/* threads: false for a test that runs the one worker itself, jobs being run when they are submitted. */
int server_make(struct server **ret,
                sd_event *event,
                struct storage *storage,
                const struct server_config *config,
                bool threads);

/* Takes a connected socket as a new session, or refuses it; either way fd is the server's. Caller's loop. */
void server_take_connection(struct server *server, int fd, enum access_role role);

/* Tells a client that there is no room for it, and closes fd. Caller's loop. */
void server_refuse(struct server *server, int fd, const struct access_peer *peer, const char *reason);

/* The session of user is over. A worker's thread. */
void server_forget_session(struct server *server, struct user *user);

/* The worker has no session and no request left. The worker's thread. */
void server_worker_drained(struct server *server, struct worker *worker);

/* server_visit_counters() for any thread. */
void server_count(struct server *server,
                  void (*visit)(const char *name, uint64_t value, void *userdata),
                  void *userdata);

/* A sign of life. The worker's thread. */
void server_worker_alive(struct server *server, struct worker *worker);

void listener_free_all(struct server *server);

/* Logs what a peer did or had done to it. */
void server_log_peer(struct log_ratelimit *limit,
                     int error,
                     const char *message_id,
                     const struct access_peer *peer,
                     const char *what,
                     const char *reason);
