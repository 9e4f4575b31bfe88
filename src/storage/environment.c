/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "environment.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "macro.h"
#include "thread-slot.h"
#include "write-all.h"

#define READERS_MAX  1000 /* transactions at once */
#define READER_TABLE (READERS_MAX * 64 + 4096)
#define TABLES_MAX   8
#define OPEN_TRIES   100
#define REST_NSEC    (1000 * 1000)
#define COPY_PIECE   (1U << 20)
#define COPY_STEP \
        (32U << 20) /* bytes that are synced at a time: even a slow disk takes them in some seconds */

struct slot {
        MDB_txn *txn;    /* atomic */
        int64_t n_reads; /* atomic: begun here, less those ended here */
} __attribute__((aligned(64)));

struct environment {
        MDB_env *env; /* NULL: it could not be opened anew */
        char *path;
        size_t map_size;
        const uint8_t *map; /* atomic */
        const struct environment_table *tables;
        size_t n_tables;
        bool is_in_doubt; /* the writer's: since a commit failed */
        bool is_shut;     /* atomic: readers wait */
        struct slot pool[THREAD_SLOTS];
};

int environment_errno(int r) {
        if (r >= 0)
                return -r;

        switch (r) {
        case MDB_NOTFOUND:
                return -ENOENT;
        case MDB_MAP_FULL:
        case MDB_TXN_FULL:
                return -ENOSPC;
        case MDB_READERS_FULL:
                return -EAGAIN;
        case MDB_CORRUPTED:
        case MDB_PAGE_NOTFOUND:
        case MDB_INVALID:
        case MDB_VERSION_MISMATCH:
        case MDB_INCOMPATIBLE:
                return -EUCLEAN;
        default:
                return -EIO;
        }
}

/* LMDB maps its table of readers for writing. Its blocks must be there before: on a full disk a hole in it
 * would be a SIGBUS. Before LMDB opens it, since closing the file would drop LMDB's lock. */
static int allocate_reader_table(const char *path) {
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (asprintf(&name, "%s/lock.mdb", path) < 0)
                return -ENOMEM;

        fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;

        /* Made whole by an earlier start, then grown by none. */
        if (st.st_size >= READER_TABLE && (uint64_t) st.st_blocks * 512 >= READER_TABLE)
                return 0;

        return -posix_fallocate(fd, 0, READER_TABLE);
}

static void close_env(struct environment *environment) {
        for (size_t i = 0; i < THREAD_SLOTS; i++)
                mdb_txn_abort(TAKE_PTR(environment->pool[i].txn));

        if (environment->env)
                mdb_env_close(TAKE_PTR(environment->env));
}

static int open_env(struct environment *environment) {
        MDB_env *env;
        int r;

        r = mdb_env_create(&env);
        if (r != 0)
                return r;

        r = mdb_env_set_mapsize(env, environment->map_size);
        if (r == 0)
                r = mdb_env_set_maxreaders(env, READERS_MAX);
        if (r == 0)
                r = mdb_env_set_maxdbs(env, TABLES_MAX);
        if (r == 0)
                r = mdb_env_open(env, environment->path, MDB_NOTLS | MDB_NORDAHEAD, 0600);
        if (r != 0) {
                mdb_env_close(env);
                return r;
        }

        environment->env = env;
        return 0;
}

/* LMDB tells no address but those of values. A page of its begins with its own number. */
static void find_map(struct environment *environment, MDB_txn *txn) {
        MDB_val k = { strlen(environment->tables[0].name), (void *) environment->tables[0].name }, v;
        const uint8_t *page;
        uint64_t number;
        MDB_stat st;
        MDB_dbi names;

        if (mdb_dbi_open(txn, NULL, 0, &names) != 0 || mdb_get(txn, names, &k, &v) != 0)
                return;

        (void) mdb_env_stat(environment->env, &st);
        page = (const uint8_t *) v.mv_data - (uintptr_t) v.mv_data % st.ms_psize;
        memcpy(&number, page, sizeof(number));
        if (number < environment->map_size / st.ms_psize)
                __atomic_store_n(&environment->map, page - number * st.ms_psize, __ATOMIC_RELAXED);
}

