/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* However many sessions flood a worker with gets, a put is received and answered within a few turns of its loop; and
 * however much sessions have to send, little of it keeps others waiting. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "bytes.h"
#include "clock.h"
#include "harness.h"
#include "log.h"
#include "protocol.h"
#include "server-internal.h"
#include "session.h"
#include "store.h"
#include "worker.h"

#define READERS   280 /* more than one epoll_wait() tells of */
#define PER_TURN  32  /* gets that each has waiting at each turn */
#define TURNS_MAX 8
#define BULKS     8 /* sessions that read much */
#define BULK_SIZE ((size_t) 2 << 20)
#define TAKEN     (BULK_SIZE / 2) /* bytes that each of them reads */
#define BUFFER    (4 << 20)
#define HEADS     ((size_t) 4 << 10) /* more than the heads of what is sent in a turn */

struct scene {
        char *path;
        struct storage *storage;
        sd_event *event;
        struct server *server;
        struct worker *worker;
        int readers[READERS], publisher;
        unsigned n_readers;
        uint8_t gets[PER_TURN * 64];
        size_t gets_size;
        uint64_t n_answered; /* bytes */
};

static size_t encode(uint8_t *p, size_t size, const struct proto_message *message) {
        ssize_t n = proto_message_encode(message, p, size);

        g_assert_cmpint(n, >, 0);
        return (size_t) n;
}

static void send_message(int fd, const struct proto_message *message) {
        uint8_t data[256];
        size_t size = encode(data, sizeof(data), message);

        g_assert_cmpint(send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL), ==, size);
}

/* All that came. */
static size_t drain(int fd) {
        static uint8_t data[1 << 18];
        size_t size = 0;
        ssize_t n;

        while ((n = recv(fd, data, sizeof(data), MSG_DONTWAIT)) > 0)
                size += (size_t) n;

        g_assert_cmpint(n, <, 0);
        g_assert_cmpint(errno, ==, EAGAIN);
        return size;
}

static int connect_session(struct scene *scene, enum access_role role) {
        const struct proto_message hello = {
                .head = { .type = PROTO_HELLO, .id = 1 },
                .has = PROTO_HAS(PROTO_TAG_HELLO),
                .hello = { .min_version = 1, .max_version = 1 },
        };
        int pair[2];

        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
        (void) setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &(int){ BUFFER }, sizeof(int));
        server_take_connection(scene->server, pair[0], role);
        send_message(pair[1], &hello);
        while (drain(pair[1]) == 0)
                worker_run_once(scene->worker, 0);

        return pair[1];
}

static void set_scene(struct scene *scene, unsigned n_readers) {
        const struct server_config config = {
                .workers = 1,
                .connections_max = 2 * READERS,
                .connections_per_user_max = 2 * READERS,
                .inline_max = 16384,
                .pipeline_max = 256,
                .streams_max = 8,
                .fds_in_flight_max = 1024,
                .output_max = 4 << 20,
        };
        /* Whoever empties the page cache meanwhile: no lookup is to be left to a job. */
        const struct storage_hooks hooks = { .is_resident = 1 };

        log_set_level(LOG_ERR);
        *scene = (struct scene){ .path = harness_make_dir(), .n_readers = n_readers };
        assert_ok(storage_init_with_hooks(
                        &scene->storage,
                        &(struct storage_config){ .directory = scene->path, .inline_max = SIZE_MAX },
                        &hooks));
        assert_ok(storage_put(scene->storage, "a", 1, "body", 4, NULL, 0, NULL));
        assert_ok(sd_event_new(&scene->event));
        assert_ok(server_make(&scene->server, scene->event, scene->storage, &config, false));
        scene->worker = scene->server->workers[0];

        for (unsigned i = 0; i < PER_TURN; i++)
                scene->gets_size += encode(scene->gets + scene->gets_size,
                                           sizeof(scene->gets) - scene->gets_size,
                                           &(struct proto_message){
                                                           .head = { .type = PROTO_GET, .id = 2 + i },
                                                           .has = PROTO_HAS(PROTO_TAG_URI),
                                                           .uri = { (const uint8_t *) "a", 1 },
                                           });
        for (unsigned i = 0; i < n_readers; i++)
                scene->readers[i] = connect_session(scene, ACCESS_READER);
        scene->publisher = connect_session(scene, ACCESS_PUBLISHER);
}

static void strike_scene(struct scene *scene) {
        for (unsigned i = 0; i < scene->n_readers; i++)
                (void) close(scene->readers[i]);
        (void) close(scene->publisher);
        server_free(scene->server);
        sd_event_unref(scene->event);
        storage_cleanup(scene->storage);
        harness_remove_dir(scene->path);
}

/* One turn, before which every reader has gets waiting. */
static void turn(struct scene *scene) {
        for (unsigned i = 0; i < READERS; i++) {
                scene->n_answered += drain(scene->readers[i]);
                g_assert_cmpint(send(scene->readers[i], scene->gets, scene->gets_size,
                                     MSG_DONTWAIT | MSG_NOSIGNAL),
                                ==, scene->gets_size);
        }
        worker_run_once(scene->worker, 0);
}

