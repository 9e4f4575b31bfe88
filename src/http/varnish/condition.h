/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Conditional and range requests (RFC 9110, 13 and 14). Pure: strings and numbers in, a verdict out. */

#include <stdint.h>

/* The request's fields; NULL: it has none such. */
struct condition {
        const char *if_match, *if_none_match, *range, *if_range;
        int64_t if_modified_since, if_unmodified_since; /* seconds since 1970; -1: none, or no date */
        int64_t if_range_date;                          /* if_range as a date; -1: it is none */
};

/* The response, had the request no condition. */
struct representation {
        const char *etag; /* as in the field, quotes included; NULL: none */
        int64_t modified; /* seconds since 1970; -1: not known */
        uint64_t size;
};

enum verdict {
        VERDICT_WHOLE = 200,
        VERDICT_PART = 206,
        VERDICT_UNMODIFIED = 304,
        VERDICT_FAILED = 412,
        VERDICT_NO_SUCH_RANGE = 416,
};

/* What a 200 becomes. VERDICT_PART: *ret_offset and *ret_size, which is not 0, are the part; a request for
 * several ranges gets the whole, as one may. HEAD is answered as GET, since Varnish does so for what it holds. */
enum verdict condition_judge(const struct condition *condition,
                             const struct representation *representation,
                             uint64_t *ret_offset,
                             uint64_t *ret_size);