static int open_tables(struct environment *environment, bool may_make) {
        MDB_txn *txn;
        int r;

        r = mdb_txn_begin(environment->env, NULL, may_make ? 0 : MDB_RDONLY, &txn);
        if (r != 0)
                return r;

        for (size_t i = 0; i < environment->n_tables; i++) {
                r = mdb_dbi_open(txn, environment->tables[i].name, may_make ? MDB_CREATE : 0,
                                 environment->tables[i].dbi);
                if (r != 0) {
                        mdb_txn_abort(txn);
                        return r;
                }
        }

        if (!may_make)
                find_map(environment, txn);
        return mdb_txn_commit(txn); /* writes nothing when all were there */
}

int environment_open(struct environment **ret, const char *path, size_t map_size) {
        _cleanup_(environment_freep) struct environment *environment = NULL;
        MDB_envinfo info;
        int r;

        r = allocate_reader_table(path);
        if (r < 0)
                return r;

        environment = aligned_alloc(64, sizeof(*environment));
        if (!environment)
                return -ENOMEM;
        memset(environment, 0, sizeof(*environment));
        environment->map_size = map_size;
        environment->path = strdup(path);
        if (!environment->path)
                return -ENOMEM;

        r = open_env(environment);
        if (r != 0)
                return environment_errno(r);

        (void) mdb_env_info(environment->env, &info);
        environment->map_size = info.me_mapsize; /* more than was asked for when there is more in it */
        *ret = TAKE_PTR(environment);
        return 0;
}

void environment_free(struct environment *environment) {
        close_env(environment);
        free(environment->path);
        free(environment);
}

int environment_open_tables(struct environment *environment,
                            const struct environment_table *tables,
                            size_t n) {
        int r;

        assert(n > 0 && n <= TABLES_MAX);

        environment->tables = tables;
        environment->n_tables = n;
        r = open_tables(environment, true);
        if (r == 0)
                r = open_tables(environment, false);
        return environment_errno(r);
}

static void rest(void) {
        (void) nanosleep(&(struct timespec){ .tv_nsec = REST_NSEC }, NULL);
}

static int64_t count_reads(struct environment *environment) {
        int64_t n = 0;

        for (size_t i = 0; i < THREAD_SLOTS; i++)
                n += __atomic_load_n(&environment->pool[i].n_reads, __ATOMIC_SEQ_CST);
        return n;
}

static int open_anew(struct environment *environment) {
        int r = EIO;

        __atomic_store_n(&environment->is_shut, true, __ATOMIC_SEQ_CST);
        while (count_reads(environment) != 0)
                rest();

        close_env(environment);
        for (unsigned i = 0; r != 0 && i < OPEN_TRIES; i++) { /* it may be for want of a descriptor alone */
                if (i > 0)
                        rest();
                r = open_env(environment);
                if (r != 0)
                        continue;
                r = open_tables(environment, false);
                if (r != 0)
                        close_env(environment);
        }

        __atomic_store_n(&environment->is_shut, false, __ATOMIC_SEQ_CST);
        return environment_errno(r);
}

static bool is_given_up(struct environment *environment) {
        MDB_txn *txn;

        if (mdb_txn_begin(environment->env, NULL, MDB_RDONLY, &txn) == MDB_PANIC)
                return true;

        mdb_txn_abort(txn);
        return false;
}

/* The disk may have the root of a transaction that failed: it is not to be the newest there when its pages get other
 * contents. What is in memory is right. A descriptor of its own has seen no error yet. */
static int write_roots(struct environment *environment) {
        _cleanup_free_ char *name = NULL;
        _cleanup_free_ uint8_t *roots = NULL;
        _cleanup_close_ int fd = -EBADF;
        MDB_stat st;
        size_t size;

        (void) mdb_env_stat(environment->env, &st);
        size = 2 * st.ms_psize;
        roots = malloc(size);
        if (!roots || asprintf(&name, "%s/data.mdb", environment->path) < 0)
                return -ENOMEM;

        fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (pread(fd, roots, size, 0) != (ssize_t) size || pwrite(fd, roots, size, 0) != (ssize_t) size)
                return errno > 0 ? -errno : -EIO;
        return fdatasync(fd) < 0 ? -errno : 0;
}

static int end_doubt(struct environment *environment) {
        int r;

        if (!environment->env) {
                r = open_anew(environment);
                if (r < 0)
                        return r;
        }

        r = write_roots(environment);
        if (r >= 0)
                r = open_anew(environment);
        if (r >= 0)
                environment->is_in_doubt = false;
        return r;
}

