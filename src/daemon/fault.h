/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The store's dictionary is mapped memory: where the disk can't read a page of it, whoever touches the page gets
 * SIGBUS. Nothing can go on from there; it is said, and the daemon dies of it, to be started again. */

#include "storage.h"

/* From now on; directory is the store's. Until fault_set_storage() every SIGBUS is taken for the dictionary's. */
void fault_watch(const char *directory);

/* It is open; it is not closed before the end. */
void fault_set_storage(struct storage *storage);
