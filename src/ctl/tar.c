/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tar.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "macro.h"

/* As POSIX calls them. */
struct ustar {
        char name[TAR_NAME_MAX];
        char mode[8], uid[8], gid[8], size[12], mtime[12];
        char chksum[8];
        char typeflag;
        char linkname[100];
        char magic[6], version[2];
        char uname[32], gname[32], devmajor[8], devminor[8];
        char prefix[155];
        char rest[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a block");

#define OCTAL_WRITE(field, value) octal_write((field), sizeof(field), (value))
#define OCTAL_READ(field, ret)    octal_read((field), sizeof(field), (ret))

static void octal_write(char *field, size_t size, uint64_t value) {
        field[size - 1] = '\0';
        for (size_t i = size - 1; i > 0; i--, value >>= 3)
                field[i - 1] = (char) ('0' + (value & 7));
}

static int octal_read(const char *field, size_t size, uint64_t *ret) {
        uint64_t value = 0;
        size_t i = 0;

        while (i < size && field[i] == ' ')
                i++;
        for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
                value = value << 3 | (uint64_t) (field[i] - '0');
        if (i < size && field[i] != ' ' && field[i] != '\0')
                return -EBADMSG;

        *ret = value;
        return 0;
}

/* The sum of all bytes, those of the sum itself counting as blanks. */
static uint64_t sum(const struct ustar *u) {
        struct ustar copy = *u;
        const uint8_t *p = (const uint8_t *) &copy;
        uint64_t n = 0;

        memset(copy.chksum, ' ', sizeof(copy.chksum));
        for (size_t i = 0; i < sizeof(copy); i++)
                n += p[i];

        return n;
}

void tar_header_encode(uint8_t block[static TAR_BLOCK], const struct tar_header *header) {
        struct ustar u = { .typeflag = header->type, .magic = "ustar", .version = { '0', '0' } };

        memcpy(u.name, header->name, strnlen(header->name, sizeof(u.name)));
        OCTAL_WRITE(u.mode, 0644);
        OCTAL_WRITE(u.uid, 0);
        OCTAL_WRITE(u.gid, 0);
        OCTAL_WRITE(u.size, header->size);
        OCTAL_WRITE(u.mtime, MIN(header->mtime, TAR_SIZE_OCTAL));
        OCTAL_WRITE(u.devmajor, 0);
        OCTAL_WRITE(u.devminor, 0);
        octal_write(u.chksum, 7, sum(&u));
        u.chksum[7] = ' ';

        memcpy(block, &u, sizeof(u));
}

int tar_header_decode(const uint8_t block[static TAR_BLOCK], struct tar_header *ret) {
        static const uint8_t zeros[TAR_BLOCK];
        uint64_t expected;
        struct ustar u;

        if (memcmp(block, zeros, TAR_BLOCK) == 0)
                return 0;

        memcpy(&u, block, sizeof(u));
        *ret = (struct tar_header){ .type = u.typeflag };
        memcpy(ret->name, u.name, sizeof(u.name));

        /* "ustar" and a NUL or a blank: POSIX and GNU. */
        if (memcmp(u.magic, "ustar", 5) != 0 || OCTAL_READ(u.chksum, &expected) < 0 || expected != sum(&u) ||
            OCTAL_READ(u.size, &ret->size) < 0 || ret->size > TAR_SIZE_MAX)
                return -EBADMSG;

        return 1;
}

void tar_record_write(FILE *out, const char *key, const void *value, size_t value_size) {
        size_t without = 1 + strlen(key) + 1 + value_size + 1, length;

        /* The length counts its own digits, too. */
        length = without + (size_t) snprintf(NULL, 0, "%zu", without);
        length = without + (size_t) snprintf(NULL, 0, "%zu", length);

        fprintf(out, "%zu %s=", length, key);
        fwrite(value, 1, value_size, out);
        fputc('\n', out);
}

int tar_record_next(const void *data, size_t size, size_t *position, struct tar_record *ret) {
        const char *record = (const char *) data + *position, *equals;
        size_t left = size - *position, digits = 0, length = 0;

        if (left == 0)
                return 0;

        for (; digits < left && isdigit((unsigned char) record[digits]); digits++) {
                length = length * 10 + (size_t) (record[digits] - '0');
                if (length > left)
                        return -EBADMSG;
        }
        if (digits == 0 || length < digits + 4 || record[digits] != ' ' || record[length - 1] != '\n')
                return -EBADMSG;

        ret->key = record + digits + 1;
        equals = memchr(ret->key, '=', length - digits - 2);
        if (!equals || equals == ret->key)
                return -EBADMSG;

        ret->key_size = (size_t) (equals - ret->key);
        ret->value = equals + 1;
        ret->value_size = (size_t) (record + length - 1 - ret->value);
        *position += length;
        return 1;
}
