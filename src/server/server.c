/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "clock.h"
#include "macro.h"
#include "message-ids.h"
#include "protocol.h"
#include "request.h"
#include "server-internal.h"

#define JOB_THREADS_MIN 4U
#define JOB_THREADS_MAX 16U
#define BULK_THREADS    2
#define BULK_NICE       10
#define LOG_INTERVAL    (15 * USEC_PER_SEC)
#define LOG_BURST       5

/* All workers' answers that wait may hold this share of the descriptors, and as much memory. */
#define FILES_SHARE      8
#define OUTPUT_TOTAL     (UINT64_C(256) << 20)
#define OUTPUTS_AT_LEAST 4 /* sessions of a worker that may have MaxOutput= each */

static uint32_t files_max(unsigned n_workers) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return UINT32_MAX;

        return (uint32_t) MIN(limit.rlim_cur / FILES_SHARE / n_workers, (rlim_t) UINT32_MAX);
}

static struct session_limits limits_from_config(const struct server_config *config) {
        return (struct session_limits){
                .output_max = config->output_max,
                .object_max = config->object_max == 0 ? UINT64_MAX : config->object_max,
                .idle_timeout_usec = config->idle_timeout_usec,
                .write_timeout_usec = config->write_timeout_usec,
                .inline_max = config->inline_max,
                .pipeline_max = MAX(config->pipeline_max, 1U),
                .streams_max = config->streams_max,
                .fds_in_flight_max = MAX(config->fds_in_flight_max, 1U),
                .worker_files_max = files_max(config->workers),
                .worker_output_max = MAX(OUTPUT_TOTAL / config->workers,
                                         OUTPUTS_AT_LEAST * config->output_max),
        };
}

static void on_worker_drained(struct mail *mail) {
        struct worker *worker = container_of(mail, struct worker, drained_mail);
        struct server *server = worker->server;

        assert(server->n_draining > 0);
        if (--server->n_draining > 0)
                return;

        server->drain_timer = sd_event_source_disable_unref(server->drain_timer);
        if (server->drained)
                server->drained(server->drained_userdata);
}

void server_worker_drained(struct server *server, struct worker *worker) {
        worker->drained_mail.deliver = on_worker_drained;
        mailbox_post(server->mailbox, &worker->drained_mail);
}

static void on_worker_alive(struct mail *mail) {
        struct server *server = container_of(mail, struct worker, alive_mail)->server;

        if (--server->n_silent == 0 && server->all_alive)
                server->all_alive(server->all_alive_userdata);
}

void server_worker_alive(struct server *server, struct worker *worker) {
        worker->alive_mail.deliver = on_worker_alive;
        mailbox_post(server->mailbox, &worker->alive_mail);
}

void server_ask_alive(struct server *server, void (*answered)(void *userdata), void *userdata) {
        if (server->n_silent > 0)
                return;

        server->all_alive = answered;
        server->all_alive_userdata = userdata;
        server->n_silent = server->n_workers;
        for (unsigned i = 0; i < server->n_workers; i++)
                worker_ask_alive(server->workers[i]);
}

