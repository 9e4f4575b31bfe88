/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pressure.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "clock.h"
#include "log.h"
#include "macro.h"
#include "thread.h"

#define WRITE_MAX 256  /* bytes that the service manager may want to be written */
#define REST_MSEC 1000 /* between two times that memory is given back */
#define CGROUPS   "/sys/fs/cgroup"

struct pressure {
        struct storage *storage;
        pthread_t thread;
        int stop_fd;
        int watch_fd;
        short watch_events;
        int events_fd;   /* memory.events, which watch_fd tells of; -EBADF: watch_fd says it itself */
        uint64_t n_held; /* as it was counted there last */
};

static int decode_digit(char c) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *p = c ? strchr(digits, c) : NULL;

        return p ? (int) (p - digits) : -EINVAL;
}

/* Base64. Returns how many bytes, or -EINVAL. */
static ssize_t decode(const char *text, uint8_t *ret, size_t size_max) {
        size_t length = strcspn(text, "="), size = length * 3 / 4;
        uint32_t bits = 0;
        unsigned n_bits = 0;

        if (size > size_max || length % 4 == 1)
                return -EINVAL;

        for (size_t i = 0, n = 0; i < length; i++) {
                int digit = decode_digit(text[i]);

                if (digit < 0)
                        return digit;

                bits = bits << 6 | (uint32_t) digit;
                n_bits += 6;
                if (n_bits >= 8) {
                        n_bits -= 8;
                        ret[n++] = (uint8_t) (bits >> n_bits);
                }
        }

        return (ssize_t) size;
}

static int connect_to(const char *path) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        if (fd < 0)
                return -errno;
        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;

        strcpy(address.sun_path, path);
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;

        return TAKE_FD(fd);
}

/* What the service manager says: a file of the kernel's, a FIFO or a socket. */
static int watch_named(struct pressure *pressure, const char *path) {
        const char *text = getenv("MEMORY_PRESSURE_WRITE");
        uint8_t data[WRITE_MAX];
        ssize_t size = text ? decode(text, data, sizeof(data)) : 0;
        struct stat st;

        if (size < 0)
                return (int) size;
        if (stat(path, &st) < 0)
                return -errno;

        pressure->watch_fd = S_ISSOCK(st.st_mode) ? connect_to(path)
                                                  : open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (pressure->watch_fd < 0)
                return pressure->watch_fd == -1 ? -errno : pressure->watch_fd;

        pressure->watch_events = S_ISREG(st.st_mode) ? POLLPRI : POLLIN;
        if (size > 0 && write(pressure->watch_fd, data, (size_t) size) != size)
                return errno > 0 ? -errno : -EIO;

        return 0;
}

/* How often the control group was held at its limits. */
static uint64_t count_held(struct pressure *pressure) {
        char text[512];
        ssize_t n = pread(pressure->events_fd, text, sizeof(text) - 1, 0);
        uint64_t sum = 0;

        text[MAX(n, 0)] = 0;
        for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                uint64_t value;

                if (sscanf(line, "high %" SCNu64, &value) == 1 || sscanf(line, "max %" SCNu64, &value) == 1)
                        sum += value;
        }

        return sum;
}

static int find_group(char **ret) {
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;
        FILE *file = fopen("/proc/self/cgroup", "re");
        int r = -ENOENT;
        ssize_t n;

        if (!file)
                return -errno;

        while (r == -ENOENT && (n = getline(&line, &allocated, file)) > 0)
                if (strncmp(line, "0::/", 4) == 0) {
                        line[strcspn(line, "\n")] = 0;
                        r = asprintf(ret, CGROUPS "%s/memory.events", line + 3) < 0 ? -ENOMEM : 0;
                }
        (void) fclose(file);

        return r;
}