static uint64_t count_puts(struct scene *scene) {
        struct storage_stats stats;

        storage_get_stats(scene->storage, &stats);
        return stats.puts;
}

static void put_among_gets(struct scene *scene, size_t size) {
        const struct proto_message message = {
                .head = { .type = PROTO_PUT, .id = 7, .body_size = size },
                .has = PROTO_HAS(PROTO_TAG_URI),
                .uri = { (const uint8_t *) "b", 1 },
        };
        g_autofree uint8_t *body = g_malloc0(size);
        uint64_t n_puts = count_puts(scene), n_answered = scene->n_answered;
        unsigned n_turns = 0;

        send_message(scene->publisher, &message);
        g_assert_cmpint(send(scene->publisher, body, size, MSG_DONTWAIT | MSG_NOSIGNAL), ==, size);
        for (unsigned i = 0; i < TURNS_MAX; i++)
                turn(scene);

        /* The store has it by now; the disk has the time that it needs. */
        for (unsigned i = 0; count_puts(scene) == n_puts; i++) {
                g_assert_cmpuint(i, <, 30000);
                g_usleep(1000);
        }
        g_usleep(10000); /* the commit is counted a moment before it is told of */
        while (drain(scene->publisher) == 0) {
                turn(scene);
                g_assert_cmpuint(++n_turns, <=, TURNS_MAX);
        }
        turn(scene);
        g_assert_cmpuint(scene->n_answered, >, n_answered);
}

static void test_puts_among_gets(void) {
        struct scene scene;

        set_scene(&scene, READERS);
        for (unsigned i = 0; i < 5; i++) {
                turn(&scene);
                put_among_gets(&scene, 1000);
                put_among_gets(&scene, 5000);
        }
        strike_scene(&scene);
}

static void send_get(int fd, const char *name, uint8_t mode) {
        send_message(fd, &(struct proto_message){
                                         .head = { .type = PROTO_GET, .id = 2, .mode = mode },
                                         .has = PROTO_HAS(PROTO_TAG_URI),
                                         .uri = { (const uint8_t *) name, strlen(name) },
                         });
}

/* Bulk readers have n gets each under way, and take what came after each turn; a small get gets its answer in each. */
static void small_among_bulk(
                struct scene *scene, const char *name, unsigned n, uint8_t mode, bool from_file) {
        size_t taken[BULKS] = {};
        unsigned left = BULKS;

        for (unsigned i = 0; i < BULKS; i++)
                for (unsigned k = 0; k < n; k++)
                        send_get(scene->readers[i], name, mode);

        for (unsigned turns = 0; left > 0; turns++) {
                size_t sum = 0;

                g_assert_cmpuint(turns, <, 10000);
                send_get(scene->publisher, "a", OP_COPY);
                worker_run_once(scene->worker, 0);
                g_assert_cmpuint(drain(scene->publisher), >, 4);

                for (unsigned i = 0; i < BULKS; i++) {
                        size_t size = drain(scene->readers[i]);

                        left -= taken[i] < TAKEN && taken[i] + size >= TAKEN;
                        taken[i] += size;
                        sum += size;
                }
                /* A session whose request came just now may have a turn for that, and one more; not for what is sent
                 * from a file, when others are heard of as well. */
                g_assert_cmpuint(sum, <=,
                                 (turns == 0 && !from_file ? BULKS + 3 : 3) * (TURN_SEND_MAX + HEADS));
                if (sum == 0) /* the bodies are not in memory any more */
                        g_usleep(1000);
        }
}

static void test_small_among_bulk(void) {
        static const struct {
                const char *name;
                size_t size;
                uint8_t mode;
        } bodies[] = {
                { "large", BULK_SIZE, OP_COPY },
                { "large", BULK_SIZE, OP_SPLICE },
                { "small", 16384, OP_COPY },
        };

        for (unsigned i = 0; i < G_N_ELEMENTS(bodies); i++) {
                g_autofree uint8_t *body = g_malloc0(bodies[i].size);
                struct scene scene;

                set_scene(&scene, BULKS);
                assert_ok(storage_put(scene.storage, bodies[i].name, 5, body, bodies[i].size, NULL, 0, NULL));
                small_among_bulk(&scene, bodies[i].name, (unsigned) (BULK_SIZE / bodies[i].size),
                                 bodies[i].mode, bodies[i].size == BULK_SIZE);
                strike_scene(&scene);
        }
}

static bool has_buffer(int fd) {
        int size = 0;

        g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &(socklen_t){ sizeof(size) }), ==, 0);
        return size >= BUFFER;
}

