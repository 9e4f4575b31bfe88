/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Makes anew, from the records alone, what is kept beside them, and the sums: for a store of an older version,
 * whose dictionary is copied before, and when the sums can't be read. Before the store is used. It takes as long
 * as there are records, but only so much memory: many transactions, each of which says how far it came, so
 * that the next start goes on where this one died. */

#include "dictionary.h"

struct storage;

/* Copies the dictionary of an older version in the folder dir_fd to the file "data.mdb.VERSION", synced, in place of
 * one that is there. On failure nothing is left of it. 0 or an errno. */
int rebuild_copy(struct storage *storage, int dir_fd, unsigned version);

/* Begins anew: forgets what is kept beside the records, and says that it has to be made. 0 or an errno. */
int rebuild_begin(struct storage *storage, struct dictionary_state *state);

/* Goes on to the end. The accounts are as loaded, and without a configuration: all is counted in the rest. An object
 * that can't be read is counted, and its blob is taken for left over. 1: done; 0: there was nothing to do; or an
 * errno. */
int rebuild_run(struct storage *storage, struct dictionary_state *state);
