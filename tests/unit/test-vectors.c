/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads the golden vectors (tests/data/vectors/generate.py says what their text means) and holds decoder and
 * encoder to them. Needs nothing but the C library, so that it also builds for machines of another word size
 * or byte order. */

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "fdpass.h"
#include "macro.h"
#include "protocol.h"

#define BYTES_MAX 70000

static unsigned n_tests, n_failures;

/* ---- the text ---- */

struct buffer {
        size_t size;
        uint8_t data[BYTES_MAX];
};

struct vector {
        char kind[32], name[64], file[128];
        unsigned line;
        char error[16], what[64];
        unsigned n_lines;
        char *lines[64]; /* what it means, owned */
        struct buffer hex, again;
        bool has_again;
};

static _Noreturn void die(const struct vector *vector, const char *why) {
        printf("Bail out! %s:%u: %s\n", vector->file, vector->line, why);
        exit(1);
}

static void append(const struct vector *vector, struct buffer *buffer, unsigned long byte, unsigned long n) {
        if (byte > 255 || n > BYTES_MAX - buffer->size)
                die(vector, "not a byte, or too many");
        memset(buffer->data + buffer->size, (int) byte, n);
        buffer->size += n;
}

/* XX or XX*N, up to the end or a '#'. */
static void parse_hex(const struct vector *vector, const char *s, struct buffer *buffer) {
        for (;;) {
                unsigned long byte, n = 1;
                char *end;

                while (isspace((unsigned char) *s))
                        s++;
                if (*s == '\0' || *s == '#')
                        return;
                byte = strtoul(s, &end, 16);
                if (end != s + 2)
                        die(vector, "not two digits");
                if (*end == '*')
                        n = strtoul(end + 1, &end, 10);
                append(vector, buffer, byte, n);
                s = end;
        }
}

/* One value of a line: "text" with \xNN in it, or hex to the end. Returns where it ends. */
static const char *parse_value(const struct vector *vector, const char *s, struct buffer *buffer) {
        buffer->size = 0;
        while (*s == ' ')
                s++;
        if (*s != '"') {
                /* The values of a pair or an entry end at a word that is no byte. */
                while (isxdigit((unsigned char) s[0]) && isxdigit((unsigned char) s[1]) &&
                       (s[2] == ' ' || s[2] == '*' || s[2] == '\0')) {
                        unsigned long byte = strtoul(s, NULL, 16), n = 1;
                        char *end = (char *) s + 2;

                        if (*end == '*')
                                n = strtoul(end + 1, &end, 10);
                        append(vector, buffer, byte, n);
                        for (s = end; *s == ' ';)
                                s++;
                }
                return s;
        }

        for (s++; *s != '"';) {
                char digits[3] = {};

                if (*s == '\0')
                        die(vector, "no end of a text");
                if (*s != '\\') {
                        append(vector, buffer, (unsigned char) *s++, 1);
                        continue;
                }
                memcpy(digits, s + 2, 2);
                append(vector, buffer, strtoul(digits, NULL, 16), 1);
                s += 4;
        }
        return s + 1;
}

/* Reads the next block. False at the end of the file. */
static bool read_vector(FILE *file, struct vector *vector) {
        struct buffer *hex = NULL;
        char line[8192];
        bool found = false;

        while (vector->n_lines > 0)
                free(vector->lines[--vector->n_lines]);
        vector->hex.size = vector->again.size = 0;
        vector->has_again = false;
        vector->error[0] = vector->what[0] = '\0';

        while (fgets(line, sizeof(line), file)) {
                vector->line++;
                line[strcspn(line, "\n")] = '\0';
                if (line[0] == '#')
                        continue;
                if (line[0] == '\0') {
                        if (found)
                                return true;
                        continue;
                }

                if (!found) {
                        if (sscanf(line, "%31s %63s", vector->kind, vector->name) != 2)
                                die(vector, "not a kind and a name");
                        found = true;
                } else if (strcmp(line, "hex") == 0)
                        hex = &vector->hex;
                else if (strcmp(line, "again") == 0) {
                        hex = &vector->again;
                        vector->has_again = true;
                } else if (hex)
                        parse_hex(vector, line, hex);
                else if (sscanf(line, "error %15s", vector->error) == 1)
                        continue;
                else if (sscanf(line, "what %63[^\n]", vector->what) == 1)
                        continue;
                else if (vector->n_lines == ARRAY_SIZE(vector->lines))
                        die(vector, "too many lines");
                else
                        vector->lines[vector->n_lines++] = strdup(line);
        }

        return found;
}

