/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "varnish.h"

#include "http-object.h"
#include "uri.h"

bool uri_request_field(const char *name, struct http_digest *digest, void *userdata) {
        const struct http *request = userdata;
        size_t size = strlen(name);
        bool found = false;

        for (unsigned i = HTTP_HDR_FIRST; i < request->nhd; i++) {
                const char *b = request->hd[i].b, *e = request->hd[i].e;

                if (!b || (size_t) (e - b) <= size || b[size] != ':' || strncasecmp(b, name, size) != 0)
                        continue;
                b += size + 1;
                while (b < e && (*b == ' ' || *b == '\t'))
                        b++;
                while (e > b && (e[-1] == ' ' || e[-1] == '\t'))
                        e--;
                if (found)
                        http_digest_add(digest, ", ", 2);
                http_digest_add(digest, b, (size_t) (e - b));
                found = true;
        }

        return found;
}

int uri_of_request(const struct http *request, const char *set, char *ret, size_t size) {
        const char *host, *target = request->hd[HTTP_HDR_URL].b;

        if (set) {
                size_t n = strnlen(set, size + 1);

                if (n == 0)
                        return -EINVAL;
                if (n > size)
                        return -ENAMETOOLONG;
                memcpy(ret, set, n);
                return (int) n;
        }

        if (!http_GetHdr(request, H_Host, &host))
                return -EINVAL;
        return http_uri(ret, size, host, strlen(host), target,
                        (size_t) (request->hd[HTTP_HDR_URL].e - target));
}
