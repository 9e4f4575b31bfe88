/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "transfer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>

#include "cleanup.h"
#include "macro.h"
#include "write-all.h"

#define STEP_MAX    (UINT64_C(1) << 30) /* bytes of one system call: fits every size type */
#define BUFFER_SIZE (64 * 1024)

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

void sigpipe_guard_begin(struct sigpipe_guard *guard) {
        sigset_t pipe_only, pending;

        assert(guard);

        guard->active = false;
        (void) sigemptyset(&pipe_only);
        (void) sigaddset(&pipe_only, SIGPIPE);

        /* One that is pending already is another's: it is blocked, so nothing more can be raised. */
        if (sigpending(&pending) < 0 || sigismember(&pending, SIGPIPE) > 0)
                return;

        guard->active = pthread_sigmask(SIG_BLOCK, &pipe_only, &guard->before) == 0;
}

void sigpipe_guard_end(struct sigpipe_guard *guard) {
        static const struct timespec at_once = {};
        int saved = errno;
        sigset_t pipe_only;

        assert(guard);

        if (!guard->active)
                return;

        (void) sigemptyset(&pipe_only);
        (void) sigaddset(&pipe_only, SIGPIPE);
        while (sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR)
                ;
        (void) pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
        errno = saved;
}

bool raises_sigpipe(int fd) {
        struct stat st;

        return fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

int transfer_memory(const void *data, size_t size, int fd) {
        SIGPIPE_GUARD;

        return write_all(fd, data, size);
}

enum { METHOD_COPY_FILE_RANGE, METHOD_SENDFILE, METHOD_READ_WRITE };

static ssize_t move_once(unsigned method, int from, off_t *offset, size_t size, int fd) {
        uint8_t buffer[BUFFER_SIZE];
        ssize_t n;
        int r;

        if (method == METHOD_COPY_FILE_RANGE)
                return copy_file_range(from, offset, fd, NULL, size, 0);
        if (method == METHOD_SENDFILE)
                return sendfile(fd, from, offset, size);

        n = pread(from, buffer, MIN(size, sizeof(buffer)), *offset);
        if (n <= 0)
                return n;

        r = write_all(fd, buffer, (size_t) n);
        if (r < 0) {
                errno = -r;
                return -1;
        }

        *offset += n;
        return n;
}

int transfer_file(int from, uint64_t offset, uint64_t size, int fd) {
        unsigned method = METHOD_COPY_FILE_RANGE;
        off_t position = (off_t) offset;

        SIGPIPE_GUARD;

        while (size > 0) {
                ssize_t n = move_once(method, from, &position, (size_t) MIN(size, STEP_MAX), fd);

                if (n > 0) {
                        size -= (uint64_t) n;
                        continue;
                }

                if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
                        int r = wait_writable(fd, errno);
                        if (r < 0)
                                return r;
                        continue;
                }

                /* What one method can't do another may; the last one's word counts. */
                if (method == METHOD_READ_WRITE)
                        return n < 0 ? -errno : -EIO;
                method++;
        }

        return 0;
}

int transfer_pipe(int pipe, size_t size, int fd, bool raises) {
        bool spliced = true;

        SIGPIPE_GUARD_IF(raises);

        while (size > 0) {
                uint8_t buffer[BUFFER_SIZE];
                ssize_t n;
                int r;

                if (spliced) {
                        n = splice(pipe, NULL, fd, NULL, size, SPLICE_F_MOVE);
                        if (n < 0 && errno == EINVAL) { /* a terminal, a file in append mode */
                                spliced = false;
                                continue;
                        }
                        if (n < 0) {
                                r = wait_writable(fd, errno);
                                if (r < 0)
                                        return r;
                                continue;
                        }
                } else {
                        n = read(pipe, buffer, MIN(size, sizeof(buffer)));
                        if (n < 0 && errno == EINTR)
                                continue;
                        if (n < 0)
                                return -errno;

                        r = write_all(fd, buffer, (size_t) n);
                        if (r < 0)
                                return r;
                }

                if (n == 0)
                        return -EIO;
                size -= (size_t) n;
        }

        return 0;
}

int memfd_new(void) {
        int fd = memfd_create("objmapper", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create("objmapper", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        return fd < 0 ? -errno : fd;
}

int memfd_seal(int fd) {
        _cleanup_close_ int owned = fd;
        char path[sizeof("/proc/self/fd/") + 11];
        int reopened;

        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
        reopened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (reopened >= 0)
                return reopened;
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
                return -errno;

        /* No /proc here: the seals protect the bytes all the same. */
        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;

        return TAKE_FD(owned);
}
