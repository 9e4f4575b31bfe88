/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* SIGKILL at random moments: what was reported as done is there afterwards, nothing is torn, nothing removed
 * comes back, and no generation is used twice.
 *
 * Each round a child makes changes that a seed tells, many at a time, and writes the number of each one that is
 * done to a pipe. The parent kills it, works the same changes out, opens the store and compares. The seed is
 * printed; OBJMAPPER_TEST_SEED= and OBJMAPPER_TEST_ROUNDS= replay and prolong. */

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "clock.h"
#include "storage-harness.h"

#define N_URIS      40
#define N_CHANGES   20000
#define IN_FLIGHT   64
#define BODY_MIN    16
#define ROUND_USECS 150000

struct planned {
        enum storage_change_kind kind;
        unsigned uri;
        size_t size;
};

static struct planned *make_plan(uint32_t seed) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        struct planned *plan = g_new0(struct planned, N_CHANGES);

        for (unsigned i = 0; i < N_CHANGES; i++) {
                int what = g_rand_int_range(rand, 0, 200);

                plan[i].uri = (unsigned) g_rand_int_range(rand, 0, N_URIS);
                plan[i].size = (size_t) g_rand_int_range(rand, BODY_MIN, i % 3 ? 2500 : 50000);
                plan[i].kind = what < 130   ? STORAGE_PUT
                               : what < 160 ? STORAGE_REMOVE
                               : what < 199 ? STORAGE_SET_METADATA
                                            : STORAGE_PURGE;
        }

        return plan;
}

static char *make_uri(unsigned round, unsigned uri) {
        /* Some of them too long for a key. */
        return uri % 4 == 0 ? g_strdup_printf("round/%u/%0600u", round, uri)
                            : g_strdup_printf("round/%u/%u", round, uri);
}

/* A body that tells which change put it. */
static uint8_t *make_body(uint32_t seed, uint32_t number, size_t size) {
        uint8_t *bytes = make_bytes((uint64_t) seed << 32 | number, size);

        memcpy(bytes, &seed, 4);
        memcpy(bytes + 4, &number, 4);
        return bytes;
}

struct sent {
        struct storage_change change;
        struct storage_upload *upload;
        uint32_t number;
        char *uri;
        int pipe_fd;
        unsigned *in_flight; /* atomic */
};

static void on_done(struct storage_change *change) {
        struct sent *sent = change->userdata;

        if (change->result < 0 && change->result != -ENOENT)
                _exit(3);
        if (write(sent->pipe_fd, &sent->number, sizeof(sent->number)) != sizeof(sent->number))
                _exit(4);

        (void) __atomic_fetch_sub(sent->in_flight, 1, __ATOMIC_RELAXED);
        storage_upload_free(sent->upload);
        g_free(sent->uri);
        g_free(sent);
}

static void run_child(struct shelf *shelf, unsigned round, uint32_t seed, int pipe_fd) {
        struct planned *plan = make_plan(seed);
        unsigned in_flight = 0;

        shelf_open(shelf);
        for (uint32_t i = 0; i < N_CHANGES; i++) {
                struct sent *sent = g_new0(struct sent, 1);

                while (__atomic_load_n(&in_flight, __ATOMIC_RELAXED) >= IN_FLIGHT)
                        g_usleep(50);
                (void) __atomic_fetch_add(&in_flight, 1, __ATOMIC_RELAXED);

                *sent = (struct sent){ .number = i, .pipe_fd = pipe_fd, .in_flight = &in_flight };
                sent->uri = plan[i].kind == STORAGE_PURGE ? g_strdup_printf("round/%u/", round)
                                                          : make_uri(round, plan[i].uri);
                sent->change = (struct storage_change){
                        .kind = plan[i].kind,
                        .uri = sent->uri,
                        .uri_size = strlen(sent->uri),
                        .done = on_done,
                        .userdata = sent,
                };
                if (plan[i].kind == STORAGE_PUT) {
                        g_autofree uint8_t *body = make_body(seed, i, plan[i].size);

                        assert_ok(storage_upload_new(shelf->storage, UINT64_MAX, &sent->upload));
                        assert_ok(storage_upload_write(sent->upload, body, plan[i].size));
                        assert_ok(storage_upload_finish(sent->upload));
                        sent->change.upload = sent->upload;
                } else if (plan[i].kind == STORAGE_SET_METADATA) {
                        sent->change.metadata = &sent->number;
                        sent->change.metadata_size = sizeof(sent->number);
                }
                storage_submit(shelf->storage, &sent->change);
        }

        for (;;)
                (void) pause();
}

