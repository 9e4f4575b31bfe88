/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The bytes of one body that Varnish holds: pieces of memory while they come, and then, where it can be, one place for
 * all of them: an object's mapping, or a copy of the right size. One thread adds; any number of others read meanwhile.
 * Bytes that came never change and never move while they are pinned. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum body_place {
        BODY_IN_PIECES,
        BODY_IN_PIECE, /* the only one, which stays */
        BODY_IN_COPY,
        BODY_IN_MAPPING,
};

struct piece;
struct VSC_objmapper_storage;

struct body {
        struct VSC_objmapper_storage *counters;
        pthread_mutex_t mutex; /* over all below */
        struct piece *first, *last;
        uint64_t size;                  /* bytes that came */
        _Atomic(const uint8_t *) whole; /* the one place; NULL: they are in pieces */
        size_t whole_size;
        enum body_place place; /* what whole is */
        unsigned pins;         /* readers of pieces */
};

/* counters: where its memory and mappings are counted; must outlive it. */
void body_init(struct body *body, struct VSC_objmapper_storage *counters);
/* Gives all back; nobody may read any more. It is empty then. */
void body_end(struct body *body);

uint64_t body_get_size(struct body *body);
bool body_is_whole(struct body *body);

/* All bytes, once no more come, without a lock; NULL: they are in pieces, or there are none. */
const uint8_t *body_get_whole(struct body *body, size_t *ret_size);

/* Room for more bytes: how much, and where; 0: there is none. */
size_t body_room(struct body *body, uint8_t **ret);
/* How much a new piece should have when so much is asked for. */
size_t body_next_piece(struct body *body, size_t wanted);
/* A piece of memory that the caller has accounted for. -ENOMEM. */
int body_add_piece(struct body *body, size_t size);
/* n bytes came into the room. */
void body_extend(struct body *body, size_t n);

/* Bytes from position on, at least 1, and where; 0: there are none yet. Pinned: they stay until body_unpin(), and
 * whoever gets them must be done with them by then; otherwise they stay as long as the body. */
size_t body_pin(struct body *body, uint64_t position, const uint8_t **ret, bool *ret_pinned);
void body_unpin(struct body *body);
/* At most size bytes from position on into memory; how many. */
size_t body_copy(struct body *body, uint64_t position, void *memory, size_t size);

/* The body's place, before its first byte came or when its last is there: size bytes, a mapping of which the body
 * becomes the owner. The pieces are given back as soon as nobody reads them. */
void body_settle_mapping(struct body *body, const void *mapping, size_t size);
/* The same with a copy of its own, where that saves memory, or with the only piece. */
void body_settle_copy(struct body *body);