/* ---- results ---- */

static bool failed; /* the vector at hand */

#define EXPECT(condition)                                                                             \
        do {                                                                                          \
                if (!(condition)) {                                                                   \
                        printf("# %s:%u: %s: not so: %s\n", vector->file, vector->line, vector->name, \
                               #condition);                                                           \
                        failed = true;                                                                \
                }                                                                                     \
        } while (false)

/* Exactly as large as it is, so that a sanitizer sees a read beyond it. */
static uint8_t *tight_copy(const struct vector *vector, const struct buffer *buffer) {
        uint8_t *p = malloc(buffer->size ?: 1);

        if (!p)
                die(vector, "no memory");
        memcpy(p, buffer->data, buffer->size);
        return p;
}

static void expect_bytes(const struct vector *vector,
                         const uint8_t *data,
                         size_t size,
                         const struct buffer *buffer) {
        EXPECT(size == buffer->size);
        if (size != buffer->size)
                return;
        for (size_t i = 0; i < size; i++)
                if (data[i] != buffer->data[i]) {
                        printf("# %s:%u: %s: byte %zu is %02x, not %02x\n", vector->file, vector->line,
                               vector->name, i, data[i], buffer->data[i]);
                        failed = true;
                        return;
                }
}

/* ---- messages ---- */

#define NUMBER(name_, member, tag_)                                                             \
        {                                                                                       \
                .name = name_, .tag = (tag_), .offset = offsetof(struct proto_message, member), \
                .width = sizeof(((struct proto_message *) NULL)->member)                        \
        }
#define BYTES(name_, member, tag_) \
        { .name = name_, .tag = (tag_), .offset = offsetof(struct proto_message, member), .width = 0 }

/* Every number and every string of bytes that a message has, by the name that the text gives it. */
static const struct value {
        const char *name;
        unsigned tag; /* 0: of the fixed head */
        size_t offset;
        unsigned width; /* 0: bytes */
} values[] = {
        NUMBER("type", head.type, 0),
        NUMBER("mode", head.mode, 0),
        NUMBER("flags", head.flags, 0),
        NUMBER("id", head.id, 0),
        NUMBER("body_size", head.body_size, 0),
        NUMBER("status", head.status, 0),
        NUMBER("fd_index", head.fd_index, 0),
        NUMBER("fd_count", head.fd_count, 0),
        NUMBER("hello.min_version", hello.min_version, PROTO_TAG_HELLO),
        NUMBER("hello.max_version", hello.max_version, PROTO_TAG_HELLO),
        NUMBER("hello.mode", hello.mode, PROTO_TAG_HELLO),
        NUMBER("hello.flags", hello.flags, PROTO_TAG_HELLO),
        NUMBER("hello.fds_per_batch", hello.fds_per_batch, PROTO_TAG_HELLO),
        NUMBER("hello.depth", hello.depth, PROTO_TAG_HELLO),
        NUMBER("hello.features", hello.features, PROTO_TAG_HELLO),
        NUMBER("limits.version", limits.version, PROTO_TAG_LIMITS),
        NUMBER("limits.min_version", limits.min_version, PROTO_TAG_LIMITS),
        NUMBER("limits.mode", limits.mode, PROTO_TAG_LIMITS),
        NUMBER("limits.flags", limits.flags, PROTO_TAG_LIMITS),
        NUMBER("limits.role", limits.role, PROTO_TAG_LIMITS),
        NUMBER("limits.features", limits.features, PROTO_TAG_LIMITS),
        NUMBER("limits.store_id", limits.store_id, PROTO_TAG_LIMITS),
        NUMBER("limits.depth", limits.depth, PROTO_TAG_LIMITS),
        NUMBER("limits.streams", limits.streams, PROTO_TAG_LIMITS),
        NUMBER("limits.uri_max", limits.uri_max, PROTO_TAG_LIMITS),
        NUMBER("limits.metadata_max", limits.metadata_max, PROTO_TAG_LIMITS),
        NUMBER("limits.object_max", limits.object_max, PROTO_TAG_LIMITS),
        NUMBER("limits.inline_max", limits.inline_max, PROTO_TAG_LIMITS),
        NUMBER("limits.fds_in_flight", limits.fds_in_flight, PROTO_TAG_LIMITS),
        NUMBER("limits.fds_per_batch", limits.fds_per_batch, PROTO_TAG_LIMITS),
        NUMBER("limits.idle_usec", limits.idle_usec, PROTO_TAG_LIMITS),
        BYTES("uri", uri, PROTO_TAG_URI),
        BYTES("prefix", prefix, PROTO_TAG_PREFIX),
        NUMBER("range.offset", range.offset, PROTO_TAG_RANGE),
        NUMBER("range.size", range.size, PROTO_TAG_RANGE),
        NUMBER("if_none_match.store_id", if_none_match.store_id, PROTO_TAG_IF_NONE_MATCH),
        NUMBER("if_none_match.generation", if_none_match.generation, PROTO_TAG_IF_NONE_MATCH),
        NUMBER("if_none_match.metadata_version", if_none_match.metadata_version, PROTO_TAG_IF_NONE_MATCH),
        NUMBER("if_generation", if_generation, PROTO_TAG_IF_GENERATION),
        BYTES("metadata", metadata, PROTO_TAG_METADATA),
        NUMBER("size", size, PROTO_TAG_SIZE),
        NUMBER("checksum", checksum, PROTO_TAG_CHECKSUM),
        NUMBER("ttl", ttl_msec, PROTO_TAG_TTL),
        NUMBER("info.store_id", info.etag.store_id, PROTO_TAG_INFO),
        NUMBER("info.generation", info.etag.generation, PROTO_TAG_INFO),
        NUMBER("info.metadata_version", info.etag.metadata_version, PROTO_TAG_INFO),
        NUMBER("info.size", info.size, PROTO_TAG_INFO),
        NUMBER("info.checksum", info.checksum, PROTO_TAG_INFO),
        NUMBER("info.stored_usec", info.stored_usec, PROTO_TAG_INFO),
        NUMBER("info.expires_usec", info.expires_usec, PROTO_TAG_INFO),
        NUMBER("usage.hits", usage.hits, PROTO_TAG_USAGE),
        NUMBER("usage.used_usec", usage.used_usec, PROTO_TAG_USAGE),
        BYTES("cursor", cursor, PROTO_TAG_CURSOR),
        NUMBER("limit", limit, PROTO_TAG_LIMIT),
        NUMBER("count", count, PROTO_TAG_COUNT),
        BYTES("text", text, PROTO_TAG_TEXT),
};

/* Fields that have no number: a line of the name alone. Also such whose numbers are all zero. */
static const struct {
        const char *name;
        unsigned tag;
} bare[] = {
        { "if_absent", PROTO_TAG_IF_ABSENT },
        { "stale_ok", PROTO_TAG_STALE_OK },
        { "usage", PROTO_TAG_USAGE },
        { "range", PROTO_TAG_RANGE },
};

static uint64_t get_number(const struct value *value, const struct proto_message *message) {
        const void *p = (const uint8_t *) message + value->offset;

        switch (value->width) {
        case 1:
                return *(const uint8_t *) p;
        case 2:
                return *(const uint16_t *) p;
        case 4:
                return *(const uint32_t *) p;
        default:
                return *(const uint64_t *) p;
        }
}

/* What the text says a value is: a number, or bytes. */
struct expected {
        uint64_t number;
        struct buffer bytes;
};

static struct expected expected[ARRAY_SIZE(values)];

static uint32_t parse_meaning(const struct vector *vector) {
        uint32_t has = 0;

        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                expected[i].number = 0;
                expected[i].bytes.size = 0;
        }

        for (unsigned l = 0; l < vector->n_lines; l++) {
                const char *line = vector->lines[l];
                size_t word = strcspn(line, " ");
                bool found = false;

                for (size_t i = 0; i < ARRAY_SIZE(bare); i++)
                        if (strcmp(line, bare[i].name) == 0) {
                                has |= PROTO_HAS(bare[i].tag);
                                found = true;
                        }
                for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                        if (strlen(values[i].name) != word || strncmp(line, values[i].name, word) != 0 ||
                            found)
                                continue;
                        found = true;
                        if (values[i].tag > 0)
                                has |= PROTO_HAS(values[i].tag);
                        if (values[i].width > 0)
                                expected[i].number = strtoull(line + word, NULL, 0);
                        else
                                (void) parse_value(vector, line + word, &expected[i].bytes);
                }
                if (!found)
                        die(vector, "an unknown value");
        }

        return has;
}

