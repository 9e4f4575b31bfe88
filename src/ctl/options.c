/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"
#include "parse.h"
#include "report.h"
#include "version.h"

static const struct verb verbs[] = {
        { "get", "URI", "Write an object's bytes to standard output or a file",
          "A file appears under its name when it is whole; what was there before stays until then.", 1, 1,
          false, verb_get },
        { "put", "URI [FILE|-]", "Store a file or standard input as an object",
          "With --recursive: put --recursive DIR PREFIX stores every file below DIR; the URI is PREFIX and\n"
          "then the path below DIR. Links and special files are skipped and counted. It goes on after a\n"
          "file that can't be stored; the exit code is then that of the first failure.",
          1, 2, true, verb_put },
        { "stat", "URI", "Show what is known of an object", NULL, 1, 1, false, verb_stat },
        { "set-meta", "URI [KEY=VALUE...]", "Replace an object's metadata",
          "The pairs given replace all that were there; none: the object has no metadata any more.", 1,
          SIZE_MAX, true, verb_set_meta },
        { "rm", "URI...", "Remove objects",
          "It goes on after one that can't be removed; the exit code is then that of the first failure.", 1,
          SIZE_MAX, true, verb_rm },
        { "purge", "PREFIX", "Remove every object whose URI begins with PREFIX", NULL, 0, 1, true,
          verb_purge },
        { "ls", "[PREFIX]", "List the objects whose URI begins with PREFIX",
          "One URI a line. On a terminal control characters are shown as \\n, \\x1b and so on; elsewhere "
          "the\n"
          "bytes are written as they are: use --null where a URI may hold a line break.",
          0, 1, false, verb_ls },
        { "stats", "", "Show the daemon's counters", NULL, 0, 0, false, verb_stats },
        { "export", "[PREFIX]", "Write the objects whose URI begins with PREFIX as an archive",
          "A tar archive with all that import needs, to a file or standard output. The daemon goes on "
          "serving\n"
          "meanwhile; each object is in it in one of its states.",
          0, 1, false, verb_export },
        { "import", "[FILE|-]", "Store the objects of an archive that export wrote",
          "It goes on after an object that is damaged or can't be stored; the exit code is then that of the\n"
          "first failure.",
          0, 1, true, verb_import },
        { "pin", "URI...", "Keep objects from being evicted",
          "An object that is put in the place of a pinned one is pinned too. It goes on after one that "
          "can't\n"
          "be pinned; the exit code is then that of the first failure. For root, and whom polkit permits;\n"
          "over D-Bus.",
          1, SIZE_MAX, false, verb_pin },
        { "unpin", "URI...", "Let objects be evicted again", "For root, and whom polkit permits; over D-Bus.",
          1, SIZE_MAX, false, verb_unpin },
        { "verify", "", "Check everything that is stored, and repair it",
          "Names what is wrong, one a line: objects whose bytes are not those that were put, files that\n"
          "belong to none, and what the store notes of them. Nothing is changed without --repair. The exit\n"
          "code is 1 when a problem remains. For root, and whom polkit permits; over D-Bus.",
          0, 0, false, verb_verify },
        { "cat-config", "", "Show the files of the daemon's configuration",
          "In the order in which they count: what comes last wins. What a running daemon has in force may\n"
          "be older, until it reloads.",
          0, 0, false, verb_cat_config },
        { "metrics", "", "Show the daemon's counters for a monitoring system",
          "As OpenMetrics text. objmapper-metrics.socket serves it to a scrape.", 0, 0, false, verb_metrics },
        { "namespaces", "", "Show what namespaces hold, and may hold", NULL, 0, 0, false, verb_namespaces },
        { "reload", "", "Have the daemon read its configuration again",
          "Returns when that is in force, or says what is wrong with it. For root, and whom polkit permits;\n"
          "over D-Bus.",
          0, 0, false, verb_reload },
        { "flush", "", "Drop what the daemon has in memory, and its copies on a faster disk",
          "Nothing is lost, and the memory is given back; what is got again comes from the disk. For root, "
          "and\n"
          "whom polkit permits; over D-Bus.",
          0, 0, false, verb_flush },
        { "top", "", "Show what the daemon does, again and again",
          "On a terminal: q ends it, space asks the daemon at once. It waits for a daemon that restarts.", 0,
          0, false, verb_top },
};

