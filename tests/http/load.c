/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* load PORT FOLDER FILES REQUESTS CONNECTIONS SEED: requests for http://example.org/0 to FILES-1 by several keep-alive
 * connections: GET, HEAD, ranges, conditions, and now and then one that is broken off. Each answer's status and bytes must
 * be those of the file of that name in FOLDER, from whatever source they come. Ends with a line of counts, and with 1 when
 * anything was wrong. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_MAX        16384
#define WRONG_SHOWN_MAX 10

enum kind { GET, HEAD, RANGE, CONDITION, BROKEN_OFF, KINDS };

struct file {
        const char *data;
        size_t size;
};

struct connection {
        int fd;
        enum kind kind;
        unsigned name;
        size_t from, to; /* the bytes that must come */
        char etag[128];  /* of the file of this name, when it was last seen */
        unsigned etag_name;

        char head[HEAD_MAX + 1];
        size_t head_size;
        bool in_body;
        unsigned status;
        size_t left;
};

static struct {
        uint16_t port;
        struct file *files;
        unsigned n_files;
        uint64_t to_do, done, wrong, failed, lost, by_kind[KINDS], bytes;
        uint64_t random;
} load;

/* xorshift64* */
static uint64_t random_number(void) {
        load.random ^= load.random >> 12;
        load.random ^= load.random << 25;
        load.random ^= load.random >> 27;
        return load.random * UINT64_C(2685821657736338717);
}

static void die(const char *what) {
        (void) fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(2);
}

static void wrong(const struct connection *connection, const char *what) {
        if (load.wrong++ < WRONG_SHOWN_MAX)
                (void) fprintf(stderr, "/%u, kind %d, bytes %zu to %zu: %s\n%s\n", connection->name,
                               (int) connection->kind, connection->from, connection->to, what,
                               connection->head);
}

static void read_files(const char *folder) {
        load.files = calloc(load.n_files, sizeof(*load.files));
        if (!load.files)
                die("calloc");

        for (unsigned i = 0; i < load.n_files; i++) {
                char path[4096];
                struct stat st;
                void *data = NULL;
                int fd;

                (void) snprintf(path, sizeof(path), "%s/%u", folder, i);
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0 || fstat(fd, &st) < 0)
                        die(path);
                if (st.st_size > 0)
                        data = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_SHARED, fd, 0);
                if (data == MAP_FAILED)
                        die(path);
                (void) close(fd);
                load.files[i] = (struct file){ data, (size_t) st.st_size };
        }
}