static int watch_group(struct pressure *pressure) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = find_group(&path);
        if (r < 0)
                return r;

        pressure->events_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (pressure->events_fd < 0)
                return -errno;

        pressure->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (pressure->watch_fd < 0 || inotify_add_watch(pressure->watch_fd, path, IN_MODIFY) < 0)
                return -errno;

        pressure->watch_events = POLLIN;
        pressure->n_held = count_held(pressure);
        return 0;
}

/* Something was told. Returns whether it is that memory is short. */
static bool is_short(struct pressure *pressure) {
        uint8_t told[4096];
        uint64_t n_held;

        if (pressure->watch_events == POLLIN)
                while (read(pressure->watch_fd, told, sizeof(told)) > 0)
                        ;
        if (pressure->events_fd < 0)
                return true;

        n_held = count_held(pressure);
        if (n_held <= pressure->n_held)
                return false;

        pressure->n_held = n_held;
        return true;
}

static void relieve(struct pressure *pressure) {
        static struct log_ratelimit limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 3 };
        struct storage_stats before, after;
        char more[LOG_DROPPED_MAX];
        unsigned dropped;

        storage_get_stats(pressure->storage, &before);
        storage_shrink(pressure->storage);
        storage_get_stats(pressure->storage, &after);
        if (after.hot_bytes < before.hot_bytes && log_ratelimit_pass(&limit, &dropped))
                log_info("Memory is short: the hot table takes %" PRIu64 " KiB now, it was %" PRIu64
                         " KiB.%s",
                         after.hot_bytes >> 10, before.hot_bytes >> 10, log_dropped(dropped, more));
}

static void *run(void *userdata) {
        struct pressure *pressure = userdata;
        struct pollfd polled[] = {
                { .fd = pressure->stop_fd, .events = POLLIN },
                { .fd = pressure->watch_fd, .events = pressure->watch_events },
        };

        for (;;) {
                if (poll(polled, ARRAY_SIZE(polled), -1) < 0)
                        continue;
                if (polled[0].revents != 0)
                        return NULL;
                if (polled[1].revents & (POLLERR | POLLNVAL | POLLHUP)) {
                        log_notice("Nobody tells of memory pressure any more.");
                        polled[1].fd = -EBADF;
                        continue;
                }
                if (!is_short(pressure))
                        continue;

                /* However often it is told: what was given back has to show first. */
                relieve(pressure);
                (void) poll(polled, 1, REST_MSEC);
        }
}

static int watch(struct pressure *pressure) {
        const char *path = getenv("MEMORY_PRESSURE_WATCH");

        if (!path || path[0] != '/')
                return watch_group(pressure);

        return strcmp(path, "/dev/null") == 0 ? -ENOENT : watch_named(pressure, path);
}

static void release(struct pressure *pressure) {
        close_fdp(&pressure->events_fd);
        close_fdp(&pressure->watch_fd);
        close_fdp(&pressure->stop_fd);
        free(pressure);
}

int pressure_new(struct pressure **ret, struct storage *storage) {
        struct pressure *pressure = malloc(sizeof(*pressure));
        int r;

        assert(ret);

        *ret = NULL;
        if (!pressure)
                return -ENOMEM;

        *pressure = (struct pressure){
                .storage = storage,
                .stop_fd = -EBADF,
                .watch_fd = -EBADF,
                .events_fd = -EBADF,
        };
        r = watch(pressure);
        if (r < 0) {
                release(pressure);
                (void) log_errno(LOG_DEBUG, r, "Nothing tells when memory is short: %m");
                return r == -ENOMEM || r == -EMFILE || r == -ENFILE ? r : 0;
        }

        pressure->stop_fd = eventfd(0, EFD_CLOEXEC);
        r = pressure->stop_fd < 0 ? -errno : thread_start(&pressure->thread, "pressure", run, pressure);
        if (r < 0) {
                release(pressure);
                return r;
        }

        *ret = pressure;
        return 0;
}

void pressure_free(struct pressure *pressure) {
        if (!pressure)
                return;

        (void) eventfd_write(pressure->stop_fd, 1);
        (void) pthread_join(pressure->thread, NULL);
        release(pressure);
}
