/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http-object.h"
#include "sha256.h"

#define USEC_PER_SEC INT64_C(1000000)
/* No time is later and no span longer: sums of four of them can't overflow. */
#define SECONDS_MAX INT64_C(1000000000000)

/* Fields that belong to a connection, to the request at hand or to the object itself. */
static const char *const not_served[] = {
        "age",
        "connection",
        "content-length",
        "content-range",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
};

static bool is_token_byte(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *s, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (!is_token_byte(s[i]))
                        return false;
        return size > 0;
}

bool http_text_valid(const char *s, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (((unsigned char) s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
                        return false;
        return true;
}

/* Digits, and perhaps a point and one to six more. */
static int parse_seconds(const char *s, size_t size, int64_t *ret_usec) {
        int64_t seconds = 0, usec = 0, unit = USEC_PER_SEC;
        size_t i = 0;

        for (; i < size && s[i] >= '0' && s[i] <= '9'; i++) {
                seconds = seconds * 10 + (s[i] - '0');
                if (seconds > SECONDS_MAX)
                        return -EBADMSG;
        }
        if (i == 0)
                return -EBADMSG;

        if (i < size && s[i] == '.') {
                size_t point = i++;

                for (; i < size && s[i] >= '0' && s[i] <= '9' && unit > 1; i++) {
                        unit /= 10;
                        usec += (s[i] - '0') * unit;
                }
                if (i == point + 1)
                        return -EBADMSG;
        }
        if (i != size)
                return -EBADMSG;

        *ret_usec = seconds * USEC_PER_SEC + usec;
        return 0;
}

static int parse_status(const char *s, size_t size, struct http_object *object) {
        unsigned status;

        if (size < 3 || (size > 3 && s[3] != ' ') || !http_text_valid(s, size))
                return -EBADMSG;
        for (unsigned i = 0; i < 3; i++)
                if (s[i] < '0' || s[i] > '9')
                        return -EBADMSG;

        status = (unsigned) (s[0] - '0') * 100 + (unsigned) (s[1] - '0') * 10 + (unsigned) (s[2] - '0');
        if (status < 200 || status > 599 || status == 204 || status == 206 || status == 304)
                return -EBADMSG;
        object->status = status;

        if (size > 4) {
                size_t n = size - 4;

                if (n >= sizeof(object->reason))
                        n = sizeof(object->reason) - 1;
                memcpy(object->reason, s + 4, n);
                object->reason[n] = '\0';
        }

        return 0;
}

int http_object_read(objmapper_object *object, struct http_object *ret) {
        struct http_object read = { .status = 200 };
        bool has_generated = false, has_ttl = false;
        const char *key, *value;
        size_t position = 0, size;

        while (objmapper_object_next_metadata(object, &position, &key, &value, &size) > 0) {
                int r = 0;

                if (key[0] != ':')
                        continue;

                if (strcmp(key, ":status") == 0)
                        r = parse_status(value, size, &read);
                else if (strcmp(key, ":generated") == 0) {
                        r = parse_seconds(value, size, &read.generated_usec);
                        has_generated = true;
                } else if (strcmp(key, ":ttl") == 0) {
                        r = parse_seconds(value, size, &read.ttl_usec);
                        has_ttl = true;
                } else if (strcmp(key, ":grace") == 0)
                        r = parse_seconds(value, size, &read.grace_usec);
                else if (strcmp(key, ":keep") == 0)
                        r = parse_seconds(value, size, &read.keep_usec);
                else if (strcmp(key, ":vary") == 0) {
                        read.vary = value;
                        read.vary_size = size;
                }
                if (r < 0)
                        return r;
        }
        if (has_generated != has_ttl)
                return -EBADMSG;

        read.copy = has_generated;
        *ret = read;
        return 0;
}

enum http_freshness http_object_freshness(const struct http_object *object, int64_t now_usec) {
        int64_t age_usec = now_usec - object->generated_usec;

        if (!object->copy || age_usec < object->ttl_usec)
                return HTTP_FRESH;
        return age_usec < object->ttl_usec + object->grace_usec ? HTTP_STALE : HTTP_DEAD;
}

uint64_t http_object_age(const struct http_object *object, int64_t now_usec) {
        if (!object->copy || now_usec < object->generated_usec)
                return 0;
        return (uint64_t) ((now_usec - object->generated_usec) / USEC_PER_SEC);
}

bool http_field_served(const char *key, const char *value, size_t value_size) {
        if (!is_token(key, strlen(key)) || !http_text_valid(value, value_size))
                return false;
        for (size_t i = 0; i < sizeof(not_served) / sizeof(not_served[0]); i++)
                if (strcasecmp(key, not_served[i]) == 0)
                        return false;
        return true;
}

/* Appends to what is being written at most size bytes big. */
static int append(char *ret, size_t size, size_t *used, const char *bytes, size_t n) {
        if (size > OBJMAPPER_URI_MAX)
                size = OBJMAPPER_URI_MAX;
        if (n > size - *used)
                return -ENAMETOOLONG;
        memcpy(ret + *used, bytes, n);
        *used += n;
        return 0;
}

static bool is_uri_text(const char *s, size_t size) {
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) s[i] <= ' ' || s[i] == 0x7f)
                        return false;
        return true;
}

