/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gets through libobjmapper: many in one call, or one a call; and with many connections through its non-blocking face. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "load.h"
#include "macro.h"
#include "objmapper.h"

struct session {
        struct load *load;
        objmapper_client *client;
        uint64_t begun;
        unsigned n_left, next;
        bool is_answered;
};

struct names {
        char **name;
        objmapper_request **request;
};

static void make_names(struct load *load, struct names *names) {
        size_t n = load->n_names + load->depth;
        int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

        names->name = calloc(n, sizeof(char *));
        names->request = calloc(n, sizeof(objmapper_request *));
        if (!names->name || !names->request || null_fd < 0)
                err(1, "memory");
        for (unsigned i = 0; i < n; i++) {
                if (asprintf(&names->name[i], "%s%04u", load->name, i % load->n_names) < 0)
                        err(1, "memory");
                if (objmapper_request_new(&names->request[i], load->puts ? OBJMAPPER_PUT : OBJMAPPER_GET,
                                          names->name[i], strlen(names->name[i])) < 0)
                        errx(1, "%s", names->name[i]);
                if (load->puts)
                        (void) objmapper_request_set_body(names->request[i], load_buffer(load, load->size),
                                                          load->size);
                if (load->receiver == RECEIVE_NOWHERE)
                        (void) objmapper_request_set_output(names->request[i], null_fd);
        }
}

static void take(struct load *load, objmapper_object *object) {
        if (objmapper_object_get_size(object) != load->size)
                errx(1, "%s has %llu bytes", objmapper_object_get_uri(object, NULL),
                     (unsigned long long) objmapper_object_get_size(object));
        if (load->reads && objmapper_object_get_mode(object) == OBJMAPPER_FDPASS)
                load_take_fd(load, objmapper_object_take_fd(object));
}

static objmapper_client *connect_to(struct load *load) {
        objmapper_client *client;
        int r = objmapper_client_connect(&client, load->socket, (enum objmapper_mode) load->mode);

        if (r < 0)
                errx(1, "%s: %s", load->socket, strerror(-r));
        return client;
}

/* Many in one call, whose memory is used again. */
static void run_batches(struct load *load, struct names *names) {
        objmapper_client *client = connect_to(load);
        objmapper_object **objects = calloc(load->depth, sizeof(objmapper_object *));
        unsigned next = 0;

        load->begun = now_nsec();
        while (!load->over) {
                uint64_t begun = now_nsec();
                int r = objmapper_get_many(client, (const char *const *) names->name + next, load->depth,
                                           objects, NULL);

                if (r != (int) load->depth)
                        errx(1, "%s", objmapper_client_error(client));
                for (unsigned i = 0; i < load->depth; i++)
                        take(load, objects[i]);
                next = (next + load->depth) % load->n_names;
                load_done(load, begun, load->depth);
                load_batch_done(load, begun);
        }
        for (unsigned i = 0; i < load->depth; i++)
                objmapper_object_free(objects[i]);
        objmapper_client_close(client);
}

/* One after the other, or into an output. */
static void run_calls(struct load *load, struct names *names) {
        objmapper_client *client = connect_to(load);
        unsigned next = 0;

        load->begun = now_nsec();
        while (!load->over) {
                uint64_t begun = now_nsec();
                objmapper_object *object;

                if (objmapper_client_call(client, names->request[next], &object) < 0)
                        errx(1, "%s", objmapper_client_error(client));
                take(load, object);
                objmapper_object_free(object);
                next = (next + 1) % load->n_names;
                load_done(load, begun, 1);
                load_batch_done(load, begun);
        }
        objmapper_client_close(client);
}

static void on_reply(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        struct session *session = userdata;

        if (error < 0)
                errx(1, "%s", objmapper_client_error(client));
        take(session->load, object);
        objmapper_object_free(object);
        session->n_left--;
        load_done(session->load, session->begun, 1);
        if (session->n_left == 0)
                load_batch_done(session->load, session->begun);
}

static void submit(struct session *session, struct names *names) {
        struct load *load = session->load;

        session->begun = now_nsec();
        session->n_left = load->depth;
        for (unsigned i = 0; i < load->depth; i++)
                if (objmapper_client_submit(session->client, names->request[session->next + i], on_reply,
                                            session) < 0)
                        errx(1, "%s", objmapper_client_error(session->client));
        session->next = (session->next + load->depth) % load->n_names;
}

static void ask(struct session *session, struct names *names) {
        submit(session, names);
        if (session->load->depth > 1) /* one alone is under way already */
                (void) objmapper_client_process(session->client);
}

static void run_many(struct load *load, struct names *names) {
        struct session *sessions = calloc(load->n_connections, sizeof(*sessions));
        struct epoll_event events[256];
        struct session **answered = calloc(load->n_connections, sizeof(*answered));
        unsigned n_answered = 0, n_again = 0;
        int epoll = epoll_create1(EPOLL_CLOEXEC);

        if (!sessions || !answered || epoll < 0)
                err(1, "sessions");
        for (unsigned i = 0; i < load->n_connections; i++) {
                struct epoll_event event = { .events = EPOLLIN, .data.ptr = &sessions[i] };

                sessions[i] = (struct session){ .load = load,
                                                .client = connect_to(load),
                                                .next = i % load->n_names };
                if (epoll_ctl(epoll, EPOLL_CTL_ADD, objmapper_client_get_fd(sessions[i].client), &event) < 0)
                        err(1, "epoll");
        }

        load->begun = now_nsec();
        for (unsigned i = 0; i < load->n_connections; i++) {
                sessions[i].is_answered = true;
                answered[n_answered++] = &sessions[i];
        }
        while (!load->over) {
                int n = epoll_wait(epoll, events, ARRAY_SIZE(events), n_answered > 0 ? 0 : -1);

                for (int i = 0; i < n; i++) {
                        struct session *session = events[i].data.ptr;

                        (void) objmapper_client_process(session->client);
                        if (session->n_left == 0 && !session->is_answered) {
                                session->is_answered = true;
                                answered[n_answered++] = session;
                        }
                }

                /* Their answers may be there before this returns: then they have their turn after the others. */
                for (unsigned i = 0, n_before = n_answered; i < n_before; i++) {
                        struct session *session = answered[i];

                        ask(session, names);
                        session->is_answered = session->n_left == 0;
                        if (session->is_answered)
                                answered[n_again++] = session;
                }
                n_answered = n_again;
                n_again = 0;
        }
}

/* So many in flight as is the depth, by calls of their own. */
static void run_singles(struct load *load, struct names *names) {
        struct session session = { .load = load, .client = connect_to(load) };

        load->begun = now_nsec();
        while (!load->over) {
                submit(&session, names);
                while (session.n_left > 0)
                        (void) objmapper_client_wait(session.client, UINT64_MAX);
        }
}

void load_objmapper(struct load *load) {
        struct names names;

        make_names(load, &names);
        if (load->n_connections > 1 || load->puts)
                run_many(load, &names);
        else if (load->receiver == RECEIVE_NOWHERE || (load->depth == 1 && load->single))
                run_calls(load, &names);
        else if (load->single)
                run_singles(load, &names);
        else
                run_batches(load, &names);
}
