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
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);

        fputs(PROGRAM, stderr);
        if (text) /* it may quote a file's name, or what a peer sent */
                print_escaped(stderr, text, strlen(text));
        else
                fputs("out of memory", stderr);
        fputc('\n', stderr);
}

int exit_code_of(const struct ctl *ctl, int error) {
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
                return EXIT_NOT_PERMITTED;
        case EHOSTDOWN:
                return EXIT_NO_DAEMON;
        case EFBIG:
        case ENOSPC:
        case EROFS:
                return EXIT_NO_ROOM;
        case EINPROGRESS:
                return EXIT_UNKNOWN;
        case EBUSY:
                return EXIT_BUSY;
        case ETIMEDOUT: /* what was not answered may have been done */
                return ctl->changes ? EXIT_UNKNOWN : EXIT_BUSY;
        default:
                return EXIT_FAILED;
        }
}

/* What the library can't know of: options and verbs of this program. */
static void hint(const struct ctl *ctl, int error) {
        const struct arguments *a = &ctl->arguments;

        if (error == -EACCES && ctl->changes && a->socket && !a->publish_socket)
                complain("name the publishers' socket with --publish-socket: changes go there");
        if (error == -ECANCELED)
                complain("objmapperctl stat shows the present generation");
        if (error == -ENOSPC)
                complain("make room with objmapperctl rm or purge; objmapperctl stats and objmapperctl "
                         "namespaces tell "
                         "what the store holds");
        if (error == -ETIMEDOUT)
                complain("--timeout waits longer; is it stuck? systemctl %sstatus objmapper%s%s.service",
                         a->user ? "--user " : "", a->instance ? "@" : "", a->instance ?: "");
        if (exit_code_of(ctl, error) == EXIT_UNKNOWN)
                complain("look with objmapperctl stat whether it was done, before you repeat it");
}

int report(const struct ctl *ctl, int error) {
        complain("%s", objmapper_client_error(ctl->client));
        hint(ctl, error);
        return exit_code_of(ctl, error);
}

int report_file(const char *action, const char *path, int error) {
        const char *quote = path ? "'" : "";

        complain("%s%s%s%s%s: %s", action, path ? " " : "", quote, path ?: "", quote,
                 strerror(error < 0 ? -error : error));
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
