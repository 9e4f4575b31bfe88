/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker.h"

#include <assert.h>
#include <fcntl.h>

#include "clock.h"
#include "lines.h"
#include "log.h"
#include "macro.h"
#include "output.h"
#include "server-internal.h"
#include "session.h"
#include "thread.h"

#define EVENTS_MAX         256
#define FREE_MAX           32                  /* buffers of a kind that are kept */
#define ROUND_SEND_MAX     (2 * TURN_SEND_MAX) /* bytes sent until epoll is asked again */
#define SWEEP_USEC_MIN     (50 * USEC_PER_MSEC)
#define SWEEP_USEC_MAX     USEC_PER_SEC
#define SWEEPS_PER_TIMEOUT 8

void worker_queue_turn(struct worker *worker, struct session *session) {
        if (session->turn_queued || session->dead)
                return;

        session->turn_queued = true;
        session->next_turn = NULL;
        *worker->turns_last = session;
        worker->turns_last = &session->next_turn;
}

/* Those that queue up again get the next round, after what epoll has to tell. So do those behind who sends much. */
static void run_turns(struct worker *worker) {
        struct session **end = worker->turns_last;
        bool is_last = !worker->turns;

        for (uint64_t sent = 0; !is_last && sent < ROUND_SEND_MAX;) {
                struct session *session = worker->turns;

                is_last = &session->next_turn == end;
                worker->turns = session->next_turn;
                if (!worker->turns)
                        worker->turns_last = &worker->turns;

                session->turn_queued = false;
                if (session->dead)
                        continue;
                session_turn(session, 0);
                sent += TURN_SEND_MAX - worker->may_send;
        }
}

static void free_dead(struct worker *worker) {
        while (worker->dead) {
                struct session *session = worker->dead;

                if (session->turn_queued)
                        return; /* still named in the queue: the next round leaves it out */
                worker->dead = session->next_dead;
                session_free(session);
        }
}

static int on_sweep(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        struct worker *worker = userdata;

        for (struct session *session = worker->sessions, *next; session; session = next) {
                next = session->next;
                session_sweep(session);
        }

        if (!worker->sessions)
                return sd_event_source_set_enabled(worker->sweep, SD_EVENT_OFF);

        return sd_event_source_set_time_relative(worker->sweep, worker->sweep_interval_usec);
}

void worker_watch_timeout(struct worker *worker, uint64_t timeout_usec) {
        uint64_t interval = timeout_usec / SWEEPS_PER_TIMEOUT;
        int enabled = SD_EVENT_OFF;

        if (timeout_usec == 0)
                return;

        interval = MAX(interval, SWEEP_USEC_MIN);
        interval = MIN(interval, SWEEP_USEC_MAX);
        (void) sd_event_source_get_enabled(worker->sweep, &enabled);
        if (enabled != SD_EVENT_OFF && interval >= worker->sweep_interval_usec)
                return;

        worker->sweep_interval_usec = enabled == SD_EVENT_OFF ? interval
                                                              : MIN(interval, worker->sweep_interval_usec);
        (void) sd_event_source_set_time_relative(worker->sweep, worker->sweep_interval_usec);
        (void) sd_event_source_set_enabled(worker->sweep, SD_EVENT_ON);
}

void worker_check_drained(struct worker *worker) {
        if (!worker->draining || worker->sessions || worker->n_requests > 0)
                return;

        worker->draining = false;
        server_worker_drained(worker->server, worker);
}

static void on_drain(struct mail *mail) {
        struct worker *worker = container_of(mail, struct worker, drain_mail);

        worker->draining = true;
        for (struct session *session = worker->sessions, *next; session; session = next) {
                next = session->next;
                session_finish(session, PROTO_DRAINING, "the server is stopping");
        }
        worker_check_drained(worker);
}

static void cut_sessions(struct worker *worker) {
        while (worker->sessions)
                session_close(worker->sessions);
}

static void on_cut(struct mail *mail) {
        cut_sessions(container_of(mail, struct worker, cut_mail));
}

static void on_alive(struct mail *mail) {
        struct worker *worker = container_of(mail, struct worker, alive_mail);

        server_worker_alive(worker->server, worker);
}

void worker_ask_alive(struct worker *worker) {
        worker->alive_mail.deliver = on_alive;
        mailbox_post(worker->mailbox, &worker->alive_mail);
}

static void on_stop(struct mail *mail) {
        struct worker *worker = container_of(mail, struct worker, stop_mail);

        worker->stop = true;
        cut_sessions(worker);
}

/* What sd-event has pending, all of it; then it is armed again for the worker's epoll. */
static void run_event(struct worker *worker) {
        int r = sd_event_wait(worker->event, 0);

        for (;;) {
                if (r > 0)
                        r = sd_event_dispatch(worker->event);
                if (r >= 0)
                        r = sd_event_prepare(worker->event);
                if (r < 0) {
                        log_errno(LOG_ERR, r, "A worker's event loop failed: %m");
                        abort(); /* its mails would be lost: sessions and puts with them */
                }
                if (r == 0)
                        return;
        }
}

