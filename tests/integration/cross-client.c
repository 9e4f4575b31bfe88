/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* cross-client READER PUBLISHER: what a client does all day, through the library. It needs nothing but that, so
 * that test_cross.py can build it for machines of another word size or byte order. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "objmapper.h"

static objmapper_client *client;

#define CHECK(condition)                                                                                   \
        do {                                                                                               \
                if (!(condition)) {                                                                        \
                        (void) fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, \
                                       client ? objmapper_client_error(client) : "no client");             \
                        exit(EXIT_FAILURE);                                                                \
                }                                                                                          \
        } while (0)

static const char *const uris[] = { "cross/empty", "cross/small", "cross/large" };
static const size_t sizes[] = { 0, 1000, 3000001 };
static uint8_t *bodies[3];

static void put(size_t i) {
        objmapper_request *request;
        objmapper_object *object;

        bodies[i] = malloc(sizes[i] + 1);
        CHECK(bodies[i]);
        for (size_t k = 0; k < sizes[i]; k++)
                bodies[i][k] = (uint8_t) (k * 7 + k / 256 + i);

        CHECK(objmapper_request_new(&request, OBJMAPPER_PUT, uris[i], strlen(uris[i])) == 0);
        CHECK(objmapper_request_set_body(request, bodies[i], sizes[i]) == 0);
        CHECK(objmapper_request_add_metadata(request, "content-type", "text/plain", 10) == 0);
        CHECK(objmapper_request_set_ttl(request, 3600000) == 0);
        CHECK(objmapper_client_call(client, request, &object) == 0);
        CHECK(objmapper_object_get_size(object) == sizes[i]);
        CHECK(objmapper_object_get_generation(object) > 0);
        CHECK(objmapper_object_get_expires(object) - objmapper_object_get_stored(object) == 3600000000);
        objmapper_object_free(object);
        objmapper_request_free(request);
}

static void expect_body(objmapper_object *object, size_t i, size_t offset, size_t size) {
        const void *data;
        size_t got;

        CHECK(objmapper_object_get_body_size(object) == size);
        CHECK(objmapper_object_get_data(object, &data, &got) == 0);
        CHECK(got == size && (size == 0 || memcmp(data, bodies[i] + offset, size) == 0));
}

static void get(size_t i, int mode) {
        objmapper_object *object;
        objmapper_request *request;
        uint8_t head[16];
        size_t size;
        char *etag;
        int fd;

        CHECK(objmapper_get(client, uris[i], &object) == 0);
        CHECK(objmapper_object_get_size(object) == sizes[i]);
        expect_body(object, i, 0, sizes[i]);
        CHECK(strcmp(objmapper_object_get_metadata(object, "content-type", &size), "text/plain") == 0 &&
              size == 10);
        CHECK(i < 2 || mode == OBJMAPPER_AUTO || objmapper_object_get_mode(object) == mode);
        fd = objmapper_object_get_fd(object);
        CHECK(fd >= 0);
        size = sizes[i] < sizeof(head) ? sizes[i] : sizeof(head);
        CHECK(pread(fd, head, sizeof(head), 0) == (ssize_t) size && memcmp(head, bodies[i], size) == 0);
        etag = strdup(objmapper_object_get_etag(object));
        CHECK(etag);
        objmapper_object_free(object);

        CHECK(objmapper_request_new(&request, OBJMAPPER_GET, uris[i], strlen(uris[i])) == 0);
        CHECK(objmapper_request_set_if_modified(request, etag) == 0);
        CHECK(objmapper_client_call(client, request, &object) == 0);
        CHECK(objmapper_object_is_unmodified(object));
        objmapper_object_free(object);
        objmapper_request_free(request);
        free(etag);

        if (sizes[i] < 1000)
                return;
        CHECK(objmapper_request_new(&request, OBJMAPPER_GET, uris[i], strlen(uris[i])) == 0);
        CHECK(objmapper_request_set_range(request, 300, 500) == 0);
        CHECK(objmapper_client_call(client, request, &object) == 0);
        CHECK(objmapper_object_get_offset(object) == 300);
        expect_body(object, i, 300, 500);
        objmapper_object_free(object);
        objmapper_request_free(request);
}

static int count_object(objmapper_object *object, void *userdata) {
        CHECK(objmapper_object_get_generation(object) > 0);
        ++*(unsigned *) userdata;
        return 0;
}

static int find_counter(const char *name, uint64_t value, void *userdata) {
        if (strcmp(name, "store_objects") == 0)
                *(uint64_t *) userdata = value;
        return 0;
}

int main(int argc, char **argv) {
        uint64_t counter = 0, purged = 0;
        objmapper_object *object;
        unsigned listed = 0;

        CHECK(argc == 3);

        for (int mode = OBJMAPPER_FDPASS; mode <= OBJMAPPER_AUTO; mode++) {
                CHECK(objmapper_client_new(&client) == 0);
                CHECK(objmapper_client_set_sockets(client, argv[1], argv[2]) == 0);
                CHECK(objmapper_client_set_mode(client, mode) == 0);
                for (size_t i = 0; i < 3; i++) {
                        put(i);
                        get(i, mode);
                        free(bodies[i]);
                }
                objmapper_client_close(client);
        }

        CHECK(objmapper_client_new(&client) == 0);
        CHECK(objmapper_client_set_sockets(client, argv[1], argv[2]) == 0);
        CHECK(objmapper_stat(client, uris[2], &object) == 0);
        CHECK(objmapper_object_get_size(object) == sizes[2]);
        CHECK(objmapper_object_get_hits(object) > 0);
        objmapper_object_free(object);
        CHECK(objmapper_list(client, "cross/", count_object, &listed) == 0 && listed == 3);
        CHECK(objmapper_stats(client, find_counter, &counter) == 0 && counter == 3);
        CHECK(objmapper_remove(client, uris[0]) == 0);
        CHECK(objmapper_get(client, uris[0], &object) == -ENOENT);
        CHECK(objmapper_purge(client, "cross/", &purged) == 0 && purged == 2);
        objmapper_client_close(client);

        return EXIT_SUCCESS;
}
