/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Copies of hot blobs as files on a faster file system, in front of the store's. A copy has its blob's number,
 * which never stands for other bytes: it can't be out of date. A thread makes them, and removes them to keep
 * within their limit; whatever fails here, the store has the body.
 *
 * Memory: about 80 bytes for each copy. Functions may be called from any thread. */

#include "blob.h"
#include "cleanup.h"
#include "storage.h"

struct fast;

/* Takes config->cache_path. 0; -EBUSY: another process has it; -ENOTEMPTY: it has files of something else; or
 * an errno. */
int fast_new(struct fast **ret, struct storage *storage, const struct storage_config *config);
/* Nothing is copied or removed any more, and nothing reported. */
void fast_stop(struct fast *fast);
/* Copies stay, for the next one to clear. */
void fast_free(struct fast *fast);
DEFINE_CLEANUP(struct fast, fast_free)

/* As storage_set_cache_path_max(). */
void fast_set_max(struct fast *fast, const struct storage_amount *max);

/* Removes all copies, and waits until that is done. */
void fast_clear(struct fast *fast);

/* Opens the copy of a blob of size bytes: O_RDONLY, a description of its own. -ENOENT: there is none. nowait:
 * -EINPROGRESS when a disk would have to be asked. */
int fast_open(struct fast *fast, uint64_t blob, uint64_t size, bool nowait);

/* A get had to open the store's file: the second time within a while a copy is made, if its checksum is
 * right. */
void fast_want(struct fast *fast,
               uint64_t blob,
               const struct storage_info *info,
               const void *uri,
               size_t uri_size);

/* The blob is gone, and unlinked. */
void fast_drop(struct fast *fast, uint64_t blob);
