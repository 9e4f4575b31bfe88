/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* library COMMAND READER PUBLISHER: uses libobjmapper against a running daemon. "all": everything once;
 * "depth": many requests in flight; "survive": puts and gets until standard input ends, while the daemon is
 * stopped, killed and started. Plain C and nothing but the library, so that it can be built for any machine. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "objmapper.h"

#define CHECK(what)                                                                               \
        do {                                                                                      \
                if (!(what)) {                                                                    \
                        (void) fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
                        exit(1);                                                                  \
                }                                                                                 \
        } while (0)

#define CHECK_RESULT(call, wanted)                                                                    \
        do {                                                                                          \
                int _r = (call), _w = (wanted);                                                       \
                if (_r != _w) {                                                                       \
                        (void) fprintf(stderr, "%s:%d: %s is %d (%s), not %d; the client says: %s\n", \
                                       __FILE__, __LINE__, #call, _r, strerror(_r < 0 ? -_r : 0), _w, \
                                       objmapper_client_error(client));                               \
                        exit(1);                                                                      \
                }                                                                                     \
        } while (0)

#define BIG_SIZE ((size_t) 5000000)

static objmapper_client *client;
static char *big;

static objmapper_client *new_client(char *argv[], enum objmapper_mode mode) {
        CHECK(objmapper_client_new(&client) == 0);
        CHECK_RESULT(objmapper_client_set_sockets(client, argv[2], argv[3]), 0);
        CHECK_RESULT(objmapper_client_set_mode(client, mode), 0);
        objmapper_client_set_timeout(client, 60 * 1000000);
        return client;
}

static objmapper_request *request_for(enum objmapper_verb verb, const char *uri) {
        objmapper_request *request;

        CHECK(objmapper_request_new(&request, verb, uri, strlen(uri)) == 0);
        return request;
}

static int file_with(const void *data, size_t size) {
        char path[] = "/var/tmp/objmapper-library-XXXXXX";
        int fd = mkostemp(path, O_CLOEXEC);

        CHECK(fd >= 0 && unlink(path) == 0);
        CHECK(write(fd, data, size) == (ssize_t) size);
        CHECK(lseek(fd, 0, SEEK_SET) == 0);
        return fd;
}

/* In memory and through the descriptor. */
static void check_body(objmapper_object *object, const void *wanted, size_t size) {
        char *copy = malloc(size + 1);
        const void *data;
        size_t got;

        CHECK_RESULT(objmapper_object_get_data(object, &data, &got), 0);
        CHECK(got == size && memcmp(data, wanted, size) == 0);
        CHECK(objmapper_object_get_fd(object) >= 0);
        CHECK(copy && pread(objmapper_object_get_fd(object), copy, size + 1, 0) == (ssize_t) size);
        CHECK(memcmp(copy, wanted, size) == 0);
        CHECK(write(objmapper_object_get_fd(object), "x", 1) < 0);
        free(copy);
}

static void check_get(const char *uri, const void *wanted, size_t size) {
        objmapper_object *object;

        CHECK_RESULT(objmapper_get(client, uri, &object), 0);
        check_body(object, wanted, size);
        CHECK(objmapper_object_get_size(object) == size);
        objmapper_object_free(object);
}

/* ---- all ---- */

static int count_one(objmapper_object *object, void *userdata) {
        CHECK(strncmp(objmapper_object_get_uri(object, NULL), "l/", 2) == 0);
        return ++*(unsigned *) userdata == 1500 ? 77 : 0;
}

static int find_counter(const char *name, uint64_t value, void *userdata) {
        if (strcmp(name, "sessions") == 0)
                *(uint64_t *) userdata = value;
        return 0;
}

