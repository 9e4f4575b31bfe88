/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "macro.h"
#include "namespaces.h"
#include "print.h"
#include "report.h"
#include "stand-in.h"

#define PREFIX "namespace_"

static const struct {
        const char *name;  /* in a counter and in JSON */
        const char *title; /* in a table */
} columns[NAMESPACE_COLUMNS] = {
        [NAMESPACE_OBJECTS] = { "objects", "OBJECTS" },
        [NAMESPACE_OBJECTS_PINNED] = { "objects_pinned", "PINNED" },
        [NAMESPACE_OBJECTS_MAX] = { "objects_max", "MAX" },
        [NAMESPACE_BYTES] = { "bytes", "BYTES" },
        [NAMESPACE_BYTES_PINNED] = { "bytes_pinned", "PINNED" },
        [NAMESPACE_BYTES_MAX] = { "bytes_max", "MAX" },
};

void namespaces_done(struct namespaces *namespaces) {
        for (size_t i = 0; i < namespaces->n_rows; i++)
                free(namespaces->rows[i].name);
        free(namespaces->rows);
        *namespaces = (struct namespaces){};
}

/* The row of a namespace; its counters follow each other. */
static int get_row(struct namespaces *namespaces, const char *name, size_t size, struct namespace_row **ret) {
        struct namespace_row *rows;

        if (namespaces->n_rows > 0) {
                struct namespace_row *last = &namespaces->rows[namespaces->n_rows - 1];

                if (strlen(last->name) == size && memcmp(last->name, name, size) == 0) {
                        *ret = last;
                        return 0;
                }
        }

        rows = reallocarray(namespaces->rows, namespaces->n_rows + 1, sizeof(*rows));
        if (!rows)
                return -ENOMEM;
        namespaces->rows = rows;

        rows[namespaces->n_rows] = (struct namespace_row){ .name = strndup(name, size) };
        if (!rows[namespaces->n_rows].name)
                return -ENOMEM;

        *ret = &rows[namespaces->n_rows++];
        return 0;
}

int namespaces_take(struct namespaces *namespaces, const char *counter, uint64_t value) {
        size_t size = strlen(counter);

        if (strncmp(counter, PREFIX, strlen(PREFIX)) != 0)
                return 0;

        counter += strlen(PREFIX);
        size -= strlen(PREFIX);
        for (enum namespace_column column = 0; column < NAMESPACE_COLUMNS; column++) {
                size_t column_size = strlen(columns[column].name);
                struct namespace_row *row;
                int r;

                if (size < column_size + 2 || counter[size - column_size - 1] != '_' ||
                    strcmp(counter + size - column_size, columns[column].name) != 0)
                        continue;

                r = get_row(namespaces, counter, size - column_size - 1, &row);
                if (r < 0)
                        return r;

                row->has[column] = true;
                row->values[column] = value;
                return 1;
        }

        return 0; /* of a newer daemon */
}

static void show_json(const struct namespaces *namespaces) {
        printf("[");
        for (size_t i = 0; i < namespaces->n_rows; i++) {
                const struct namespace_row *row = &namespaces->rows[i];

                printf("%s\n  { \"name\": ", i > 0 ? "," : "");
                print_json_string(stdout, row->name, strlen(row->name));
                for (enum namespace_column column = 0; column < NAMESPACE_COLUMNS; column++) {
                        printf(", \"%s\": ", columns[column].name);
                        if (row->has[column])
                                printf("%" PRIu64, row->values[column]);
                        else
                                printf("null");
                }
                printf(" }");
        }
        printf("%s]\n", namespaces->n_rows > 0 ? "\n" : "");
}

static const char *cell(const struct namespace_row *row, enum namespace_column column, char text[static 24]) {
        if (!row->has[column])
                return "-";

        (void) snprintf(text, 24, "%" PRIu64, row->values[column]);
        return text;
}

static void show_table(const struct namespaces *namespaces) {
        int name_width = (int) strlen("NAMESPACE"), widths[NAMESPACE_COLUMNS];
        char text[24];

        for (enum namespace_column column = 0; column < NAMESPACE_COLUMNS; column++)
                widths[column] = (int) strlen(columns[column].title);
        for (size_t i = 0; i < namespaces->n_rows; i++) {
                name_width = MAX(name_width, (int) strlen(namespaces->rows[i].name));
                for (enum namespace_column column = 0; column < NAMESPACE_COLUMNS; column++)
                        widths[column] = MAX(widths[column],
                                             (int) strlen(cell(&namespaces->rows[i], column, text)));
        }

        printf("%-*s", name_width, "NAMESPACE");
        for (enum namespace_column column = 0; column < NAMESPACE_COLUMNS; column++)
                printf("  %*s", widths[column], columns[column].title);
        putchar('\n');
        for (size_t i = 0; i < namespaces->n_rows; i++) {
                printf("%-*s", name_width, namespaces->rows[i].name);
                for (enum namespace_column column = 0; column < NAMESPACE_COLUMNS; column++)
                        printf("  %*s", widths[column], cell(&namespaces->rows[i], column, text));
                putchar('\n');
        }
}

static int take_counter(const char *counter, uint64_t value, void *userdata) {
        int r = namespaces_take(userdata, counter, value);

        return r < 0 ? r : 0;
}

int verb_namespaces(struct ctl *ctl) {
        _cleanup_(namespaces_done) struct namespaces namespaces = {};
        int r;

        r = get_stats(ctl, take_counter, &namespaces);
        if (r == -ENOMEM) {
                complain("out of memory");
                return EXIT_FAILED;
        }
        if (r < 0)
                return report(ctl, r);

        if (ctl->arguments.json)
                show_json(&namespaces);
        else
                show_table(&namespaces);

        return EXIT_DONE;
}
