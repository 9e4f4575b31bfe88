/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Text from outside, before it goes where only UTF-8 may go: the bus, a message for people. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at p, of which size are left: 1 to 4, or 0 when it is none (overlong forms,
 * surrogates and numbers above U+10FFFF are none). */
static inline size_t utf8_character(const uint8_t *p, size_t size) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        uint32_t character;
        size_t n;

        if (size == 0)
                return 0;
        if (p[0] < 0x80)
                return 1;
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 0;

        n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
        if (n > size)
                return 0;

        character = p[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                character = character << 6 | (p[i] & 0x3fU);
        }

        if (character < least[n] || character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
                return 0;

        return n;
}

/* Whether all of it is UTF-8 without a NUL. */
static inline bool utf8_is_valid(const void *data, size_t size) {
        const uint8_t *p = data;

        while (size > 0) {
                size_t n = utf8_character(p, size);

                if (n == 0 || *p == 0)
                        return false;
                p += n;
                size -= n;
        }

        return true;
}
