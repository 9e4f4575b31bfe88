/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "member.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bytes.h"
#include "clock.h"
#include "macro.h"
#include "parse.h"

/* Extended attributes, as GNU tar, bsdtar and star write them: they list such an archive without a complaint
 * about records unknown to them, and with --xattrs they keep all of it when it is unpacked and packed again. */
#define KEY(name) "SCHILY.xattr.user.objmapper." name

#define KEY_MAX       255
#define NAME_TAIL_MAX 64
#define NUMBER_MAX    20 /* digits of 64 bits */

enum value_index { URI, METADATA, EXPIRES, CHECKSUM, HEAD_CHECKSUM, N_VALUES };

static const char *const keys[N_VALUES] = {
        [URI] = KEY("uri"),           [METADATA] = KEY("metadata"),           [EXPIRES] = KEY("expires"),
        [CHECKSUM] = KEY("checksum"), [HEAD_CHECKSUM] = KEY("head-checksum"),
};

struct value {
        const char *data;
        size_t size;
};

/* Nothing else guards the records: a header's sum covers its own block alone. 0, or -ENOMEM. */
static int head_checksum(const struct value values[static N_VALUES], uint64_t *ret) {
        XXH3_state_t *state;

        state = XXH3_createState();
        if (!state)
                return -ENOMEM;

        (void) XXH3_64bits_reset(state);
        for (size_t i = 0; i < HEAD_CHECKSUM; i++) {
                uint8_t size[8];

                store_le64(size, values[i].size);
                (void) XXH3_64bits_update(state, size, sizeof(size));
                (void) XXH3_64bits_update(state, values[i].data, values[i].size);
        }

        *ret = XXH3_64bits_digest(state);
        (void) XXH3_freeState(state);
        return 0;
}

/* ---- writing ---- */

static int metadata_encode(objmapper_object *object, char **ret, size_t *ret_size) {
        const char *key, *value;
        size_t position = 0, value_size;
        FILE *out;

        out = open_memstream(ret, ret_size);
        if (!out)
                return -ENOMEM;

        while (objmapper_object_next_metadata(object, &position, &key, &value, &value_size) > 0) {
                fprintf(out, "%zu:%s,%zu:", strlen(key), key, value_size);
                fwrite(value, 1, value_size, out);
                fputc(',', out);
        }

        return fclose(out) == EOF ? -ENOMEM : 0;
}

/* A name that can lead nowhere: the number makes it unique, the rest is for people. */
static void make_name(char name[static TAR_NAME_MAX + 1], uint64_t number, const char *uri, size_t uri_size) {
        size_t n;

        n = (size_t) snprintf(name, TAR_NAME_MAX, "objects/%012" PRIu64 "-", number);
        for (size_t i = 0; i < MIN(uri_size, (size_t) NAME_TAIL_MAX); i++) {
                bool plain = isascii(uri[i]) && (isalnum((unsigned char) uri[i]) || strchr("-._", uri[i]));

                name[n++] = plain ? uri[i] : '_';
        }
        name[n] = '\0';
}

static void write_padding(FILE *out, uint64_t size) {
        static const uint8_t zeros[TAR_BLOCK];

        fwrite(zeros, 1, tar_padding(size), out);
}

int member_write_head(FILE *out, char **data, objmapper_object *object, uint64_t number) {
        uint64_t size = objmapper_object_get_size(object), stored = objmapper_object_get_stored(object);
        uint64_t expires = objmapper_object_get_expires(object);
        char expires_text[NUMBER_MAX + 1] = "", checksum_text[17], head_text[17], text[2 * NUMBER_MAX + 2];
        struct tar_header header = { .type = TAR_TYPE_RECORDS, .mtime = stored / USEC_PER_SEC };
        _cleanup_free_ char *metadata = NULL;
        struct value values[N_VALUES];
        uint64_t checksum;
        uint8_t block[TAR_BLOCK] = {};
        off_t start, end;
        int r;

        values[URI].data = objmapper_object_get_uri(object, &values[URI].size);
        r = metadata_encode(object, &metadata, &values[METADATA].size);
        if (r < 0)
                return r;
        values[METADATA].data = metadata;

        if (expires > 0)
                snprintf(expires_text, sizeof(expires_text), "%" PRIu64, expires);
        values[EXPIRES] = (struct value){ expires_text, strlen(expires_text) };
        snprintf(checksum_text, sizeof(checksum_text), "%016" PRIx64, objmapper_object_get_checksum(object));
        values[CHECKSUM] = (struct value){ checksum_text, strlen(checksum_text) };
        r = head_checksum(values, &checksum);
        if (r < 0)
                return r;
        snprintf(head_text, sizeof(head_text), "%016" PRIx64, checksum);
        values[HEAD_CHECKSUM] = (struct value){ head_text, strlen(head_text) };

        /* The header of the records is set when their size is known. */
        start = ftello(out);
        fwrite(block, 1, sizeof(block), out);
        snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, stored / USEC_PER_SEC, stored % USEC_PER_SEC);
        tar_record_write(out, "mtime", text, strlen(text));
        if (size > TAR_SIZE_OCTAL) {
                snprintf(text, sizeof(text), "%" PRIu64, size);
                tar_record_write(out, "size", text, strlen(text));
        }
        for (size_t i = 0; i < N_VALUES; i++)
                if (values[i].size > 0)
                        tar_record_write(out, keys[i], values[i].data, values[i].size);
        end = ftello(out);

        header.size = (uint64_t) (end - start) - TAR_BLOCK;
        snprintf(header.name, sizeof(header.name), "PaxHeaders/%012" PRIu64, number);
        write_padding(out, header.size);
        if (fflush(out) == EOF)
                return -ENOMEM;
        tar_header_encode((uint8_t *) *data + start, &header);

        header.type = TAR_TYPE_FILE;
        header.size = size > TAR_SIZE_OCTAL ? 0 : size;
        make_name(header.name, number, values[URI].data, values[URI].size);
        tar_header_encode(block, &header);
        fwrite(block, 1, sizeof(block), out);

        return ferror(out) ? -ENOMEM : 0;
}