static void check_put_sources(void) {
        int file = file_with(big, BIG_SIZE), fds[2], status;
        objmapper_object *object;
        char text[64] = {};
        pid_t child;

        CHECK_RESULT(objmapper_put(client, "small", "hello", 5, NULL), 0);
        CHECK_RESULT(objmapper_put(client, "empty", "", 0, NULL), 0);
        CHECK_RESULT(objmapper_put(client, "big", big, BIG_SIZE, &object), 0);
        CHECK(objmapper_object_get_generation(object) > 0 && objmapper_object_get_size(object) == BIG_SIZE);
        objmapper_object_free(object);
        check_get("small", "hello", 5);
        check_get("empty", "", 0);
        check_get("big", big, BIG_SIZE);

        CHECK(lseek(file, 1000, SEEK_SET) == 1000);
        CHECK_RESULT(objmapper_put_fd(client, "file", file, NULL), 0);
        CHECK(lseek(file, 0, SEEK_CUR) == (off_t) BIG_SIZE);
        check_get("file", big + 1000, BIG_SIZE - 1000);
        (void) close(file);

        /* A file of /proc says that it has no bytes. */
        file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        CHECK(file >= 0);
        CHECK_RESULT(objmapper_put_fd(client, "proc", file, NULL), 0);
        CHECK_RESULT(objmapper_get(client, "proc", &object), 0);
        CHECK(objmapper_object_get_size(object) > 10);
        CHECK(pread(objmapper_object_get_fd(object), text, sizeof(text) - 1, 0) > 10);
        CHECK(atoi(text) == (int) getpid());
        objmapper_object_free(object);
        (void) close(file);

        CHECK(pipe2(fds, O_CLOEXEC) == 0);
        child = fork();
        if (child == 0) {
                for (size_t n = 0; n < BIG_SIZE;) {
                        ssize_t r = write(fds[1], big + n, BIG_SIZE - n);
                        if (r < 0)
                                _exit(1);
                        n += (size_t) r;
                }
                _exit(0);
        }
        (void) close(fds[1]);
        CHECK_RESULT(objmapper_put_fd(client, "pipe", fds[0], NULL), 0);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        (void) close(fds[0]);
        check_get("pipe", big, BIG_SIZE);
}

static void check_metadata_and_conditions(void) {
        objmapper_request *put = request_for(OBJMAPPER_PUT, "cond"), *get, *set, *remove;
        objmapper_object *object;
        uint64_t generation;
        char *etag;

        CHECK_RESULT(objmapper_request_set_body(put, "first", 5), 0);
        CHECK_RESULT(objmapper_request_set_if_absent(put, 1), 0);
        CHECK_RESULT(objmapper_request_add_metadata(put, "Content-Type", "text/plain", 10), 0);
        CHECK_RESULT(objmapper_client_call(client, put, &object), 0);
        generation = objmapper_object_get_generation(object);
        objmapper_object_free(object);
        CHECK_RESULT(objmapper_client_call(client, put, NULL), -EEXIST);
        CHECK_RESULT(objmapper_request_set_if_generation(put, generation + 1000), 0);
        CHECK_RESULT(objmapper_client_call(client, put, NULL), -ECANCELED);
        CHECK_RESULT(objmapper_request_set_if_generation(put, generation), 0);
        CHECK_RESULT(objmapper_client_call(client, put, &object), 0);
        CHECK(objmapper_object_get_generation(object) > generation);
        generation = objmapper_object_get_generation(object);
        objmapper_object_free(object);

        CHECK_RESULT(objmapper_get(client, "cond", &object), 0);
        CHECK(strcmp(objmapper_object_get_metadata(object, "Content-Type", NULL), "text/plain") == 0);
        etag = strdup(objmapper_object_get_etag(object));
        CHECK(etag);
        objmapper_object_free(object);

        get = request_for(OBJMAPPER_GET, "cond");
        CHECK_RESULT(objmapper_request_set_if_modified(get, etag), 0);
        CHECK_RESULT(objmapper_client_call(client, get, &object), 0);
        CHECK(objmapper_object_is_unmodified(object) && objmapper_object_get_fd(object) == -ENODATA);
        objmapper_object_free(object);

        set = request_for(OBJMAPPER_SET_METADATA, "cond");
        CHECK_RESULT(objmapper_request_add_metadata(set, "a", "1", 1), 0);
        CHECK_RESULT(objmapper_request_set_if_generation(set, generation), 0);
        CHECK_RESULT(objmapper_client_call(client, set, NULL), 0);
        CHECK_RESULT(objmapper_client_call(client, get, &object), 0);
        CHECK(!objmapper_object_is_unmodified(object));
        CHECK(!objmapper_object_get_metadata(object, "Content-Type", NULL));
        CHECK(strcmp(objmapper_object_get_metadata(object, "a", NULL), "1") == 0);
        check_body(object, "first", 5);
        objmapper_object_free(object);

        remove = request_for(OBJMAPPER_REMOVE, "cond");
        CHECK_RESULT(objmapper_request_set_if_generation(remove, generation + 1), 0);
        CHECK_RESULT(objmapper_client_call(client, remove, NULL), -ECANCELED);
        CHECK_RESULT(objmapper_request_set_if_generation(remove, generation), 0);
        CHECK_RESULT(objmapper_client_call(client, remove, NULL), 0);
        CHECK_RESULT(objmapper_remove(client, "cond"), -ENOENT);

        CHECK_RESULT(objmapper_request_set_if_absent(put, 1), 0);
        CHECK_RESULT(objmapper_request_set_checksum(put, 12345), 0);
        CHECK_RESULT(objmapper_client_call(client, put, NULL), -EBADMSG);
        CHECK_RESULT(objmapper_stat(client, "cond", &object), -ENOENT);

        objmapper_request_free(put);
        objmapper_request_free(get);
        objmapper_request_free(set);
        objmapper_request_free(remove);
        free(etag);
}