/* Who is alone sends more in a turn, but not when another has one to come; and then neither of the two. */
static void test_alone(void) {
        g_autofree uint8_t *body = g_malloc0(BULK_SIZE);
        size_t taken[2] = {}, most[2] = {};
        struct scene scene;

        set_scene(&scene, 2);
        assert_ok(storage_put(scene.storage, "large", 5, body, BULK_SIZE, NULL, 0, NULL));
        for (unsigned n = 1; n <= 2; n++) {
                for (unsigned i = 0; i < n; i++) {
                        taken[i] = 0;
                        send_get(scene.readers[i], "large", OP_SPLICE);
                }
                while (taken[0] < BULK_SIZE || (n == 2 && taken[1] < BULK_SIZE)) {
                        const bool both = taken[0] < BULK_SIZE && (n == 1 || taken[1] < BULK_SIZE);

                        worker_run_once(scene.worker, 0);
                        for (unsigned i = 0; i < n; i++) {
                                size_t size = drain(scene.readers[i]);

                                taken[i] += size;
                                if (both)
                                        most[n - 1] = MAX(most[n - 1], size);
                        }
                }
        }
        /* The first turn of each is for its request, and a second one may follow. */
        g_assert_cmpuint(most[0], <=, 2 * (ALONE_SEND_MAX + HEADS));
        if (has_buffer(scene.worker->sessions->fd)) /* net.core.wmem_max is large enough */
                g_assert_cmpuint(most[0], >, 2 * (TURN_SEND_MAX + HEADS));
        g_assert_cmpuint(most[1], <=, 2 * (TURN_SEND_MAX + HEADS));
        strike_scene(&scene);
}

/* A worker does not go on looking for room that a client does not make, and hears of it when he does. */
static void test_full(void) {
        const size_t size = 4 * (size_t) BUFFER;
        g_autofree uint8_t *body = g_malloc0(size);
        struct session *session;
        struct scene scene;
        size_t taken;

        set_scene(&scene, 1);
        assert_ok(storage_put(scene.storage, "large", 5, body, size, NULL, 0, NULL));
        for (session = scene.worker->sessions; session->role != ACCESS_READER;)
                session = session->next;

        send_get(scene.readers[0], "large", OP_COPY);
        do
                worker_run_once(scene.worker, 0);
        while (session->output_wait != OUTPUT_WAIT_ROOM);
        g_assert_null(scene.worker->turns);
        g_assert_cmpuint(session->n_room_late, >, 0);

        for (taken = 0; taken < size; worker_run_once(scene.worker, 0))
                taken += drain(scene.readers[0]);
        g_assert_null(session->output);
        strike_scene(&scene);
}

static uint16_t receive_status(int fd) {
        uint8_t data[4096];
        struct proto_message message;
        const char *what;
        ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

        g_assert_cmpint(n, >=, PROTO_HEAD_FIXED);
        assert_ok(proto_message_decode(data, load_le32(data), &message, &what));
        return message.head.status;
}

/* A turn that comes late in a long round knows what expired meanwhile. */
static void test_late_turn(void) {
        struct storage_upload *upload = NULL;
        struct storage_change change = {
                .kind = STORAGE_PUT, .uri = "soon", .uri_size = 4, .ttl_msec = 2500
        };
        struct storage_stats stats;
        struct scene scene;

        set_scene(&scene, 0);
        assert_ok(storage_set_cache_size(scene.storage, 16 << 20));
        storage_set_expired_keep(scene.storage, UINT64_MAX);
        assert_ok(storage_upload_new(scene.storage, 4, &upload));
        assert_ok(storage_upload_write(upload, "body", 4));
        assert_ok(storage_upload_finish(upload));
        change.upload = upload;
        assert_ok(storage_change_wait(scene.storage, &change));
        storage_upload_free(upload);

        for (unsigned i = 0; i < 3; i++) {
                send_get(scene.publisher, "soon", OP_COPY);
                worker_run_once(scene.worker, 0);
                g_assert_cmpuint(receive_status(scene.publisher), ==, PROTO_OK);
        }
        storage_get_stats(scene.storage, &stats);
        g_assert_cmpuint(stats.hot_objects, ==, 1);

        while (clock_usec(CLOCK_REALTIME) <= change.info.expires_usec)
                g_usleep(1000);
        send_get(scene.publisher, "soon", OP_COPY);
        session_turn(scene.worker->sessions, EPOLLIN);
        g_assert_cmpuint(receive_status(scene.publisher), ==, PROTO_EXPIRED);
        strike_scene(&scene);
}

int main(int argc, char *argv[]) {
        (void) signal(SIGPIPE, SIG_IGN); /* as the daemon does: splice() to who left raises it */
        g_test_init(&argc, &argv, NULL);
        harness_add("/turns/puts-among-gets", test_puts_among_gets);
        harness_add("/turns/small-among-bulk", test_small_among_bulk);
        harness_add("/turns/alone", test_alone);
        harness_add("/turns/full", test_full);
        harness_add("/turns/late-turn", test_late_turn);
        return g_test_run();
}
