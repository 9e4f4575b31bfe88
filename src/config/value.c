/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "value.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "macro.h"

#define WHITESPACE " \t"

/* Reads the digits at *text and moves past them. */
static int take_number(const char **text, uint64_t *ret) {
        const char *p = *text;
        uint64_t n = 0;

        if (*p < '0' || *p > '9')
                return -EINVAL;

        for (; *p >= '0' && *p <= '9'; p++)
                if (__builtin_mul_overflow(n, UINT64_C(10), &n) ||
                    __builtin_add_overflow(n, (uint64_t) (*p - '0'), &n))
                        return -ERANGE;

        *text = p;
        *ret = n;
        return 0;
}

int value_parse_count(const char *text, uint64_t *ret) {
        uint64_t n;
        int r;

        if (strcmp(text, "infinity") == 0) {
                *ret = UINT64_MAX;
                return 0;
        }

        r = take_number(&text, &n);
        if (r < 0)
                return r;
        if (*text)
                return -EINVAL;

        *ret = n;
        return 0;
}

int value_parse_size(const char *text, uint64_t *ret) {
        static const char units[] = "BKMGTPE";
        const char *unit;
        uint64_t n;
        int r;

        if (strcmp(text, "infinity") == 0) {
                *ret = UINT64_MAX;
                return 0;
        }

        r = take_number(&text, &n);
        if (r < 0)
                return r;

        text += strspn(text, WHITESPACE);
        if (*text) {
                unit = strchr(units, *text);
                if (!unit || text[1])
                        return -EINVAL;
                if (__builtin_mul_overflow(n, UINT64_C(1) << (10 * (unit - units)), &n))
                        return -ERANGE;
        }

        *ret = n;
        return 0;
}

int value_parse_amount(const char *text, struct config_amount *ret) {
        const char *end = text;
        uint64_t n;
        int r;

        r = take_number(&end, &n);
        if (r >= 0)
                end += strspn(end, WHITESPACE);
        if (r < 0 || strcmp(end, "%") != 0) {
                r = value_parse_size(text, &n);
                if (r >= 0)
                        *ret = (struct config_amount){ .bytes = n };
                return r;
        }
        if (n > 100)
                return -ERANGE;

        *ret = (struct config_amount){ .percent = (unsigned) n };
        return 0;
}

static const struct {
        const char *name;
        uint64_t usec;
} time_units[] = {
        { "us", 1 },
        { "usec", 1 },
        { "\u00b5s", 1 },
        { "\u03bcs", 1 },
        { "ms", USEC_PER_MSEC },
        { "msec", USEC_PER_MSEC },
        { "", USEC_PER_SEC },
        { "s", USEC_PER_SEC },
        { "sec", USEC_PER_SEC },
        { "second", USEC_PER_SEC },
        { "seconds", USEC_PER_SEC },
        { "m", 60 * USEC_PER_SEC },
        { "min", 60 * USEC_PER_SEC },
        { "minute", 60 * USEC_PER_SEC },
        { "minutes", 60 * USEC_PER_SEC },
        { "h", 3600 * USEC_PER_SEC },
        { "hr", 3600 * USEC_PER_SEC },
        { "hour", 3600 * USEC_PER_SEC },
        { "hours", 3600 * USEC_PER_SEC },
        { "d", 86400 * USEC_PER_SEC },
        { "day", 86400 * USEC_PER_SEC },
        { "days", 86400 * USEC_PER_SEC },
        { "w", 604800 * USEC_PER_SEC },
        { "week", 604800 * USEC_PER_SEC },
        { "weeks", 604800 * USEC_PER_SEC },
        { "M", 2629800 * USEC_PER_SEC },
        { "month", 2629800 * USEC_PER_SEC },
        { "months", 2629800 * USEC_PER_SEC },
        { "y", 31557600 * USEC_PER_SEC },
        { "year", 31557600 * USEC_PER_SEC },
        { "years", 31557600 * USEC_PER_SEC },
};

int value_parse_time(const char *text, uint64_t *ret) {
        uint64_t sum = 0;

        if (strcmp(text, "infinity") == 0) {
                *ret = UINT64_MAX;
                return 0;
        }

        do {
                size_t size, i;
                uint64_t n;
                int r;

                r = take_number(&text, &n);
                if (r < 0)
                        return r;

                text += strspn(text, WHITESPACE);
                size = strcspn(text, WHITESPACE "0123456789");
                for (i = 0; i < ARRAY_SIZE(time_units); i++)
                        if (strlen(time_units[i].name) == size && memcmp(text, time_units[i].name, size) == 0)
                                break;
                if (i == ARRAY_SIZE(time_units))
                        return -EINVAL;

                if (__builtin_mul_overflow(n, time_units[i].usec, &n) || __builtin_add_overflow(sum, n, &sum))
                        return -ERANGE;

                text += size;
                text += strspn(text, WHITESPACE);
        } while (*text);

        if (sum > UINT64_MAX / 2) /* so that any moment and a time after it are no overflow */
                return -ERANGE;

        *ret = sum;
        return 0;
}

int value_parse_bool(const char *text, uint64_t *ret) {
        static const char *const names[2][6] = { { "no", "n", "false", "f", "off", "0" },
                                                 { "yes", "y", "true", "t", "on", "1" } };

        for (unsigned value = 0; value < 2; value++)
                for (size_t i = 0; i < ARRAY_SIZE(names[value]); i++)
                        if (strcasecmp(text, names[value][i]) == 0) {
                                *ret = value;
                                return 0;
                        }

        return -EINVAL;
}

int value_parse_level(const char *text, uint64_t *ret) {
        static const char *const names[] = { "emerg",   "alert",  "crit", "err",
                                             "warning", "notice", "info", "debug" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strcmp(text, names[i]) == 0 || (text[0] == (char) ('0' + i) && !text[1])) {
                        *ret = i;
                        return 0;
                }

        return -EINVAL;
}
