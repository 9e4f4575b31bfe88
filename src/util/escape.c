/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "escape.h"

#include <stdint.h>

#include "macro.h"
#include "utf8.h"

void print_escaped(FILE *out, const void *data, size_t size) {
        const uint8_t *p = data;

        while (size > 0) {
                size_t n = utf8_character(p, size);
                /* U+0080 to U+009F are control characters too: a terminal may take U+009B for ESC [. */
                bool c1 = n == 2 && p[0] == 0xc2 && p[1] < 0xa0;

                if (*p == '\n')
                        fputs("\\n", out);
                else if (*p == '\t')
                        fputs("\\t", out);
                else if (*p == '\\')
                        fputs("\\\\", out);
                else if (n == 0 || c1 || *p < ' ' || *p == 0x7f) {
                        n = MAX(n, 1U);
                        for (size_t i = 0; i < n; i++)
                                fprintf(out, "\\x%02x", p[i]);
                } else
                        fwrite(p, 1, n, out);

                n = MAX(n, 1U);
                p += n;
                size -= n;
        }
}