/* ---- reading ---- */

static bool is_key(const struct tar_record *record, const char *key) {
        return record->key_size == strlen(key) && memcmp(record->key, key, record->key_size) == 0;
}

static int decode_number(struct value value, uint64_t *ret) {
        char text[NUMBER_MAX + 1];

        if (value.size >= sizeof(text) || memchr(value.data, '\0', value.size))
                return -EBADMSG;

        snprintf(text, sizeof(text), "%.*s", (int) value.size, value.data);
        return parse_number(text, ret) < 0 ? -EBADMSG : 0;
}

/* 16 digits of hex, as they were written: no other form is accepted. */
static int decode_checksum(struct value value, uint64_t *ret) {
        uint64_t number = 0;

        if (value.size != 16)
                return -EBADMSG;

        for (size_t i = 0; i < value.size; i++) {
                char c = value.data[i];

                if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
                        return -EBADMSG;
                number = number << 4 | (uint64_t) (c <= '9' ? c - '0' : c - 'a' + 10);
        }

        *ret = number;
        return 0;
}

int member_decode(const void *data, size_t size, struct member *ret) {
        struct value values[N_VALUES] = {};
        struct tar_record record;
        size_t position = 0;
        uint64_t expected, checksum;
        int r;

        *ret = (struct member){};

        while ((r = tar_record_next(data, size, &position, &record)) > 0) {
                struct value value = { record.value, record.value_size };

                for (size_t i = 0; i < N_VALUES; i++)
                        if (is_key(&record, keys[i]))
                                values[i] = value;

                if (is_key(&record, "size")) {
                        if (decode_number(value, &ret->size) < 0 || ret->size > TAR_SIZE_MAX)
                                return -EBADMSG;
                        ret->has_size = true;
                }
        }
        if (r < 0)
                return r;

        if (!values[URI].data && !values[HEAD_CHECKSUM].data)
                return -ENODATA;

        r = head_checksum(values, &checksum);
        if (r < 0)
                return r;
        if (decode_checksum(values[HEAD_CHECKSUM], &expected) < 0 || checksum != expected ||
            decode_checksum(values[CHECKSUM], &ret->checksum) < 0 ||
            (values[EXPIRES].size > 0 && decode_number(values[EXPIRES], &ret->expires_usec) < 0))
                return -EBADMSG;

        ret->uri = values[URI].data;
        ret->uri_size = values[URI].size;
        ret->metadata = values[METADATA].data;
        ret->metadata_size = values[METADATA].size;
        return 0;
}

/* A netstring: its size in digits, ':', the bytes, ','. */
static int take_netstring(const char **data, size_t *left, struct value *ret) {
        const char *p = *data, *end = *data + *left;
        size_t size = 0;

        for (; p < end && isdigit((unsigned char) *p); p++) {
                size = size * 10 + (size_t) (*p - '0');
                if (size > *left)
                        return -EBADMSG;
        }
        if (p == *data || p == end || *p++ != ':' || (size_t) (end - p) <= size || p[size] != ',')
                return -EBADMSG;

        *ret = (struct value){ p, size };
        *data = p + size + 1;
        *left = (size_t) (end - *data);
        return 0;
}

int member_add_metadata(const struct member *member, objmapper_request *request) {
        const char *data = member->metadata;
        size_t left = member->metadata_size;

        while (left > 0) {
                struct value key, value;
                char name[KEY_MAX + 1];
                int r;

                if (take_netstring(&data, &left, &key) < 0 || take_netstring(&data, &left, &value) < 0 ||
                    key.size < 1 || key.size > KEY_MAX || memchr(key.data, '\0', key.size))
                        return -EBADMSG;

                memcpy(name, key.data, key.size);
                name[key.size] = '\0';
                r = objmapper_request_add_metadata(request, name, value.data, value.size);
                if (r < 0)
                        return r;
        }

        return 0;
}
