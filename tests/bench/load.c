/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* load PROTOCOL SOCKET [option…]: gets from a server, and what they took, as JSON. Each connection sends so many requests
 * as is its depth at once, and the next ones when all are answered. See usage(). */
#include "load.h"

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "macro.h"
#include "objmapper.h"

#define TOOK_MAX   (UINT64_C(1) << 20)
#define LARGE_PAGE ((size_t) 2 << 20)

static void usage(void) {
        (void) fprintf(stderr,
                       "usage: load echo|raw|raw-fd|raw-pipe|memcached|redis|nginx|objmapper SOCKET "
                       "[option...]\n"
                       "  -n NAME -k N   objects NAME0000 and so on, N of them\n"
                       "  -s BYTES       of each body\n"
                       "  -d DEPTH -c CONNECTIONS\n"
                       "  -t MSEC -r REQUESTS\n"
                       "  -m MODE        of objmapper: fdpass, copy, splice, auto\n"
                       "  -o             bodies go to /dev/null by splice, not into memory\n"
                       "  -f             descriptors are read\n"
                       "  -1             one object a call (objmapper)\n"
                       "  -u             puts, not gets (objmapper)\n"
                       "  -y             looks for an answer some times before it falls asleep (all others)\n"
                       "  -p PID         whose processor time is told, too\n");
        exit(2);
}

uint64_t now_nsec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * NSEC_PER_SEC + (uint64_t) ts.tv_nsec;
}

void load_done(struct load *load, uint64_t begun, unsigned n) {
        uint64_t now = now_nsec(), took = MIN(now - begun, (uint64_t) UINT32_MAX);

        for (unsigned i = 0; i < n; i++)
                load->took[load->n_took++ % load->took_max] = (uint32_t) took;
        load->n_done += n;
        if (load->n_done >= load->n_max || now - load->begun >= load->nsec)
                load->over = true;
}

void load_batch_done(struct load *load, uint64_t begun) {
        load->batch_took[load->n_batches++ % load->took_max] = (uint32_t) MIN(now_nsec() - begun,
                                                                              (uint64_t) UINT32_MAX);
}

uint8_t *load_buffer(struct load *load, size_t size) {
        static uint8_t *buffer;
        static size_t buffer_size;

        (void) load;
        if (size > buffer_size) {
                free(buffer);
                size = (size + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
                buffer = aligned_alloc(LARGE_PAGE, size);
                if (!buffer)
                        err(1, "%zu bytes", size);
                (void) madvise(buffer, size, MADV_HUGEPAGE); /* as the library does it */
                memset(buffer, 1, size);                     /* its pages are there */
                buffer_size = size;
        }
        return buffer;
}

void load_take_fd(struct load *load, int fd) {
        if (load->reads) {
                uint8_t *p = load_buffer(load, load->size);

                for (uint64_t at = 0; at < load->size;) {
                        ssize_t n = pread(fd, p + at, load->size - at, (off_t) at);

                        if (n <= 0)
                                err(1, "read");
                        at += (uint64_t) n;
                }
        }
        (void) close(fd);
}

/* What all threads of a process ran, in nanoseconds. */
static uint64_t processor_nsec(const char *pids) {
        uint64_t sum = 0;
        char command[256], line[256];
        FILE *f;

        if (!pids)
                return 0;
        (void) snprintf(command, sizeof(command), "for p in %s; do cat /proc/$p/task/*/schedstat; done",
                        pids);
        f = popen(command, "r");
        while (f && fgets(line, sizeof(line), f))
                sum += strtoull(line, NULL, 10);
        if (f)
                (void) pclose(f);
        return sum;
}

/* What this process ran, and was ready to run while something else did, in nanoseconds. */
static void own_nsec(uint64_t *ret_ran, uint64_t *ret_waited) {
        FILE *f = fopen("/proc/self/schedstat", "re");
        unsigned long long ran = 0, waited = 0;

        if (f) {
                (void) fscanf(f, "%llu %llu", &ran, &waited);
                (void) fclose(f);
        }
        *ret_ran = ran;
        *ret_waited = waited;
}

static int compare(const void *a, const void *b) {
        const uint32_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

static void tell(struct load *load, uint64_t nsec, uint64_t server_nsec) {
        uint64_t n = MIN(load->n_took, load->took_max), n_batches = MIN(load->n_batches, load->took_max);
        uint64_t ran, waited;

        own_nsec(&ran, &waited);
        qsort(load->took, n, sizeof(load->took[0]), compare);
        qsort(load->batch_took, n_batches, sizeof(load->batch_took[0]), compare);
        printf("{\"n\": %llu, \"rate\": %.1f, \"p50\": %u, \"p99\": %u, \"p999\": %u, \"max\": %u, "
               "\"batch\": %u, \"server_usec\": %.4f, \"ran\": %.3f, \"waited\": %.3f}\n",
               (unsigned long long) load->n_done, (double) load->n_done * 1e9 / (double) nsec,
               load->took[n / 2], load->took[n * 99 / 100], load->took[n * 999 / 1000], load->took[n - 1],
               load->batch_took[n_batches / 2], (double) server_nsec / 1e3 / (double) load->n_done,
               (double) ran / (double) nsec, (double) waited / (double) nsec);
}

static void run(struct load *load) {
        if (strcmp(load->protocol, "objmapper") == 0)
                load_objmapper(load);
        else
                load_bytes(load);
}

/* A client of the library has two, and there are many. */
static void raise_descriptors(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &limit);
        }
}

