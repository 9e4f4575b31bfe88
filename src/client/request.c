/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "macro.h"
#include "words.h"

/* The wire's numbers are the interface's. */
static_assert((unsigned) OBJMAPPER_GET == PROTO_GET && (unsigned) OBJMAPPER_STAT == PROTO_STAT &&
                              (unsigned) OBJMAPPER_PUT == PROTO_PUT &&
                              (unsigned) OBJMAPPER_SET_METADATA == PROTO_SET_METADATA &&
                              (unsigned) OBJMAPPER_REMOVE == PROTO_REMOVE &&
                              (unsigned) OBJMAPPER_PURGE == PROTO_PURGE &&
                              (unsigned) OBJMAPPER_LIST == PROTO_LIST &&
                              (unsigned) OBJMAPPER_STATS == PROTO_STATS,
              "verbs differ");
static_assert((unsigned) OBJMAPPER_FDPASS == OP_FDPASS && (unsigned) OBJMAPPER_COPY == OP_COPY &&
                              (unsigned) OBJMAPPER_SPLICE == OP_SPLICE &&
                              (unsigned) OBJMAPPER_AUTO == OP_AUTO,
              "modes differ");
static_assert(OBJMAPPER_URI_MAX == PROTO_URI_MAX && OBJMAPPER_METADATA_MAX == PROTO_METADATA_MAX,
              "limits differ");

int objmapper_request_new(objmapper_request **ret,
                          enum objmapper_verb verb,
                          const void *uri,
                          size_t uri_size) {
        objmapper_request *request;
        bool prefix = verb == OBJMAPPER_PURGE || verb == OBJMAPPER_LIST;

        if (!ret || (!uri && uri_size > 0))
                return -EINVAL;

        switch (verb) {
        case OBJMAPPER_GET:
        case OBJMAPPER_STAT:
        case OBJMAPPER_PUT:
        case OBJMAPPER_SET_METADATA:
        case OBJMAPPER_REMOVE:
                if (proto_uri_check(uri, uri_size) < 0)
                        return -EINVAL;
                break;
        case OBJMAPPER_PURGE:
        case OBJMAPPER_LIST:
                if (uri_size > 0 && proto_uri_check(uri, uri_size) < 0)
                        return -EINVAL;
                break;
        case OBJMAPPER_STATS:
                if (uri_size > 0)
                        return -EINVAL;
                break;
        default:
                return -EINVAL;
        }

        request = calloc(1, sizeof(*request) + uri_size);
        if (!request)
                return -ENOMEM;

        request->verb = verb;
        request->body_fd = request->output = -EBADF;
        request->message.head.type = (uint16_t) verb;
        if (uri_size > 0)
                memcpy(request->uri, uri, uri_size);
        if (prefix) {
                request->message.prefix = (struct proto_bytes){ request->uri, uri_size };
                request->message.has |= PROTO_HAS(PROTO_TAG_PREFIX);
        } else if (verb != OBJMAPPER_STATS) {
                request->message.uri = (struct proto_bytes){ request->uri, uri_size };
                request->message.has |= PROTO_HAS(PROTO_TAG_URI);
        }
        if (verb == OBJMAPPER_SET_METADATA) /* none at all is something to say, too */
                request->message.has |= PROTO_HAS(PROTO_TAG_METADATA);

        *ret = request;
        return 0;
}

void objmapper_request_free(objmapper_request *request) {
        if (!request)
                return;

        free(request->metadata);
        free(request->cursor);
        free(request);
}

static bool is(const objmapper_request *request, enum objmapper_verb verb) {
        return request && request->verb == verb;
}

static void set_has(objmapper_request *request, enum proto_tag tag, bool has) {
        if (has)
                request->message.has |= PROTO_HAS(tag);
        else
                request->message.has &= ~PROTO_HAS(tag);
}

int objmapper_request_set_mode(objmapper_request *request, enum objmapper_mode mode) {
        if (!is(request, OBJMAPPER_GET) || mode < OBJMAPPER_FDPASS || mode > OBJMAPPER_AUTO)
                return -EINVAL;

        request->message.head.mode = (uint8_t) mode;
        return 0;
}

int objmapper_request_set_range(objmapper_request *request, uint64_t offset, uint64_t size) {
        if (!is(request, OBJMAPPER_GET))
                return -EINVAL;

        request->message.range = (struct proto_range){ .offset = offset, .size = size };
        set_has(request, PROTO_TAG_RANGE, true);
        return 0;
}

int objmapper_request_set_if_modified(objmapper_request *request, const char *etag) {
        struct proto_etag parsed;

        if (!is(request, OBJMAPPER_GET) || !etag || etag_parse(etag, &parsed) < 0)
                return -EINVAL;

        request->message.if_none_match = parsed;
        set_has(request, PROTO_TAG_IF_NONE_MATCH, true);
        return 0;
}

int objmapper_request_set_output(objmapper_request *request, int fd) {
        if (!is(request, OBJMAPPER_GET) || fd < 0)
                return -EINVAL;

        request->output = fd;
        return 0;
}

int objmapper_request_set_stale_ok(objmapper_request *request, int stale_ok) {
        if (!is(request, OBJMAPPER_GET) && !is(request, OBJMAPPER_STAT))
                return -EINVAL;

        set_has(request, PROTO_TAG_STALE_OK, stale_ok);
        return 0;
}