static void check_modes_and_ranges(void) {
        for (int mode = OBJMAPPER_FDPASS; mode <= OBJMAPPER_AUTO; mode++) {
                objmapper_request *get = request_for(OBJMAPPER_GET, "big");
                objmapper_object *object;
                char *copy = malloc(BIG_SIZE + 1);
                int out, came;

                CHECK(copy);
                CHECK_RESULT(objmapper_request_set_mode(get, (enum objmapper_mode) mode), 0);
                CHECK_RESULT(objmapper_client_call(client, get, &object), 0);
                came = objmapper_object_get_mode(object);
                CHECK(came == (mode == OBJMAPPER_AUTO ? OBJMAPPER_FDPASS : mode));
                check_body(object, big, BIG_SIZE);
                objmapper_object_free(object);

                out = file_with("", 0);
                CHECK_RESULT(objmapper_request_set_output(get, out), 0);
                CHECK_RESULT(objmapper_client_call(client, get, NULL), 0);
                CHECK(pread(out, copy, BIG_SIZE + 1, 0) == (ssize_t) BIG_SIZE);
                CHECK(memcmp(copy, big, BIG_SIZE) == 0);

                /* A range, behind what was written. */
                CHECK_RESULT(objmapper_request_set_range(get, BIG_SIZE - 10, 1000), 0);
                CHECK_RESULT(objmapper_client_call(client, get, &object), 0);
                CHECK(objmapper_object_get_offset(object) == BIG_SIZE - 10);
                CHECK(objmapper_object_get_body_size(object) == 10);
                CHECK(objmapper_object_get_size(object) == BIG_SIZE);
                objmapper_object_free(object);
                CHECK(pread(out, copy, 100, (off_t) BIG_SIZE) == 10);
                CHECK(memcmp(copy, big + BIG_SIZE - 10, 10) == 0);
                (void) close(out);
                objmapper_request_free(get);

                get = request_for(OBJMAPPER_GET, "big");
                CHECK_RESULT(objmapper_request_set_mode(get, (enum objmapper_mode) mode), 0);
                CHECK_RESULT(objmapper_request_set_range(get, 12345, 1000000), 0);
                CHECK_RESULT(objmapper_client_call(client, get, &object), 0);
                check_body(object, big + 12345, 1000000);
                objmapper_object_free(object);
                CHECK_RESULT(objmapper_request_set_range(get, BIG_SIZE, OBJMAPPER_TO_END), 0);
                CHECK_RESULT(objmapper_client_call(client, get, NULL), -ERANGE);
                objmapper_request_free(get);

                /* What has no file comes as a copy, and can be had as a descriptor all the same. */
                get = request_for(OBJMAPPER_GET, "small");
                CHECK_RESULT(objmapper_request_set_mode(get, (enum objmapper_mode) mode), 0);
                CHECK_RESULT(objmapper_client_call(client, get, &object), 0);
                check_body(object, "hello", 5);
                objmapper_object_free(object);
                objmapper_request_free(get);
                free(copy);
        }
}

