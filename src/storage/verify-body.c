/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "macro.h"
#include "thread.h"
#include "verify.h"

#define PIECE_PAGES (VERIFY_PIECE / 4096) /* at most: there are no smaller pages */

/* Which pages of a piece are in the page cache: a byte each. False: it can't be told. (Trying to read without
 * waiting would tell too, but make the kernel read ahead.) */
static bool look_at_cache(int fd, size_t size, uint64_t offset, unsigned char ret[static PIECE_PAGES]) {
        void *piece = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, (off_t) offset);
        int r;

        if (piece == MAP_FAILED)
                return false;

        r = mincore(piece, size, ret);
        (void) munmap(piece, size);
        return r >= 0;
}

/* What is read once must not push out what is read often: pages that were not in the page cache leave it again. */
static void leave_cache(int fd, size_t size, uint64_t offset, const unsigned char *pages) {
        size_t page_size = (size_t) sysconf(_SC_PAGESIZE), n_pages = (size + page_size - 1) / page_size;

        for (size_t i = 0, end; i < n_pages; i = end + 1) {
                for (end = i; end < n_pages && !(pages[end] & 1);)
                        end++;
                if (end > i)
                        (void) posix_fadvise(fd, (off_t) (offset + i * page_size),
                                             (off_t) ((end - i) * page_size), POSIX_FADV_DONTNEED);
        }
}

static ssize_t read_piece(int fd, uint8_t *buffer, size_t size, uint64_t offset) {
        unsigned char pages[PIECE_PAGES];
        bool is_known = look_at_cache(fd, size, offset, pages);
        ssize_t n;

        do
                n = pread(fd, buffer, size, (off_t) offset);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;

        if (is_known)
                leave_cache(fd, size, offset, pages);
        return n;
}

static int compare(struct storage_verify *verify, int fd, uint64_t size, uint64_t checksum) {
        XXH3_state_t *hash = XXH3_createState();
        uint64_t offset = 0;
        unsigned n_done = 0;
        int r = 0;

        if (!hash)
                return -ENOMEM;

        (void) XXH3_64bits_reset(hash);
        while (r == 0 && offset < size) {
                ssize_t n = read_piece(fd, verify->buffer, MIN(size - offset, VERIFY_PIECE), offset);

                if (n > 0) {
                        (void) XXH3_64bits_update(hash, verify->buffer, (size_t) n);
                        offset += (uint64_t) n;
                        stats_add(&verify->progress.bytes, (uint64_t) n);
                        verify_pay(verify, (uint64_t) n);
                        thread_give_way(&n_done, 1);
                        if (verify_is_stopped(verify))
                                r = -ECANCELED;
                } else
                        r = n < 0 ? (int) n : -EMSGSIZE;
        }
        if (r == 0 && XXH3_64bits_digest(hash) != checksum)
                r = -EILSEQ;

        (void) XXH3_freeState(hash);
        return r;
}

/* -EBADMSG is for records; from a disk it says that the file system is damaged. */
static int error_of(int r) {
        return r == -EBADMSG ? -EIO : r;
}

int verify_body(struct storage_verify *verify, uint64_t blob, uint64_t size, uint64_t checksum) {
        _cleanup_close_ int fd = blob_open_own(&verify->storage->blobs, blob, size);

        if (fd < 0)
                return error_of(fd);

        /* No reading ahead: what is not asked for would be taken for what was cached before. */
        (void) posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
        return error_of(compare(verify, fd, size, checksum));
}