static void expect_meaning(const struct vector *vector, const struct proto_message *message, uint32_t has) {
        EXPECT(message->has == has);
        EXPECT(message->head.reserved == 0 || vector->has_again);

        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                const struct proto_bytes *bytes = (const void *) ((const uint8_t *) message +
                                                                  values[i].offset);

                if (values[i].width == 0)
                        expect_bytes(vector, bytes->data, bytes->size, &expected[i].bytes);
                else if (get_number(&values[i], message) != expected[i].number) {
                        printf("# %s:%u: %s: %s is %llu, not %llu\n", vector->file, vector->line,
                               vector->name, values[i].name,
                               (unsigned long long) get_number(&values[i], message),
                               (unsigned long long) expected[i].number);
                        failed = true;
                }
        }
}

static void test_message(const struct vector *vector) {
        const struct buffer *canonical = vector->has_again ? &vector->again : &vector->hex;
        _cleanup_free_ uint8_t *p = tight_copy(vector, &vector->hex), *written = malloc(canonical->size);
        struct proto_message message;
        struct proto_head head;
        const char *what = NULL;
        uint32_t has = parse_meaning(vector);

        if (!written)
                die(vector, "no memory");

        EXPECT(proto_head_decode(p, &head) == 0);
        EXPECT(head.head_size == vector->hex.size);
        EXPECT(proto_message_decode(p, vector->hex.size, &message, &what) == 0);
        if (what)
                printf("# refused: %s\n", what);
        EXPECT(memcmp(&head, &message.head, sizeof(head)) == 0);
        expect_meaning(vector, &message, has);

        EXPECT(proto_message_size(&message) == canonical->size);
        EXPECT(proto_message_encode(&message, written, canonical->size - 1) == -ENOBUFS);
        EXPECT(proto_message_encode(&message, written, canonical->size) == (ssize_t) canonical->size);
        expect_bytes(vector, written, canonical->size, canonical);

        /* A reply's place in its batch can be written later. */
        proto_head_set_fd(written, 0, 0);
        proto_head_set_fd(written, head.fd_index, head.fd_count);
        expect_bytes(vector, written, canonical->size, canonical);

        EXPECT(strcmp(proto_type_name(head.type), "unknown") != 0 ||
               strncmp(vector->name, "unknown-", 8) == 0);
}