int objmapper_request_set_if_absent(objmapper_request *request, int if_absent) {
        if (!is(request, OBJMAPPER_PUT))
                return -EINVAL;

        set_has(request, PROTO_TAG_IF_ABSENT, if_absent);
        if (if_absent) /* the two contradict each other: the later one counts */
                set_has(request, PROTO_TAG_IF_GENERATION, false);
        return 0;
}

int objmapper_request_set_if_generation(objmapper_request *request, uint64_t generation) {
        if ((!is(request, OBJMAPPER_PUT) && !is(request, OBJMAPPER_SET_METADATA) &&
             !is(request, OBJMAPPER_REMOVE)) ||
            generation == 0) /* no object has it */
                return -EINVAL;

        request->message.if_generation = generation;
        set_has(request, PROTO_TAG_IF_GENERATION, true);
        set_has(request, PROTO_TAG_IF_ABSENT, false);
        return 0;
}

int objmapper_request_add_metadata(objmapper_request *request,
                                   const char *key,
                                   const void *value,
                                   size_t value_size) {
        struct proto_pair pair;
        size_t size, position;
        uint8_t *metadata;
        int r;

        if ((!is(request, OBJMAPPER_PUT) && !is(request, OBJMAPPER_SET_METADATA)) || !key ||
            (!value && value_size > 0) || value_size > PROTO_METADATA_MAX)
                return -EINVAL;

        pair.key = (struct proto_bytes){ (const uint8_t *) key, strlen(key) };
        pair.value = (struct proto_bytes){ value, value_size };
        if (pair.key.size > PROTO_KEY_MAX)
                return -EINVAL;

        position = request->metadata_size;
        size = position + 6 + pair.key.size + value_size;
        if (size > PROTO_METADATA_MAX)
                return -EINVAL;

        metadata = realloc(request->metadata, size);
        if (!metadata)
                return -ENOMEM;
        request->metadata = metadata;

        r = proto_metadata_append(metadata, size, &position, &pair);
        if (r < 0)
                return r == -ENOBUFS ? -EINVAL : r;

        request->metadata_size = position;
        request->message.metadata = (struct proto_bytes){ metadata, position };
        set_has(request, PROTO_TAG_METADATA, true);
        return 0;
}

int objmapper_request_set_ttl(objmapper_request *request, uint64_t msec) {
        if (!is(request, OBJMAPPER_PUT))
                return -EINVAL;

        request->message.ttl_msec = msec;
        set_has(request, PROTO_TAG_TTL, true);
        return 0;
}

int objmapper_request_set_durability(objmapper_request *request, enum objmapper_durability durability) {
        static const uint8_t flags[] = {
                [OBJMAPPER_AS_CONFIGURED] = 0,
                [OBJMAPPER_DURABLE] = PROTO_FLAG_DURABLE,
                [OBJMAPPER_VISIBLE] = PROTO_FLAG_VISIBLE,
        };

        if (!is(request, OBJMAPPER_PUT) || (size_t) durability >= ARRAY_SIZE(flags))
                return -EINVAL;

        request->message.head.flags = flags[durability];
        return 0;
}

int objmapper_request_set_checksum(objmapper_request *request, uint64_t checksum) {
        if (!is(request, OBJMAPPER_PUT))
                return -EINVAL;

        request->message.checksum = checksum;
        set_has(request, PROTO_TAG_CHECKSUM, true);
        return 0;
}

int objmapper_request_set_body(objmapper_request *request, const void *data, size_t size) {
        if (!is(request, OBJMAPPER_PUT) || (!data && size > 0))
                return -EINVAL;

        request->data = data;
        request->data_size = size;
        request->body_fd = -EBADF;
        request->source = NULL;
        return 0;
}

int objmapper_request_set_body_fd(objmapper_request *request, int fd, uint64_t size) {
        if (!is(request, OBJMAPPER_PUT) || fd < 0)
                return -EINVAL;

        request->body_fd = fd;
        request->source = NULL;
        request->source_size = size;
        return 0;
}

int objmapper_request_set_body_source(objmapper_request *request,
                                      objmapper_source_fn source,
                                      void *userdata,
                                      uint64_t size) {
        if (!is(request, OBJMAPPER_PUT) || !source)
                return -EINVAL;

        request->body_fd = -EBADF;
        request->source = source;
        request->source_userdata = userdata;
        request->source_size = size;
        return 0;
}

int objmapper_request_set_cursor(objmapper_request *request, const void *cursor, size_t size) {
        uint8_t *copy = NULL;

        if (!is(request, OBJMAPPER_LIST) || (!cursor && size > 0) || size > PROTO_CURSOR_MAX)
                return -EINVAL;

        if (size > 0) {
                copy = malloc(size);
                if (!copy)
                        return -ENOMEM;
                memcpy(copy, cursor, size);
        }

        free(request->cursor);
        request->cursor = copy;
        request->message.cursor = (struct proto_bytes){ copy, size };
        set_has(request, PROTO_TAG_CURSOR, size > 0);
        return 0;
}

int objmapper_request_set_limit(objmapper_request *request, uint32_t limit) {
        if (!is(request, OBJMAPPER_LIST))
                return -EINVAL;

        request->message.limit = limit;
        set_has(request, PROTO_TAG_LIMIT, true);
        return 0;
}