/* Collects what is done until the time is over, kills the child, and collects the rest. */
static void kill_child(pid_t pid, int pipe_fd, uint64_t after_usec, bool *done) {
        uint64_t deadline = clock_usec(CLOCK_MONOTONIC) + after_usec;
        bool is_killed = false;
        uint32_t number;
        int status;

        for (;;) {
                struct pollfd pollfd = { .fd = pipe_fd, .events = POLLIN };
                uint64_t now = clock_usec(CLOCK_MONOTONIC);
                ssize_t n;

                if (!is_killed && now >= deadline) {
                        g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
                        is_killed = true;
                }
                if (poll(&pollfd, 1, is_killed ? -1 : (int) ((deadline - now) / 1000)) <= 0)
                        continue;

                n = read(pipe_fd, &number, sizeof(number)); /* written whole, read whole */
                if (n == 0)
                        break;
                g_assert_cmpint(n, ==, sizeof(number));
                done[number] = true;
        }

        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static bool concerns(const struct planned *planned, unsigned uri) {
        return planned->kind == STORAGE_PURGE || planned->uri == uri;
}

/* What one URI may be afterwards: what it was after any of its changes from the last one that was reported on.
 * Returns its generation. */
static uint64_t check_uri(struct shelf *shelf,
                          unsigned round,
                          uint32_t seed,
                          const struct planned *plan,
                          const bool *done,
                          unsigned uri,
                          uint64_t generation_before) {
        struct storage_object object = STORAGE_OBJECT_INIT;
        g_autofree char *name = make_uri(round, uri);
        g_autofree uint8_t *bytes = NULL, *expected = NULL;
        uint32_t last_done = UINT32_MAX, put_seed, number, metadata = UINT32_MAX;
        bool may_be_absent = true;
        uint64_t generation;
        int r;

        for (uint32_t i = 0; i < N_CHANGES; i++)
                if (done[i] && concerns(&plan[i], uri))
                        last_done = i;

        r = storage_get(shelf->storage, name, strlen(name), STORAGE_GET_OPEN, NULL, &object);
        if (r == -ENOENT) {
                /* The last done one left it absent, or some later one that may have been made did. */
                for (uint32_t i = 0; last_done != UINT32_MAX && i <= last_done; i++)
                        if (concerns(&plan[i], uri) && plan[i].kind != STORAGE_SET_METADATA)
                                may_be_absent = plan[i].kind != STORAGE_PUT;
                for (uint32_t i = last_done + 1; i < N_CHANGES && !may_be_absent; i++)
                        may_be_absent = concerns(&plan[i], uri) &&
                                        (plan[i].kind == STORAGE_REMOVE || plan[i].kind == STORAGE_PURGE);
                g_assert_true(may_be_absent);
                return 0;
        }
        assert_ok(r);

        g_assert_cmpuint(object.info.etag.generation, >, generation_before);
        bytes = g_malloc(object.info.size + 1);
        if (object.body)
                memcpy(bytes, object.body, object.info.size);
        else
                g_assert_cmpint(pread(object.fd, bytes, object.info.size + 1, 0), ==, object.info.size);
        g_assert_cmpuint(object.info.size, >=, BODY_MIN);
        memcpy(&put_seed, bytes, 4);
        memcpy(&number, bytes + 4, 4);
        g_assert_cmpuint(put_seed, ==, seed);
        g_assert_cmpuint(number, <, N_CHANGES);
        g_assert_cmpint(plan[number].kind, ==, STORAGE_PUT);
        g_assert_cmpuint(plan[number].uri, ==, uri);
        expected = make_body(seed, number, plan[number].size);
        g_assert_cmpmem(bytes, object.info.size, expected, plan[number].size);

        /* Nothing that is done replaced or removed it. */
        for (uint32_t i = number + 1; last_done != UINT32_MAX && i <= last_done; i++)
                g_assert_true(!concerns(&plan[i], uri) || plan[i].kind == STORAGE_SET_METADATA);

        if (object.metadata_size > 0) {
                g_assert_cmpuint(object.metadata_size, ==, sizeof(metadata));
                memcpy(&metadata, object.metadata, sizeof(metadata));
                g_assert_cmpuint(metadata, >, number);
                g_assert_cmpuint(metadata, <, N_CHANGES);
        }
        for (uint32_t i = number + 1; i < N_CHANGES; i++) /* nor is a done set-metadata lost */
                if (done[i] && concerns(&plan[i], uri))
                        g_assert_true(metadata != UINT32_MAX && metadata >= i);

        generation = object.info.etag.generation;
        storage_object_done(&object);
        return generation;
}

static unsigned from_environment(const char *name, unsigned otherwise) {
        const char *text = g_getenv(name);

        return text ? (unsigned) strtoul(text, NULL, 10) : otherwise;
}

static void test_kill(void) {
        unsigned n_rounds = from_environment("OBJMAPPER_TEST_ROUNDS", 20);
        uint32_t seed = from_environment("OBJMAPPER_TEST_SEED", g_test_rand_int() & INT32_MAX);
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        uint64_t generation = 0, newest = 0, n_done = 0, n_swept = 0;
        struct storage_stats stats;
        struct shelf shelf;

        g_test_message("OBJMAPPER_TEST_SEED=%u", seed);
        shelf_init(&shelf);

        for (unsigned round = 0; round < n_rounds; round++) {
                uint32_t round_seed = g_rand_int(rand);
                g_autofree struct planned *plan = make_plan(round_seed);
                g_autofree bool *done = g_new0(bool, N_CHANGES);
                uint64_t after_usec = (uint64_t) g_rand_int_range(rand, 0, ROUND_USECS);
                int pipe_fds[2];
                pid_t pid;

                shelf.hooks.no_tmpfile = round % 5 == 4;
                g_assert_cmpint(pipe(pipe_fds), ==, 0);
                pid = fork();
                g_assert_cmpint(pid, >=, 0);
                if (pid == 0) {
                        (void) close(pipe_fds[0]);
                        run_child(&shelf, round, round_seed, pipe_fds[1]);
                }
                (void) close(pipe_fds[1]);
                kill_child(pid, pipe_fds[0], after_usec, done);
                (void) close(pipe_fds[0]);

                shelf_open(&shelf);
                for (unsigned uri = 0; uri < N_URIS; uri++)
                        newest = MAX(newest,
                                     check_uri(&shelf, round, round_seed, plan, done, uri, generation));
                for (unsigned i = 0; i < N_CHANGES; i++)
                        n_done += done[i];

                storage_get_stats(shelf.storage, &stats);
                g_assert_cmpuint(stats.generation, >=, generation);
                generation = MAX(stats.generation, newest);
                g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);

                /* Nothing is left over in the end. */
                wait_until(shelf_stats(&shelf).sweeps == 1);
                storage_get_stats(shelf.storage, &stats);
                g_assert_cmpuint(shelf_count_blobs(&shelf), ==, stats.objects - stats.objects_inline);
                n_swept += stats.swept;
                shelf_close(&shelf);
        }

        g_test_message("%u rounds, %" PRIu64 " changes done, %" PRIu64 " blobs left over", n_rounds, n_done,
                       n_swept);
        g_assert_cmpuint(n_done, >, n_rounds);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/kill", test_kill);
        return g_test_run();
}