static void test_refused(const struct vector *vector) {
        _cleanup_free_ uint8_t *p = tight_copy(vector, &vector->hex);
        struct proto_message message;
        struct proto_head head;
        const char *what = NULL;
        int wanted = -EBADMSG;

        if (strcmp(vector->error, "lost") == 0) {
                EXPECT(proto_head_decode(p, &head) == -EBADMSG);
                EXPECT(proto_message_decode(p, vector->hex.size, &message, &what) == -EBADMSG);
                EXPECT(what);
                return;
        }
        if (strcmp(vector->error, "unsupported") == 0)
                wanted = -EOPNOTSUPP;
        else if (strcmp(vector->error, "bad") != 0)
                die(vector, "an unknown error");

        EXPECT(proto_head_decode(p, &head) == 0);
        EXPECT(head.head_size == vector->hex.size);
        EXPECT(proto_message_decode(p, vector->hex.size, &message, &what) == wanted);
        EXPECT(memcmp(&head, &message.head, sizeof(head)) == 0); /* so that it can be answered */
        EXPECT(what);
        if (what && !strstr(what, vector->what)) {
                printf("# %s:%u: %s: \"%s\" does not say \"%s\"\n", vector->file, vector->line, vector->name,
                       what, vector->what);
                failed = true;
        }
}

