/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of the configuration have in common. */

#include <glib.h>

#include "config.h"

/* Messages of a load, one a line: "E text" or "W text". userdata: a GString. */
void config_collect(int level, const char *file, unsigned line, const char *text, void *userdata);

/* Parses it as a file "f"; the messages are the caller's. */
int parse_bytes(struct config *config, const char *text, size_t size, char **ret_messages);
/* Parses what must be right and say nothing. */
struct config parse_good(const char *text);
/* Parses what must be wrong, in these words. */
void parse_bad_bytes(const char *text, size_t size, const char *wanted);
void parse_bad(const char *text, const char *wanted);

/* A tree of files that stands for /. */
struct tree {
        char *root;
        GString *messages; /* of the last load */
};

struct tree tree_new(void);
void tree_done(struct tree *tree);
/* Its folder is made; free with g_free(). */
char *tree_path(struct tree *tree, const char *below);
void tree_write(struct tree *tree, const char *below, const char *text);
void tree_link(struct tree *tree, const char *below, const char *target);
int tree_load(struct tree *tree, struct config *ret);