static int mode_of(const char *name) {
        static const char *const modes[] = { "fdpass", "copy", "splice", "auto" };

        for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
                if (strcmp(modes[i], name) == 0)
                        return OBJMAPPER_FDPASS + (int) i;
        usage();
        return 0;
}

int main(int argc, char *argv[]) {
        struct load load = { .name = "o",
                             .n_names = 1,
                             .depth = 1,
                             .n_connections = 1,
                             .mode = OBJMAPPER_AUTO,
                             .nsec = NSEC_PER_SEC,
                             .n_max = UINT64_MAX };
        const char *pids = NULL;
        uint64_t server_nsec;
        int option;

        while ((option = getopt(argc, argv, "n:k:s:d:c:t:r:m:of1uyp:")) >= 0)
                switch (option) {
                case 'n':
                        load.name = optarg;
                        break;
                case 'k':
                        load.n_names = (unsigned) atoi(optarg);
                        break;
                case 's':
                        load.size = strtoull(optarg, NULL, 10);
                        break;
                case 'd':
                        load.depth = (unsigned) atoi(optarg);
                        break;
                case 'c':
                        load.n_connections = (unsigned) atoi(optarg);
                        break;
                case 't':
                        load.nsec = strtoull(optarg, NULL, 10) * 1000000;
                        break;
                case 'r':
                        load.n_max = strtoull(optarg, NULL, 10);
                        break;
                case 'm':
                        load.mode = mode_of(optarg);
                        break;
                case 'o':
                        load.receiver = RECEIVE_NOWHERE;
                        break;
                case 'f':
                        load.reads = true;
                        break;
                case '1':
                        load.single = true;
                        break;
                case 'u':
                        load.puts = true;
                        break;
                case 'y':
                        load.patient = true;
                        break;
                case 'p':
                        pids = optarg;
                        break;
                default:
                        usage();
                }
        if (argc != optind + 2 || load.n_names == 0 || load.depth == 0 || load.n_connections == 0)
                usage();
        load.protocol = argv[optind];
        load.socket = argv[optind + 1];
        load.took_max = TOOK_MAX;
        load.took = calloc(load.took_max, sizeof(load.took[0]));
        load.batch_took = calloc(load.took_max, sizeof(load.batch_took[0]));
        if (!load.took || !load.batch_took)
                err(1, "memory");
        memset(load.took, 0, load.took_max * sizeof(load.took[0]));

        raise_descriptors();
        server_nsec = processor_nsec(pids);
        run(&load);
        tell(&load, now_nsec() - load.begun, processor_nsec(pids) - server_nsec);
        return 0;
}
