/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "macro.h"

#define KEY_MAX 255

static const char *const mode_names[] = {
        [0] = "nothing",           [OBJMAPPER_FDPASS] = "fdpass",
        [OBJMAPPER_COPY] = "copy", [OBJMAPPER_SPLICE] = "splice",
        [OBJMAPPER_AUTO] = "auto",
};

/* Reads the digits at *text and moves on: strtoull() alone would take signs and blanks. */
static int take_number(const char **text, uint64_t *ret) {
        unsigned long long value;
        char *end;

        if (!isdigit((unsigned char) **text))
                return -EINVAL;

        errno = 0;
        value = strtoull(*text, &end, 10);
        if (errno != 0)
                return -ERANGE;

        *text = end;
        *ret = value;
        return 0;
}

int parse_number(const char *text, uint64_t *ret) {
        uint64_t value;
        int r;

        r = take_number(&text, &value);
        if (r < 0)
                return r;
        if (*text)
                return -EINVAL;

        *ret = value;
        return 0;
}

int parse_bytes(const char *text, uint64_t *ret) {
        static const char units[] = "KMGT";
        const char *unit;
        uint64_t value;
        int r;

        r = take_number(&text, &value);
        if (r < 0)
                return r;

        if (*text) {
                unit = strchr(units, *text);
                if (!unit || text[1])
                        return -EINVAL;
                if (__builtin_mul_overflow(value, UINT64_C(1) << 10 * (unit - units + 1), &value))
                        return -ERANGE;
        }

        *ret = value;
        return 0;
}

int parse_range(const char *text, struct range *ret) {
        uint64_t first, last;
        int r;

        if (*text == '-') {
                r = parse_number(text + 1, &last);
                if (r < 0)
                        return r;
                if (last == 0)
                        return -EINVAL;

                *ret = (struct range){ .set = true, .from_end = true, .size = last };
                return 0;
        }

        r = take_number(&text, &first);
        if (r < 0)
                return r;
        if (*text++ != '-')
                return -EINVAL;

        if (!*text) {
                *ret = (struct range){ .set = true, .offset = first, .size = OBJMAPPER_TO_END };
                return 0;
        }

        r = parse_number(text, &last);
        if (r < 0)
                return r;
        if (last < first)
                return -EINVAL;

        /* The whole span of 64 bits has no size that fits; it is the same as "to the end". */
        *ret = (struct range){ .set = true,
                               .offset = first,
                               .size = last - first == UINT64_MAX ? OBJMAPPER_TO_END : last - first + 1 };
        return 0;
}

int parse_time(const char *text, uint64_t *ret) {
        static const struct {
                const char *name;
                uint64_t usec;
        } units[] = {
                { "ms", USEC_PER_MSEC },           { "s", USEC_PER_SEC },
                { "min", 60 * USEC_PER_SEC },      { "h", 3600 * USEC_PER_SEC },
                { "d", 24 * 3600 * USEC_PER_SEC }, { "w", 7 * 24 * 3600 * USEC_PER_SEC },
        };
        uint64_t sum = 0;

        do {
                uint64_t value, usec = USEC_PER_SEC;
                size_t size;
                int r;

                text += strspn(text, " ");
                r = take_number(&text, &value);
                if (r < 0)
                        return r;

                text += strspn(text, " ");
                for (size = 0; isalpha((unsigned char) text[size]);)
                        size++;

                if (size > 0) {
                        usec = 0;
                        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                                if (strlen(units[i].name) == size && memcmp(units[i].name, text, size) == 0)
                                        usec = units[i].usec;
                        if (usec == 0)
                                return -EINVAL;
                }

                if (__builtin_mul_overflow(value, usec, &value) || __builtin_add_overflow(sum, value, &sum))
                        return -ERANGE;

                text += size;
        } while (*text);

        *ret = sum;
        return 0;
}

int parse_mode(const char *text) {
        for (int mode = OBJMAPPER_FDPASS; mode <= OBJMAPPER_AUTO; mode++)
                if (strcmp(mode_names[mode], text) == 0)
                        return mode;

        return -EINVAL;
}

const char *mode_name(int mode) {
        if (mode < 0 || (size_t) mode >= ARRAY_SIZE(mode_names))
                return "unknown";

        return mode_names[mode];
}

int parse_pair(const char *text) {
        const char *equals = strchr(text, '=');

        if (!equals || equals == text || equals - text > KEY_MAX)
                return -EINVAL;

        return 0;
}
