/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storable.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http-object.h"
#include "response.h"

#define SECONDS_MAX 3155760000 /* a century: who means more means for ever */

struct control {
        bool forbids, shares;             /* it must not be kept; also what an authorised user got may be */
        bool revalidates;                 /* it must not be served stale */
        int64_t max_age, s_maxage, grace; /* negative: not said */
};

/* The next field of this name, from *part and *i on; NULL: there is no more. */
static const ngx_table_elt_t *next_field(const ngx_list_part_t **part, ngx_uint_t *i, const char *name) {
        for (; *part; *part = (*part)->next, *i = 0) {
                const ngx_table_elt_t *fields = (*part)->elts;

                while (*i < (*part)->nelts) {
                        const ngx_table_elt_t *field = &fields[(*i)++];

                        if (!name || (field->key.len == strlen(name) &&
                                      ngx_strncasecmp(field->key.data, (u_char *) name, field->key.len) == 0))
                                return field;
                }
        }

        return NULL;
}

#define FOREACH_FIELD(field, list, name)          \
        for (struct {                             \
                     const ngx_list_part_t *part; \
                     ngx_uint_t i;                \
             } _at = { &(list)->part, 0 };        \
             (field = next_field(&_at.part, &_at.i, name));)

/* The next item of a list with commas, which may stand in quotes, without spaces around it. */
static bool next_item(const ngx_str_t *list, size_t *position, ngx_str_t *ret) {
        bool quoted = false;
        size_t begin, end;

        while (*position < list->len && strchr(" \t,", list->data[*position]))
                (*position)++;
        begin = *position;
        for (; *position < list->len && (quoted || list->data[*position] != ','); (*position)++)
                if (list->data[*position] == '"')
                        quoted = !quoted;
        for (end = *position; end > begin && strchr(" \t", list->data[end - 1]); end--)
                ;

        *ret = (ngx_str_t){ end - begin, list->data + begin };
        return end > begin;
}

static bool item_is(const ngx_str_t *item, const char *name) {
        size_t size = strlen(name);

        return item->len >= size && ngx_strncasecmp(item->data, (u_char *) name, size) == 0 &&
               (item->len == size || item->data[size] == '=');
}

/* Digits; anything else counts as stale. */
static int64_t parse_seconds(const u_char *p, const u_char *end) {
        int64_t value = 0;

        if (p < end && *p == '"')
                p++;
        if (end > p && end[-1] == '"')
                end--;
        if (p == end)
                return 0;
        for (; p < end; p++) {
                if (*p < '0' || *p > '9')
                        return 0;
                value = ngx_min(value * 10 + (*p - '0'), SECONDS_MAX);
        }

        return value;
}

static int64_t item_seconds(const ngx_str_t *item, const char *name) {
        return parse_seconds(item->data + ngx_min(strlen(name) + 1, item->len), item->data + item->len);
}

static void read_control(const ngx_str_t *value, struct control *control) {
        ngx_str_t item;
        size_t position = 0;

        while (next_item(value, &position, &item)) {
                if (item_is(&item, "no-store") || item_is(&item, "private") || item_is(&item, "no-cache"))
                        control->forbids = true;
                else if (item_is(&item, "public"))
                        control->shares = true;
                else if (item_is(&item, "must-revalidate"))
                        control->shares = control->revalidates = true;
                else if (item_is(&item, "proxy-revalidate"))
                        control->revalidates = true;
                else if (item_is(&item, "s-maxage")) {
                        control->shares = true;
                        control->s_maxage = item_seconds(&item, "s-maxage");
                } else if (item_is(&item, "max-age"))
                        control->max_age = item_seconds(&item, "max-age");
                else if (item_is(&item, "stale-while-revalidate"))
                        control->grace = ngx_max(control->grace,
                                                 item_seconds(&item, "stale-while-revalidate"));
                else if (item_is(&item, "stale-if-error"))
                        control->grace = ngx_max(control->grace, item_seconds(&item, "stale-if-error"));
        }
}