enum verb_bit {
        GET = 1U << 0,
        PUT = 1U << 1,
        STAT = 1U << 2,
        SET_META = 1U << 3,
        RM = 1U << 4,
        PURGE = 1U << 5,
        LS = 1U << 6,
        STATS = 1U << 7,
        EXPORT = 1U << 8,
        IMPORT = 1U << 9,
        PIN = 1U << 10,
        UNPIN = 1U << 11,
        VERIFY = 1U << 12,
        CAT_CONFIG = 1U << 13,
        METRICS = 1U << 14,
        NAMESPACES = 1U << 15,
        RELOAD = 1U << 16,
        FLUSH = 1U << 17,
        TOP = 1U << 18,
        GLOBAL = 1U << 19,
};

enum option_id {
        OPTION_SOCKET = 1,
        OPTION_PUBLISH_SOCKET,
        OPTION_USER,
        OPTION_INSTANCE,
        OPTION_TIMEOUT,
        OPTION_HELP,
        OPTION_VERSION,
        OPTION_OUTPUT,
        OPTION_MODE,
        OPTION_RANGE,
        OPTION_VERBOSE,
        OPTION_RECURSIVE,
        OPTION_META,
        OPTION_IF_ABSENT,
        OPTION_IF_GENERATION,
        OPTION_TTL,
        OPTION_DURABLE,
        OPTION_VISIBLE,
        OPTION_ALL,
        OPTION_LONG,
        OPTION_NULL,
        OPTION_JSON,
        OPTION_HTTP,
        OPTION_REPAIR,
        OPTION_RATE,
        OPTION_INTERVAL,
        OPTION_BATCH,
};

static const struct option_entry {
        enum option_id id;
        unsigned verbs; /* which take it: their bits, in the order of the table above */
        char letter;    /* 0: none */
        const char *name;
        const char *value; /* NULL: takes none */
        const char *help;
} option_table[] = {
        { OPTION_OUTPUT, GET | EXPORT, 'o', "output", "FILE", "write to FILE instead of standard output" },
        { OPTION_MODE, GET, 'm', "mode", "MODE", "how it comes: fdpass, copy, splice or auto (the default)" },
        { OPTION_RANGE, GET, 'r', "range", "RANGE",
          "bytes A-B (the first is 0, B included), A- (to the end), -N (the last N)" },
        { OPTION_RECURSIVE, PUT, 'R', "recursive", NULL, "store every file below a folder" },
        { OPTION_META, PUT, 'M', "meta", "KEY=VALUE", "add a pair of metadata; may come again" },
        { OPTION_TTL, PUT, 0, "ttl", "TIME", "expire after TIME: 90s, 10min, 1h30min, 7d" },
        { OPTION_DURABLE, PUT | IMPORT, 0, "durable", NULL, "done when it is on the disk" },
        { OPTION_VISIBLE, PUT | IMPORT, 0, "visible", NULL,
          "done when it can be got; a crash right after may undo it" },
        { OPTION_IF_ABSENT, PUT | IMPORT, 0, "if-absent", NULL, "only when there is no such object" },
        { OPTION_IF_GENERATION, PUT | SET_META | RM, 0, "if-generation", "N",
          "only when the object has generation N" },
        { OPTION_ALL, PURGE, 0, "all", NULL, "the empty prefix is meant: remove everything" },
        { OPTION_ALL, STATS, 0, "all", NULL, "every counter: all bounds of times rather than percentiles" },
        { OPTION_LONG, LS, 'l', "long", NULL, "show size, time of the put, and ETag as well" },
        { OPTION_NULL, LS, '0', "null", NULL, "end each entry with a NUL, never escape" },
        { OPTION_HTTP, METRICS, 0, "http", NULL, "answer an HTTP request on standard input with it" },
        { OPTION_REPAIR, VERIFY, 0, "repair", NULL,
          "move what is wrong to quarantine, and correct the rest" },
        { OPTION_RATE, VERIFY, 0, "rate", "BYTES",
          "read at most BYTES a second: 10M, 1G (the default is 64M)" },
        { OPTION_INTERVAL, TOP, 'i', "interval", "TIME",
          "how often to ask the daemon: 2s, 500ms; 100ms at least" },
        { OPTION_BATCH, TOP, 'b', "batch", "N", "write N times plain text, and no keys" },
        { OPTION_JSON, STATS | NAMESPACES, 0, "json", NULL, "as JSON" },
        { OPTION_VERBOSE, GET | PUT | EXPORT | IMPORT, 'v', "verbose", NULL,
          "say on standard error what was done, and how" },

        { OPTION_SOCKET, GLOBAL, 0, "socket", "PATH", "the readers' socket; alone, everything goes there" },
        { OPTION_PUBLISH_SOCKET, GLOBAL, 0, "publish-socket", "PATH",
          "the publishers' socket; alone, everything goes there" },
        { OPTION_USER, GLOBAL, 0, "user", NULL, "the daemon of the calling user" },
        { OPTION_INSTANCE, GLOBAL, 0, "instance", "NAME", "the daemon's instance NAME" },
        { OPTION_TIMEOUT, GLOBAL, 0, "timeout", "TIME", "how long to wait for an answer (30s); 0: for ever" },
        { OPTION_HELP, GLOBAL, 'h', "help", NULL, "show this help" },
        { OPTION_VERSION, GLOBAL, 0, "version", NULL, "show the version" },
};

