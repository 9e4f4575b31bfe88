/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* objmapperctl: what its parts share. Each verb is a function that gets the command line already parsed,
 * tells people itself what went wrong, and returns the exit code. One thread. */

#include <objmapper.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"

DEFINE_CLEANUP(objmapper_object, objmapper_object_free)
DEFINE_CLEANUP(objmapper_request, objmapper_request_free)

/* As objmapperctl(1) lists them. */
enum exit_code {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_ABSENT = 3,   /* or expired */
        EXIT_CONFLICT = 4, /* exists, or of another generation */
        EXIT_NOT_PERMITTED = 5,
        EXIT_NO_DAEMON = 6,
        EXIT_NO_ROOM = 7, /* no space, a quota, too large, or the store is read-only */
        EXIT_UNKNOWN = 8, /* no answer to a change: whether it was made is not known */
        EXIT_BUSY = 9,    /* a limit of the moment, or no answer to what changes nothing */
};

/* A piece of an object, as --range says it. */
struct range {
        bool set;
        bool from_end;   /* the last size bytes */
        uint64_t offset; /* where it begins, unless from_end */
        uint64_t size;   /* bytes; OBJMAPPER_TO_END */
};

/* The command line, parsed. Strings are borrowed from argv. */
struct arguments {
        const char *socket, *publish_socket, *instance;
        bool user;
        bool timeout_set;
        uint64_t timeout_usec;

        const char *output;
        int mode; /* enum objmapper_mode; 0: not given */
        struct range range;
        bool verbose;

        bool recursive;
        const char **metadata; /* n_metadata strings, each KEY=VALUE */
        size_t n_metadata;
        bool if_absent;
        bool if_generation_set;
        uint64_t if_generation;
        uint64_t ttl_msec; /* 0: not given */
        enum objmapper_durability durability;

        bool all;
        bool long_form;
        bool null_ends;
        bool json;
        bool http;
        uint64_t interval_usec; /* 0: not given */
        uint64_t screens;       /* top --batch; 0: not given */

        bool repair;
        uint64_t rate; /* bytes a second; 0: not given */

        char **operands; /* what follows the verb and is no option */
        size_t n_operands;
};

struct ctl {
        struct arguments arguments;
        objmapper_client *client;
        bool changes; /* the verb needs the publishers' socket */
};

/* The verbs; each returns an exit code. */
int verb_get(struct ctl *ctl);
int verb_put(struct ctl *ctl);
int verb_stat(struct ctl *ctl);
int verb_set_meta(struct ctl *ctl);
int verb_rm(struct ctl *ctl);
int verb_purge(struct ctl *ctl);
int verb_ls(struct ctl *ctl);
int verb_stats(struct ctl *ctl);
int verb_export(struct ctl *ctl);
int verb_import(struct ctl *ctl);
int verb_pin(struct ctl *ctl);
int verb_unpin(struct ctl *ctl);
int verb_verify(struct ctl *ctl);
int verb_cat_config(struct ctl *ctl);
int verb_metrics(struct ctl *ctl);
int verb_namespaces(struct ctl *ctl);
int verb_reload(struct ctl *ctl);
int verb_flush(struct ctl *ctl);
int verb_top(struct ctl *ctl);

/* put --recursive: everything below the first operand, as objects that begin with the second. */
int put_tree(struct ctl *ctl);

/* Adds what the command line says about a put or set-metadata to the request: pairs (KEY=VALUE, checked when
 * they were parsed), time to live, conditions. Errors as the setters. */
int request_add_pairs(objmapper_request *request, const char *const *pairs, size_t n_pairs);
int request_add_put_options(objmapper_request *request, const struct arguments *arguments);

/* --verbose: says on standard error what object was put or exported. */
void say_object(objmapper_object *object);
