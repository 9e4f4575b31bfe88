/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

#define LINE_MAX_BYTES 4608 /* a path and what is said of it */
#define WAIT_MSEC      1000 /* for room to say it */

/* A signal's handler can be given nothing, and may only write what was prepared. */
static struct {
        char line[LINE_MAX_BYTES];
        size_t line_size;
        char other_line[160];
        size_t other_size;
        struct storage *storage; /* atomic */
        bool is_opening;         /* atomic */
        bool is_met;             /* atomic */
} fault;

static bool is_dictionary(const siginfo_t *info) {
        struct storage *storage = __atomic_load_n(&fault.storage, __ATOMIC_RELAXED);

        if (info->si_code <= 0) /* sent by somebody */
                return false;
        if (storage)
                return storage_is_mapped(storage, info->si_addr);
        return __atomic_load_n(&fault.is_opening, __ATOMIC_RELAXED);
}

static void on_bus_error(int number, siginfo_t *info, _unused_ void *context) {
        /* Threads meet it at once, and the first to die takes the others along: not before it is said. */
        while (__atomic_exchange_n(&fault.is_met, true, __ATOMIC_RELAXED))
                (void) pause();

        /* Where nobody reads what is said, it is died of all the same. */
        if (poll(&(struct pollfd){ .fd = STDERR_FILENO, .events = POLLOUT }, 1, WAIT_MSEC) > 0) {
                if (is_dictionary(info))
                        (void) !write(STDERR_FILENO, fault.line, fault.line_size);
                else
                        (void) !write(STDERR_FILENO, fault.other_line, fault.other_size);
        }

        (void) signal(number, SIG_DFL);
        (void) raise(number); /* takes effect on return */
}

void fault_watch(const char *directory) {
        struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };
        const char *prefix = log_line_prefix(LOG_CRIT);

        fault.is_opening = true;
        (void) snprintf(fault.line, sizeof(fault.line),
                        "%sAn I/O error in the dictionary of the store %s (SIGBUS): objmapperd can't go "
                        "on.\n",
                        prefix, directory);
        fault.line_size = strlen(fault.line);
        (void) snprintf(fault.other_line, sizeof(fault.other_line),
                        "%sSIGBUS, and not in the store's dictionary: objmapperd can't go on.\n", prefix);
        fault.other_size = strlen(fault.other_line);

        (void) sigfillset(&action.sa_mask); /* nothing cuts it short */
        (void) sigaction(SIGBUS, &action, NULL);
}

void fault_set_storage(struct storage *storage) {
        __atomic_store_n(&fault.storage, storage, __ATOMIC_RELAXED);
        __atomic_store_n(&fault.is_opening, false, __ATOMIC_RELAXED);
}