static void show_options(unsigned bit) {
        for (size_t i = 0; i < ARRAY_SIZE(option_table); i++) {
                const struct option_entry *o = &option_table[i];
                char names[64], letter[] = "-?, ";

                if (!(o->verbs & bit))
                        continue;

                letter[1] = o->letter;
                snprintf(names, sizeof(names), "%s--%s%s%s", o->letter ? letter : "    ", o->name,
                         o->value ? "=" : "", o->value ?: "");
                printf("  %-28s %s\n", names, o->help);
        }
}

static void show_help(const struct verb *verb) {
        if (!verb) {
                printf("Usage: objmapperctl [OPTION...] VERB ...\n\n"
                       "Store objects in the objmapper daemon of this host, and fetch them.\n\n"
                       "Verbs:\n");
                for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
                        char line[64];

                        snprintf(line, sizeof(line), "%s %s", verbs[i].name, verbs[i].usage);
                        printf("  %-28s %s\n", line, verbs[i].summary);
                }
                printf("\nOptions:\n");
                show_options(GLOBAL);
                printf("\nobjmapperctl VERB --help shows the options of a verb; objmapperctl(1) has all, and "
                       "the exit codes.\n");
                return;
        }

        printf("Usage: objmapperctl %s [OPTION...]%s%s\n\n%s.\n", verb->name, *verb->usage ? " " : "",
               verb->usage, verb->summary);
        if (verb->help)
                printf("%s\n", verb->help);
        printf("\nOptions:\n");
        show_options(1U << (verb - verbs));
        printf("\nOptions of every verb:\n");
        show_options(GLOBAL);
}

static int bad_value(const struct option_entry *option, const char *value, const char *expected) {
        complain("--%s: '%s' is not %s", option->name, value, expected);
        return -EINVAL;
}

static int set_option(struct arguments *a, const struct option_entry *option, const char *value) {
        uint64_t usec;
        int r;

        switch (option->id) {
        case OPTION_SOCKET:
                a->socket = value;
                break;
        case OPTION_PUBLISH_SOCKET:
                a->publish_socket = value;
                break;
        case OPTION_USER:
                a->user = true;
                break;
        case OPTION_INSTANCE:
                a->instance = value;
                break;
        case OPTION_TIMEOUT:
                if (parse_time(value, &a->timeout_usec) < 0)
                        return bad_value(option, value, "a time such as 30s, 5min or 0");
                a->timeout_set = true;
                break;
        case OPTION_OUTPUT:
                a->output = value;
                break;
        case OPTION_MODE:
                r = parse_mode(value);
                if (r < 0)
                        return bad_value(option, value, "one of fdpass, copy, splice, auto");
                a->mode = r;
                break;
        case OPTION_RANGE:
                if (parse_range(value, &a->range) < 0)
                        return bad_value(option, value, "a range such as 0-99, 100- or -100");
                break;
        case OPTION_VERBOSE:
                a->verbose = true;
                break;
        case OPTION_RECURSIVE:
                a->recursive = true;
                break;
        case OPTION_META:
                if (parse_pair(value) < 0)
                        return bad_value(option, value, "KEY=VALUE with a key of 1 to 255 bytes");
                a->metadata[a->n_metadata++] = value;
                break;
        case OPTION_IF_ABSENT:
                a->if_absent = true;
                break;
        case OPTION_IF_GENERATION:
                if (parse_number(value, &a->if_generation) < 0 || a->if_generation == 0)
                        return bad_value(option, value, "a generation: a number from 1 on");
                a->if_generation_set = true;
                break;
        case OPTION_TTL:
                if (parse_time(value, &usec) < 0 || usec == 0)
                        return bad_value(option, value, "a time such as 90s, 10min or 7d");
                a->ttl_msec = usec / 1000;
                break;
        case OPTION_DURABLE:
                a->durability = OBJMAPPER_DURABLE;
                break;
        case OPTION_VISIBLE:
                a->durability = OBJMAPPER_VISIBLE;
                break;
        case OPTION_ALL:
                a->all = true;
                break;
        case OPTION_LONG:
                a->long_form = true;
                break;
        case OPTION_NULL:
                a->null_ends = true;
                break;
        case OPTION_JSON:
                a->json = true;
                break;
        case OPTION_HTTP:
                a->http = true;
                break;
        case OPTION_REPAIR:
                a->repair = true;
                break;
        case OPTION_RATE:
                if (parse_bytes(value, &a->rate) < 0 || a->rate == 0)
                        return bad_value(option, value, "a number of bytes such as 500K, 10M or 1G");
                break;
        case OPTION_INTERVAL:
                if (parse_time(value, &a->interval_usec) < 0 || a->interval_usec < 100000)
                        return bad_value(option, value, "a time from 100ms on, such as 500ms or 2s");
                break;
        case OPTION_BATCH:
                if (parse_number(value, &a->screens) < 0 || a->screens == 0)
                        return bad_value(option, value, "a number from 1 on");
                break;
        case OPTION_HELP:
        case OPTION_VERSION:
                break; /* seen to by the parser */
        }

        return 0;
}

