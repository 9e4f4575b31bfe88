/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One session over a socket pair, with a real store: the input's first byte says what comes before the rest and
 * in what pieces it arrives. Whatever is sent, what comes back must be frames of the protocol, and when the
 * client has ended its side everything must be given back: the session, its requests, its descriptors. */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "fdpass.h"
#include "fuzz.h"
#include "log.h"
#include "macro.h"
#include "protocol.h"
#include "server-internal.h"

#define STUCK_USEC  (20 * USEC_PER_SEC)
#define OBJECTS_MAX 200

#define OPTION_PUBLISHER 0x01 /* the publishers' socket */
#define OPTION_GREETED   0x02 /* a hello is sent before */
#define OPTION_ORDERED   0x04 /* which wants answers in order */
#define OPTION_PIECES    0x08 /* in pieces of a few bytes */
#define OPTION_UNREAD    0x10 /* nothing is received before all is sent */
#define OPTION_FINISHED  0x20 /* the server ends the session meanwhile */
#define OPTION_MODE      6    /* from this bit on: the mode in the hello */

static struct storage *storage;
static struct server *server;
static sd_event *event;
static char directory[] = "/dev/shm/objmapper-fuzz-XXXXXX";

/* What came from the server and was not checked yet. */
static uint8_t *answers;
static size_t answers_size, answers_allocated;

static int remove_one(const char *path,
                      _unused_ const struct stat *st,
                      _unused_ int type,
                      _unused_ struct FTW *ftw) {
        return remove(path);
}

