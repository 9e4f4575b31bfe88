/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Bytes from one descriptor or from memory to another descriptor, with waiting, by the kernel where it can.
 * Any thread. SIGPIPE is never raised. */

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sendfile() and splice() raise SIGPIPE, and no flag forbids it: this keeps it from the process. What others
 * raised meanwhile stays. */
struct sigpipe_guard {
        sigset_t before;
        bool active;
};

void sigpipe_guard_begin(struct sigpipe_guard *guard);
void sigpipe_guard_end(struct sigpipe_guard *guard);

#define SIGPIPE_GUARD SIGPIPE_GUARD_IF(true)

/* Where it is known already whether one can be raised: the guard is four system calls. */
#define SIGPIPE_GUARD_IF(wanted)                                                              \
        __attribute__((cleanup(sigpipe_guard_end))) struct sigpipe_guard _sigpipe_guard = {}; \
        if (wanted)                                                                           \
        sigpipe_guard_begin(&_sigpipe_guard)

/* Whether writing to fd can raise it. */
bool raises_sigpipe(int fd);

/* Writes all of data to fd at its position. 0, or an errno of write(2). */
int transfer_memory(const void *data, size_t size, int fd);

/* Writes size bytes of the file from, beginning at offset, to fd at its position. 0, -EIO: from ended before;
 * or an errno of reading or writing. */
int transfer_file(int from, uint64_t offset, uint64_t size, int fd);

/* Writes size bytes, which are in pipe, to fd at its position; raises: as of raises_sigpipe(fd). 0, or an errno of
 * writing: the pipe may still hold bytes then. */
int transfer_pipe(int pipe, size_t size, int fd, bool raises);

/* A new memfd that can be written: -EMFILE, -ENFILE, -ENOMEM. */
int memfd_new(void);

/* Seals fd against every change, and returns a descriptor for reading alone at offset 0. fd is closed in any
 * case. -EMFILE, -ENFILE, -ENOMEM. */
int memfd_seal(int fd);