/* Parses options of the given verbs until the first operand (in_order) or all through, operands moved behind
 * them. Returns 1 to go on, 0 when help or the version was shown, -EINVAL. */
static int parse_options(int argc,
                         char **argv,
                         bool in_order,
                         unsigned bits,
                         const struct verb *verb,
                         struct arguments *a) {
        struct option long_options[ARRAY_SIZE(option_table) + 1] = {};
        char letters[2 * ARRAY_SIZE(option_table) + 3];
        size_t n = 0, n_letters = 0;

        letters[n_letters++] = in_order ? '+' : ':';
        if (in_order)
                letters[n_letters++] = ':';

        for (size_t i = 0; i < ARRAY_SIZE(option_table); i++) {
                const struct option_entry *o = &option_table[i];

                if (!(o->verbs & bits))
                        continue;

                long_options[n++] = (struct option){ o->name, o->value ? required_argument : no_argument,
                                                     NULL, (int) (256 + i) };
                if (o->letter) {
                        letters[n_letters++] = o->letter;
                        if (o->value)
                                letters[n_letters++] = ':';
                }
        }
        letters[n_letters] = '\0';

        opterr = 0;
        optind = 0; /* glibc: start afresh */

        for (;;) {
                const struct option_entry *option = NULL;
                int c, r;

                c = getopt_long(argc, argv, letters, long_options, NULL);
                if (c < 0)
                        return 1;

                if (c == '?' || c == ':') {
                        char letter[] = { '-', (char) optopt, '\0' };
                        const char *culprit = optopt > 0 && optopt < 256 ? letter : argv[optind - 1];

                        if (c == ':')
                                complain("%s needs a value; see objmapperctl%s%s --help", culprit,
                                         verb ? " " : "", verb ? verb->name : "");
                        else
                                complain("there is no option %s here; see objmapperctl%s%s --help", culprit,
                                         verb ? " " : "", verb ? verb->name : "");
                        return -EINVAL;
                }

                for (size_t i = 0; i < ARRAY_SIZE(option_table) && !option; i++)
                        if (c >= 256 ? c == (int) (256 + i)
                                     : (option_table[i].verbs & bits) && option_table[i].letter == c)
                                option = &option_table[i];

                if (option->id == OPTION_HELP) {
                        show_help(verb);
                        return 0;
                }

                if (option->id == OPTION_VERSION) {
                        printf("objmapperctl %s\n", PROJECT_VERSION);
                        return 0;
                }

                r = set_option(a, option, optarg);
                if (r < 0)
                        return r;
        }
}

static int check_metadata(const char *const *pairs, size_t n_pairs) {
        size_t size = 0;

        for (size_t i = 0; i < n_pairs; i++)
                size += strlen(pairs[i]) - 1 + 6; /* '=' is not kept, two sizes are */

        if (size > OBJMAPPER_METADATA_MAX) {
                complain("the metadata has %zu bytes: at most %i are possible", size, OBJMAPPER_METADATA_MAX);
                return -EINVAL;
        }

        return 0;
}

