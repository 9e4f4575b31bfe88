/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The fields of a head, one entry per tag: what decoder and encoder both go by, so that they can't differ. */

#include "protocol.h"

enum field_kind {
        FIELD_WORDS,   /* n numbers of 64 bits, in the message as on the wire; n may be 0 */
        FIELD_MEMBERS, /* numbers of several widths, at the places that members names; zeros between them */
        FIELD_BYTES,   /* a struct proto_bytes */
};

struct field_member {
        uint8_t offset; /* in the struct */
        uint8_t place;  /* on the wire */
        uint8_t width;  /* bytes, in both */
};

struct field {
        uint8_t kind;      /* enum field_kind */
        uint8_t n;         /* words or members */
        bool must;         /* PROTO_TAG_MUST is set on the wire */
        uint16_t offset;   /* in struct proto_message */
        uint32_t size_min; /* on the wire; where the kind is not FIELD_BYTES, also what is encoded */
        uint32_t size_max;
        uint32_t magic; /* not 0: the value's first four bytes */
        const struct field_member *members;
        /* What a value's size does not say: 0, or -EBADMSG, or -EOPNOTSUPP for a mode that is unknown. Reads
         * size_min bytes at most, unless the kind is FIELD_BYTES. */
        int (*check)(const uint8_t *value, size_t size);
        /* For people. */
        const char *malformed, *repeated, *missing, *misplaced;
};

/* By tag; the entry of tag 0 is empty. */
extern const struct field proto_fields[PROTO_TAG_MAX];

#define WHAT_UNKNOWN_MODE "an unknown mode"

#define PROTO_FIELDS_ALL (PROTO_HAS(PROTO_TAG_MAX) - 2)

/* Whether a message with these fields is one that its type, status, flags and mode allow. Types that this
 * version does not know pass. Returns and sets *ret_what as proto_message_decode(). */
int proto_rules_check(const struct proto_message *message, const char **ret_what);