static void connect_to_server(struct connection *connection) {
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons(load.port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int one = 1;

        connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                die("connect");
        (void) setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static enum kind choose_kind(void) {
        unsigned n = (unsigned) (random_number() % 100);

        if (n < 5)
                return HEAD;
        if (n < 15)
                return RANGE;
        if (n < 25)
                return CONDITION;
        return n < 27 ? BROKEN_OFF : GET;
}

/* Some are asked for much more often than others. */
static unsigned choose_name(void) {
        uint64_t n = random_number();

        return (unsigned) ((n & 1 ? n >> 1 : (n >> 1) % 64) % load.n_files);
}

static int send_request(struct connection *connection) {
        char text[512], more[256] = "";
        const struct file *file;
        int n;

        connection->kind = choose_kind();
        connection->name = choose_name();
        file = &load.files[connection->name];
        connection->from = 0;
        connection->to = file->size;
        connection->head_size = 0;
        connection->in_body = false;

        if (connection->kind == RANGE && file->size > 0) {
                connection->from = random_number() % file->size;
                connection->to = connection->from + 1 + random_number() % (file->size - connection->from);
                (void) snprintf(more, sizeof(more), "Range: bytes=%zu-%zu\r\n", connection->from,
                                connection->to - 1);
        } else if (connection->kind == CONDITION && connection->etag[0]) {
                connection->name = connection->etag_name;
                connection->to = load.files[connection->name].size;
                (void) snprintf(more, sizeof(more), "If-None-Match: %s\r\n", connection->etag);
        }

        n = snprintf(text, sizeof(text), "%s /%u HTTP/1.1\r\nHost: example.org\r\n%s\r\n",
                     connection->kind == HEAD ? "HEAD" : "GET", connection->name, more);
        return send(connection->fd, text, (size_t) n, MSG_NOSIGNAL) == n ? 0 : -EIO;
}

/* The field's value, up to the end of its line; NULL: it is not there. */
static const char *find_field(const struct connection *connection, const char *name) {
        size_t size = strlen(name);

        for (const char *line = strstr(connection->head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
                if (strncasecmp(line + 2, name, size) == 0 && line[2 + size] == ':')
                        return line + 2 + size + 1 + (line[2 + size + 1] == ' ');

        return NULL;
}

static bool status_is_right(const struct connection *connection) {
        bool conditional = connection->kind == CONDITION && connection->etag[0];

        if (connection->kind == RANGE && load.files[connection->name].size > 0)
                return connection->status == 206;
        return connection->status == 200 || (conditional && connection->status == 304);
}

static void take_head(struct connection *connection) {
        const char *length = find_field(connection, "content-length"), *etag = find_field(connection, "etag");
        bool bodiless;

        connection->status = (unsigned) strtoul(connection->head + 9, NULL, 10);
        if (connection->status >= 500)
                load.failed++;
        if (!status_is_right(connection))
                wrong(connection, "not the status");

        bodiless = connection->kind == HEAD || connection->status == 304;
        if (connection->status < 300 &&
            (!length || strtoul(length, NULL, 10) != connection->to - connection->from))
                wrong(connection, "not the size");
        connection->left = bodiless || !length ? 0 : strtoul(length, NULL, 10);

        if (etag && connection->status == 200 && connection->kind != CONDITION) {
                (void) snprintf(connection->etag, sizeof(connection->etag), "%.*s", (int) strcspn(etag, "\r"),
                                etag);
                connection->etag_name = connection->name;
        }
        connection->in_body = true;
}

static void take_body(struct connection *connection, const char *data, size_t size) {
        const struct file *file = &load.files[connection->name];

        if (size > connection->left || connection->left > connection->to - connection->from ||
            memcmp(data, file->data + connection->to - connection->left, size) != 0) {
                wrong(connection, "not the bytes");
                connection->left = 0;
                return;
        }
        connection->left -= size;
        load.bytes += size;
}

/* 1: the answer is whole; 0: more is to come; -1: the server hung up. */
static int receive(struct connection *connection) {
        static char buffer[256 << 10];
        ssize_t n = recv(connection->fd, buffer, sizeof(buffer), 0);
        const char *data = buffer;
        size_t size = n > 0 ? (size_t) n : 0, room, before = connection->head_size;
        char *end;

        if (n <= 0)
                return -1;

        if (!connection->in_body) {
                room = HEAD_MAX - connection->head_size;
                memcpy(connection->head + before, buffer, size < room ? size : room);
                connection->head_size += size < room ? size : room;
                connection->head[connection->head_size] = '\0';
                end = strstr(connection->head, "\r\n\r\n");
                if (!end)
                        return connection->head_size < HEAD_MAX ? 0 : -1;

                end[2] = '\0';
                data = buffer + ((size_t) (end + 4 - connection->head) - before);
                size -= (size_t) (data - buffer);
                take_head(connection);
        }
        if (size > 0)
                take_body(connection, data, size);

        return connection->left == 0;
}

static void again(struct connection *connection, int epoll_fd) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };

        if (connection->fd >= 0)
                (void) close(connection->fd);
        connect_to_server(connection);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0)
                die("epoll_ctl");
}

static void begin(struct connection *connection, int epoll_fd) {
        while (send_request(connection) < 0)
                again(connection, epoll_fd); /* kept alive no longer */
}

static void serve(struct connection *connection, int epoll_fd) {
        int r = receive(connection);

        if (r == 0 && !(connection->kind == BROKEN_OFF && connection->in_body))
                return;

        /* A server that reloads may close an idle connection just as a request is sent: then nothing has come. */
        if (r < 0 && connection->head_size == 0)
                load.lost++;
        else if (r < 0)
                wrong(connection, "broken off");
        if (r < 0 || (r == 0 && connection->kind == BROKEN_OFF))
                again(connection, epoll_fd);
        else if (find_field(connection, "connection") &&
                 strncasecmp(find_field(connection, "connection"), "close", 5) == 0)
                again(connection, epoll_fd);

        if (r >= 0) {
                load.done++;
                load.by_kind[connection->kind]++;
        }
        if (load.done < load.to_do)
                begin(connection, epoll_fd);
}

int main(int argc, char *argv[]) {
        struct epoll_event events[64];
        struct connection *connections;
        unsigned n_connections;
        int epoll_fd, n;

        if (argc != 7)
                return 2;

        load.port = (uint16_t) strtoul(argv[1], NULL, 10);
        load.n_files = (unsigned) strtoul(argv[3], NULL, 10);
        load.to_do = strtoull(argv[4], NULL, 10);
        n_connections = (unsigned) strtoul(argv[5], NULL, 10);
        load.random = strtoull(argv[6], NULL, 10) | 1;
        read_files(argv[2]);

        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        connections = calloc(n_connections, sizeof(*connections));
        if (epoll_fd < 0 || !connections)
                die("epoll_create1");
        for (unsigned i = 0; i < n_connections; i++) {
                connections[i].fd = -1;
                again(&connections[i], epoll_fd);
                begin(&connections[i], epoll_fd);
        }

        while (load.done < load.to_do) {
                n = epoll_wait(epoll_fd, events, 64, 60000);
                if (n == 0 || (n < 0 && errno != EINTR))
                        die("nothing comes any more");
                for (int i = 0; i < n; i++)
                        serve(events[i].data.ptr, epoll_fd);
        }

        (void) printf("{\"requests\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"failed\": %" PRIu64
                      ", \"lost\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"head\": %" PRIu64
                      ", \"range\": %" PRIu64 ", \"condition\": %" PRIu64 ", \"broken_off\": %" PRIu64 "}\n",
                      load.done, load.wrong, load.failed, load.lost, load.bytes, load.by_kind[HEAD],
                      load.by_kind[RANGE], load.by_kind[CONDITION], load.by_kind[BROKEN_OFF]);
        return load.wrong > 0 || load.failed > 0;
}