void worker_run_once(struct worker *worker, int timeout_msec) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, worker->turns ? 0 : timeout_msec);

        worker->now_usec = clock_usec(CLOCK_MONOTONIC);

        /* A small answer takes microseconds, a piece of a file hundreds of them: of many who are heard of at once, those
         * with small answers do not wait for the others. */
        worker->small_first = n > 1 || worker->turns;
        for (int i = 0; i < n; i++) {
                struct session *session = events[i].data.ptr;

                if (!session)
                        run_event(worker);
                else if (events[i].events == EPOLLOUT)
                        session_may_send(session); /* much, most likely: small answers are not to wait */
                else if (!session->dead)
                        session_turn(session, events[i].events);
        }

        worker->small_first = false;
        if (worker->turns)
                run_turns(worker);
        if (worker->dead)
                free_dead(worker);
}

static void run_until_stopped(struct worker *worker) {
        while (!worker->stop || worker->sessions || worker->n_requests > 0 || worker->dead)
                worker_run_once(worker, -1);
}

static void *run(void *userdata) {
        thread_own_credentials();
        run_until_stopped(userdata);
        return NULL;
}

/* Two pages are always there; more by the sysctl fs.pipe-max-size and what the user has left. */
static int make_pipe(struct worker *worker) {
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;

        worker->pipe_read = fds[0];
        worker->pipe_write = fds[1];
        for (int size = 1 << 20; size > 65536; size /= 2)
                if (fcntl(worker->pipe_write, F_SETPIPE_SZ, size) >= 0)
                        break;

        r = fcntl(worker->pipe_write, F_GETPIPE_SZ);
        if (r < 0)
                return -errno;

        worker->pipe_size = (size_t) r;
        return 0;
}

int worker_new(struct worker **ret, struct server *server) {
        _cleanup_(worker_freep) struct worker *worker = NULL;
        int r;

        assert(ret);
        assert(server);

        worker = lines_alloc(sizeof(*worker));
        if (!worker)
                return -ENOMEM;

        *worker = (struct worker){
                .server = server,
                .storage = server->storage,
                .jobs = server->jobs,
                .bulk = server->bulk,
                .epoll_fd = -EBADF,
                .object = STORAGE_OBJECT_INIT,
                .pipe_read = -EBADF,
                .pipe_write = -EBADF,
                .null_fd = -EBADF,
                .drain_mail.deliver = on_drain,
                .cut_mail.deliver = on_cut,
                .stop_mail.deliver = on_stop,
        };
        worker->turns_last = &worker->turns;

        worker->received = lines_alloc(PROTO_HEAD_MAX + RECEIVE_MAX);
        worker->copied = lines_alloc(COPY_MAX);
        if (!worker->received || !worker->copied)
                return -ENOMEM;

        r = make_pipe(worker);
        if (r < 0)
                return r;

        worker->null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (worker->null_fd < 0)
                return -errno;

        worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (worker->epoll_fd < 0)
                return -errno;

        r = sd_event_new(&worker->event);
        if (r < 0)
                return r;

        r = mailbox_new(&worker->mailbox, worker->event);
        if (r < 0)
                return r;

        r = sd_event_add_time(worker->event, &worker->sweep, CLOCK_MONOTONIC, 0, 0, on_sweep, worker);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(worker->sweep, SD_EVENT_OFF);
        if (r < 0)
                return r;

        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, sd_event_get_fd(worker->event),
                      &(struct epoll_event){ .events = EPOLLIN }) < 0)
                return -errno;

        r = sd_event_prepare(worker->event);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(worker);
        return 0;
}

int worker_start(struct worker *worker) {
        int r = thread_start(&worker->thread, "worker", run, worker);

        worker->started = r >= 0;
        return r;
}

static void free_kept(struct worker *worker) {
        while (worker->free_outputs) {
                struct output *output = worker->free_outputs;
                worker->free_outputs = output->next_free;
                output_free(output);
        }
        while (worker->free_chunks) {
                struct output_chunk *chunk = worker->free_chunks;
                worker->free_chunks = chunk->next;
                free(chunk);
        }
        while (worker->free_pieces) {
                void *piece = worker->free_pieces;
                worker->free_pieces = *(void **) piece;
                free(piece);
        }
}

void worker_stop(struct worker *worker) {
        if (!worker->mailbox)
                return;

        mailbox_post(worker->mailbox, &worker->stop_mail);
        if (worker->started)
                (void) pthread_join(worker->thread, NULL);
        else
                run_until_stopped(worker);
        mailbox_free(TAKE_PTR(worker->mailbox));
}

void worker_free(struct worker *worker) {
        if (!worker)
                return;

        worker_stop(worker);
        free_kept(worker);
        storage_object_done(&worker->object);
        rules_view_done(&worker->rules);
        sd_event_source_disable_unref(worker->sweep);
        sd_event_unref(worker->event);
        close_fd(worker->epoll_fd);
        close_fd(worker->pipe_read);
        close_fd(worker->pipe_write);
        close_fd(worker->null_fd);
        free(worker->received);
        free(worker->copied);
        free(worker);
}

void *worker_take_piece(struct worker *worker) {
        void *piece = worker->free_pieces;

        if (!piece)
                return malloc(PIECE_MAX);

        worker->free_pieces = *(void **) piece;
        worker->n_free_pieces--;
        return piece;
}

void worker_return_piece(struct worker *worker, void *piece) {
        if (worker->n_free_pieces >= FREE_MAX) {
                free(piece);
                return;
        }

        *(void **) piece = worker->free_pieces;
        worker->free_pieces = piece;
        worker->n_free_pieces++;
}
