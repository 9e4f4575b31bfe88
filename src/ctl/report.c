/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "macro.h"
#include "print.h"

#define PROGRAM "objmapperctl: "

void complain(const char *format, ...) {
        va_list ap;

        fputs(PROGRAM, stderr);
        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
}

int error_to_exit_code(int error) {
        switch (error < 0 ? -error : error) {
        case 0:
                return EXIT_DONE;
        case ENOENT:
        case ESTALE:
                return EXIT_ABSENT;
        case EEXIST:
        case ECANCELED:
                return EXIT_CONFLICT;
        case EACCES:
        case EPERM:
                return EXIT_NOT_PERMITTED;
        case EHOSTDOWN:
                return EXIT_NO_DAEMON;
        case EFBIG:
        case ENOSPC:
        case EDQUOT:
        case EROFS:
                return EXIT_NO_ROOM;
        case EINPROGRESS:
                return EXIT_UNKNOWN;
        case EBUSY:
        case ETIMEDOUT:
                return EXIT_BUSY;
        default:
                return EXIT_FAILED;
        }
}

/* The names that the units of the daemon in question have. */
struct units {
        const char *manager; /* the options of systemctl and journalctl */
        const char *at;      /* what an instance adds to a name */
        const char *instance;
};

static struct units units_of(const struct arguments *arguments) {
        return (struct units){
                .manager = arguments->user ? "--user " : "",
                .at = arguments->instance ? "@" : "",
                .instance = arguments->instance ?: "",
        };
}

static void hint_no_daemon(const struct ctl *ctl) {
        struct units u = units_of(&ctl->arguments);
        const char *kind = ctl->changes ? "-publish" : "";

        if (ctl->arguments.socket || ctl->arguments.publish_socket) {
                complain("start the daemon that listens there, or name another socket with --socket and "
                         "--publish-socket");
                return;
        }

        complain("start it: systemctl %sstart objmapper%s%s%s.socket", u.manager, kind, u.at, u.instance);
        complain("if it does not stay: systemctl %sstatus objmapper%s%s.service; journalctl %s-u "
                 "objmapper%s%s.service",
                 u.manager, u.at, u.instance, u.manager, u.at, u.instance);
}

static void hint_not_permitted(const struct ctl *ctl) {
        const char *group = ctl->changes ? "objmapper-publish" : "objmapper";

        if (ctl->arguments.user) {
                complain("a user's daemon serves that user alone");
                return;
        }

        if (ctl->changes && ctl->arguments.socket && !ctl->arguments.publish_socket)
                complain("changes go to the publishers' socket: name it with --publish-socket");

        complain("%s needs the group %s: usermod -aG %s USER, then log in again; root may always",
                 ctl->changes ? "changing" : "reading", group, group);
}

static void hint(const struct ctl *ctl, int error) {
        struct units u = units_of(&ctl->arguments);

        switch (-error) {
        case EHOSTDOWN:
                hint_no_daemon(ctl);
                break;
        case EACCES:
        case EPERM:
                hint_not_permitted(ctl);
                break;
        case ECANCELED:
                complain("objmapperctl stat shows the present generation");
                break;
        case ENOSPC:
        case EDQUOT:
                complain("make room with objmapperctl rm or purge; objmapperctl stats shows what the store "
                         "holds");
                break;
        case EINPROGRESS:
                complain("the change may or may not have been made: look with objmapperctl stat before you "
                         "repeat it");
                break;
        case EBUSY:
                complain("try again later; the limits are in objmapper.conf");
                break;
        case ETIMEDOUT:
                complain("wait longer with --timeout; is it stuck? systemctl %sstatus objmapper%s%s.service",
                         u.manager, u.at, u.instance);
                break;
        case EROFS:
        case EREMOTEIO:
                complain("the reason is in its log: journalctl %s-u objmapper%s%s.service", u.manager, u.at,
                         u.instance);
                break;
        case EPROTO:
                complain("is it objmapperd that listens there?");
                break;
        }
}

int report(const struct ctl *ctl, const char *action, const char *what, int error) {
        fputs(PROGRAM, stderr);
        fputs(action, stderr);
        if (what) {
                fputs(" '", stderr);
                print_escaped(stderr, what, strlen(what));
                fputc('\'', stderr);
        }
        fputs(": ", stderr);
        /* The words may quote what a peer sent. */
        print_escaped(stderr, objmapper_client_error(ctl->client),
                      strlen(objmapper_client_error(ctl->client)));
        fputc('\n', stderr);

        hint(ctl, error);
        return error_to_exit_code(error);
}

int report_file(const char *action, const char *path, int error) {
        fputs(PROGRAM, stderr);
        fputs(action, stderr);
        if (path) {
                fputs(" '", stderr);
                print_escaped(stderr, path, strlen(path));
                fputc('\'', stderr);
        }
        fprintf(stderr, ": %s\n", strerror(error < 0 ? -error : error));
        return EXIT_FAILED;
}

void die_of_broken_pipe(void) {
        (void) raise(SIGPIPE);
}

int finish_output(void) {
        if (fflush(stdout) == 0 && !ferror(stdout))
                return EXIT_DONE;

        if (errno == EPIPE)
                die_of_broken_pipe();

        return report_file("can't write standard output", NULL, errno ?: EIO);
}
