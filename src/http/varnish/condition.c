/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "condition.h"

static bool is_weak(const char *etag) {
        return strncmp(etag, "W/", 2) == 0;
}

/* Whether a list of entity tags has this one. weak: two are the same also when one of them is weak. */
static bool list_has(const char *list, const char *etag, bool weak) {
        const char *own = is_weak(etag) ? etag + 2 : etag;
        size_t size = strlen(own);

        for (const char *p = list; *p;) {
                bool weak_entry;
                const char *end;

                p += strspn(p, " \t,");
                if (*p == '*')
                        return true;
                weak_entry = is_weak(p);
                if (weak_entry)
                        p += 2;
                end = *p == '"' ? strchr(p + 1, '"') : NULL;
                if (!end)
                        return false;
                end++;
                if ((size_t) (end - p) == size && memcmp(p, own, size) == 0 &&
                    (weak || (!weak_entry && !is_weak(etag))))
                        return true;
                p = end;
        }

        return false;
}

/* Whether the part that the client has fits what there is now. */
static bool range_holds(const struct condition *c, const struct representation *r) {
        if (!c->if_range)
                return true;
        if (c->if_range[0] == '"')
                return r->etag && strcmp(c->if_range, r->etag) == 0;
        return c->if_range_date >= 0 && c->if_range_date == r->modified;
}

/* Digits up to the first other byte. False: there are none, or the number has too many. */
static bool parse_number(const char **p, uint64_t *ret) {
        uint64_t n = 0;
        const char *begin = *p;

        for (; **p >= '0' && **p <= '9'; (*p)++) {
                if (n > (UINT64_MAX - 9) / 10)
                        return false;
                n = n * 10 + (uint64_t) (**p - '0');
        }

        *ret = n;
        return *p > begin;
}

/* What the field Range asks for: all where it is malformed or has several ranges. */
static enum verdict judge_range(const char *range, uint64_t size, uint64_t *ret_offset, uint64_t *ret_size) {
        uint64_t first, last = UINT64_MAX;
        const char *p = range + strlen("bytes=");

        if (strncasecmp(range, "bytes=", strlen("bytes=")) != 0)
                return VERDICT_WHOLE;
        p += strspn(p, " \t");

        if (*p == '-') {
                p++;
                if (!parse_number(&p, &last) || *p)
                        return VERDICT_WHOLE;
                if (last == 0 || size == 0)
                        return VERDICT_NO_SUCH_RANGE;
                *ret_size = last < size ? last : size;
                *ret_offset = size - *ret_size;
                return VERDICT_PART;
        }

        if (!parse_number(&p, &first) || *p != '-')
                return VERDICT_WHOLE;
        p++;
        if (*p && (!parse_number(&p, &last) || *p || last < first))
                return VERDICT_WHOLE;
        if (first >= size)
                return VERDICT_NO_SUCH_RANGE;

        *ret_offset = first;
        *ret_size = last < size - 1 ? last - first + 1 : size - first;
        return VERDICT_PART;
}

enum verdict condition_judge(const struct condition *c,
                             const struct representation *r,
                             uint64_t *ret_offset,
                             uint64_t *ret_size) {
        if (c->if_match) {
                if (!list_has(c->if_match, r->etag ? r->etag : "", false))
                        return VERDICT_FAILED;
        } else if (c->if_unmodified_since >= 0 && r->modified > c->if_unmodified_since)
                return VERDICT_FAILED;

        if (c->if_none_match) {
                if (list_has(c->if_none_match, r->etag ? r->etag : "", true))
                        return VERDICT_UNMODIFIED;
        } else if (c->if_modified_since >= 0 && r->modified >= 0 && r->modified <= c->if_modified_since)
                return VERDICT_UNMODIFIED;

        if (c->range && range_holds(c, r))
                return judge_range(c->range, r->size, ret_offset, ret_size);

        return VERDICT_WHOLE;
}
