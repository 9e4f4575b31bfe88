/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key.h"

#include <objmapper.h>
#include <stdbool.h>

static bool is_usable(const ngx_str_t *key) {
        if (key->len == 0 || key->len > OBJMAPPER_URI_MAX)
                return false;

        for (size_t i = 0; i < key->len; i++)
                if (key->data[i] <= ' ' || key->data[i] == 0x7f)
                        return false;

        return true;
}

/* With the port, as the client wrote it. */
static ngx_str_t find_host(ngx_http_request_t *r) {
        const u_char *line_end = r->request_line.data + r->request_line.len;

        if (r->host_start && r->host_start >= r->request_line.data && r->host_start < line_end) {
                u_char *end = r->host_end;

                /* Not every version remembers where the port is. */
                if (end < line_end && *end == ':')
                        do
                                end++;
                        while (end < line_end && *end >= '0' && *end <= '9');

                return (ngx_str_t){ (size_t) (end - r->host_start), r->host_start };
        }
        if (r->headers_in.host) /* also of a pseudo-header */
                return r->headers_in.host->value;

        return ((ngx_http_core_srv_conf_t *) ngx_http_get_module_srv_conf(r, ngx_http_core_module))
                        ->server_name;
}

/* Path and query: as the client wrote them, or as the subrequest is for. */
static ngx_int_t find_target(ngx_http_request_t *r, ngx_str_t *ret) {
        uintptr_t escapes;
        u_char *p;

        if (r == r->main) {
                *ret = r->unparsed_uri;
                return NGX_OK;
        }

        escapes = ngx_escape_uri(NULL, r->uri.data, r->uri.len, NGX_ESCAPE_URI);
        ret->data = ngx_pnalloc(r->pool, r->uri.len + 2 * escapes + 1 + r->args.len);
        if (!ret->data)
                return NGX_ERROR;

        if (escapes > 0)
                p = (u_char *) ngx_escape_uri(ret->data, r->uri.data, r->uri.len, NGX_ESCAPE_URI);
        else
                p = ngx_cpymem(ret->data, r->uri.data, r->uri.len);
        if (r->args.len > 0) {
                *p++ = '?';
                p = ngx_cpymem(p, r->args.data, r->args.len);
        }

        ret->len = (size_t) (p - ret->data);
        return NGX_OK;
}

static ngx_int_t make_by_rule(ngx_http_request_t *r, ngx_str_t *ret) {
        ngx_str_t host = find_host(r), target;
        size_t size;
        int n;

        if (find_target(r, &target) != NGX_OK)
                return NGX_ERROR;

        size = sizeof("http://") - 1 + host.len + target.len;
        ret->data = ngx_pnalloc(r->pool, size + 1);
        if (!ret->data)
                return NGX_ERROR;

        n = http_uri((char *) ret->data, size, (const char *) host.data, host.len, (const char *) target.data,
                     target.len);
        if (n < 0)
                return NGX_DECLINED;

        ret->data[n] = 0;
        ret->len = (size_t) n;
        return NGX_OK;
}

ngx_int_t key_make(ngx_http_request_t *r, ngx_http_complex_value_t *expression, ngx_str_t *ret) {
        ngx_str_t value;

        if (!expression)
                return make_by_rule(r, ret);

        if (ngx_http_complex_value(r, expression, &value) != NGX_OK)
                return NGX_ERROR;

        ret->data = ngx_pnalloc(r->pool, value.len + 1);
        if (!ret->data)
                return NGX_ERROR;
        *ngx_cpymem(ret->data, value.data, value.len) = 0;
        ret->len = value.len;

        return is_usable(ret) ? NGX_OK : NGX_DECLINED;
}

static ngx_str_t trim(ngx_str_t value) {
        while (value.len > 0 && (value.data[0] == ' ' || value.data[0] == '\t')) {
                value.data++;
                value.len--;
        }
        while (value.len > 0 && (value.data[value.len - 1] == ' ' || value.data[value.len - 1] == '\t'))
                value.len--;

        return value;
}

static bool digest_field(const char *name, struct http_digest *digest, void *userdata) {
        ngx_http_request_t *r = userdata;
        size_t size = ngx_strlen(name);
        bool found = false;

        for (ngx_list_part_t *part = &r->headers_in.headers.part; part; part = part->next) {
                const ngx_table_elt_t *fields = part->elts;

                for (ngx_uint_t i = 0; i < part->nelts; i++) {
                        ngx_str_t value = trim(fields[i].value);

                        if (fields[i].key.len != size ||
                            ngx_strncasecmp(fields[i].key.data, (u_char *) name, size) != 0)
                                continue;

                        if (found)
                                http_digest_add(digest, ", ", 2);
                        http_digest_add(digest, (const char *) value.data, value.len);
                        found = true;
                }
        }

        return found;
}

ngx_int_t key_make_variant(ngx_http_request_t *r,
                           const ngx_str_t *key,
                           const struct http_object *index,
                           ngx_str_t *ret) {
        int n;

        ret->data = ngx_pnalloc(r->pool, OBJMAPPER_URI_MAX);
        if (!ret->data)
                return NGX_ERROR;

        n = http_variant_uri((char *) ret->data, OBJMAPPER_URI_MAX, (const char *) key->data, key->len,
                             index->vary, index->vary_size, digest_field, r);
        if (n < 0)
                return NGX_DECLINED;

        ret->len = (size_t) n;
        return NGX_OK;
}
