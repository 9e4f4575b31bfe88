/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "version.h"

#define INSTANCE_MAX 64

static void print_help(void) {
        (void) printf("objmapperd [OPTIONS...]\n"
                      "\n"
                      "Serves objects through the sockets that the service manager passes.\n"
                      "\n"
                      "  --user           Run for a user: the user's bus, configuration and store\n"
                      "  --instance=NAME  Be objmapper@NAME: bus name and configuration of that instance\n"
                      "  --config=FILE    Read this configuration file alone\n"
                      "  --help           Print this\n"
                      "  --version        Print the version\n"
                      "\n"
                      "See objmapperd(8) and objmapper.conf(5).\n");
}

/* What can stand in a path, a unit's name and a bus name. */
static bool instance_is_valid(const char *name) {
        size_t size = strlen(name);

        return size > 0 && size <= INSTANCE_MAX &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == size &&
               !(name[0] >= '0' && name[0] <= '9') && name[0] != '-';
}

int options_parse(struct options *ret, int argc, char *argv[]) {
        enum { OPTION_USER = 0x100, OPTION_INSTANCE, OPTION_CONFIG, OPTION_HELP, OPTION_VERSION };
        static const struct option known[] = {
                { "user", no_argument, NULL, OPTION_USER },
                { "instance", required_argument, NULL, OPTION_INSTANCE },
                { "config", required_argument, NULL, OPTION_CONFIG },
                { "help", no_argument, NULL, OPTION_HELP },
                { "version", no_argument, NULL, OPTION_VERSION },
                {},
        };
        int option;

        *ret = (struct options){};

        while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0)
                switch (option) {
                case OPTION_USER:
                        ret->user = true;
                        break;
                case OPTION_INSTANCE:
                        if (!instance_is_valid(optarg)) {
                                (void) fprintf(stderr,
                                               "--instance=%s: expected 1 to %i letters, digits, \"_\" and "
                                               "\"-\", "
                                               "a letter or \"_\" first.\n",
                                               optarg, INSTANCE_MAX);
                                return -EINVAL;
                        }
                        ret->instance = optarg;
                        break;
                case OPTION_CONFIG:
                        ret->config = optarg;
                        break;
                case OPTION_HELP:
                        print_help();
                        return 0;
                case OPTION_VERSION:
                        (void) printf("objmapperd " PROJECT_VERSION "\n");
                        return 0;
                default:
                        return -EINVAL; /* getopt said why */
                }

        if (optind < argc) {
                (void) fprintf(stderr, "objmapperd takes no arguments, but got \"%s\".\n", argv[optind]);
                return -EINVAL;
        }

        return 1;
}
