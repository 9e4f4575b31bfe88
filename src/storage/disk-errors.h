/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOTHING_FAILED UINT64_MAX
#define UNREADABLE_MAX 64 /* objects whose recovery is told of */

struct disk_errors {
        uint64_t failed_size; /* atomic: of the smallest body that could not be written */
        pthread_mutex_t mutex;
        uint64_t unreadable[UNREADABLE_MAX]; /* generations */
        size_t n_unreadable;                 /* atomic, written under the mutex */
        size_t n_forgotten;

        int write_error; /* atomic: why transactions fail; 0: they do not */
        int body_error;  /* atomic: why bodies could not be written when that began */
        pthread_mutex_t watch_mutex;
        void (*changed)(void *userdata); /* NULL: nobody is told; under that mutex */
        void *userdata;
};

struct storage;

/* Whether something can be written has changed, with an error or 0. Any thread. */
void storage_note_writes(struct storage *storage, bool of_bodies, int error);

/* A body of size bytes could be written to its file (0), or why not. Any thread. */
void storage_note_body_written(struct storage *storage, uint64_t size, int error);