int http_uri(char *ret,
             size_t size,
             const char *host,
             size_t host_size,
             const char *target,
             size_t target_size) {
        size_t used = 0, begin;
        int r;

        if (host_size > 3 && memcmp(host + host_size - 3, ":80", 3) == 0)
                host_size -= 3;
        if (host_size == 0 || target_size == 0 || target[0] != '/' || memchr(host, '/', host_size) ||
            !is_uri_text(host, host_size) || !is_uri_text(target, target_size))
                return -EINVAL;

        r = append(ret, size, &used, "http://", 7);
        if (r < 0)
                return r;
        begin = used;
        r = append(ret, size, &used, host, host_size);
        if (r < 0)
                return r;
        for (size_t i = begin; i < used; i++)
                if (ret[i] >= 'A' && ret[i] <= 'Z')
                        ret[i] = (char) (ret[i] - 'A' + 'a');
        r = append(ret, size, &used, target, target_size);
        if (r < 0)
                return r;

        return (int) used;
}

struct http_digest {
        struct sha256 sha;
        bool begun; /* the colon before the value is there */
};

void http_digest_add(struct http_digest *digest, const char *value, size_t size) {
        if (!digest->begun)
                sha256_add(&digest->sha, ":", 1);
        digest->begun = true;
        sha256_add(&digest->sha, value, size);
}

int http_variant_uri(char *ret,
                     size_t size,
                     const char *uri,
                     size_t uri_size,
                     const char *vary,
                     size_t vary_size,
                     http_request_field_fn field,
                     void *userdata) {
        struct http_digest digest;
        uint8_t bytes[SHA256_SIZE];
        char digits[1 + 2 * SHA256_SIZE] = " ";
        size_t used = 0;
        int r;

        sha256_init(&digest.sha);
        while (vary_size > 0) {
                const char *comma = memchr(vary, ',', vary_size);
                size_t n = comma ? (size_t) (comma - vary) : vary_size;
                char name[HTTP_NAME_MAX];

                if (n >= sizeof(name) || !is_token(vary, n) || (comma && n + 1 == vary_size))
                        return -EBADMSG;
                memcpy(name, vary, n);
                name[n] = '\0';

                sha256_add(&digest.sha, name, n);
                digest.begun = false;
                if (field(name, &digest, userdata) && !digest.begun)
                        http_digest_add(&digest, "", 0);
                sha256_add(&digest.sha, "\n", 1);

                n += comma != NULL;
                vary += n;
                vary_size -= n;
        }
        sha256_finish(&digest.sha, bytes);
        for (unsigned i = 0; i < SHA256_SIZE; i++) {
                digits[1 + 2 * i] = "0123456789abcdef"[bytes[i] >> 4];
                digits[2 + 2 * i] = "0123456789abcdef"[bytes[i] & 15];
        }

        r = append(ret, size, &used, uri, uri_size);
        if (r < 0)
                return r;
        r = append(ret, size, &used, digits, sizeof(digits));
        if (r < 0)
                return r;

        return (int) used;
}
