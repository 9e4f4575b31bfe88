/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "print.h"

#include <inttypes.h>
#include <time.h>

#include "clock.h"
#include "macro.h"
#include "utf8.h"

void print_json_string(FILE *out, const void *data, size_t size) {
        const uint8_t *p = data;

        fputc('"', out);

        while (size > 0) {
                size_t n = utf8_character(p, size);

                if (n == 0)
                        fputs("\\ufffd", out);
                else if (*p == '"' || *p == '\\')
                        fprintf(out, "\\%c", *p);
                else if (*p < ' ' || *p == 0x7f)
                        fprintf(out, "\\u%04x", *p);
                else
                        fwrite(p, 1, n, out);

                n = MAX(n, 1U);
                p += n;
                size -= n;
        }

        fputc('"', out);
}

const char *time_text(uint64_t usec, char buffer[static TIME_TEXT_MAX]) {
        time_t seconds = (time_t) (usec / USEC_PER_SEC);
        struct tm tm;

        if (!gmtime_r(&seconds, &tm) || strftime(buffer, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
                snprintf(buffer, TIME_TEXT_MAX, "@%" PRIu64, usec / USEC_PER_SEC);

        return buffer;
}

const char *bytes_text(uint64_t bytes, char buffer[static BYTES_TEXT_MAX]) {
        static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double value = (double) bytes;
        size_t unit = 0;

        if (bytes < 1024) {
                snprintf(buffer, BYTES_TEXT_MAX, "%" PRIu64 " B", bytes);
                return buffer;
        }

        for (value /= 1024; value >= 1024 && unit + 1 < ARRAY_SIZE(units); unit++)
                value /= 1024;

        snprintf(buffer, BYTES_TEXT_MAX, "%.1f %s", value, units[unit]);
        return buffer;
}