/* A thread comes back to its own slot most of the time. */
static struct slot *own_slot(struct environment *environment) {
        return &environment->pool[thread_slot()];
}

static void enter(struct environment *environment, struct slot *slot) {
        for (;;) {
                (void) __atomic_add_fetch(&slot->n_reads, 1, __ATOMIC_SEQ_CST);
                if (!__atomic_load_n(&environment->is_shut, __ATOMIC_SEQ_CST))
                        return;

                (void) __atomic_sub_fetch(&slot->n_reads, 1, __ATOMIC_SEQ_CST);
                rest();
        }
}

bool environment_is_shut(const struct environment *environment) {
        return __atomic_load_n(&environment->is_shut, __ATOMIC_RELAXED);
}

static void leave(struct slot *slot) {
        (void) __atomic_sub_fetch(&slot->n_reads, 1, __ATOMIC_SEQ_CST);
}

int environment_read_begin(struct environment *environment, MDB_txn **ret) {
        struct slot *slot = own_slot(environment);
        MDB_txn *txn;
        int r;

        for (;;) {
                enter(environment, slot);
                txn = __atomic_exchange_n(&slot->txn, NULL, __ATOMIC_ACQUIRE);
                if (txn) {
                        r = mdb_txn_renew(txn);
                        if (r != 0)
                                mdb_txn_abort(txn);
                } else
                        r = environment->env ? mdb_txn_begin(environment->env, NULL, MDB_RDONLY, &txn) : EIO;
                if (r == 0)
                        break;

                leave(slot);
                if (r != MDB_PANIC)
                        return environment_errno(r);
                rest(); /* the writer is about to open it anew */
        }

        *ret = txn;
        return 0;
}

void environment_read_end(struct environment *environment, MDB_txn *txn) {
        struct slot *slot = own_slot(environment);
        MDB_txn *none = NULL;

        mdb_txn_reset(txn);
        if (!__atomic_compare_exchange_n(&slot->txn, &none, txn, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
                mdb_txn_abort(txn);
        leave(slot);
}

int environment_write_begin(struct environment *environment, MDB_txn **ret) {
        if (environment->is_in_doubt) {
                int r = end_doubt(environment);

                /* Whatever it was for want of: as long nobody knows what the disk holds. From a disk that can't be
                 * written nothing that it may name can be taken away. */
                if (r < 0)
                        return r == -EROFS ? r : -EIO;
        }

        return environment_errno(mdb_txn_begin(environment->env, NULL, 0, ret));
}

int environment_write_commit(struct environment *environment, MDB_txn *txn) {
        int r = mdb_txn_commit(txn);

        if (r > 0)
                environment->is_in_doubt = true;
        if (r != 0 && is_given_up(environment))
                (void) open_anew(environment); /* or the next transaction does */

        return environment_errno(r);
}

void environment_write_abort(MDB_txn *txn) {
        mdb_txn_abort(txn);
}

MDB_env *environment_get(struct environment *environment) {
        return environment->env;
}

uint64_t environment_map_size(const struct environment *environment) {
        return environment->map_size;
}

const uint8_t *environment_map(const struct environment *environment) {
        return __atomic_load_n(&environment->map, __ATOMIC_RELAXED);
}

uint64_t environment_extent(struct environment *environment) {
        MDB_envinfo info;
        MDB_stat st;

        (void) mdb_env_info(environment->env, &info);
        (void) mdb_env_stat(environment->env, &st);
        return (info.me_last_pgno + 1) * st.ms_psize;
}

int environment_copy(struct environment *environment,
                     int fd,
                     void (*on_step)(void *userdata),
                     void *userdata) {
        uint64_t end = environment_extent(environment), synced = 0;
        _cleanup_free_ uint8_t *piece = malloc(COPY_PIECE);
        mdb_filehandle_t from;

        if (!piece)
                return -ENOMEM;

        (void) mdb_env_get_fd(environment->env, &from);
        for (uint64_t at = 0; at < end;) {
                ssize_t n = pread(from, piece, MIN(end - at, (uint64_t) COPY_PIECE), (off_t) at);
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0) /* the last pages were never written */
                        break;

                r = write_all(fd, piece, (size_t) n);
                if (r < 0)
                        return r;

                at += (uint64_t) n;
                if (at - synced < COPY_STEP)
                        continue;
                if (fdatasync(fd) < 0)
                        return -errno;
                synced = at;
                on_step(userdata);
        }

        on_step(userdata);
        return 0;
}