/* What of the origin's header is about time. The seconds of freshness; negative: it does not say. */
static int64_t read_lifetime(const ngx_list_t *headers, const struct control *control) {
        const ngx_table_elt_t *field;
        time_t date = (time_t) -1, expires = (time_t) -1;
        bool said = false;

        if (control->s_maxage >= 0)
                return control->s_maxage;
        if (control->max_age >= 0)
                return control->max_age;

        FOREACH_FIELD(field, headers, "expires") {
                expires = ngx_parse_http_time(field->value.data, field->value.len);
                said = true;
        }
        FOREACH_FIELD(field, headers, "date")
        date = ngx_parse_http_time(field->value.data, field->value.len);

        if (!said)
                return -1;
        if (expires == (time_t) -1)
                return 0;
        if (date == (time_t) -1)
                date = ngx_time();
        return expires > date ? ngx_min((int64_t) (expires - date), SECONDS_MAX) : 0;
}

static bool status_is_storable(ngx_uint_t status, bool fresh_by_itself) {
        static const ngx_uint_t by_default[] = { 200, 203, 300, 301, 308, 404, 405, 410, 414, 501 };

        if (status < 200 || status > 599 || status == 204 || status == 206 || status == 304)
                return false;
        if (fresh_by_itself)
                return true;

        for (size_t i = 0; i < sizeof(by_default) / sizeof(by_default[0]); i++)
                if (by_default[i] == status)
                        return true;

        return false;
}

static int compare_names(const void *a, const void *b) {
        const ngx_str_t *x = a, *y = b;
        int r = memcmp(x->data, y->data, ngx_min(x->len, y->len));

        return r != 0 ? r : (x->len > y->len) - (x->len < y->len);
}

/* The names of all Vary fields: lower case, sorted, each once, joined by commas. */
static ngx_int_t read_vary(ngx_http_request_t *r, const ngx_list_t *headers, ngx_str_t *ret) {
        const ngx_table_elt_t *field;
        ngx_array_t names;
        ngx_str_t *name, item;
        size_t size = 0;

        ngx_str_null(ret);
        if (ngx_array_init(&names, r->pool, 4, sizeof(ngx_str_t)) != NGX_OK)
                return NGX_ERROR;

        FOREACH_FIELD(field, headers, "vary") {
                size_t position = 0;

                while (next_item(&field->value, &position, &item)) {
                        if (item.len == 1 && item.data[0] == '*')
                                return NGX_DECLINED;
                        name = ngx_array_push(&names);
                        if (!name)
                                return NGX_ERROR;
                        name->len = item.len;
                        name->data = ngx_pnalloc(r->pool, item.len);
                        if (!name->data)
                                return NGX_ERROR;
                        ngx_strlow(name->data, item.data, item.len);
                        size += item.len + 1;
                }
        }
        if (names.nelts == 0)
                return NGX_OK;

        name = names.elts;
        qsort(name, names.nelts, sizeof(*name), compare_names);
        ret->data = ngx_pnalloc(r->pool, size);
        if (!ret->data)
                return NGX_ERROR;
        for (ngx_uint_t i = 0; i < names.nelts; i++) {
                if (i > 0 && compare_names(&name[i - 1], &name[i]) == 0)
                        continue;
                if (ret->len > 0)
                        ret->data[ret->len++] = ',';
                ngx_memcpy(ret->data + ret->len, name[i].data, name[i].len);
                ret->len += name[i].len;
        }

        return NGX_OK;
}

