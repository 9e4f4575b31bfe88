/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One HTTP request of a monitoring system, from a socket that the service manager accepted. Whoever can connect
 * may send anything: as much as a request has is read, for as long as one takes, and answered in any case. */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"
#include "report.h"

#define REQUEST_MAX  ((size_t) 16 << 10) /* bytes of request line and headers */
#define TIMEOUT_USEC (5 * USEC_PER_SEC)
#define TYPE_METRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define TYPE_TEXT    "text/plain; charset=utf-8"

/* Reads what has come, at most size bytes, before end_usec (CLOCK_MONOTONIC). 0: no more comes. */
static ssize_t read_some(char *buffer, size_t size, uint64_t end_usec) {
        for (;;) {
                uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);
                struct pollfd pollfd = { .fd = STDIN_FILENO, .events = POLLIN };
                ssize_t n;

                if (now_usec >= end_usec ||
                    poll(&pollfd, 1, (int) ((end_usec - now_usec) / USEC_PER_MSEC) + 1) == 0)
                        return -ETIMEDOUT;

                n = read(STDIN_FILENO, buffer, size);
                if (n >= 0)
                        return n;
                if (errno != EINTR && errno != EAGAIN)
                        return -errno;
        }
}

/* Reads until the empty line that ends the head. -EMSGSIZE: there is none in so many bytes; -ETIMEDOUT;
 * -ECONNRESET: the client stopped before; -EBADMSG: that is no text. */
static int read_request(char buffer[static REQUEST_MAX + 1], uint64_t end_usec) {
        size_t size = 0;

        while (size < REQUEST_MAX) {
                ssize_t n = read_some(buffer + size, REQUEST_MAX - size, end_usec);

                if (n <= 0)
                        return n < 0 ? (int) n : -ECONNRESET;

                size += (size_t) n;
                buffer[size] = 0;
                if (strlen(buffer) != size)
                        return -EBADMSG;
                if (strstr(buffer, "\r\n\r\n") || strstr(buffer, "\n\n"))
                        return 0;
        }

        return -EMSGSIZE;
}

/* To close with something unread would take the answer away from the client. */
static void read_rest(char buffer[static REQUEST_MAX], uint64_t end_usec) {
        (void) fflush(stdout);
        (void) shutdown(STDOUT_FILENO, SHUT_WR);
        while (read_some(buffer, REQUEST_MAX, end_usec) > 0)
                ;
}

static void answer(const char *status, const char *type, const char *body, size_t size, bool with_body) {
        printf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status,
               type, size);
        if (with_body)
                (void) fwrite(body, 1, size, stdout);
}

static void refuse(const char *status) {
        char text[128];
        int size = snprintf(text, sizeof(text), "%s\n", status);

        answer(status, TYPE_TEXT, text, (size_t) size, true);
}

/* Whether the request line has this method, and a path that is ours. */
static bool asks_for(const char *request, const char *method, const char *path) {
        size_t method_size = strlen(method), path_size = strlen(path);

        return strncmp(request, method, method_size) == 0 && request[method_size] == ' ' &&
               strncmp(request + method_size + 1, path, path_size) == 0 &&
               strchr(" ?", request[method_size + 1 + path_size]) != NULL &&
               request[method_size + 1 + path_size] != 0;
}

int serve_metrics(struct ctl *ctl) {
        _cleanup_free_ char *request = malloc(REQUEST_MAX + 1), *text = NULL;
        uint64_t end_usec = clock_usec(CLOCK_MONOTONIC) + TIMEOUT_USEC;
        size_t size = 0;
        FILE *out;
        int r;

        if (!request)
                return EXIT_FAILED;

        r = read_request(request, end_usec);
        if (r == -ECONNRESET)
                return EXIT_DONE; /* nobody waits for an answer */
        if (r < 0) {
                refuse(r == -EMSGSIZE    ? "431 Request Header Fields Too Large"
                       : r == -ETIMEDOUT ? "408 Request Timeout"
                                         : "400 Bad Request");
                read_rest(request, end_usec);
                return EXIT_DONE;
        }

        if (strncmp(request, "GET ", 4) != 0 && strncmp(request, "HEAD ", 5) != 0) {
                refuse("405 Method Not Allowed");
                return EXIT_DONE;
        }
        if (!asks_for(request, "GET", "/metrics") && !asks_for(request, "HEAD", "/metrics")) {
                refuse("404 Not Found");
                return EXIT_DONE;
        }

        out = open_memstream(&text, &size);
        if (!out)
                return EXIT_FAILED;

        r = metrics_print(ctl, out);
        if (fclose(out) != 0 && r >= 0)
                r = -errno;
        if (r < 0) {
                refuse("503 Service Unavailable");
                return report(ctl, r);
        }

        answer("200 OK", TYPE_METRICS, text, size, request[0] == 'G');
        return EXIT_DONE;
}
