/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The wire, version 1: encode, decode, limits. Pure functions over the caller's memory: no I/O, no
 * allocation, no state; any thread. objmapper-protocol(7) says the same byte by byte, and the vectors in
 * tests/data hold both to it.
 *
 * A frame is a head and a body. The head is 32 fixed bytes and fields (tag, size, value) up to head_size; the
 * body is body_size bytes that follow it whole. All numbers are little-endian. Nothing is padded or aligned.
 *
 * A field: tag (u16), zero (u16, ignored), the value's size (u32), value. The order of fields is free. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROTO_VERSION          1
#define PROTO_MAGIC            UINT32_C(0x4d4a424f) /* "OBJM" */
#define PROTO_HEAD_FIXED       32                   /* bytes before the fields */
#define PROTO_HEAD_MAX         65536                /* bytes of a whole head */
#define PROTO_FIELD_HEAD       8                    /* bytes before a field's value */
#define PROTO_URI_MAX          4096
#define PROTO_METADATA_MAX     32768 /* bytes of an encoded metadata block */
#define PROTO_KEY_MAX          255   /* bytes of one metadata key */
#define PROTO_CURSOR_MAX       8192
#define PROTO_TEXT_MAX         1024
#define PROTO_PAGE_MAX         1000                /* entries of one list reply */
#define PROTO_PAGE_BODY_MAX    (UINT32_C(8) << 20) /* bytes of one list or stats reply's body */
#define PROTO_COUNTER_NAME_MAX 64

enum proto_type {
        PROTO_HELLO = 1,
        PROTO_GET = 2,
        PROTO_STAT = 3,
        PROTO_PUT = 4,
        PROTO_DATA = 5,  /* a piece of a streamed put's body; has no reply of its own */
        PROTO_END = 6,   /* ends a streamed put; the reply is the put's */
        PROTO_ABORT = 7, /* gives a streamed put up; the reply is the put's */
        PROTO_SET_METADATA = 8,
        PROTO_REMOVE = 9,
        PROTO_PURGE = 10,
        PROTO_LIST = 11,
        PROTO_STATS = 12,
        PROTO_NOTICE = 13,    /* from the server, id 0 */
        PROTO_REPLY = 0x8000, /* added to the type that is answered */
};

/* How a body is delivered; the architecture's operations. */
enum proto_mode {
        OP_DEFAULT = 0, /* in a request: the session's mode */
        OP_FDPASS = 1,
        OP_COPY = 2,
        OP_SPLICE = 3,
        OP_AUTO = 4,
        OP_MODE_MAX,
};

enum proto_status {
        PROTO_OK = 0,
        PROTO_NOT_MODIFIED = 1,
        PROTO_ABSENT = 16,
        PROTO_EXISTS = 17, /* if-absent, and there is one */
        PROTO_EXPIRED = 18,
        PROTO_TOO_LARGE = 19,
        PROTO_NO_SPACE = 20,
        PROTO_BUSY = 21, /* a limit of this moment: try again later */
        PROTO_NOT_PERMITTED = 22,
        PROTO_BAD_REQUEST = 23,
        PROTO_UNSUPPORTED = 24, /* a version, frame, flag or field that this server does not know */
        PROTO_INTERNAL = 25,
        PROTO_CONFLICT = 26,     /* if-generation, and it is another */
        PROTO_BAD_RANGE = 27,    /* the range begins past the object's end */
        PROTO_BAD_CHECKSUM = 28, /* the body is not what the publisher said */
        PROTO_ABORTED = 29,      /* a streamed put ended by ABORT */
        PROTO_READ_ONLY = 30,    /* the store can't be written at present */
        PROTO_DRAINING = 31,     /* in a notice: nothing more is begun, what was begun will be answered */
        PROTO_DRAINED = 32,      /* in a notice: all that was begun is answered; the stream ends behind it */
};

/* Flags of a frame. A receiver refuses a frame with an unknown flag of the lower four, and ignores the upper
 * four. */
