/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "macro.h"
#include "print.h"
#include "report.h"
#include "stand-in.h"

#define PREFIX "namespace_"

/* The daemon tells what a namespace holds in counters "namespace_NAME_COLUMN"; a limit only where there is one. */
enum column { OBJECTS, OBJECTS_PINNED, OBJECTS_MAX, BYTES, BYTES_PINNED, BYTES_MAX, N_COLUMNS };

static const struct {
        const char *name;  /* in a counter and in JSON */
        const char *title; /* in a table */
} columns[N_COLUMNS] = {
        [OBJECTS] = { "objects", "OBJECTS" },          [OBJECTS_PINNED] = { "objects_pinned", "PINNED" },
        [OBJECTS_MAX] = { "objects_max", "MAX" },      [BYTES] = { "bytes", "BYTES" },
        [BYTES_PINNED] = { "bytes_pinned", "PINNED" }, [BYTES_MAX] = { "bytes_max", "MAX" },
};

struct row {
        char *name;
        bool has[N_COLUMNS];
        uint64_t values[N_COLUMNS];
};

struct table {
        struct row *rows;
        size_t n_rows;
};

static void table_done(struct table *table) {
        for (size_t i = 0; i < table->n_rows; i++)
                free(table->rows[i].name);
        free(table->rows);
}

/* The row of a namespace; its counters follow each other. */
static int get_row(struct table *table, const char *name, size_t size, struct row **ret) {
        struct row *rows;

        if (table->n_rows > 0) {
                struct row *last = &table->rows[table->n_rows - 1];

                if (strlen(last->name) == size && memcmp(last->name, name, size) == 0) {
                        *ret = last;
                        return 0;
                }
        }

        rows = reallocarray(table->rows, table->n_rows + 1, sizeof(*rows));
        if (!rows)
                return -ENOMEM;
        table->rows = rows;

        rows[table->n_rows] = (struct row){ .name = strndup(name, size) };
        if (!rows[table->n_rows].name)
                return -ENOMEM;

        *ret = &rows[table->n_rows++];
        return 0;
}

static int take_counter(const char *counter, uint64_t value, void *userdata) {
        size_t size = strlen(counter);

        if (strncmp(counter, PREFIX, strlen(PREFIX)) != 0)
                return 0;

        counter += strlen(PREFIX);
        size -= strlen(PREFIX);
        for (enum column column = 0; column < N_COLUMNS; column++) {
                size_t column_size = strlen(columns[column].name);
                struct row *row;
                int r;

                if (size < column_size + 2 || counter[size - column_size - 1] != '_' ||
                    strcmp(counter + size - column_size, columns[column].name) != 0)
                        continue;

                r = get_row(userdata, counter, size - column_size - 1, &row);
                if (r < 0)
                        return r;

                row->has[column] = true;
                row->values[column] = value;
                return 0;
        }

        return 0; /* of a newer daemon */
}

static void show_json(const struct table *table) {
        printf("[");
        for (size_t i = 0; i < table->n_rows; i++) {
                const struct row *row = &table->rows[i];

                printf("%s\n  { \"name\": ", i > 0 ? "," : "");
                print_json_string(stdout, row->name, strlen(row->name));
                for (enum column column = 0; column < N_COLUMNS; column++) {
                        printf(", \"%s\": ", columns[column].name);
                        if (row->has[column])
                                printf("%" PRIu64, row->values[column]);
                        else
                                printf("null");
                }
                printf(" }");
        }
        printf("%s]\n", table->n_rows > 0 ? "\n" : "");
}

static const char *cell(const struct row *row, enum column column, char text[static 24]) {
        if (!row->has[column])
                return "-";

        (void) snprintf(text, 24, "%" PRIu64, row->values[column]);
        return text;
}

static void show_table(const struct table *table) {
        int name_width = (int) strlen("NAMESPACE"), widths[N_COLUMNS];
        char text[24];

        for (enum column column = 0; column < N_COLUMNS; column++)
                widths[column] = (int) strlen(columns[column].title);
        for (size_t i = 0; i < table->n_rows; i++) {
                name_width = MAX(name_width, (int) strlen(table->rows[i].name));
                for (enum column column = 0; column < N_COLUMNS; column++)
                        widths[column] = MAX(widths[column],
                                             (int) strlen(cell(&table->rows[i], column, text)));
        }

        printf("%-*s", name_width, "NAMESPACE");
        for (enum column column = 0; column < N_COLUMNS; column++)
                printf("  %*s", widths[column], columns[column].title);
        putchar('\n');
        for (size_t i = 0; i < table->n_rows; i++) {
                printf("%-*s", name_width, table->rows[i].name);
                for (enum column column = 0; column < N_COLUMNS; column++)
                        printf("  %*s", widths[column], cell(&table->rows[i], column, text));
                putchar('\n');
        }
}

int verb_namespaces(struct ctl *ctl) {
        _cleanup_(table_done) struct table table = {};
        int r;

        r = get_stats(ctl, take_counter, &table);
        if (r == -ENOMEM) {
                complain("out of memory");
                return EXIT_FAILED;
        }
        if (r < 0)
                return report(ctl, r);

        if (ctl->arguments.json)
                show_json(&table);
        else
                show_table(&table);

        return EXIT_DONE;
}
