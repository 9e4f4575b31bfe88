/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The LMDB environment below the dictionary: opened, read by many, written by one, and opened anew when a commit
 * has failed. LMDB gives up for ever where it can't write its last page of a commit, for readers too; and an error
 * of the disk is told to each open file of its once, so that a later commit fails for an earlier one's sake. */

#include <lmdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"

struct environment;

struct environment_table {
        const char *name;
        MDB_dbi *dbi;
};

/* Opens the one in the folder path, which exists; makes its files when they are missing. All functions return 0 or
 * an errno: -ENOSPC also when the map is full, -EUCLEAN when LMDB finds itself damaged. */
int environment_open(struct environment **ret, const char *path, size_t map_size);
void environment_free(struct environment *environment);
DEFINE_CLEANUP(struct environment, environment_free)

/* Opens the tables, and makes those that are missing. tables stays the caller's, and as it is, to the end: their
 * dbis are the same after the environment was opened anew. */
int environment_open_tables(struct environment *environment,
                            const struct environment_table *tables,
                            size_t n);

/* A moment to read from: borrowed from a pool, any thread, any number at once up to LMDB's table of readers
 * (-EAGAIN beyond it). The thread must not begin to write before it has ended all that it reads. */
int environment_read_begin(struct environment *environment, MDB_txn **ret);
void environment_read_end(struct environment *environment, MDB_txn *txn);
/* Whether whoever begins to read now waits, since it is being opened anew. Any thread. */
bool environment_is_shut(const struct environment *environment);

/* The writer's. After a commit that has failed nothing can be written before the disk takes what makes sure that the
 * dictionary is as it was before it. */
int environment_write_begin(struct environment *environment, MDB_txn **ret);
/* Ends the transaction in any case. On an error it is not known whether a power cut would bring it back. */
int environment_write_commit(struct environment *environment, MDB_txn *txn);
void environment_write_abort(MDB_txn *txn);

/* Bytes of the file up to the last page that was ever used. The writer's. */
uint64_t environment_extent(struct environment *environment);

/* Writes the file, while nobody changes it, to an empty one, and calls on_step each time that some megabytes more are
 * on the disk. The last ones are not synced. */
int environment_copy(struct environment *environment,
                     int fd,
                     void (*on_step)(void *userdata),
                     void *userdata);

/* LMDB's own, for those who have a transaction, and the writer. */
MDB_env *environment_get(struct environment *environment);
uint64_t environment_map_size(const struct environment *environment);

/* Where the file is mapped, from its first byte on; NULL: not known. It moves when the environment is opened anew.
 * May be called from a signal's handler. */
const uint8_t *environment_map(const struct environment *environment);

/* What LMDB returned, as an errno. */
int environment_errno(int r);
