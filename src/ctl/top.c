/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The daemon's counters as a live screen. One loop over keys, signals and the client: whatever the daemon does, the
 * terminal answers. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "ctl.h"
#include "macro.h"
#include "report.h"
#include "screen.h"
#include "snapshot.h"
#include "terminal.h"

#define INTERVAL_USEC (2 * USEC_PER_SEC)
#define FIRST_USEC    (500 * USEC_PER_MSEC) /* so that the first rates are soon there */
#define PATIENCE_USEC USEC_PER_SEC          /* an answer that takes longer is waited for with a word */
#define WORD_MAX      160

struct top {
        struct ctl *ctl;
        struct terminal terminal;
        int signal_fd;
        uint64_t first_usec; /* from the first question to the second */
        uint64_t interval_usec;

        struct snapshot before, now;
        uint64_t due_usec;   /* CLOCK_MONOTONIC: when to ask next */
        uint64_t asked_usec; /* 0: nothing is asked */
        int error;           /* of the last answer */
        char word[WORD_MAX]; /* why nothing new is shown; empty: it is */
        bool is_stale;       /* what is shown is not what is known */

        bool over;
        int signal; /* that ended it */
        int status; /* the exit code */
};

static void top_done(struct top *top) {
        terminal_leave(&top->terminal);
        snapshot_done(&top->before);
        snapshot_done(&top->now);
        (void) close_fd(top->signal_fd);
}

static void finish(struct top *top, int status) {
        top->over = true;
        top->status = status;
}

/* On the screen, in place of its first line; plain, for it may quote what a peer sent. */
static void set_word(struct top *top, const char *what, const char *why) {
        (void) snprintf(top->word, sizeof(top->word), "%s%s%s", what, *why ? ": " : "", why);
        for (char *p = top->word; *p; p++)
                if (*p < ' ' || *p > '~')
                        *p = '?';
        top->is_stale = true;
}

static void take(struct top *top, objmapper_object *stats) {
        struct snapshot snapshot;
        int r = snapshot_take(&snapshot, stats);

        if (r < 0) {
                top->error = r;
                set_word(top, "Can't read the daemon's counters", strerror(-r));
                return;
        }

        snapshot_done(&top->before);
        top->before = top->now;
        top->now = snapshot;
        if (snapshot_get(&top->before, "start_time_usec") != snapshot_get(&top->now, "start_time_usec"))
                snapshot_done(&top->before); /* it counts anew */
        top->word[0] = '\0';
        top->is_stale = true;
}

static void on_reply(objmapper_client *client, int error, objmapper_object *object, void *userdata) {
        _cleanup_(objmapper_object_freep) objmapper_object *stats = object;
        struct top *top = userdata;

        top->asked_usec = 0;
        top->error = error;
        if (error < 0)
                set_word(top, "Waiting for the daemon", objmapper_client_error(client));
        else
                take(top, stats);
}

static void ask(struct top *top) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);
        bool is_first = top->now.usec == 0;
        int r;

        top->due_usec = now_usec + (is_first ? top->first_usec : top->interval_usec);
        if (top->asked_usec != 0)
                return;

        top->asked_usec = now_usec;
        r = objmapper_request_new(&request, OBJMAPPER_STATS, NULL, 0);
        if (r >= 0)
                r = objmapper_client_submit(top->ctl->client, request, on_reply, top);
        if (r < 0)
                on_reply(top->ctl->client, r, NULL, top);
}

/* All as it is to be until it goes on: stopped, or in the hands of whoever started it. */
static void stop(struct top *top) {
        sigset_t signals;

        terminal_leave(&top->terminal);
        (void) sigemptyset(&signals);
        (void) sigaddset(&signals, SIGTSTP);
        (void) raise(SIGTSTP);
        (void) sigprocmask(SIG_UNBLOCK, &signals, NULL); /* here it stops, and goes on */
        (void) sigprocmask(SIG_BLOCK, &signals, NULL);
}

static void show_again(struct top *top) {
        if (terminal_enter(&top->terminal) < 0)
                finish(top, EXIT_FAILED);
        top->is_stale = true;
}

static void on_signal(struct top *top) {
        struct signalfd_siginfo info;

        if (read(top->signal_fd, &info, sizeof(info)) != sizeof(info))
                return;

        switch (info.ssi_signo) {
        case SIGWINCH:
                top->is_stale = true;
                break;
        case SIGTSTP:
                stop(top);
                show_again(top);
                break;
        case SIGCONT: /* whoever stopped it may have changed the terminal meanwhile */
                show_again(top);
                break;
        default:
                top->signal = (int) info.ssi_signo;
                finish(top, EXIT_DONE);
        }
}

static void on_key(struct top *top) {
        char keys[64];
        ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) { /* the terminal is gone */
                finish(top, n < 0 && errno != EIO ? EXIT_FAILED : EXIT_DONE);
                return;
        }

        if (keys[0] == '\033') /* a key that sends many */
                return;

        for (ssize_t i = 0; i < n; i++)
                if (keys[i] == 'q')
                        finish(top, EXIT_DONE);
                else if (keys[i] == ' ')
                        top->due_usec = 0;
        top->is_stale = true; /* any key repairs a screen that somebody wrote on */
}

