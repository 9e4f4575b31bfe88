/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "macro.h"
#include "protocol.h"

static const char *const mode_names[] = {
        [OP_FDPASS] = "fdpass",
        [OP_COPY] = "copy",
        [OP_SPLICE] = "splice",
        [OP_AUTO] = "auto",
};

static const char *const type_names[] = {
        [PROTO_HELLO] = "hello",   [PROTO_GET] = "get",
        [PROTO_STAT] = "stat",     [PROTO_PUT] = "put",
        [PROTO_DATA] = "data",     [PROTO_END] = "end",
        [PROTO_ABORT] = "abort",   [PROTO_SET_METADATA] = "set-metadata",
        [PROTO_REMOVE] = "remove", [PROTO_PURGE] = "purge",
        [PROTO_LIST] = "list",     [PROTO_STATS] = "stats",
        [PROTO_NOTICE] = "notice",
};

static const char *const status_names[] = {
        [PROTO_OK] = "ok",
        [PROTO_NOT_MODIFIED] = "not-modified",
        [PROTO_ABSENT] = "absent",
        [PROTO_EXISTS] = "exists",
        [PROTO_EXPIRED] = "expired",
        [PROTO_TOO_LARGE] = "too-large",
        [PROTO_NO_SPACE] = "no-space",
        [PROTO_BUSY] = "busy",
        [PROTO_NOT_PERMITTED] = "not-permitted",
        [PROTO_BAD_REQUEST] = "bad-request",
        [PROTO_UNSUPPORTED] = "unsupported",
        [PROTO_INTERNAL] = "internal",
        [PROTO_CONFLICT] = "conflict",
        [PROTO_BAD_RANGE] = "bad-range",
        [PROTO_BAD_CHECKSUM] = "bad-checksum",
        [PROTO_ABORTED] = "aborted",
        [PROTO_READ_ONLY] = "read-only",
        [PROTO_DRAINING] = "draining",
        [PROTO_DRAINED] = "drained",
};

static const char *lookup(const char *const *names, size_t n, size_t i) {
        return i < n ? names[i] : NULL;
}

const char *proto_mode_name(enum proto_mode mode) {
        return lookup(mode_names, ARRAY_SIZE(mode_names), (size_t) mode);
}

int proto_mode_from_name(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(mode_names); i++)
                if (mode_names[i] && strcmp(mode_names[i], name) == 0)
                        return (int) i;

        return -EINVAL;
}

const char *proto_type_name(uint16_t type) {
        return lookup(type_names, ARRAY_SIZE(type_names), type & ~PROTO_REPLY) ?: "unknown";
}

const char *proto_status_name(uint16_t status) {
        return lookup(status_names, ARRAY_SIZE(status_names), status) ?: "unknown";
}