#define PROTO_FLAG_STREAM  UINT8_C(0x01) /* PUT: the body follows in DATA frames */
#define PROTO_FLAG_VISIBLE UINT8_C(0x10) /* PUT: the reply may come as soon as gets find the object */
#define PROTO_FLAG_DURABLE \
        UINT8_C(0x20) /* PUT: it comes when the object is on the disk; neither of the two: as
                                            the server likes. Who knows neither waits for the disk */
#define PROTO_FLAGS_MUST UINT8_C(0x0f)

/* Flags of a hello. */
#define PROTO_HELLO_ORDERED UINT8_C(0x01) /* replies come in the order of the requests */

/* Feature bits of a hello: none is defined in version 1. */
#define PROTO_FEATURES UINT64_C(0)

/* A field whose tag has this bit must be known by the receiver, or the frame is refused; others are ignored.
 * The encoder sets it where proto_tag says so. */
#define PROTO_TAG_MUST UINT16_C(0x8000)

enum proto_tag {
        PROTO_TAG_HELLO = 1,         /* must: struct proto_hello */
        PROTO_TAG_LIMITS = 2,        /* struct proto_limits */
        PROTO_TAG_URI = 3,           /* must */
        PROTO_TAG_PREFIX = 4,        /* must; may be empty: everything */
        PROTO_TAG_RANGE = 5,         /* must: struct proto_range */
        PROTO_TAG_IF_NONE_MATCH = 6, /* must: struct proto_etag */
        PROTO_TAG_IF_ABSENT = 7,     /* must: empty */
        PROTO_TAG_IF_GENERATION = 8, /* must: u64, not 0 */
        PROTO_TAG_STALE_OK = 9,      /* empty: an expired object is welcome too */
        PROTO_TAG_METADATA = 10,     /* must: a metadata block */
        PROTO_TAG_SIZE = 11,         /* must: u64, the whole body of a streamed put, where known; of an inline
                                        one it is body_size */
        PROTO_TAG_CHECKSUM = 12,     /* must: u64, XXH3-64 of the whole body */
        PROTO_TAG_TTL = 13,          /* must: u64 milliseconds; 0: for ever */
        PROTO_TAG_INFO = 14,         /* struct proto_info */
        PROTO_TAG_USAGE = 15,        /* struct proto_usage */
        PROTO_TAG_CURSOR = 16,       /* must: opaque bytes of an earlier reply */
        PROTO_TAG_LIMIT = 17,        /* must: u32, entries of a page; 0, or above: PROTO_PAGE_MAX */
        PROTO_TAG_COUNT = 18,        /* u64: objects purged, entries listed */
        PROTO_TAG_TEXT = 19,         /* UTF-8 for people: what was wrong, and where */
        PROTO_TAG_MAX,
};

struct proto_bytes {
        const uint8_t *data; /* borrowed from the buffer that was decoded, or from the caller */
        size_t size;
};

struct proto_head {
        uint32_t head_size; /* 0: how many bytes the head has, this field included */
        uint16_t type;      /* 4: enum proto_type */
        uint8_t mode;       /* 6: enum proto_mode; in a reply to get: how the body comes */
        uint8_t flags;      /* 7 */
        uint64_t id;        /* 8: the request's, chosen by the client, not 0 */
        uint64_t body_size; /* 16: bytes that follow the head */
        uint16_t status;    /* 24: enum proto_status; 0 in requests */
        uint16_t reserved;  /* 26: sent as 0, ignored */
        uint16_t fd_index;  /* 28: of this reply's descriptor in its batch; the message that brings a batch
                                   begins with the first byte of a head, never inside a body */
        uint16_t fd_count;  /* 30: descriptors of the batch; 0: this reply has none */
};

/* 32 bytes; a longer one is taken, the rest ignored. */
struct proto_hello {
        uint16_t min_version;   /* 4 (after the magic) */
        uint16_t max_version;   /* 6 */
        uint8_t mode;           /* 8: the session's mode; OP_DEFAULT is OP_AUTO */
        uint8_t flags;          /* 9 */
        uint16_t fds_per_batch; /* 10: descriptors that the client takes in one message; 0: 253 */
        uint32_t depth; /* 12: requests that the client would like to have in flight; 0: the server's limit */
        uint64_t features; /* 16 */
                           /* 24: 8 bytes of zero */
};

