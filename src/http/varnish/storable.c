/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <math.h>

#include "varnish.h"

#include "clock.h"
#include "http-object.h"
#include "storable.h"

#define SECONDS_MAX 3155760000.0 /* a century: who means more means for ever */
#define NAMES_MAX   64

static bool has_token(const struct http *http, hdr_t field, const char *token) {
        return http_GetHdrField(http, field, token, NULL);
}

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Each name once, in lower case, sorted, joined by commas. False: there are too many. */
static bool read_vary(const char *value, char ret[STORABLE_VARY_MAX]) {
        char copy[STORABLE_VARY_MAX], *names[NAMES_MAX], *position, *name;
        size_t n = 0, used = 0;

        ret[0] = '\0';
        if (strlen(value) >= sizeof(copy))
                return false;
        for (size_t i = 0; i <= strlen(value); i++)
                copy[i] = (char) tolower((unsigned char) value[i]);
        for (name = strtok_r(copy, ", \t", &position); name; name = strtok_r(NULL, ", \t", &position)) {
                if (n == NAMES_MAX)
                        return false;
                names[n++] = name;
        }
        qsort(names, n, sizeof(names[0]), compare);
        for (size_t i = 0; i < n; i++)
                if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
                        used += (size_t) sprintf(ret + used, "%s%s", used > 0 ? "," : "", names[i]);

        return true;
}

const char *storable_check(const struct busyobj *bo, char ret_vary[STORABLE_VARY_MAX]) {
        const struct http *request = bo->bereq, *response = bo->beresp;
        const char *vary;

        if (strcmp(http_GetMethod(request), "GET") != 0)
                return "its method is not GET";
        if (response->status < 200 || response->status > 599 || response->status == 204 ||
            response->status == 206 || response->status == 304)
                return "of its status";
        if (http_GetHdr(response, H_Set_Cookie, NULL))
                return "it sets a cookie";
        if (has_token(response, H_Cache_Control, "no-store") ||
            has_token(response, H_Cache_Control, "private"))
                return "of its Cache-Control";
        if (http_GetHdr(request, H_Authorization, NULL) && !has_token(response, H_Cache_Control, "public") &&
            !has_token(response, H_Cache_Control, "s-maxage") &&
            !has_token(response, H_Cache_Control, "must-revalidate"))
                return "the request was authorised";

        ret_vary[0] = '\0';
        if (http_GetHdr(response, H_Vary, &vary) && (strchr(vary, '*') || !read_vary(vary, ret_vary)))
                return "of its Vary";
        return NULL;
}

static int add_seconds(objmapper_request *put, const char *key, double seconds, int digits) {
        char text[48];
        int n = snprintf(text, sizeof(text), "%.*f", digits, fmin(fmax(seconds, 0), SECONDS_MAX));

        return objmapper_request_add_metadata(put, key, text, (size_t) n);
}

static int add_fields(const struct http *response, objmapper_request *put) {
        for (unsigned i = HTTP_HDR_FIRST; i < response->nhd; i++) {
                const char *b = response->hd[i].b, *e = response->hd[i].e, *colon;
                char name[HTTP_NAME_MAX];
                size_t size;
                int r;

                colon = b ? memchr(b, ':', (size_t) (e - b)) : NULL;
                if (!colon)
                        continue;
                size = (size_t) (colon - b);
                if (size >= sizeof(name))
                        return -EINVAL;
                for (size_t j = 0; j < size; j++)
                        name[j] = (char) tolower((unsigned char) b[j]);
                name[size] = '\0';
                for (b = colon + 1; b < e && (*b == ' ' || *b == '\t'); b++)
                        ;
                for (; e > b && (e[-1] == ' ' || e[-1] == '\t'); e--)
                        ;
                if (!http_field_served(name, b, (size_t) (e - b)) || has_token(response, H_Connection, name))
                        continue;

                r = objmapper_request_add_metadata(put, name, b, (size_t) (e - b));
                if (r < 0)
                        return r;
        }

        return 0;
}

int storable_describe(const struct busyobj *bo, const struct objcore *oc, objmapper_request *put) {
        const struct http *response = bo->beresp;
        double left = fmin(oc->ttl, SECONDS_MAX) + fmin(oc->grace, SECONDS_MAX) +
                      fmin(oc->keep, SECONDS_MAX) + oc->t_origin - (double) clock_usec(CLOCK_REALTIME) / 1e6;
        const txt *reason = &response->hd[HTTP_HDR_REASON];
        char status[4 + HTTP_REASON_MAX];
        int r, n;

        /* Also refuses what is no number. */
        if (!(left >= 0.001 && oc->t_origin >= 0))
                return -EINVAL;

        n = snprintf(status, sizeof(status), "%03u %.*s", response->status % 1000u,
                     (int) (reason->e - reason->b), reason->b ? reason->b : "");
        if (n >= (int) sizeof(status) || n == 4)
                n = 3;
        r = objmapper_request_add_metadata(put, ":status", status, (size_t) n);
        if (r >= 0)
                r = add_seconds(put, ":generated", oc->t_origin, 6);
        if (r >= 0)
                r = add_seconds(put, ":ttl", oc->ttl, 3);
        if (r >= 0 && oc->grace > 0)
                r = add_seconds(put, ":grace", oc->grace, 3);
        if (r >= 0 && oc->keep > 0)
                r = add_seconds(put, ":keep", oc->keep, 3);
        if (r >= 0)
                r = add_fields(response, put);
        if (r >= 0)
                r = objmapper_request_set_ttl(put, (uint64_t) (left * 1000));

        return r;
}
