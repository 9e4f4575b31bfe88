/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of the store share. */

#include "check.h"
#include "harness.h"
#include "store.h"

/* A store in a new folder, and the events it told of. */
struct shelf {
        char *path;
        struct storage *storage;
        struct storage_config config;
        struct storage_hooks hooks;
        unsigned n_events[STORAGE_EVENT_SWEPT + 1]; /* atomic */
        int last_error;                             /* atomic */
        bool is_damaged;                            /* what is beside its records need not be right */
};

void shelf_open(struct shelf *shelf);    /* opens (again), with config and hooks as they are */
void shelf_close(struct shelf *shelf);   /* keeps the folder; asserts that all was consistent */
void shelf_init(struct shelf *shelf);    /* a new folder, not opened */
void shelf_destroy(struct shelf *shelf); /* closes, and removes the folder */
unsigned shelf_events(struct shelf *shelf, enum storage_event event);

/* What is beside the records is what they say, and all can be read. */
void assert_consistent(struct shelf *shelf);

/* Bytes that only seed and size tell. */
uint8_t *make_bytes(uint64_t seed, size_t size);

int put(struct shelf *shelf, const char *uri, const void *data, size_t size);
/* The bytes of seed and size, written; it is still to be finished. */
struct storage_upload *make_upload(struct shelf *shelf, uint64_t seed, size_t size);
int put_seeded(struct shelf *shelf, const char *uri, uint64_t seed, size_t size, struct storage_info *ret);
/* g_asserts that uri has the bytes of seed and size. */
void assert_object(struct shelf *shelf, const void *uri, size_t uri_size, uint64_t seed, size_t size);
void assert_absent(struct shelf *shelf, const char *uri);
void assert_fd_bytes(int fd, const uint8_t *bytes, size_t size);

/* Runs function in a child with mounts of its own. Returns false where that is not allowed; a g_assert that
 * fails in the child fails here. */
bool run_with_own_mounts(void (*function)(void));

/* Polls until it is true, a minute at most. */
#define wait_until(condition)                                                                             \
        do {                                                                                              \
                gint64 _deadline = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;                          \
                while (!(condition)) {                                                                    \
                        if (g_get_monotonic_time() > _deadline)                                           \
                                g_error("%s:%d: in vain waited for: %s", __FILE__, __LINE__, #condition); \
                        g_usleep(1000);                                                                   \
                }                                                                                         \
        } while (FALSE)

struct storage_stats shelf_stats(struct shelf *shelf);

/* Lets change alter the last value of a table of a closed store's dictionary; NULL: drops the table. */
void shelf_alter_table(struct shelf *shelf, const char *name, void (*change)(uint8_t *value, size_t size));

/* The path of the only blob of the store. */
char *shelf_only_blob(struct shelf *shelf);
unsigned shelf_count_blobs(struct shelf *shelf);

/* Where a folder of blobs and a blob are, to be freed; and an empty file in a blob's place. */
char *shelf_folder_path(struct shelf *shelf, uint64_t folder);
char *shelf_blob_path(struct shelf *shelf, uint64_t blob);
void shelf_plant(struct shelf *shelf, uint64_t blob);
