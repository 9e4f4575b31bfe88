/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>

#include "bytes.h"
#include "clock.h"
#include "close-fds.h"
#include "harness.h"
#include "log.h"
#include "macro.h"
#include "mailbox.h"

static void test_bytes(void) {
        uint8_t p[16] = {};

        store_le64(p + 1, UINT64_C(0x0102030405060708));
        g_assert_cmpint(p[1], ==, 8);
        g_assert_cmpint(p[8], ==, 1);
        g_assert_true(load_le64(p + 1) == UINT64_C(0x0102030405060708));
        g_assert_true(load_le32(p + 1) == 0x05060708);
        g_assert_true(load_le16(p + 1) == 0x0708);
        store_le16(p, 0xabcd);
        g_assert_cmpint(p[0], ==, 0xcd);
        store_le32(p + 3, 0x01020304);
        g_assert_cmpint(p[3], ==, 4);
}

static void test_cleanup(void) {
        int kept = -EBADF, given;

        {
                _cleanup_close_ int fd = dup(STDERR_FILENO);
                _cleanup_free_ char *p = malloc(1), *q = NULL;

                g_assert_cmpint(fd, >=, 0);
                kept = TAKE_FD(fd);
                g_assert_cmpint(fd, <, 0);
                q = TAKE_PTR(p);
                g_assert_null(p);
                g_assert_nonnull(q);
        }

        given = dup(kept);
        g_assert_cmpint(given, >=, 0);
        errno = 77;
        given = close_fd(given);
        g_assert_cmpint(given, ==, -EBADF);
        g_assert_cmpint(errno, ==, 77);
        (void) close_fd(kept);
}

/* Runs, gaps and a disorder: those that are named and no other. */
static void test_close_fds(void) {
        int fds[12], given[] = { 0, 1, 2, 4, 6, 7, 9, 8, 11 };
        unsigned closed = 0;

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                fds[i] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, i == 0 ? 50 : fds[i - 1] + 1);
                g_assert_cmpint(fds[i], >=, 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(given); i++) {
                closed |= 1U << given[i];
                given[i] = fds[given[i]];
        }

        close_fds(NULL, 0);
        close_fds(given, ARRAY_SIZE(given));
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                g_assert_true((fcntl(fds[i], F_GETFD) < 0) == (closed >> i & 1));
                if (!(closed >> i & 1))
                        close_fds(&fds[i], 1);
        }
}

static void test_ratelimit(void) {
        struct log_ratelimit limit = { .interval_usec = 3600 * USEC_PER_SEC, .burst = 3 };
        unsigned dropped = 99, passed = 0;

        for (unsigned i = 0; i < 10; i++)
                passed += log_ratelimit_pass(&limit, &dropped);
        g_assert_cmpuint(passed, ==, 3);
        g_assert_cmpuint(dropped, ==, 0);

        limit.interval_usec = 0; /* all have had their part of it */
        limit.due_usec = 0;
        g_assert_true(log_ratelimit_pass(&limit, &dropped));
        g_assert_cmpuint(dropped, ==, 7);
}

/* However the seconds are counted: what was saved up may not meet what is given next. */
static void test_ratelimit_has_no_edges(void) {
        struct log_ratelimit limit = { .interval_usec = 300 * USEC_PER_MSEC, .burst = 3 };
        uint64_t passed_usec[16];
        unsigned n = 0, dropped;

        while (n < ARRAY_SIZE(passed_usec))
                if (log_ratelimit_pass(&limit, &dropped))
                        passed_usec[n++] = clock_usec(CLOCK_MONOTONIC);
                else
                        g_usleep(1000);

        for (unsigned i = 4; i < n; i++)
                g_assert_cmpuint(passed_usec[i] - passed_usec[i - 4], >=, 199 * USEC_PER_MSEC);
}

static void test_provoked_together(void) {
        struct log_ratelimit limits[4] = {};
        unsigned dropped, passed = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(limits); i++)
                limits[i] = (struct log_ratelimit){ .interval_usec = 3600 * USEC_PER_SEC, .burst = 5 };
        for (unsigned i = 0; i < 1000; i++)
                passed += log_provoked_pass(&limits[i % ARRAY_SIZE(limits)], &dropped);

        /* None of the causes had all of its own. */
        g_assert_cmpuint(passed, >=, 5);
        g_assert_cmpuint(passed, <, 20);
}

static void test_log_line(void) {
        if (g_test_subprocess()) {
                log_set_level(LOG_INFO);
                log_debug("unseen");
                log_write(LOG_INFO, -ENOENT, NULL, NULL, 0, "seen %s: %m", "a\nb");
                return;
        }

        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("*seen a?b: No such file or directory*");
        g_test_trap_assert_stderr_unmatched("*unseen*");
}

#define N_POSTERS 4
#define N_MAILS   2000

struct numbered {
        struct mail mail;
        unsigned poster, number;
};

static unsigned n_delivered, next_number[N_POSTERS];

static void deliver(struct mail *mail) {
        struct numbered *numbered = container_of(mail, struct numbered, mail);

        g_assert_cmpuint(numbered->number, ==, next_number[numbered->poster]++);
        n_delivered++;
        g_free(numbered);
}

struct poster {
        struct mailbox *mailbox;
        unsigned index;
};

static void *post(void *userdata) {
        struct poster *poster = userdata;

        for (unsigned i = 0; i < N_MAILS; i++) {
                struct numbered *numbered = g_new0(struct numbered, 1);

                *numbered = (struct numbered){ .mail.deliver = deliver,
                                               .poster = poster->index,
                                               .number = i };
                mailbox_post(poster->mailbox, &numbered->mail);
        }

        return NULL;
}

static void test_mailbox(void) {
        struct mailbox *mailbox;
        struct poster posters[N_POSTERS];
        pthread_t threads[N_POSTERS];
        sd_event *event;

        assert_ok(sd_event_new(&event));
        assert_ok(mailbox_new(&mailbox, event));
        for (unsigned i = 0; i < N_POSTERS; i++) {
                posters[i] = (struct poster){ mailbox, i };
                assert_ok(pthread_create(&threads[i], NULL, post, &posters[i]));
        }

        while (n_delivered < N_POSTERS * N_MAILS)
                g_assert_cmpint(sd_event_run(event, 10 * G_USEC_PER_SEC), >, 0);

        for (unsigned i = 0; i < N_POSTERS; i++)
                assert_ok(pthread_join(threads[i], NULL));
        mailbox_free(mailbox);
        sd_event_unref(event);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/util/bytes", test_bytes);
        harness_add("/util/cleanup", test_cleanup);
        harness_add("/util/close-fds", test_close_fds);
        harness_add("/util/ratelimit", test_ratelimit);
        harness_add("/util/ratelimit-has-no-edges", test_ratelimit_has_no_edges);
        harness_add("/util/provoked-together", test_provoked_together);
        g_test_add_func("/util/log-line", test_log_line);
        harness_add("/util/mailbox", test_mailbox);
        return g_test_run();
}