ngx_int_t storable_check(ngx_http_request_t *r, time_t valid, struct storable *ret) {
        const ngx_list_t *headers = &r->upstream->headers_in.headers;
        struct control control = { .max_age = -1, .s_maxage = -1 }, asked = control;
        const ngx_table_elt_t *field;
        int64_t lifetime;

        *ret = (struct storable){};
        /* A body is no part of the key. */
        if (r->method != NGX_HTTP_GET || r->headers_in.content_length_n > 0 || r->headers_in.chunked)
                return NGX_DECLINED;
        FOREACH_FIELD(field, headers, "set-cookie")
        return NGX_DECLINED;
        FOREACH_FIELD(field, headers, "cache-control")
        read_control(&field->value, &control);
        FOREACH_FIELD(field, &r->headers_in.headers, "cache-control") {
                ngx_str_t item;
                size_t position = 0;

                while (next_item(&field->value, &position, &item))
                        asked.forbids = asked.forbids || item_is(&item, "no-store");
        }
        if (control.forbids || asked.forbids || (r->headers_in.authorization && !control.shares))
                return NGX_DECLINED;

        FOREACH_FIELD(field, headers, "age")
        ret->age = parse_seconds(field->value.data, field->value.data + field->value.len);

        lifetime = read_lifetime(headers, &control);
        ret->ttl = lifetime >= 0 ? lifetime : (int64_t) valid;
        ret->grace = control.revalidates ? 0 : control.grace;
        if (ret->ttl + ret->grace <= ret->age ||
            !status_is_storable(r->upstream->headers_in.status_n, lifetime >= 0))
                return NGX_DECLINED;

        return read_vary(r, headers, &ret->vary);
}

uint64_t storable_lifetime(const struct storable *storable) {
        return (uint64_t) (storable->ttl + storable->grace - storable->age) * 1000;
}

/* Whether Connection names it: then it is for the next hop alone. */
static bool is_for_the_hop(const ngx_list_t *headers, const ngx_str_t *name) {
        const ngx_table_elt_t *field;
        ngx_str_t item;

        FOREACH_FIELD(field, headers, "connection") {
                size_t position = 0;

                while (next_item(&field->value, &position, &item))
                        if (item.len == name->len && ngx_strncasecmp(item.data, name->data, item.len) == 0)
                                return true;
        }

        return false;
}

static int add_fields(const ngx_list_t *headers, objmapper_request *put) {
        const ngx_table_elt_t *field;

        FOREACH_FIELD(field, headers, NULL) {
                char name[256];
                int r;

                if (field->key.len >= sizeof(name))
                        return -EINVAL;
                ngx_strlow((u_char *) name, field->key.data, field->key.len);
                name[field->key.len] = 0;

                /* Those with X-Accel- are orders to nginx. */
                if (!http_field_served(name, (const char *) field->value.data, field->value.len) ||
                    is_for_the_hop(headers, &field->key) || strncmp(name, "x-accel-", 8) == 0)
                        continue;

                r = objmapper_request_add_metadata(put, name, field->value.data, field->value.len);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* Microseconds as seconds, without a fraction where there is none. */
static int add_seconds(objmapper_request *put, const char *key, int64_t usec) {
        char text[48];
        int n = snprintf(text, sizeof(text), "%lld.%06lld", (long long) (usec / 1000000),
                         (long long) (usec % 1000000));

        if (usec % 1000000 == 0)
                n -= 7;
        return objmapper_request_add_metadata(put, key, text, (size_t) n);
}

int storable_describe(ngx_http_request_t *r, const struct storable *storable, objmapper_request *put) {
        int64_t generated = response_now() - storable->age * 1000000;
        const ngx_str_t *line = &r->upstream->headers_in.status_line;
        char status[8];
        int error;

        (void) snprintf(status, sizeof(status), "%03u", (unsigned) r->upstream->headers_in.status_n % 1000);
        if (line->len > 4 && http_text_valid((const char *) line->data, line->len))
                error = objmapper_request_add_metadata(put, ":status", line->data, line->len);
        else
                error = objmapper_request_add_metadata(put, ":status", status, 3);
        if (error >= 0)
                error = add_seconds(put, ":generated", generated);
        if (error >= 0)
                error = add_seconds(put, ":ttl", storable->ttl * 1000000);
        if (error >= 0 && storable->grace > 0)
                error = add_seconds(put, ":grace", storable->grace * 1000000);
        if (error >= 0)
                error = add_fields(&r->upstream->headers_in.headers, put);
        if (error >= 0)
                error = objmapper_request_set_ttl(put, storable_lifetime(storable));

        return error;
}