/* 72 bytes; a longer one is taken, the rest ignored. What the session has, and what the server takes. */
struct proto_limits {
        uint16_t version;       /* 0: the session's; in a refusal the newest that the server speaks */
        uint16_t min_version;   /* 2: the oldest that the server speaks */
        uint8_t mode;           /* 4: the session's mode */
        uint8_t flags;          /* 5: of the hello, as agreed */
        uint8_t role;           /* 6: 0 reader, 1 publisher */
                                /* 7: zero */
        uint64_t features;      /* 8: as agreed */
        uint64_t store_id;      /* 16 */
        uint32_t depth;         /* 24: requests in flight; more are left unread until one is answered */
        uint32_t streams;       /* 28: streamed puts open at a time; one more is refused as busy */
        uint32_t uri_max;       /* 32: bytes */
        uint32_t metadata_max;  /* 36: bytes of a block */
        uint64_t object_max;    /* 40: bytes of a body */
        uint32_t inline_max;    /* 48: bytes up to which OP_AUTO answers inline */
        uint32_t fds_in_flight; /* 52: descriptors sent and not yet received */
        uint16_t fds_per_batch; /* 56 */
                                /* 58: 6 bytes of zero */
        uint64_t idle_usec;     /* 64: a session that is silent for this long is closed; 0: never */
};

/* 16 bytes. */
struct proto_range {
        uint64_t offset; /* 0: bytes from the start */
        uint64_t size;   /* 8: bytes; UINT64_MAX: to the end. A reply says what it really carries */
};

/* 24 bytes: names one state of one object in one store. */
struct proto_etag {
        uint64_t store_id;         /* 0 */
        uint64_t generation;       /* 8 */
        uint64_t metadata_version; /* 16 */
};

/* 56 bytes; a longer one is taken, the rest ignored. */
struct proto_info {
        struct proto_etag etag; /* 0 */
        uint64_t size;          /* 24: bytes of the whole body */
        uint64_t checksum;      /* 32: XXH3-64 of the whole body */
        uint64_t stored_usec;   /* 40: since 1970: when it was put */
        uint64_t expires_usec;  /* 48: since 1970; 0: never */
};

/* 16 bytes; a longer one is taken, the rest ignored. */
struct proto_usage {
        uint64_t hits;      /* 0 */
        uint64_t used_usec; /* 8: since 1970: last get; 0: never */
};

/* One frame's head, decoded or to be encoded. A field is there when its bit, PROTO_HAS(tag), is in has. */
#define PROTO_HAS(tag) (UINT32_C(1) << (tag))
struct proto_message {
        struct proto_head head;
        uint32_t has;
        struct proto_hello hello;
        struct proto_limits limits;
        struct proto_bytes uri;
        struct proto_bytes prefix;
        struct proto_range range;
        struct proto_etag if_none_match;
        uint64_t if_generation;
        struct proto_bytes metadata;
        uint64_t size;
        uint64_t checksum;
        uint64_t ttl_msec;
        struct proto_info info;
        struct proto_usage usage;
        struct proto_bytes cursor;
        uint32_t limit;
        uint64_t count;
        struct proto_bytes text;
};

/* Decodes the 32 fixed bytes at p. Returns 0, or -EBADMSG when head_size is below PROTO_HEAD_FIXED or above
 * PROTO_HEAD_MAX: the stream can't be followed any more. */
int proto_head_decode(const uint8_t p[static PROTO_HEAD_FIXED], struct proto_head *ret);

/* Decodes a whole head, fields and all; size is its head_size. Everything that the head alone can say is
 * checked here: the length of each field, no field twice, no NUL in a URI, the pairs of a metadata block,
 * that the fields that a frame of this type (a reply: with this status) needs are there and none that it
 * can't have, and that id, status, mode, flags, body and descriptor go with them. So a reply to get that was
 * decoded as OK carries what its mode says, and as many bytes as INFO or RANGE say. Types, replies included,
 * that this version does not know are decoded without such rules. Returns 0, or
 *   -EBADMSG     the head is malformed
 *   -EOPNOTSUPP  an unknown field that must be understood, or flag or mode
 * and then *ret_what says what is wrong (a string constant, for the reply's text). ret->head is filled in any
 * case, so that the frame can be answered and skipped. */
