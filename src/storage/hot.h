/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The hot table: what is asked for often, in memory, within a budget: what is known of an object, its metadata,
 * its body when that is small. A get that finds it there takes no lock and touches no disk.
 *
 * It is filled on heat: by the second get of an object within a while, not by the first. What goes is chosen
 * by a size-aware S3-FIFO (policy.h). It is never wrong: the writer drops what a transaction touches before it
 * commits, and what was read before that does not get in after it.
 *
 * Any thread, unless it says otherwise. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "epoch.h"
#include "policy.h"
#include "record.h"
#include "storage.h"

#define HOT_BODY_MAX 16384 /* bytes of a file's body that may be kept here */

/* What the key of a long URI has behind the bytes that it shares with it. */
#define KEY_TAIL (KEY_MAX - KEY_HEAD)

#define HOT_HEAT_MAX 3 /* what the policy tells apart */

struct hot;

/* size_max: bytes of memory; 0: nothing is kept. seed: of hot_hash(); nobody outside is to know which URIs meet in a
 * bucket. hash: NULL, or a test's in place of the real one. -ENOMEM. */
int hot_new(struct hot **ret,
            uint64_t size_max,
            uint64_t seed,
            uint64_t (*hash)(const void *uri, size_t uri_size));
/* No other call may be under way. */
void hot_free(struct hot *hot);
DEFINE_CLEANUP(struct hot, hot_free)

/* Another budget. When it is not what it was, all is dropped. -ENOMEM: it stays, empty. */
int hot_set_size(struct hot *hot, uint64_t size_max);

/* Drops all and gives its memory back to the system. -ENOMEM: nothing is kept from now on. */
int hot_clear(struct hot *hot);

/* Gives about half of the memory back to the system, the less hot half, and takes it again only little by
 * little: the first part after grow_usec, and so on. */
void hot_shrink(struct hot *hot, uint64_t grow_usec);

/* Of those who look into the table. */
struct epoch *hot_epoch(struct hot *hot);

/* Stands for a URI in this table. */
uint64_t hot_hash(const struct hot *hot, const void *uri, size_t uri_size);

/* What a get needs. */
struct hot_want {
        uint64_t body_max; /* a file's body of at most so many bytes is to be here */
        bool is_checked;   /* its body is to be one that was read whole and found right */
        bool is_counted;   /* it makes the object hotter */
};

struct hot_found {
        uint64_t blob; /* 0: the body is in the dictionary */
        bool is_checked;
        bool is_lacking; /* something that is wanted: the object is worth being put again, with it */
        uint8_t key_tail[KEY_TAIL]; /* of a long URI */
};

/* An object where it is in the table. Who found it reads it; all but the first two and the last two is the table's
 * alone. */
struct hot_entry {
        struct storage_info info; /* but for hits and used_usec */
        uint64_t blob;            /* as of struct hot_found, as the next */
        bool is_checked;
        bool has_body;
        bool is_dead;
        uint8_t heat; /* atomic */
        uint16_t uri_size;
        uint32_t metadata_size;
        uint64_t hash;
        struct hot_entry *next; /* atomic: in its bucket */
        struct hot_entry *earlier, *later;
        uint64_t hits, used_usec; /* atomic: those of the record */
        struct policy_place place;
        uint32_t size;  /* of the entry */
        uint8_t data[]; /* URI, the tail of its key when it is long, metadata, body */
};

/* NULL: the URI is not long. */
static inline const uint8_t *hot_entry_key_tail(const struct hot_entry *entry) {
        return entry->uri_size > KEY_MAX ? entry->data + entry->uri_size : NULL;
}

/* The body follows it. */
static inline const uint8_t *hot_entry_metadata(const struct hot_entry *entry) {
        return entry->data + entry->uri_size + (entry->uri_size > KEY_MAX ? KEY_TAIL : 0);
}

/* It was got. What is hot already is only read. */
static inline void hot_entry_heat(struct hot_entry *entry) {
        uint8_t heat = __atomic_load_n(&entry->heat, __ATOMIC_RELAXED);

        if (heat < HOT_HEAT_MAX)
                __atomic_store_n(&entry->heat, heat + 1, __ATOMIC_RELAXED);
}

/* NULL: it is not here. Otherwise it is good as long as the caller keeps the place in the epoch that he has. */
struct hot_entry *hot_find(struct hot *hot, const void *uri, size_t uri_size);

/* 1: found, object and *ret are filled; object->body is set when it is here, but for a file's body that is larger
 * than wanted. 0: it is not here. -ENOMEM. */
int hot_get(struct hot *hot,
            uint64_t hash,
            const void *uri,
            size_t uri_size,
            const struct hot_want *want,
            struct storage_object *object,
            struct hot_found *ret);

/* Notes a get that did not find it; returns whether there was another one not long ago. */
bool hot_note(struct hot *hot, uint64_t hash);

/* The moment before the dictionary is read for what will be put. */
uint64_t hot_moment(struct hot *hot, uint64_t hash);

/* Puts what was read after moment, unless it may have changed since, or there is no room. object->body: when
 * it is to be kept. */
void hot_put(struct hot *hot,
             uint64_t hash,
             uint64_t moment,
             const void *uri,
             size_t uri_size,
             const struct storage_object *object,
             const struct hot_found *found);

/* The object turned out to be gone: drops it when it is still of this generation. */
void hot_drop(struct hot *hot, uint64_t hash, uint64_t generation);

/* Around a commit, successful or not: from the one to the other what has one of these hashes (NULL: anything) is not
 * kept, so that no get finds what is older than what another one found in the dictionary. The writer's. */
void hot_suspend(struct hot *hot, const uint64_t *hashes, size_t n);
void hot_resume(struct hot *hot, const uint64_t *hashes, size_t n);

/* Gets that were counted beside the record (usage.h) have been added to it. The writer's. */
void hot_add_usage(struct hot *hot, uint64_t hash, uint64_t generation, uint32_t hits, uint64_t used_usec);

/* Bytes of memory it takes, and the objects in it. */
void hot_count(struct hot *hot, uint64_t *ret_bytes, uint64_t *ret_objects);