/* ---- blocks ---- */

static void test_metadata(const struct vector *vector) {
        _cleanup_free_ uint8_t *p = tight_copy(vector, &vector->hex), *written = malloc(BYTES_MAX);
        struct proto_bytes block = { .data = p, .size = vector->hex.size };
        size_t position = 0, end = 0;
        struct proto_pair pair;

        EXPECT(proto_metadata_check(block) == 0);
        for (unsigned l = 0; l < vector->n_lines; l++) {
                static struct buffer key, value;
                const char *s = parse_value(vector, vector->lines[l] + strlen("pair "), &key);
                size_t before = end;

                (void) parse_value(vector, s, &value);
                EXPECT(proto_metadata_next(block, &position, &pair) == 1);
                expect_bytes(vector, pair.key.data, pair.key.size, &key);
                expect_bytes(vector, pair.value.data, pair.value.size, &value);
                EXPECT(proto_metadata_append(written, position - 1, &end, &pair) == -ENOBUFS &&
                       end == before);
                EXPECT(proto_metadata_append(written, position, &end, &pair) == 0 && end == position);
        }
        EXPECT(proto_metadata_next(block, &position, &pair) == 0);
        expect_bytes(vector, written, end, &vector->hex);
}

static void test_entries(const struct vector *vector) {
        _cleanup_free_ uint8_t *p = tight_copy(vector, &vector->hex), *written = malloc(BYTES_MAX);
        struct proto_bytes body = { .data = p, .size = vector->hex.size };
        size_t position = 0, end = 0;
        struct proto_entry entry;

        for (unsigned l = 0; l < vector->n_lines; l++) {
                static struct buffer uri;
                const char *s = parse_value(vector, vector->lines[l] + strlen("entry "), &uri);
                uint64_t numbers[7];
                size_t before = end;

                for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                        char *next;

                        numbers[i] = strtoull(s, &next, 0);
                        s = next;
                }
                EXPECT(proto_entry_next(body, &position, &entry) == 1);
                expect_bytes(vector, entry.uri.data, entry.uri.size, &uri);
                EXPECT(entry.info.etag.store_id == numbers[0]);
                EXPECT(entry.info.etag.generation == numbers[1]);
                EXPECT(entry.info.etag.metadata_version == numbers[2]);
                EXPECT(entry.info.size == numbers[3]);
                EXPECT(entry.info.checksum == numbers[4]);
                EXPECT(entry.info.stored_usec == numbers[5]);
                EXPECT(entry.info.expires_usec == numbers[6]);
                EXPECT(proto_entry_append(written, position - 1, &end, &entry) == -ENOBUFS && end == before);
                EXPECT(proto_entry_append(written, position, &end, &entry) == 0 && end == position);
        }
        EXPECT(proto_entry_next(body, &position, &entry) == 0);
        expect_bytes(vector, written, end, &vector->hex);
}

static void test_counters(const struct vector *vector) {
        _cleanup_free_ uint8_t *p = tight_copy(vector, &vector->hex), *written = malloc(BYTES_MAX);
        struct proto_bytes body = { .data = p, .size = vector->hex.size };
        size_t position = 0, end = 0;
        struct proto_counter counter;

        for (unsigned l = 0; l < vector->n_lines; l++) {
                static struct buffer name;
                const char *s = parse_value(vector, vector->lines[l] + strlen("counter "), &name);
                size_t before = end;

                EXPECT(proto_counter_next(body, &position, &counter) == 1);
                expect_bytes(vector, counter.name.data, counter.name.size, &name);
                EXPECT(counter.value == strtoull(s, NULL, 0));
                EXPECT(proto_counter_append(written, position - 1, &end, &counter) == -ENOBUFS &&
                       end == before);
                EXPECT(proto_counter_append(written, position, &end, &counter) == 0 && end == position);
        }
        EXPECT(proto_counter_next(body, &position, &counter) == 0);
        expect_bytes(vector, written, end, &vector->hex);
}