int proto_message_decode(const uint8_t *p, size_t size, struct proto_message *ret, const char **ret_what);

/* Bytes that the head takes when encoded, head.head_size being ignored. SIZE_MAX: more than that. */
size_t proto_message_size(const struct proto_message *message);

/* Encodes the head at p, head_size computed, the fields in the order of their tags. What decoding would
 * refuse is not looked for. Returns the bytes written, or -ENOBUFS when size is too small, or -EMSGSIZE when
 * the head would be above PROTO_HEAD_MAX. */
ssize_t proto_message_encode(const struct proto_message *message, uint8_t *p, size_t size);

/* Writes a descriptor's place into an encoded head: known only when the batch is sent. */
void proto_head_set_fd(uint8_t p[static PROTO_HEAD_FIXED], uint16_t index, uint16_t count);

/* Likewise what of a request is known when it is sent. */
void proto_head_set_request(uint8_t p[static PROTO_HEAD_FIXED],
                            uint64_t id,
                            uint8_t mode,
                            uint64_t body_size);

/* Likewise how the body comes after all, and its size. */
void proto_head_set_body(uint8_t p[static PROTO_HEAD_FIXED], uint8_t mode, uint64_t size);

/* 0, or -EINVAL: not 1 to PROTO_URI_MAX bytes, or a NUL among them. */
int proto_uri_check(const void *uri, size_t size);

/* A metadata block: pairs of key and value in the publisher's order; a key may come again. Per pair: the
 * key's size (u16, 1 to PROTO_KEY_MAX), the value's size (u32), key, value. */
struct proto_pair {
        struct proto_bytes key, value;
};

/* Reads the pair at *position (0 first) and moves on. 1, or 0 at the end, or -EBADMSG. */
int proto_metadata_next(struct proto_bytes block, size_t *position, struct proto_pair *ret);
/* 0, or -EBADMSG: a pair is malformed, or the block is above PROTO_METADATA_MAX. */
int proto_metadata_check(struct proto_bytes block);
/* Appends a pair at *position of buffer. 0, or -EINVAL (an empty or too long key), -ENOBUFS. */
int proto_metadata_append(uint8_t *buffer, size_t size, size_t *position, const struct proto_pair *pair);

/* An entry of a list reply's body: size of the entry after this field (u32), then info (56 bytes), then the
 * URI. Reading: 1, or 0 at the end, or -EBADMSG. Appending: 0, or -EINVAL (not a URI), -ENOBUFS. */
struct proto_entry {
        struct proto_info info;
        struct proto_bytes uri;
};

int proto_entry_next(struct proto_bytes body, size_t *position, struct proto_entry *ret);
int proto_entry_append(uint8_t *buffer, size_t size, size_t *position, const struct proto_entry *entry);

/* A counter of a stats reply's body: the name's size (u16, 1 to PROTO_COUNTER_NAME_MAX), value (u64), name
 * (printable ASCII, no space). Names are added in later versions: a client shows what it does not know.
 * Reading: 1, or 0 at the end, or -EBADMSG. Appending: 0, or -EINVAL (not a name), -ENOBUFS. */
struct proto_counter {
        struct proto_bytes name;
        uint64_t value;
};

int proto_counter_next(struct proto_bytes body, size_t *position, struct proto_counter *ret);
int proto_counter_append(uint8_t *buffer, size_t size, size_t *position, const struct proto_counter *counter);

/* "fdpass", "copy", "splice", "auto"; NULL for others. And back: the mode, or -EINVAL. */
const char *proto_mode_name(enum proto_mode mode);
int proto_mode_from_name(const char *name);

/* "get", "put", ...; "unknown". "ok", "absent", ...; "unknown". Never NULL. */
const char *proto_type_name(uint16_t type);
const char *proto_status_name(uint16_t status);