static void check_lists(void) {
        objmapper_object *object;
        objmapper_request *list;
        uint64_t count = 0;
        unsigned n = 0;
        size_t size;

        for (unsigned i = 0; i < 1300; i++) {
                char uri[32];

                (void) snprintf(uri, sizeof(uri), "l/%04u", i);
                CHECK_RESULT(objmapper_put(client, uri, uri, strlen(uri), NULL), 0);
        }
        CHECK_RESULT(objmapper_list(client, "l/", count_one, &n), 0);
        CHECK(n == 1300);
        n = 1499;
        CHECK_RESULT(objmapper_list(client, "l/", count_one, &n), 77);

        list = request_for(OBJMAPPER_LIST, "l/");
        CHECK_RESULT(objmapper_request_set_limit(list, 7), 0);
        CHECK_RESULT(objmapper_client_call(client, list, &object), 0);
        CHECK(objmapper_object_get_count(object) == 7);
        CHECK(objmapper_object_get_cursor(object, &size) && size > 0);
        objmapper_object_free(object);
        objmapper_request_free(list);

        CHECK_RESULT(objmapper_purge(client, "l/1", &count), 0);
        CHECK(count == 300);
        CHECK_RESULT(objmapper_purge(client, "l/", &count), 0);
        CHECK(count == 1000);
        CHECK_RESULT(objmapper_stats(client, find_counter, &count), 0);
        CHECK(count >= 1 && count < 1000);
}

static void check_all(char *argv[]) {
        objmapper_client *reader;
        objmapper_object *object;

        new_client(argv, OBJMAPPER_AUTO);
        check_put_sources();
        check_metadata_and_conditions();
        check_modes_and_ranges();
        check_lists();
        CHECK_RESULT(objmapper_get(client, "none", &object), -ENOENT);
        CHECK_RESULT(objmapper_stat(client, "big", &object), 0);
        CHECK(objmapper_object_get_hits(object) > 0);
        objmapper_client_close(client);
        CHECK(objmapper_object_get_size(object) == BIG_SIZE); /* outlives its client */
        objmapper_object_free(object);

        /* The readers' socket permits no change. */
        CHECK(objmapper_client_connect(&reader, argv[2], OBJMAPPER_FDPASS) == 0);
        client = reader;
        CHECK_RESULT(objmapper_put(client, "x", "y", 1, NULL), -EACCES);
        CHECK_RESULT(objmapper_remove(client, "big"), -EACCES);
        CHECK_RESULT(objmapper_purge(client, "", NULL), -EACCES);
        check_get("big", big, BIG_SIZE);
        objmapper_client_close(client);
}

/* ---- depth ---- */

#define DEPTH    64
#define N_GETS   5000
#define N_BODIES 100

static unsigned n_asked, n_answered;

static void ask_next(void);

static void take(objmapper_client *from, int error, objmapper_object *object, void *userdata) {
        unsigned number = (unsigned) (uintptr_t) userdata;
        size_t size = number % 3 == 0 ? 100000 + number : 10 + number;

        const void *data;
        size_t got;

        CHECK(from == client);
        CHECK_RESULT(error, 0);
        CHECK_RESULT(objmapper_object_get_data(object, &data, &got), 0); /* needs no descriptor */
        CHECK(got == size && memcmp(data, big + number, size) == 0);
        objmapper_object_free(object);
        n_answered++;
        ask_next();
}