static void test_refused_block(const struct vector *vector) {
        _cleanup_free_ uint8_t *p = tight_copy(vector, &vector->hex);
        struct proto_bytes bytes = { .data = p, .size = vector->hex.size };
        struct proto_counter counter;
        struct proto_entry entry;
        struct proto_pair pair;
        size_t position = 0;
        int r;

        do {
                size_t before = position;

                if (strcmp(vector->kind, "refused-metadata") == 0)
                        r = proto_metadata_next(bytes, &position, &pair);
                else if (strcmp(vector->kind, "refused-entries") == 0)
                        r = proto_entry_next(bytes, &position, &entry);
                else
                        r = proto_counter_next(bytes, &position, &counter);
                EXPECT(r > 0 ? position > before : position == before);
        } while (r > 0);

        EXPECT(r == -EBADMSG);
        if (strcmp(vector->kind, "refused-metadata") == 0)
                EXPECT(proto_metadata_check(bytes) == -EBADMSG);
}

/* ---- whole messages of fdpass ---- */

static void test_fdpass(const struct vector *vector) {
        static struct buffer payload;
        _cleanup_close_ int sender = -EBADF, receiver = -EBADF;
        uint32_t operation = 0, got_operation;
        struct fdpass_fds fds;
        uint8_t data[256];
        int pair[2];
        size_t size;

        payload.size = 0;
        for (unsigned l = 0; l < vector->n_lines; l++)
                if (strncmp(vector->lines[l], "operation ", 10) == 0)
                        operation = (uint32_t) strtoul(vector->lines[l] + 10, NULL, 0);
                else
                        (void) parse_value(vector, vector->lines[l] + strlen("payload "), &payload);

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                die(vector, "no sockets");
        sender = pair[0];
        receiver = pair[1];

        EXPECT(fdpass_send(sender, NULL, 0, operation, payload.data, payload.size, pair, 2) == 0);
        EXPECT(fdpass_read(receiver, data, sizeof(data), &fds) == (ssize_t) vector->hex.size);
        expect_bytes(vector, data, vector->hex.size, &vector->hex);
        EXPECT(fds.n == 2 && !fds.truncated);
        fdpass_fds_close(&fds);

        EXPECT(send(sender, vector->hex.data, vector->hex.size, MSG_NOSIGNAL) == (ssize_t) vector->hex.size);
        EXPECT(fdpass_recv(receiver, &got_operation, data, sizeof(data), &size, &fds, NULL, NULL) == 1);
        EXPECT(got_operation == operation);
        expect_bytes(vector, data, size, &payload);
}

static const struct {
        const char *kind;
        void (*run)(const struct vector *vector);
} kinds[] = {
        { "message", test_message },
        { "refused", test_refused },
        { "metadata", test_metadata },
        { "entries", test_entries },
        { "counters", test_counters },
        { "refused-metadata", test_refused_block },
        { "refused-entries", test_refused_block },
        { "refused-counters", test_refused_block },
        { "fdpass", test_fdpass },
};

static void run_file(const char *path) {
        static struct vector vector;
        FILE *file = fopen(path, "re");
        unsigned n = 0;

        vector.line = 0;
        (void) snprintf(vector.file, sizeof(vector.file), "%s",
                        strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        if (!file)
                die(&vector, "can't be opened");

        while (read_vector(file, &vector)) {
                size_t i = 0;

                while (i < ARRAY_SIZE(kinds) && strcmp(kinds[i].kind, vector.kind) != 0)
                        i++;
                if (i == ARRAY_SIZE(kinds))
                        die(&vector, "an unknown kind");
                failed = false;
                kinds[i].run(&vector);
                printf("%sok %u - %s %s\n", failed ? "not " : "", ++n_tests, vector.kind, vector.name);
                n_failures += failed;
                n++;
        }
        (void) fclose(file);
        if (n == 0)
                die(&vector, "no vector");
}

int main(int argc, char **argv) {
        for (int i = 1; i < argc; i++)
                run_file(argv[i]);
        printf("1..%u\n", n_tests);

        return n_failures > 0 || n_tests == 0;
}
