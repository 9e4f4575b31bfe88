/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From the service manager's hands to a running daemon, and back. */

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "fault.h"
#include "log.h"
#include "macro.h"
#include "manager.h"
#include "message-ids.h"
#include "options.h"
#include "sockets.h"
#include "store.h"

enum {
        EXIT_BAD_USAGE = 2,
        EXIT_NO_SOCKETS = 3,
        EXIT_NO_STORE = 4,
        EXIT_BAD_CONFIG = 6, /* systemd's EXIT_NOTCONFIGURED */
};

/* Signals are the event loop's, whichever thread they reach, and whenever: a reload that comes early is done later. */
static void block_signals(void) {
        static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
        sigset_t set;

        (void) sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                (void) sigaddset(&set, signals[i]);
        (void) pthread_sigmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE, SIG_IGN);
}

/* Nothing here uses select(): all that the service manager allows. */
static void raise_fd_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
                return;

        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                (void) log_errno(LOG_WARNING, errno, "The limit of descriptors can't be raised: %m");
}

static int serve(const struct options *options, struct config *config) {
        _cleanup_(sockets_done) struct sockets sockets = {};
        _cleanup_free_ char *directory = NULL;
        struct store_events events = {};
        _cleanup_(storage_cleanupp) struct storage *storage = NULL;
        _cleanup_(manager_freep) struct manager *manager = NULL;

        if (sockets_take(&sockets) < 0)
                return EXIT_NO_SOCKETS;

        raise_fd_limit();

        if (store_find(&directory, config, options->user, options->instance) < 0)
                return EXIT_NO_STORE;

        fault_watch(directory);
        events.directory = directory;
        extension_set(&events.extension, "Bringing the store up to date");
        if (store_open(&storage, &events, config) < 0)
                return EXIT_NO_STORE;
        extension_set(&events.extension, NULL);
        fault_set_storage(storage);

        if (manager_new(&manager, options, config, &sockets, storage, &events) < 0 ||
            manager_run(manager) < 0)
                return EXIT_FAILURE;

        return EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        _cleanup_(config_done) struct config config = {};
        struct options options;
        int r;

        r = options_parse(&options, argc, argv);
        if (r <= 0)
                return r < 0 ? EXIT_BAD_USAGE : EXIT_SUCCESS;

        block_signals();
        log_open();
        (void) umask(0077);

        if (manager_load_config(&config, &options, NULL) < 0)
                return EXIT_BAD_CONFIG;
        log_set_level(config.log_level);

        r = serve(&options, &config);
        if (r == EXIT_SUCCESS)
                log_write(LOG_INFO, 0, MESSAGE_STOPPED, NULL, 0, "objmapperd has stopped.");

        return r;
}