static void ask_next(void) {
        unsigned number = n_asked % N_BODIES;
        objmapper_request *get;
        char uri[32];

        if (n_asked == N_GETS)
                return;
        n_asked++;
        (void) snprintf(uri, sizeof(uri), "depth/%u", number);
        get = request_for(OBJMAPPER_GET, uri);
        CHECK_RESULT(objmapper_client_submit(client, get, take, (void *) (uintptr_t) number), 0);
        objmapper_request_free(get);
}

static void check_depth(char *argv[]) {
        struct pollfd p = { .events = POLLIN };

        new_client(argv, OBJMAPPER_AUTO);
        for (unsigned i = 0; i < N_BODIES; i++) {
                char uri[32];

                (void) snprintf(uri, sizeof(uri), "depth/%u", i);
                CHECK_RESULT(objmapper_put(client, uri, big + i, i % 3 == 0 ? 100000 + i : 10 + i, NULL), 0);
        }

        for (unsigned i = 0; i < DEPTH; i++)
                ask_next();
        p.fd = objmapper_client_get_fd(client);
        while (objmapper_client_get_pending(client) > 0) {
                CHECK(objmapper_client_get_deadline(client) > 0);
                CHECK(poll(&p, 1, 60000) == 1);
                CHECK(objmapper_client_process(client) >= 0);
        }
        CHECK(n_answered == N_GETS);
        objmapper_client_close(client);
}

/* ---- survive ---- */

static void check_survive(char *argv[]) {
        struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
        int file = file_with(big, BIG_SIZE);
        unsigned n = 0, n_unknown = 0;

        new_client(argv, OBJMAPPER_AUTO);
        (void) puts("ready");
        (void) fflush(stdout);

        /* Everything that can be repeated works, whatever happens to the daemon. */
        for (; poll(&p, 1, 0) == 0; n++) {
                objmapper_request *put = request_for(OBJMAPPER_PUT, "survive/new");
                objmapper_object *object;
                int r;

                CHECK_RESULT(objmapper_put(client, "survive/small", big + n % 1000, 1000, NULL), 0);
                check_get("survive/small", big + n % 1000, 1000);
                CHECK(lseek(file, (off_t) (n % 1000), SEEK_SET) >= 0);
                CHECK_RESULT(objmapper_put_fd(client, "survive/big", file, NULL), 0);
                check_get("survive/big", big + n % 1000, BIG_SIZE - n % 1000);

                /* A conditional one is done, or its outcome is unknown: then it is whole or absent. */
                CHECK_RESULT(objmapper_request_set_if_absent(put, 1), 0);
                CHECK_RESULT(objmapper_request_set_body(put, big, 50000), 0);
                r = objmapper_client_call(client, put, NULL);
                n_unknown += r == -EINPROGRESS;
                if (r != -EINPROGRESS)
                        CHECK_RESULT(r, 0);
                r = objmapper_get(client, "survive/new", &object);
                if (r == 0) {
                        check_body(object, big, 50000);
                        objmapper_object_free(object);
                        CHECK_RESULT(objmapper_remove(client, "survive/new"), 0);
                } else
                        CHECK_RESULT(r, -ENOENT);
                objmapper_request_free(put);
        }

        (void) printf("%u rounds, %u unknown\n", n, n_unknown);
        (void) close(file);
        objmapper_client_close(client);
}

int main(int argc, char *argv[]) {
        CHECK(argc == 4);

        big = malloc(BIG_SIZE);
        CHECK(big);
        for (size_t i = 0; i < BIG_SIZE; i++)
                big[i] = (char) (i * 7 + i / 256 * 13);

        if (strcmp(argv[1], "all") == 0)
                check_all(argv);
        else if (strcmp(argv[1], "depth") == 0)
                check_depth(argv);
        else {
                CHECK(strcmp(argv[1], "survive") == 0);
                check_survive(argv);
        }

        free(big);
        return 0;
}
