/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The log: the one piece of global state. To the journal with structured fields when standard error is the
 * journal's, as text lines to standard error otherwise. Levels are syslog's (LOG_ERR, ...). Thread-safe. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

#include "cleanup.h"

struct log_field {
        const char *name; /* a journal field's name: upper case, digits, underscores */
        const void *value;
        size_t size; /* bytes of value, any bytes */
};

#define LOG_FIELD(name_, value_, size_) \
        ((struct log_field){ .name = (name_), .value = (value_), .size = (size_) })
#define LOG_FIELD_STRING(name_, value_) LOG_FIELD((name_), (value_), strlen(value_))

/* Looks where standard error leads. Call once, before threads; without it everything goes to standard error.
 */
void log_open(void);

/* Whether messages go to the journal. */
bool log_is_journal(void);

/* Messages of a level above this one are dropped. Default: LOG_INFO. May be called at any time. */
void log_set_level(int level);
int log_get_level(void);

/* What a line of this level that is written to standard error as it is has to begin with. */
const char *log_line_prefix(int level);

/* Writes one message. message_id: 32 hex digits or NULL. error: 0, or an errno, negative or positive, that is
 * added as ERRNO= and that "%m" in the format stands for. At most LOG_FIELDS_MAX fields. */
#define LOG_FIELDS_MAX 16
void log_write(int level,
               int error,
               const char *message_id,
               const struct log_field *fields,
               size_t n_fields,
               const char *format,
               ...) _printf_(6, 7);

#define log_full(level, error, ...)                                              \
        do {                                                                     \
                if ((level) <= log_get_level())                                  \
                        log_write((level), (error), NULL, NULL, 0, __VA_ARGS__); \
        } while (false)

#define log_debug(...)   log_full(LOG_DEBUG, 0, __VA_ARGS__)
#define log_info(...)    log_full(LOG_INFO, 0, __VA_ARGS__)
#define log_notice(...)  log_full(LOG_NOTICE, 0, __VA_ARGS__)
#define log_warning(...) log_full(LOG_WARNING, 0, __VA_ARGS__)
#define log_error(...)   log_full(LOG_ERR, 0, __VA_ARGS__)

/* Logs with "%m" standing for error, and returns error as a negative errno. */
#define log_errno(level, error, ...)                    \
        ({                                              \
                int _error = (error);                   \
                log_full((level), _error, __VA_ARGS__); \
                _error > 0 ? -_error : _error;          \
        })

/* How often there may be a message for one cause: burst of them at once, and one for each burst-th part of the
 * interval. The count of those dropped is handed out with the next one that passes. A zeroed struct with
 * interval and burst set is ready. Thread-safe. */
struct log_ratelimit {
        uint64_t interval_usec;
        unsigned burst;
        uint64_t due_usec;  /* private, atomic: when all that passed have had their part of the interval */
        unsigned n_dropped; /* private, atomic */
};

/* Whether a message may be written now; *ret_dropped is how many were not since the last that was. */
bool log_ratelimit_pass(struct log_ratelimit *limit, unsigned *ret_dropped);

/* The same for what clients can bring about, which has a limit of all its causes together besides: at most six
 * messages in any second. A cause of at most 5 messages in 15 s leaves room for four more. */
bool log_provoked_pass(struct log_ratelimit *limit, unsigned *ret_dropped);

#define LOG_DROPPED_MAX 40

/* What a message that passed says at its end of those that were dropped: nothing, where there are none. Returns text. */
const char *log_dropped(unsigned dropped, char text[static LOG_DROPPED_MAX]);
