/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "response.h"

#include <string.h>

int64_t response_now(void) {
        const ngx_time_t *now = ngx_timeofday();

        return (int64_t) now->sec * 1000000 + (int64_t) now->msec * 1000;
}

static ngx_table_elt_t *add_field(ngx_http_request_t *r, ngx_str_t name, ngx_str_t value) {
        ngx_table_elt_t *field = ngx_list_push(&r->headers_out.headers);

        if (!field)
                return NULL;

        *field = (ngx_table_elt_t){ .hash = 1, .key = name, .value = value, .lowcase_key = name.data };
        return field;
}

/* As nginx does with an upstream's: a charset of its own, so that its filters know it. */
static void set_content_type(ngx_http_request_t *r, ngx_str_t value) {
        static const char charset[] = "charset=";
        u_char *end = value.data + value.len;

        r->headers_out.content_type = value;
        r->headers_out.content_type_len = value.len;
        r->headers_out.content_type_lowcase = NULL;

        for (u_char *p = value.data; p < end; p++) {
                u_char *parameter = p + 1;

                if (*p != ';')
                        continue;

                while (parameter < end && *parameter == ' ')
                        parameter++;
                if ((size_t) (end - parameter) < sizeof(charset) - 1 ||
                    ngx_strncasecmp(parameter, (u_char *) charset, sizeof(charset) - 1) != 0)
                        continue;

                r->headers_out.content_type_len = (size_t) (p - value.data);
                parameter += sizeof(charset) - 1;
                if (parameter < end && *parameter == '"')
                        parameter++;
                if (end > parameter && end[-1] == '"')
                        end--;
                r->headers_out.charset = (ngx_str_t){ (size_t) (end - parameter), parameter };
                return;
        }
}

/* What nginx's filters look at or replace has a place of its own beside the list. */
static void announce_field(ngx_http_request_t *r, ngx_table_elt_t *field) {
        static const struct {
                const char *name;
                size_t offset;
        } places[] = {
                { "content-encoding", offsetof(ngx_http_headers_out_t, content_encoding) },
                { "date", offsetof(ngx_http_headers_out_t, date) },
                { "etag", offsetof(ngx_http_headers_out_t, etag) },
                { "expires", offsetof(ngx_http_headers_out_t, expires) },
                { "last-modified", offsetof(ngx_http_headers_out_t, last_modified) },
                { "server", offsetof(ngx_http_headers_out_t, server) },
        };

        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
                ngx_table_elt_t **place = (ngx_table_elt_t **) (void *) ((char *) &r->headers_out +
                                                                         places[i].offset);

                if (strcasecmp(places[i].name, (const char *) field->key.data) == 0 && !*place)
                        *place = field;
        }
}

/* The same for the one field that has a place for several. */
static ngx_int_t announce_cache_control(ngx_http_request_t *r, ngx_table_elt_t *field) {
#if nginx_version >= 1023000
        ngx_table_elt_t **last = &r->headers_out.cache_control;

        while (*last)
                last = &(*last)->next;
        *last = field;
#else
        ngx_table_elt_t **place;

        if (!r->headers_out.cache_control.elts &&
            ngx_array_init(&r->headers_out.cache_control, r->pool, 1, sizeof(field)) != NGX_OK)
                return NGX_ERROR;

        place = ngx_array_push(&r->headers_out.cache_control);
        if (!place)
                return NGX_ERROR;
        *place = field;
#endif
        return NGX_OK;
}

static ngx_int_t set_fields(ngx_http_request_t *r, objmapper_object *object) {
        const char *key, *value;
        size_t position = 0, size;

        while (objmapper_object_next_metadata(object, &position, &key, &value, &size) > 0) {
                ngx_str_t name = { strlen(key), (u_char *) key };
                ngx_str_t text = { size, (u_char *) value };
                ngx_table_elt_t *field;

                /* Ranges are nginx's to offer: all of it can be had in pieces. */
                if (!http_field_served(key, value, size) || strcasecmp(key, "accept-ranges") == 0)
                        continue;

                if (strcasecmp(key, "content-type") == 0) {
                        set_content_type(r, text);
                        continue;
                }

                field = add_field(r, name, text);
                if (!field)
                        return NGX_ERROR;
                announce_field(r, field);
                if (strcasecmp(key, "cache-control") == 0 && announce_cache_control(r, field) != NGX_OK)
                        return NGX_ERROR;
        }

        return NGX_OK;
}

static ngx_int_t set_status(ngx_http_request_t *r, const struct http_object *response) {
        ngx_str_t *line = &r->headers_out.status_line;

        r->headers_out.status = response->status;
        ngx_str_null(line);
        if (!response->reason[0])
                return NGX_OK;

        line->data = ngx_pnalloc(r->pool, NGX_INT_T_LEN + 1 + HTTP_REASON_MAX);
        if (!line->data)
                return NGX_ERROR;
        line->len = (size_t) (ngx_sprintf(line->data, "%ud %s", response->status, response->reason) -
                              line->data);
        return NGX_OK;
}

static ngx_int_t add_age(ngx_http_request_t *r, const struct http_object *response) {
        ngx_str_t name = ngx_string("Age"), value;

        value.data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
        if (!value.data)
                return NGX_ERROR;
        value.len = (size_t) (ngx_sprintf(value.data, "%uL", http_object_age(response, response_now())) -
                              value.data);

        return add_field(r, name, value) ? NGX_OK : NGX_ERROR;
}

/* A publisher's object gets what it lacks from what objmapper knows. */
static ngx_int_t complete(ngx_http_request_t *r, objmapper_object *object) {
        if (!r->headers_out.etag) {
                ngx_str_t name = ngx_string("ETag"), value;
                const char *etag = objmapper_object_get_etag(object);

                value.len = strlen(etag) + 2;
                value.data = ngx_pnalloc(r->pool, value.len);
                if (!value.data)
                        return NGX_ERROR;
                (void) ngx_sprintf(value.data, "\"%s\"", etag);

                r->headers_out.etag = add_field(r, name, value);
                if (!r->headers_out.etag)
                        return NGX_ERROR;
        }

        if (!r->headers_out.last_modified)
                r->headers_out.last_modified_time = (time_t) (objmapper_object_get_stored(object) / 1000000);

        return r->headers_out.content_type.len > 0 ? NGX_OK : ngx_http_set_content_type(r);
}

ngx_int_t response_set_header(ngx_http_request_t *r,
                              const struct http_object *response,
                              objmapper_object *object) {
        r->headers_out.content_length_n = (off_t) objmapper_object_get_size(object);
        r->allow_ranges = 1;

        if (set_status(r, response) != NGX_OK || set_fields(r, object) != NGX_OK)
                return NGX_ERROR;
        if (r->headers_out.last_modified)
                r->headers_out.last_modified_time = ngx_parse_http_time(
                                r->headers_out.last_modified->value.data,
                                r->headers_out.last_modified->value.len);

        return response->copy ? add_age(r, response) : complete(r, object);
}
