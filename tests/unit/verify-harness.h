/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of verify share: a verification with what it told, and a store to damage. */

#include <pthread.h>

#include "storage-harness.h"

#define BIG   5000
#define SMALL 100

struct report {
        pthread_mutex_t mutex;
        pthread_cond_t cond;
        bool is_done;
        int result;
        GPtrArray *lines;
        unsigned kill_at; /* SIGKILL in the n-th finding */
        struct storage_verify_progress progress;
};

/* Begins a verification, and waits for its end. kill_at stays. */
struct storage_verify *report_begin(struct shelf *shelf, struct report *report, bool repair, uint64_t rate);
void report_end(struct storage_verify *verify, struct report *report);
void report_done(struct report *report);

/* Verifies, and g_asserts that it finds these lines, in order: "PROBLEM URI FILE OUTCOME". */
void assert_verify(struct shelf *shelf, bool repair, const char *const *lines);
#define FOUND(...) ((const char *const[]){ __VA_ARGS__, NULL })
/* Nothing is found, and another who looks says so too. */
void assert_clean(struct shelf *shelf);

/* A new store with objects of every kind. Those with one letter have blobs: "a" has blob 1, "b" 2, up to "e". */
void shelf_fill(struct shelf *shelf);
void verify_fill(struct shelf *shelf);
/* g_asserts that all but those of but (their letters) are as they were put. */
void assert_intact(struct shelf *shelf, const char *but);

unsigned shelf_count_quarantined(struct shelf *shelf);
void flip_byte(struct shelf *shelf, uint64_t blob);
void resize_blob(struct shelf *shelf, uint64_t blob, off_t size);
/* A file among the blobs. */
void make_stray(struct shelf *shelf, const char *name);
/* For shelf_alter_table(). */
void flip_middle(uint8_t *value, size_t size);
