/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "clock.h"
#include "macro.h"

#define LINE_MAX_BYTES 2048

static int log_level = LOG_INFO;
static bool log_to_journal;

void log_open(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        log_to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                         fstat(STDERR_FILENO, &st) >= 0 && st.st_dev == device && st.st_ino == inode;
}

bool log_is_journal(void) {
        return log_to_journal;
}

void log_set_level(int level) {
        __atomic_store_n(&log_level, level, __ATOMIC_RELAXED);
}

int log_get_level(void) {
        return __atomic_load_n(&log_level, __ATOMIC_RELAXED);
}

const char *log_line_prefix(int level) {
        static const char prefixes[][4] = { "<0>", "<1>", "<2>", "<3>", "<4>", "<5>", "<6>", "<7>" };

        return log_to_journal ? prefixes[level & LOG_PRIMASK] : "";
}

static int write_journal(int level,
                         int error,
                         const char *message_id,
                         const struct log_field *fields,
                         size_t n_fields,
                         const char *message) {
        char priority[32], errno_field[32], id_field[64];
        char text[LINE_MAX_BYTES + sizeof("MESSAGE=")];
        char *composed[LOG_FIELDS_MAX] = {};
        struct iovec iov[LOG_FIELDS_MAX + 4];
        size_t n_iov = 0, n_composed = 0;
        int r = -ENOMEM;

        iov[n_iov++] = (struct iovec){ text, (size_t) snprintf(text, sizeof(text), "MESSAGE=%s", message) };
        iov[n_iov++] = (struct iovec){ priority,
                                       (size_t) snprintf(priority, sizeof(priority), "PRIORITY=%i", level) };
        if (error != 0)
                iov[n_iov++] = (struct iovec){ errno_field,
                                               (size_t) snprintf(errno_field, sizeof(errno_field), "ERRNO=%i",
                                                                 error < 0 ? -error : error) };
        if (message_id)
                iov[n_iov++] = (struct iovec){ id_field, (size_t) snprintf(id_field, sizeof(id_field),
                                                                           "MESSAGE_ID=%s", message_id) };

        for (size_t i = 0; i < n_fields; i++) {
                size_t name_size = strlen(fields[i].name);
                char *p = malloc(name_size + 1 + fields[i].size);

                if (!p)
                        goto finish;

                composed[n_composed++] = p;
                memcpy(p, fields[i].name, name_size);
                p[name_size] = '=';
                memcpy(p + name_size + 1, fields[i].value, fields[i].size);
                iov[n_iov++] = (struct iovec){ p, name_size + 1 + fields[i].size };
        }

        r = sd_journal_sendv(iov, (int) n_iov);

finish:
        while (n_composed > 0)
                free(composed[--n_composed]);

        return r;
}

void log_write(int level,
               int error,
               const char *message_id,
               const struct log_field *fields,
               size_t n_fields,
               const char *format,
               ...) {
        char message[LINE_MAX_BYTES];
        int saved = errno;
        va_list ap;

        assert(n_fields <= LOG_FIELDS_MAX);

        if (level > log_get_level())
                return;

        errno = error < 0 ? -error : error;
        va_start(ap, format);
        (void) vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);

        /* A hostile name must not start a line of its own. */
        for (char *p = message; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        *p = '?';

        if (!log_to_journal || write_journal(level, error, message_id, fields, n_fields, message) < 0)
                (void) fprintf(stderr, "%s\n", message);

        errno = saved;
}

/* A message takes its part of the interval, of which burst parts may be ahead of the time. */
static bool take_part(struct log_ratelimit *limit) {
        uint64_t now = clock_usec(CLOCK_MONOTONIC), part = limit->interval_usec / limit->burst;
        uint64_t due = __atomic_load_n(&limit->due_usec, __ATOMIC_RELAXED), next;

        do {
                next = MAX(due, now) + part;
                if (next - now > limit->interval_usec)
                        return false;
        } while (!__atomic_compare_exchange_n(&limit->due_usec, &due, next, true, __ATOMIC_RELAXED,
                                              __ATOMIC_RELAXED));

        return true;
}

static bool has_part(const struct log_ratelimit *limit) {
        uint64_t now = clock_usec(CLOCK_MONOTONIC), part = limit->interval_usec / limit->burst;

        return MAX(__atomic_load_n(&limit->due_usec, __ATOMIC_RELAXED), now) + part - now <=
               limit->interval_usec;
}

/* What the limit of all holds back takes nothing of the cause's own: it would be silent for longer than the others. */
static bool pass(struct log_ratelimit *limit, struct log_ratelimit *all, unsigned *ret_dropped) {
        if ((all && !has_part(all)) || !take_part(limit) || (all && !take_part(all))) {
                __atomic_fetch_add(&limit->n_dropped, 1, __ATOMIC_RELAXED);
                return false;
        }

        *ret_dropped = __atomic_exchange_n(&limit->n_dropped, 0, __ATOMIC_RELAXED);
        return true;
}

bool log_ratelimit_pass(struct log_ratelimit *limit, unsigned *ret_dropped) {
        return pass(limit, NULL, ret_dropped);
}

bool log_provoked_pass(struct log_ratelimit *limit, unsigned *ret_dropped) {
        static struct log_ratelimit all = { .interval_usec = 3 * USEC_PER_SEC, .burst = 5 };

        return pass(limit, &all, ret_dropped);
}

const char *log_dropped(unsigned dropped, char text[static LOG_DROPPED_MAX]) {
        text[0] = '\0';
        if (dropped > 0)
                (void) snprintf(text, LOG_DROPPED_MAX, " (%u more were not logged)", dropped);

        return text;
}