int server_make(struct server **ret,
                sd_event *event,
                struct storage *storage,
                const struct server_config *config,
                bool threads) {
        _cleanup_(server_freep) struct server *server = NULL;
        static const struct log_ratelimit limit = { .interval_usec = LOG_INTERVAL, .burst = LOG_BURST };
        unsigned n_jobs;
        int r;

        assert(ret);
        assert(storage);
        assert(config->workers >= 1);

        server = calloc(1, sizeof(*server));
        if (!server)
                return -ENOMEM;

        server->event = sd_event_ref(event);
        server->storage = storage;
        server->start_usec = clock_usec(CLOCK_REALTIME);
        server->reserve_fd = -EBADF;
        server->refused_limit = server->dropped_limit = server->accept_limit = limit;
        server->refusals.limit = limit;
        (void) pthread_mutex_init(&server->rules.lock, NULL);
        server_reconfigure(server, config);

        server->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (server->reserve_fd < 0)
                return -errno;

        r = mailbox_new(&server->mailbox, event);
        if (r < 0)
                return r;

        n_jobs = MAX(2 * config->workers, JOB_THREADS_MIN);
        r = job_pool_new(&server->jobs, threads ? MIN(n_jobs, JOB_THREADS_MAX) : 0, 0);
        if (r < 0)
                return r;
        r = job_pool_new(&server->bulk, threads ? BULK_THREADS : 0, BULK_NICE);
        if (r < 0)
                return r;

        server->workers = calloc(config->workers, sizeof(server->workers[0]));
        if (!server->workers)
                return -ENOMEM;

        while (server->n_workers < config->workers) {
                struct worker **worker = &server->workers[server->n_workers];

                r = worker_new(worker, server);
                if (r < 0)
                        return r;
                server->n_workers++;

                r = threads ? worker_start(*worker) : 0;
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(server);
        return 0;
}

int server_new(struct server **ret,
               sd_event *event,
               struct storage *storage,
               const struct server_config *config) {
        return server_make(ret, event, storage, config, true);
}

void server_reconfigure(struct server *server, const struct server_config *config) {
        server->connections_max = config->connections_max;
        server->connections_per_user_max = config->connections_per_user_max;
        server->limits = limits_from_config(config);
        __atomic_store_n(&server->visible, config->visible, __ATOMIC_RELAXED);
}

bool server_is_visible(const struct server *server) {
        return __atomic_load_n(&server->visible, __ATOMIC_RELAXED);
}

void server_free(struct server *server) {
        if (!server)
                return;

        server->all_alive = NULL; /* an answer may be under way, and who asked gone */
        listener_free_all(server);
        for (unsigned i = 0; i < server->n_workers; i++)
                worker_stop(server->workers[i]);
        if (server->mailbox) /* the last mails lie in the workers */
                mailbox_free(server->mailbox);
        for (unsigned i = 0; i < server->n_workers; i++)
                worker_free(server->workers[i]);
        free(server->workers);
        job_pool_free(server->jobs);
        job_pool_free(server->bulk);

        server->drain_timer = sd_event_source_disable_unref(server->drain_timer);
        for (unsigned i = 0; i < USER_BUCKETS; i++)
                while (server->users[i]) {
                        struct user *user = server->users[i];

                        server->users[i] = user->next;
                        free(user);
                }

        rules_done(&server->rules);
        close_fd(server->reserve_fd);
        sd_event_unref(server->event);
        free(server);
}

/* The user's entry; those that have no session are taken out on the way. NULL: no memory. */
static struct user *find_user(struct server *server, uid_t uid) {
        struct user **bucket = &server->users[uid % USER_BUCKETS], *user;

        for (struct user **p = bucket; (user = *p);) {
                if (user->uid == uid)
                        return user;

                if (__atomic_load_n(&user->n_sessions, __ATOMIC_ACQUIRE) == 0) {
                        *p = user->next;
                        free(user);
                } else
                        p = &user->next;
        }

        user = malloc(sizeof(*user));
        if (!user)
                return NULL;

        *user = (struct user){ .next = *bucket, .uid = uid };
        *bucket = user;
        return user;
}

void server_forget_session(struct server *server, struct user *user) {
        __atomic_fetch_sub(&server->n_sessions, 1, __ATOMIC_RELAXED);
        /* The last access: it may be freed from now on. */
        __atomic_fetch_sub(&user->n_sessions, 1, __ATOMIC_RELEASE);
}

unsigned server_get_sessions(struct server *server) {
        return __atomic_load_n(&server->n_sessions, __ATOMIC_RELAXED);
}

uint64_t server_count_connections(const struct server *server) {
        return server->n_connections;
}

void server_log_peer(struct log_ratelimit *limit,
                     int error,
                     const char *message_id,
                     const struct access_peer *peer,
                     const char *what,
                     const char *reason) {
        char uid[16], pid[16], suffix[LOG_DROPPED_MAX];
        unsigned dropped;

        if (!log_provoked_pass(limit, &dropped))
                return;

        (void) snprintf(uid, sizeof(uid), "%u", (unsigned) peer->uid);
        (void) snprintf(pid, sizeof(pid), "%i", (int) peer->pid);
        (void) log_dropped(dropped, suffix);

        const struct log_field fields[] = {
                LOG_FIELD_STRING("OBJMAPPER_PEER_UID", uid),
                LOG_FIELD_STRING("OBJMAPPER_PEER_PID", pid),
        };

        if (error != 0)
                log_write(LOG_NOTICE, error, message_id, fields, ARRAY_SIZE(fields),
                          "%s of uid %s, pid %s: %s: %m%s", what, uid, pid, reason, suffix);
        else
                log_write(LOG_NOTICE, 0, message_id, fields, ARRAY_SIZE(fields), "%s of uid %s, pid %s: %s%s",
                          what, uid, pid, reason, suffix);
}

void server_refuse(struct server *server, int fd, const struct access_peer *peer, const char *reason) {
        struct proto_message notice = reply_message(PROTO_NOTICE, 0, PROTO_BUSY);
        uint8_t head[PROTO_HEAD_FIXED + PROTO_FIELD_HEAD + PROTO_TEXT_MAX];
        ssize_t n;

        notice.head.type = PROTO_NOTICE;
        reply_set_text(&notice, reason);
        n = proto_message_encode(&notice, head, sizeof(head));
        if (n > 0)
                (void) send(fd, head, (size_t) n, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void) close_fd(fd);

        __atomic_fetch_add(&server->n_refused, 1, __ATOMIC_RELAXED);
        server_log_peer(&server->refused_limit, 0, MESSAGE_SESSION_REFUSED, peer, "Refused a session",
                        reason);
}

/* That with the fewest sessions; among equals the next in turn. */
static struct worker *choose_worker(struct server *server) {
        struct worker *best = NULL;
        unsigned least = UINT_MAX;

        for (unsigned i = 0; i < server->n_workers; i++) {
                struct worker *worker = server->workers[(server->next_worker + i) % server->n_workers];
                unsigned n = __atomic_load_n(&worker->n_sessions, __ATOMIC_RELAXED);

                if (n < least) {
                        least = n;
                        best = worker;
                }
        }

        server->next_worker = (server->next_worker + 1) % server->n_workers;
        return best;
}

/* The supplementary groups that the peer had when it connected. Who is in too many, or whose groups the kernel does not
 * tell, is in none: groups only ever permit something. */
static size_t read_groups(int fd, gid_t groups[static ACCESS_GROUPS_MAX]) {
        socklen_t size = ACCESS_GROUPS_MAX * sizeof(groups[0]);

        return getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0 ? 0 : size / sizeof(groups[0]);
}

void server_take_connection(struct server *server, int fd, enum access_role role) {
        struct ucred credentials = { .uid = (uid_t) -1 };
        socklen_t size = sizeof(credentials);
        gid_t groups[ACCESS_GROUPS_MAX];
        struct access_peer peer;
        struct session *session;
        struct worker *worker;
        struct user *user;

        server->n_connections++;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0) {
                log_errno(LOG_WARNING, errno, "Can't tell who connected: %m");
                (void) close_fd(fd);
                return;
        }

        peer = (struct access_peer){
                .uid = credentials.uid,
                .gid = credentials.gid,
                .pid = credentials.pid,
                .groups = groups,
                .n_groups = read_groups(fd, groups),
        };

        if (server_get_sessions(server) >= server->connections_max) {
                server_refuse(server, fd, &peer,
                              "the server has as many connections as it may (MaxConnections=)");
                return;
        }

        user = find_user(server, peer.uid);
        if (user &&
            __atomic_load_n(&user->n_sessions, __ATOMIC_RELAXED) >= server->connections_per_user_max) {
                server_refuse(server, fd, &peer,
                              "the user has as many connections as one may (MaxConnectionsPerUser=)");
                return;
        }

        worker = choose_worker(server);
        if (!user || session_new(&session, worker, fd, user, &peer, role, &server->limits) < 0) {
                server_refuse(server, fd, &peer, "the server is short of memory");
                return;
        }

        __atomic_fetch_add(&server->n_sessions, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&user->n_sessions, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&worker->n_sessions, 1, __ATOMIC_RELAXED);
        session_deal(session);
}

static int on_drain_timeout(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        struct server *server = userdata;

        log_warning("Cutting %u sessions that did not take their answers in time",
                    server_get_sessions(server));
        for (unsigned i = 0; i < server->n_workers; i++)
                mailbox_post(server->workers[i]->mailbox, &server->workers[i]->cut_mail);
        return 0;
}

void server_drain(struct server *server,
                  uint64_t timeout_usec,
                  void (*drained)(void *userdata),
                  void *userdata) {
        assert(!server->draining);
        assert(drained);

        server->draining = true;
        server->drained = drained;
        server->drained_userdata = userdata;
        server->n_draining = server->n_workers;
        listener_free_all(server);

        /* Without the timer the sessions' own deadlines have to do. */
        (void) sd_event_add_time_relative(server->event, &server->drain_timer, CLOCK_MONOTONIC, timeout_usec,
                                          0, on_drain_timeout, server);

        for (unsigned i = 0; i < server->n_workers; i++)
                mailbox_post(server->workers[i]->mailbox, &server->workers[i]->drain_mail);
}