static void done(void) {
        server_free(server);
        storage_cleanup(storage);
        sd_event_unref(event);
        free(answers);
        (void) nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put_objects(void) {
        static const struct {
                const char *uri;
                size_t size;
        } objects[] = { { "a", 100 }, { "b", 5000 }, { "c", 300000 }, { "d", 0 } };
        static const uint8_t body[300000];

        for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
                CHECK(storage_put(storage, objects[i].uri, 1, body, objects[i].size, NULL, 0, NULL) == 0);
}

static void init(void) {
        static const struct server_config config = {
                .workers = 1,
                .connections_max = 4,
                .connections_per_user_max = 4,
                .inline_max = 16384,
                .pipeline_max = 8,
                .streams_max = 2,
                .fds_in_flight_max = 5,
                .output_max = 1 << 20,
                .object_max = 1 << 20,
        };

        log_set_level(LOG_ERR);
        CHECK(mkdtemp(directory));
        CHECK(storage_init(&storage, &(struct storage_config){ .directory = directory,
                                                               .dictionary_max = (size_t) 256 << 20,
                                                               .inline_max = SIZE_MAX }) == 0);
        CHECK(sd_event_new(&event) >= 0);
        CHECK(server_make(&server, event, storage, &config, false) == 0);
        CHECK(atexit(done) == 0);
        put_objects();
}

static void check_frames(void) {
        size_t position = 0;

        while (answers_size - position >= PROTO_HEAD_FIXED) {
                struct proto_message message;
                const char *what = NULL;
                struct proto_head head;
                size_t left = answers_size - position;

                CHECK(proto_head_decode(answers + position, &head) == 0);
                if (left < head.head_size || left - head.head_size < head.body_size)
                        break;

                /* What it refuses has the type that was asked, which may be any: then the rules say nothing. */
                if (proto_message_decode(answers + position, head.head_size, &message, &what) < 0) {
                        (void) fprintf(stderr, "type %#x, status %u: %s\n", head.type, head.status, what);
                        abort();
                }
                CHECK(head.type == PROTO_NOTICE ? head.id == 0 : head.type & PROTO_REPLY);
                position += head.head_size + head.body_size;
        }

        answers_size -= position;
        if (answers_size > 0)
                memmove(answers, answers + position, answers_size);
}

/* Takes what is there. Returns false at the end. */
static bool receive(int fd) {
        for (;;) {
                struct fdpass_fds fds = {};
                ssize_t n;

                if (answers_allocated - answers_size < 65536) {
                        answers_allocated += 1 << 20;
                        answers = realloc(answers, answers_allocated);
                        CHECK(answers);
                }

                n = fdpass_read(fd, answers + answers_size, 65536, &fds);
                if (n > 0)
                        fdpass_fds_close(&fds);
                if (n == -EAGAIN)
                        return true;
                if (n <= 0)
                        return false;

                answers_size += (size_t) n;
                check_frames();
        }
}

/* Lets the server work until it waits for the client. */
static void work(int fd, bool unread) {
        for (unsigned i = 0; i < 3; i++) {
                worker_run_once(server->workers[0], 0);
                if (!unread)
                        (void) receive(fd);
        }
}

static void send_all(int fd, const uint8_t *data, size_t size, size_t piece, uint8_t options) {
        uint64_t end = clock_usec(CLOCK_MONOTONIC) + STUCK_USEC;
        bool unread = options & OPTION_UNREAD;

        for (size_t position = 0; position < size;) {
                size_t left = size - position;
                ssize_t n = send(fd, data + position, left < piece ? left : piece,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n > 0)
                        position += (size_t) n;
                else if (errno != EAGAIN)
                        return; /* it has closed */
                else
                        unread = false; /* a client that can't write has to read */
                work(fd, unread);

                if (options & OPTION_FINISHED && position > size / 2 && server->workers[0]->sessions)
                        session_finish(server->workers[0]->sessions, PROTO_DRAINING, "the end");
                CHECK(clock_usec(CLOCK_MONOTONIC) < end);
        }
}

static void send_hello(int fd, uint8_t options) {
        static const uint8_t modes[] = { OP_FDPASS, OP_COPY, OP_SPLICE, OP_AUTO };
        struct proto_message hello = {
                .head = { .type = PROTO_HELLO, .id = 1 },
                .has = PROTO_HAS(PROTO_TAG_HELLO),
                .hello = { .min_version = 1,
                           .max_version = 1,
                           .mode = modes[options >> OPTION_MODE],
                           .flags = options & OPTION_ORDERED ? PROTO_HELLO_ORDERED : 0 },
        };
        uint8_t data[128];
        ssize_t n = proto_message_encode(&hello, data, sizeof(data));

        CHECK(n > 0);
        send_all(fd, data, (size_t) n, (size_t) n, 0);
}

static unsigned count_fds(void) {
        unsigned n = 0;

        for (int fd = 0; fd < 128; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct storage_stats stats;
        struct worker *worker;
        static unsigned n_fds = UINT_MAX;
        uint64_t end;
        int pair[2];

        if (size == 0)
                return 0;
        if (!server)
                init();

        worker = server->workers[0];
        /* The store's threads open files of their own at times: the fewest that there were are those that stay. */
        n_fds = MIN(n_fds, count_fds());
        answers_size = 0;

        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        server_take_connection(server, pair[0],
                               data[0] & OPTION_PUBLISHER ? ACCESS_PUBLISHER : ACCESS_READER);
        if (data[0] & OPTION_GREETED)
                send_hello(pair[1], data[0]);
        send_all(pair[1], data + 1, size - 1, data[0] & OPTION_PIECES ? 7 : SIZE_MAX, data[0]);

        (void) shutdown(pair[1], SHUT_WR);
        end = clock_usec(CLOCK_MONOTONIC) + STUCK_USEC;
        while (server_get_sessions(server) > 0 || worker->n_requests > 0 || worker->dead) {
                worker_run_once(worker, 1);
                (void) receive(pair[1]);
                CHECK(clock_usec(CLOCK_MONOTONIC) < end);
        }
        /* Closed it is, but whoever looks into /proc/PID/fd just then can hold it for a moment longer. */
        while (receive(pair[1]))
                CHECK(clock_usec(CLOCK_MONOTONIC) < end);
        (void) close(pair[1]);

        while (count_fds() > n_fds)
                CHECK(clock_usec(CLOCK_MONOTONIC) < end);
        CHECK(worker->object.fd < 0);

        storage_get_stats(storage, &stats);
        if (stats.objects > OBJECTS_MAX) {
                struct storage_change purge = { .kind = STORAGE_PURGE };

                CHECK(storage_change_wait(storage, &purge) == 0);
        }
        if (stats.objects > OBJECTS_MAX || stats.objects < 4)
                put_objects();

        return 0;
}