static int write_screen(const struct top *top, char **ret) {
        size_t size;
        FILE *out = open_memstream(ret, &size);

        if (!out)
                return -errno;

        if (top->now.usec == 0)
                fprintf(out, "Waiting for the daemon\n");
        else
                screen_write(out, &top->before, &top->now);
        return fclose(out) == 0 ? 0 : -ENOMEM;
}

static void show(struct top *top) {
        _cleanup_free_ char *text = NULL;
        int r = write_screen(top, &text);

        if (r >= 0)
                r = terminal_show(top->word[0] ? top->word : NULL, text);
        if (r < 0)
                finish(top, EXIT_FAILED);
        top->is_stale = false;
}

/* Milliseconds until usec (CLOCK_MONOTONIC), rounded up. */
static int timeout_until(uint64_t usec) {
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);

        return usec <= now_usec ? 0 : (int) MIN((usec - now_usec) / USEC_PER_MSEC + 1, UINT64_C(60000));
}

/* Waits for what comes, and does it. */
static void run_once(struct top *top) {
        objmapper_client *client = top->ctl->client;
        struct pollfd fds[] = {
                { .fd = objmapper_client_get_fd(client), .events = POLLIN },
                { .fd = top->signal_fd, .events = POLLIN },
                { .fd = top->terminal.is_entered ? STDIN_FILENO : -1, .events = POLLIN },
        };
        uint64_t until_usec = MIN(top->due_usec, objmapper_client_get_deadline(client));

        if (poll(fds, ARRAY_SIZE(fds), timeout_until(until_usec)) < 0 && errno != EINTR)
                finish(top, EXIT_FAILED);

        if (fds[1].revents != 0)
                on_signal(top);
        if (fds[2].revents != 0)
                on_key(top);
        if (top->over)
                return;

        (void) objmapper_client_process(client);
        if (clock_usec(CLOCK_MONOTONIC) >= top->due_usec)
                ask(top);
        if (top->asked_usec != 0 && top->word[0] == '\0' &&
            clock_usec(CLOCK_MONOTONIC) >= top->asked_usec + PATIENCE_USEC)
                set_word(top, "Waiting for the daemon", "");
}

/* A daemon that was never there is not waited for. */
static int start(struct top *top) {
        ask(top);
        while (top->now.usec == 0 && top->error >= 0)
                (void) objmapper_client_wait(top->ctl->client, UINT64_MAX);

        return top->error < 0 ? report(top->ctl, top->error) : EXIT_DONE;
}

static int run_on_terminal(struct top *top) {
        sigset_t signals;
        static const int wanted[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH };

        (void) sigemptyset(&signals);
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
                (void) sigaddset(&signals, wanted[i]);
        (void) sigprocmask(SIG_BLOCK, &signals, NULL);
        top->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        if (top->signal_fd < 0)
                return report_file("can't wait for signals", NULL, errno);

        show_again(top);
        while (!top->over) {
                if (top->is_stale)
                        show(top);
                run_once(top);
        }
        terminal_leave(&top->terminal);

        if (top->signal != 0) { /* as it would have ended without a screen */
                (void) sigprocmask(SIG_UNBLOCK, &signals, NULL);
                (void) raise(top->signal);
        }
        return top->status;
}

static int run_batch(struct top *top) {
        for (uint64_t i = 0; i < top->ctl->arguments.screens;) {
                _cleanup_free_ char *text = NULL;

                run_once(top);
                if (!top->is_stale)
                        continue;

                top->is_stale = false;
                if (top->word[0] != '\0') {
                        complain("%s", top->word);
                        continue;
                }
                if (write_screen(top, &text) < 0) {
                        complain("out of memory");
                        return EXIT_FAILED;
                }
                printf("%s%s", i > 0 ? "\n" : "", text);
                if (fflush(stdout) != 0)
                        return EXIT_FAILED; /* told by finish_output() */
                i++;
        }

        return EXIT_DONE;
}

int verb_top(struct ctl *ctl) {
        _cleanup_(top_done) struct top top = {
                .ctl = ctl,
                .signal_fd = -EBADF,
                .interval_usec = ctl->arguments.interval_usec ?: INTERVAL_USEC,
        };
        bool is_batch = ctl->arguments.screens > 0;
        int r;

        top.first_usec = is_batch ? top.interval_usec : MIN(FIRST_USEC, top.interval_usec);

        if (!is_batch && !terminal_is_there()) {
                complain("top needs a terminal; --batch=N writes plain text N times");
                return EXIT_USAGE;
        }

        r = start(&top);
        if (r != EXIT_DONE)
                return r;

        top.is_stale = !is_batch; /* there it begins with the first rates */
        return is_batch ? run_batch(&top) : run_on_terminal(&top);
}
