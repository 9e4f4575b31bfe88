/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "http-object.h"
#include "sha256.h"

static void check_sha256(const char *text, size_t times, const char *wanted) {
        g_autoptr(GString) data = g_string_new(NULL);
        g_autofree char *digest = NULL;
        uint8_t bytes[SHA256_SIZE];
        char hex[2 * SHA256_SIZE + 1];
        struct sha256 sha;

        sha256_init(&sha);
        for (size_t i = 0; i < times; i++)
                sha256_add(&sha, text, strlen(text));
        sha256_finish(&sha, bytes);
        for (unsigned i = 0; i < SHA256_SIZE; i++)
                (void) snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
        if (wanted)
                g_assert_cmpstr(hex, ==, wanted);

        for (size_t i = 0; i < times; i++)
                g_string_append(data, text);
        digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, data->str, (gssize) data->len);
        g_assert_cmpstr(hex, ==, digest);
}

static void test_sha256(void) {
        check_sha256("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        check_sha256("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        check_sha256("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
        for (size_t n = 1; n < 200; n++)
                check_sha256("x", n, NULL);
        check_sha256("0123456789abcdef!", 41, NULL);
}

static void check_uri(const char *host, const char *target, const char *wanted) {
        char uri[OBJMAPPER_URI_MAX];
        int n = http_uri(uri, sizeof(uri), host, strlen(host), target, strlen(target));

        if (!wanted)
                assert_errno(n, -EINVAL);
        else {
                g_assert_cmpint(n, ==, strlen(wanted));
                g_assert_cmpmem(uri, (size_t) n, wanted, strlen(wanted));
        }
}

static void test_uri(void) {
        char uri[OBJMAPPER_URI_MAX + 10], target[OBJMAPPER_URI_MAX];

        check_uri("example.org", "/", "http://example.org/");
        check_uri("Example.ORG:80", "/A?b=C", "http://example.org/A?b=C");
        check_uri("example.org:8080", "/", "http://example.org:8080/");
        check_uri("[::1]:80", "/\xff", "http://[::1]/\xff");
        check_uri("", "/", NULL);
        check_uri(":80", "/", "http://:80/");
        check_uri("a/b", "/", NULL);
        check_uri("a b", "/", NULL);
        check_uri("a", "", NULL);
        check_uri("a", "*", NULL);
        check_uri("a", "x", NULL);
        check_uri("a", "/ 0", NULL);
        check_uri("a", "/\x7f", NULL);
        check_uri("a", "/\n", NULL);

        memset(target, '/', sizeof(target));
        g_assert_cmpint(http_uri(uri, sizeof(uri), "a", 1, target, OBJMAPPER_URI_MAX - 8), ==,
                        OBJMAPPER_URI_MAX);
        assert_errno(http_uri(uri, sizeof(uri), "a", 1, target, OBJMAPPER_URI_MAX - 7), -ENAMETOOLONG);
        assert_errno(http_uri(uri, 8, "a", 1, "/", 1), -ENAMETOOLONG);
        assert_errno(http_uri(uri, 3, "a", 1, "/", 1), -ENAMETOOLONG);
}

static bool request_field(const char *name, struct http_digest *digest, void *userdata) {
        const char *const *fields = userdata;
        bool found = false;

        for (; *fields; fields += 2)
                if (strcmp(*fields, name) == 0) {
                        if (found)
                                http_digest_add(digest, ", ", 2);
                        http_digest_add(digest, fields[1], strlen(fields[1]));
                        found = true;
                }

        return found;
}

/* hashed: what the digest is of. */
static void check_variant(const char *vary, const char *hashed, const char *const *fields) {
        g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, hashed ?: "", -1);
        g_autofree char *wanted = g_strconcat("http://a/ ", digest, NULL);
        char uri[OBJMAPPER_URI_MAX];
        int n = http_variant_uri(uri, sizeof(uri), "http://a/", 9, vary, strlen(vary), request_field,
                                 (void *) fields);

        if (!hashed)
                assert_errno(n, -EBADMSG);
        else
                g_assert_cmpmem(uri, (size_t) n, wanted, strlen(wanted));
}

static void test_variant(void) {
        static const char *const german[] = { "accept-language", "de", NULL };
        static const char *const empty[] = { "accept-language", "", NULL };
        static const char *const several[] = { "a", "1", "b", "2", "a", "3", NULL };
        char uri[80];

        check_variant("accept-encoding,accept-language", "accept-encoding\naccept-language:de\n", german);
        check_variant("accept-language", "accept-language:\n", empty);
        check_variant("a,b,c", "a:1, 3\nb:2\nc\n", several);
        check_variant("", "", german);
        check_variant(",", NULL, german);
        check_variant("a,", NULL, german);
        check_variant("a, b", NULL, german);
        check_variant("*,", NULL, german);
        assert_errno(http_variant_uri(uri, 73, "http://a/", 9, "a", 1, request_field, (void *) german),
                     -ENAMETOOLONG);
        g_assert_cmpint(http_variant_uri(uri, 74, "http://a/", 9, "a", 1, request_field, (void *) german), ==,
                        74);
}

static void test_fields(void) {
        g_assert_true(http_field_served("content-type", "text/plain", 10));
        g_assert_true(http_field_served("x", "", 0));
        g_assert_true(http_field_served("x", "\xc3\xa4\t", 3));
        g_assert_false(http_field_served("", "", 0));
        g_assert_false(http_field_served(":status", "200", 3));
        g_assert_false(http_field_served("internal/owner", "me", 2));
        g_assert_false(http_field_served("x y", "", 0));
        g_assert_false(http_field_served("x", "a\r\nb: c", 7));
        g_assert_false(http_field_served("x", "a\0b", 3));
        g_assert_false(http_field_served("Content-Length", "1", 1));
        g_assert_false(http_field_served("transfer-encoding", "chunked", 7));
        g_assert_false(http_field_served("connection", "close", 5));
}

static void test_freshness(void) {
        struct http_object object = { .status = 200 };

        g_assert_cmpint(http_object_freshness(&object, INT64_MAX), ==, HTTP_FRESH);
        g_assert_cmpuint(http_object_age(&object, INT64_MAX), ==, 0);

        object = (struct http_object){
                .copy = true,
                .generated_usec = 100000000,
                .ttl_usec = 10000000,
                .grace_usec = 5000000,
        };
        g_assert_cmpint(http_object_freshness(&object, 0), ==, HTTP_FRESH);
        g_assert_cmpuint(http_object_age(&object, 0), ==, 0);
        g_assert_cmpint(http_object_freshness(&object, 109999999), ==, HTTP_FRESH);
        g_assert_cmpuint(http_object_age(&object, 109999999), ==, 9);
        g_assert_cmpint(http_object_freshness(&object, 110000000), ==, HTTP_STALE);
        g_assert_cmpint(http_object_freshness(&object, 114999999), ==, HTTP_STALE);
        g_assert_cmpint(http_object_freshness(&object, 115000000), ==, HTTP_DEAD);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/http/sha256", test_sha256);
        harness_add("/http/uri", test_uri);
        harness_add("/http/variant", test_variant);
        harness_add("/http/fields", test_fields);
        harness_add("/http/freshness", test_freshness);
        return g_test_run();
}