static bool is_over_bus(const struct verb *verb) {
        return verb->run == verb_pin || verb->run == verb_unpin || verb->run == verb_verify ||
               verb->run == verb_reload || verb->run == verb_flush;
}

/* What the table can't say. */
static int check_arguments(const struct verb *verb, const struct arguments *a) {
        if ((a->socket || a->publish_socket) && (a->user || a->instance)) {
                complain("--socket and --publish-socket say which daemon, --user and --instance too: give "
                         "one "
                         "of both");
                return -EINVAL;
        }

        if ((a->socket || a->publish_socket) && is_over_bus(verb)) {
                complain("%s goes over D-Bus, not to a socket: say which daemon by --user and --instance",
                         verb->name);
                return -EINVAL;
        }

        if (a->if_absent && a->if_generation_set) {
                complain("--if-absent and --if-generation can't both hold");
                return -EINVAL;
        }

        if (a->recursive && a->n_operands != 2) {
                complain("put --recursive takes DIR and PREFIX; see objmapperctl put --help");
                return -EINVAL;
        }

        if (a->recursive && a->if_generation_set) {
                complain("--if-generation is for one object, not for --recursive");
                return -EINVAL;
        }

        if (verb->run == verb_rm && a->if_generation_set && a->n_operands != 1) {
                complain("--if-generation is for one object");
                return -EINVAL;
        }

        if (verb->run == verb_purge && a->all != (a->n_operands == 0 || !*a->operands[0])) {
                complain(a->all ? "purge takes a PREFIX or --all, not both"
                                : "purge needs a PREFIX; --all removes everything");
                return -EINVAL;
        }

        if (verb->run == verb_set_meta) {
                for (size_t i = 1; i < a->n_operands; i++)
                        if (parse_pair(a->operands[i]) < 0) {
                                complain("'%s' is not KEY=VALUE with a key of 1 to 255 bytes",
                                         a->operands[i]);
                                return -EINVAL;
                        }

                return check_metadata((const char *const *) a->operands + 1, a->n_operands - 1);
        }

        return check_metadata(a->metadata, a->n_metadata);
}

static int check_uris(const struct verb *verb, const struct arguments *a) {
        bool is_prefix = verb->run == verb_ls || verb->run == verb_purge || verb->run == verb_export ||
                         a->recursive;
        size_t first = a->recursive ? 1 : 0;
        bool are_uris = verb->run == verb_rm || verb->run == verb_pin || verb->run == verb_unpin;
        size_t end = are_uris ? a->n_operands : MIN(a->n_operands, first + 1);

        if (verb->run == verb_import)
                return 0;

        for (size_t i = first; i < end; i++) {
                size_t size = strlen(a->operands[i]);

                if (size > OBJMAPPER_URI_MAX || (size == 0 && !is_prefix)) {
                        complain("%s has %zu bytes: %s to %i are possible",
                                 is_prefix ? "the prefix" : "a URI", size, is_prefix ? "0" : "1",
                                 OBJMAPPER_URI_MAX);
                        return -EINVAL;
                }
        }

        return 0;
}

int options_parse(int argc, char **argv, struct arguments *a, const struct verb **ret) {
        const struct verb *verb = NULL;
        int r;

        a->metadata = calloc((size_t) argc + 1, sizeof(*a->metadata));
        if (!a->metadata)
                return -ENOMEM;

        r = parse_options(argc, argv, true, GLOBAL, NULL, a);
        if (r <= 0)
                return r;

        if (optind >= argc) {
                complain("what is to be done? See objmapperctl --help");
                return -EINVAL;
        }

        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (strcmp(verbs[i].name, argv[optind]) == 0)
                        verb = &verbs[i];

        if (!verb) {
                complain("there is no verb '%s'; see objmapperctl --help", argv[optind]);
                return -EINVAL;
        }

        argc -= optind;
        argv += optind;
        r = parse_options(argc, argv, false, GLOBAL | 1U << (verb - verbs), verb, a);
        if (r <= 0)
                return r;

        a->operands = argv + optind;
        a->n_operands = (size_t) (argc - optind);
        if (a->n_operands < verb->min_operands || a->n_operands > verb->max_operands) {
                complain("usage: objmapperctl %s%s%s; see objmapperctl %s --help", verb->name,
                         *verb->usage ? " " : "", verb->usage, verb->name);
                return -EINVAL;
        }

        r = check_arguments(verb, a);
        if (r < 0)
                return r;

        r = check_uris(verb, a);
        if (r < 0)
                return r;

        *ret = verb;
        return 1;
}
