/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "body.h"

#include "VSC_objmapper_storage.h"

#define PIECE_MAX  ((size_t) 1 << 20)
#define MAPPED_MIN ((size_t) 64 << 10) /* pieces of this size go back to the kernel when they are freed */
#define SLACK_MAX  512                 /* bytes that are not worth a copy */

struct piece {
        struct piece *next;
        size_t size, used;
        uint8_t *data;
};

static void count(uint64_t *counter, int64_t n) {
        (void) __atomic_fetch_add(counter, (uint64_t) n, __ATOMIC_RELAXED);
}

void body_init(struct body *body, struct VSC_objmapper_storage *counters) {
        *body = (struct body){ .counters = counters };
        (void) pthread_mutex_init(&body->mutex, NULL);
}

static void free_pieces(struct body *body) {
        while (body->first) {
                struct piece *piece = body->first;

                body->first = piece->next;
                count(&body->counters->memory, -(int64_t) piece->size);
                if (piece->size >= MAPPED_MIN)
                        (void) munmap(piece->data, piece->size);
                else
                        free(piece->data);
                free(piece);
        }
        body->last = NULL;
}

void body_end(struct body *body) {
        struct VSC_objmapper_storage *counters = body->counters;

        assert(body->pins == 0);
        free_pieces(body);
        if (body->place == BODY_IN_MAPPING) {
                (void) munmap((void *) body->whole, body->whole_size);
                count(&counters->mapped, -(int64_t) body->whole_size);
                count(&counters->mappings, -1);
        } else if (body->place == BODY_IN_COPY) {
                free((void *) body->whole);
                count(&counters->memory, -(int64_t) body->whole_size);
        }
        (void) pthread_mutex_destroy(&body->mutex);
        body_init(body, counters);
}

uint64_t body_get_size(struct body *body) {
        uint64_t size;

        (void) pthread_mutex_lock(&body->mutex);
        size = body->size;
        (void) pthread_mutex_unlock(&body->mutex);

        return size;
}

bool body_is_whole(struct body *body) {
        return body->whole != NULL;
}

const uint8_t *body_get_whole(struct body *body, size_t *ret_size) {
        const uint8_t *whole = body->whole; /* what goes with it was written before */

        if (whole)
                *ret_size = body->whole_size;
        return whole;
}

/* Only who adds asks, so what it finds stays true. */
size_t body_room(struct body *body, uint8_t **ret) {
        size_t room = 0;

        (void) pthread_mutex_lock(&body->mutex);
        if (body->whole) {
                room = body->whole_size - body->size;
                *ret = (uint8_t *) body->whole + body->size;
        } else if (body->last) {
                room = body->last->size - body->last->used;
                *ret = body->last->data + body->last->used;
        }
        (void) pthread_mutex_unlock(&body->mutex);

        return room;
}

size_t body_next_piece(struct body *body, size_t wanted) {
        size_t size = wanted;

        (void) pthread_mutex_lock(&body->mutex);
        if (body->last && size < 2 * body->last->size)
                size = 2 * body->last->size;
        (void) pthread_mutex_unlock(&body->mutex);

        return size > PIECE_MAX ? PIECE_MAX : size;
}

int body_add_piece(struct body *body, size_t size) {
        struct piece *piece;

        assert(size > 0);

        piece = malloc(sizeof(*piece));
        if (!piece)
                return -ENOMEM;
        *piece = (struct piece){ .size = size };
        if (size >= MAPPED_MIN) {
                piece->data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (piece->data == MAP_FAILED)
                        piece->data = NULL;
        } else
                piece->data = malloc(size);
        if (!piece->data) {
                free(piece);
                return -ENOMEM;
        }

        (void) pthread_mutex_lock(&body->mutex);
        if (body->last)
                body->last->next = piece;
        else
                body->first = piece;
        body->last = piece;
        (void) pthread_mutex_unlock(&body->mutex);

        return 0;
}

void body_extend(struct body *body, size_t n) {
        (void) pthread_mutex_lock(&body->mutex);
        if (body->whole)
                assert(n <= body->whole_size - body->size);
        else {
                assert(body->last && n <= body->last->size - body->last->used);
                body->last->used += n;
        }
        body->size += n;
        (void) pthread_mutex_unlock(&body->mutex);
}

size_t body_pin(struct body *body, uint64_t position, const uint8_t **ret, bool *ret_pinned) {
        struct piece *piece;
        size_t n = 0;

        *ret_pinned = false;
        (void) pthread_mutex_lock(&body->mutex);
        if (position >= body->size)
                ;
        else if (body->whole) {
                *ret = body->whole + position;
                n = body->size - position;
        } else {
                for (piece = body->first; piece && position >= piece->used; piece = piece->next)
                        position -= piece->used;
                assert(piece);
                *ret = piece->data + position;
                n = piece->used - position;
                body->pins++;
                *ret_pinned = true;
        }
        (void) pthread_mutex_unlock(&body->mutex);

        return n;
}

void body_unpin(struct body *body) {
        (void) pthread_mutex_lock(&body->mutex);
        assert(body->pins > 0);
        if (--body->pins == 0 && body->place > BODY_IN_PIECE)
                free_pieces(body);
        (void) pthread_mutex_unlock(&body->mutex);
}

size_t body_copy(struct body *body, uint64_t position, void *memory, size_t size) {
        size_t copied = 0;

        while (copied < size) {
                const uint8_t *data;
                bool pinned;
                size_t n = body_pin(body, position + copied, &data, &pinned);

                if (n == 0)
                        break;
                if (n > size - copied)
                        n = size - copied;
                memcpy((uint8_t *) memory + copied, data, n);
                if (pinned)
                        body_unpin(body);
                copied += n;
        }

        return copied;
}

static void settle(struct body *body, const void *whole, size_t size, enum body_place place) {
        (void) pthread_mutex_lock(&body->mutex);
        assert(!body->whole && (body->size == 0 || body->size == size));
        body->whole_size = size;
        body->place = place;
        body->whole = whole;
        if (body->pins == 0 && place > BODY_IN_PIECE)
                free_pieces(body);
        (void) pthread_mutex_unlock(&body->mutex);
}

void body_settle_mapping(struct body *body, const void *mapping, size_t size) {
        count(&body->counters->mapped, (int64_t) size);
        count(&body->counters->mappings, 1);
        settle(body, mapping, size, BODY_IN_MAPPING);
}

void body_settle_copy(struct body *body) {
        size_t size = body->size; /* nobody adds any more */
        uint8_t *copy;

        if (body->whole || !body->first)
                return;
        if (size == 0) {
                free_pieces(body); /* of which nobody has read anything */
                return;
        }
        if (!body->first->next && body->first->size - size <= SLACK_MAX) {
                settle(body, body->first->data, size, BODY_IN_PIECE);
                return;
        }

        copy = malloc(size);
        if (!copy)
                return;
        (void) body_copy(body, 0, copy, size);
        count(&body->counters->memory, (int64_t) size);
        settle(body, copy, size, BODY_IN_COPY);
}
