/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "bytes.h"
#include "clock.h"
#include "close-fds.h"
#include "deliver.h"
#include "macro.h"
#include "recent.h"
#include "session.h"
#include "worker.h"

#define FREE_MAX    8 /* structs, each with a chunk, and chunks besides that a worker keeps */
#define ITEMS_FIRST 64
#define IOV_PARTS   64

static void add_size(struct output *output, uint64_t size) {
        output->size += size;
        output->worker->output_size += size;
}

static void remove_size(struct output *output, uint64_t size) {
        output->size -= size;
        output->worker->output_size -= size;
}

static void add_file(struct output *output) {
        output->n_files++;
        output->worker->n_files++;
}

/* The item's descriptor is about to be closed. */
static int take_file(struct output *output, struct output_item *item) {
        output->n_files--;
        output->worker->n_files--;
        if (item->kind == OUTPUT_BYTES)
                output->n_fds--;
        return TAKE_FD(item->fd);
}

static void close_file(struct output *output, struct output_item *item) {
        (void) close_fd(take_file(output, item));
}

static void chunk_return(struct worker *worker, struct output_chunk *chunk) {
        if (worker->n_free_chunks >= FREE_MAX) {
                free(chunk);
                return;
        }

        chunk->next = worker->free_chunks;
        worker->free_chunks = chunk;
        worker->n_free_chunks++;
}

static struct output_chunk *chunk_take(struct worker *worker) {
        struct output_chunk *chunk = worker->free_chunks;

        if (chunk) {
                worker->free_chunks = chunk->next;
                worker->n_free_chunks--;
        } else {
                chunk = malloc(sizeof(*chunk));
                if (!chunk)
                        return NULL;
        }

        chunk->next = NULL;
        chunk->size = 0;
        return chunk;
}

void output_free(struct output *output) {
        while (output->first) {
                struct output_chunk *chunk = output->first;

                output->first = chunk->next;
                free(chunk);
        }
        free(output->items);
        free(output);
}

static struct output *output_new(struct worker *worker) {
        struct output *output = calloc(1, sizeof(*output));

        if (!output)
                return NULL;

        output->items = malloc(ITEMS_FIRST * sizeof(output->items[0]));
        output->first = output->last = chunk_take(worker);
        if (!output->items || !output->first) {
                output_free(output);
                return NULL;
        }

        output->items_size = ITEMS_FIRST;
        output->worker = worker;
        return output;
}

static struct output *output_take(struct worker *worker) {
        struct output *output = worker->free_outputs;

        if (!output)
                return output_new(worker);

        worker->free_outputs = output->next_free;
        worker->n_free_outputs--;
        return output;
}

/* Nothing waits any more: what held it goes back to the worker, one chunk with it. */
static void output_release(struct session *session) {
        struct worker *worker = session->worker;
        struct output *output = TAKE_PTR(session->output);

        assert(output->n_items == 0 && output->n_fds == 0 && output->n_files == 0);
        assert(output->n_replies == 0 && output->size == 0);

        while (output->first != output->last) {
                struct output_chunk *chunk = output->first;

                output->first = chunk->next;
                chunk_return(worker, chunk);
        }

        session->output_wait = OUTPUT_READY;
        if (worker->n_free_outputs >= FREE_MAX || output->items_size > 16 * ITEMS_FIRST) {
                output_free(output);
                return;
        }

        output->first->size = 0;
        output->items_first = 0;
        output->next_free = worker->free_outputs;
        worker->free_outputs = output;
        worker->n_free_outputs++;
}

static struct output_item *item_at(struct output *output, uint32_t i) {
        return &output->items[(output->items_first + i) & (output->items_size - 1)];
}

/* The first item is done with. */
__attribute__((always_inline)) static inline void pop(struct output *output, struct output_item *item) {
        if (item->fd >= 0)
                close_file(output, item);
        if (item->kind == OUTPUT_BLOCK)
                free(item->block);
        if (item->kind == OUTPUT_BYTES || item->kind == OUTPUT_BLOCK)
                remove_size(output, item->size);
        output->n_replies -= item->n_replies;
        output->begun = false;
        output->items_first++;
        output->n_items--;
}

void output_discard(struct session *session) {
        struct output *output = session->output;

        if (!output)
                return;

        while (output->n_items > 0)
                pop(output, item_at(output, 0));
        output_release(session);
}

struct output_item *output_first_file(struct session *session) {
        struct output *output = session->output;

        for (uint32_t i = 0; output && i < output->n_items; i++) {
                struct output_item *item = item_at(output, i);

                if (item->kind == OUTPUT_FILE)
                        return item;
        }

        return NULL;
}

__attribute__((noinline)) static bool enlarge(struct output *output) {
        uint32_t size = output->items_size * 2;
        struct output_item *items = malloc(size * sizeof(items[0]));

        if (!items)
                return false;

        for (uint32_t i = 0; i < output->n_items; i++)
                items[i] = *item_at(output, i);
        free(output->items);
        output->items = items;
        output->items_size = size;
        output->items_first = 0;
        return true;
}

static inline struct output_item *push(struct output *output) {
        if (output->n_items == output->items_size && !enlarge(output))
                return NULL;

        return item_at(output, output->n_items++);
}

static void out_of_memory(struct session *session) {
        session_break(session, -ENOMEM, "no memory for its answers");
}

static bool begin_output(struct session *session) {
        session->output = output_take(session->worker);
        if (!session->output)
                return false;

        session->output_wait = OUTPUT_READY;
        session->output_usec = session->worker->now_usec;
        return true;
}

static bool add_chunk(struct output *output) {
        struct output_chunk *chunk = chunk_take(output->worker);

        if (!chunk)
                return false;

        output->last->next = chunk;
        output->last = chunk;
        return true;
}

uint8_t *output_reserve(struct session *session, size_t size) {
        struct output_chunk *chunk;

        assert(size <= OUTPUT_CHUNK_SIZE);

        if (session->broken != 0)
                return NULL;

        if ((!session->output && !begin_output(session)) ||
            (output_room(session) < size && !add_chunk(session->output))) {
                out_of_memory(session);
                return NULL;
        }

        chunk = session->output->last;
        return chunk->data + chunk->size;
}

void output_commit(struct session *session,
                   uint8_t *p,
                   size_t size,
                   int fd,
                   enum timed timed,
                   unsigned n_replies) {
        struct output *output = session->output;
        struct output_chunk *chunk = output->last;
        struct output_item *item = output->n_items > 0 ? item_at(output, output->n_items - 1) : NULL;

        assert(p == chunk->data + chunk->size);
        assert(OUTPUT_CHUNK_SIZE - chunk->size >= size);

        if (!item || item->kind != OUTPUT_BYTES || item->p + item->size != p || fd >= 0 ||
            item->n_replies + n_replies > OUTPUT_REPLIES_MAX || item->timed != timed ||
            item->asked_usec != session->asked_usec) {
                item = push(output);
                if (!item) {
                        (void) close_fd(fd);
                        out_of_memory(session);
                        return;
                }
                *item = (struct output_item){
                        .kind = OUTPUT_BYTES,
                        .timed = (uint8_t) timed,
                        .fd = fd,
                        .asked_usec = session->asked_usec,
                        .p = p,
                        .chunk = chunk,
                };
        }

        chunk->size += size;
        item->size += size;
        item->n_replies = (uint8_t) (item->n_replies + n_replies);
        add_size(output, size);
        output->n_replies += n_replies;
        if (fd >= 0) {
                output->n_fds++;
                add_file(output);
        }
}

static void count_status(struct session *session, uint16_t status) {
        if (status < COUNTERS_STATUS_MAX)
                count_add(&session->worker->counters.statuses[status], 1);
}

/* Encodes the head into room for it and size bytes more. */
static uint8_t *encode(struct session *session, struct proto_message *reply, size_t size, size_t *ret_head) {
        size_t head = proto_message_size(reply);
        uint8_t *p = output_reserve(session, head + size);
        ssize_t n;

        if (!p)
                return NULL;

        n = proto_message_encode(reply, p, head);
        assert(n >= 0 && (size_t) n == head);
        count_status(session, reply->head.status);
        *ret_head = head;
        return p;
}

void output_add(struct session *session, struct proto_message *reply) {
        output_add_fd(session, reply, -EBADF);
}

void output_add_fd(struct session *session, struct proto_message *reply, int fd) {
        enum timed timed = fd >= 0                                         ? TIMED_GET_FDPASS
                           : reply->head.type == (PROTO_GET | PROTO_REPLY) ? TIMED_GET_BODILESS
                                                                           : TIMED_NOT;
        size_t head;
        uint8_t *p;

        reply->head.body_size = 0;
        p = encode(session, reply, 0, &head);
        if (!p) {
                (void) close_fd(fd);
                return;
        }
        output_commit(session, p, head, fd, timed, 1);
}

static void add_block_item(struct session *session,
                           const uint8_t *position,
                           void *block,
                           size_t size,
                           enum timed timed) {
        struct output *output = session->output;
        struct output_item *item = session->broken != 0 ? NULL : push(output);

        if (!item) {
                free(block);
                out_of_memory(session);
                return;
        }

        *item = (struct output_item){
                .kind = OUTPUT_BLOCK,
                .n_replies = 1,
                .timed = (uint8_t) timed,
                .fd = -EBADF,
                .size = size,
                .asked_usec = session->asked_usec,
                .position = (uint8_t *) position,
                .block = block,
        };
        add_size(output, size);
        output->n_replies++;
}

static void add_block(struct session *session,
                      struct proto_message *reply,
                      void *block,
                      size_t size,
                      enum timed timed) {
        size_t head;
        uint8_t *p;

        reply->head.body_size = size;
        p = encode(session, reply, 0, &head);
        if (!p) {
                free(block);
                return;
        }
        output_commit(session, p, head, -EBADF, timed, size == 0);
        if (size == 0)
                free(block);
        else
                add_block_item(session, block, block, size, timed);
}

void output_add_data(struct session *session, struct proto_message *reply, const void *data, size_t size) {
        size_t head;
        uint8_t *p;

        reply->head.body_size = size;
        if (proto_message_size(reply) + size > OUTPUT_CHUNK_SIZE) {
                void *block = malloc(size);

                if (!block) {
                        out_of_memory(session);
                        return;
                }
                memcpy(block, data, size);
                add_block(session, reply, block, size, TIMED_GET_INLINE);
                return;
        }

        p = encode(session, reply, size, &head);
        if (!p)
                return;
        if (size > 0)
                memcpy(p + head, data, size);
        output_commit(session, p, head + size, -EBADF, TIMED_GET_INLINE, 1);
}

void output_add_block(struct session *session, struct proto_message *reply, void *block, size_t size) {
        add_block(session, reply, block, size, TIMED_NOT);
}

void output_add_file(struct session *session, enum timed timed, const struct output_file *file) {
        struct output *output = session->output;
        struct output_item *item = session->broken != 0 ? NULL : push(output);

        assert(file->size > 0);

        if (!item) {
                (void) close_fd(file->fd);
                out_of_memory(session);
                return;
        }

        *item = (struct output_item){
                .kind = OUTPUT_FILE,
                .n_replies = 1,
                .timed = (uint8_t) timed,
                .fd = file->fd,
                .size = file->size,
                .asked_usec = session->asked_usec,
                .offset = file->offset,
                .warm = file->warm,
                .copy = file->copy,
                .generation = file->generation,
                .is_whole = file->offset == 0,
                .is_recent = recent_has(session->worker, file),
        };
        add_file(output);
        output->n_replies++;
}

void output_add_file_reply(struct session *session,
                           struct proto_message *reply,
                           enum timed timed,
                           const struct output_file *file) {
        size_t head;
        uint8_t *p = encode(session, reply, 0, &head);

        if (!p) {
                (void) close_fd(file->fd);
                return;
        }
        output_commit(session, p, head, -EBADF, TIMED_NOT, 0);
        output_add_file(session, timed, file);
}

/* The item is sent. */
static void time_item(struct output *output, const struct output_item *item, uint64_t now_usec) {
        histogram_add(&output->worker->counters.timed[item->timed], now_usec - item->asked_usec,
                      item->n_replies);
}

/* size bytes of the first items are sent. */
static void advance(struct output *output, uint64_t size) {
        uint64_t now_usec = 0;

        while (size > 0) {
                struct output_item *item = item_at(output, 0);

                if (size < item->size) {
                        output->begun = true;
                        item->size -= size;
                        if (item->kind == OUTPUT_BYTES || item->kind == OUTPUT_BLOCK) {
                                item->p += size; /* position, of a block: the same place */
                                remove_size(output, size);
                        } else
                                item->offset += size;
                        return;
                }

                size -= item->size;
                if (item->kind == OUTPUT_FILE)
                        recent_note(output->worker, item);
                if (item->timed != TIMED_NOT && item->n_replies > 0) {
                        now_usec = now_usec ?: clock_usec(CLOCK_MONOTONIC);
                        time_item(output, item, now_usec);
                }
                pop(output, item);
        }
}

/* Chunks before the one that the first item is in are done with. */
static void return_chunks(struct session *session) {
        struct output *output = session->output;
        struct output_item *item = item_at(output, 0);

        if (output->n_items == 0 || item->kind != OUTPUT_BYTES)
                return;

        while (output->first != item->chunk) {
                struct output_chunk *chunk = output->first;

                output->first = chunk->next;
                chunk_return(session->worker, chunk);
        }
}

/* How many descriptors may go out now. 0 and output_wait, when the client has to receive some first. */
static uint32_t fds_allowed(struct session *session) {
        uint32_t max = session->limits.fds_in_flight_max;

        if (session->fds_sent >= max / 2 || session->fds_sent + session->fds_per_batch > max) {
                int waiting = 0;

                /* What is in the socket is not its bytes exactly, but 0 means that all was read; 1 is a
                 * message that is just being freed, which comes after the edge that tells of it. */
                if (ioctl(session->fd, SIOCOUTQ, &waiting) >= 0 && waiting <= 1)
                        session->fds_sent = 0;
        }

        return session->fds_sent >= max ? 0 : MIN(max - session->fds_sent, (uint32_t) session->fds_per_batch);
}

/* Room for an item at i. */
static bool insert(struct output *output, uint32_t i) {
        if (!push(output))
                return false;

        for (uint32_t k = output->n_items; k-- > i + 1;)
                *item_at(output, k) = *item_at(output, k - 1);
        return true;
}

/* The kernel lets the daemon's user have no more descriptors in flight, and those who have them may never take
 * them: the first one that waits is answered with its bytes, as any get may be. Returns 0 or an error. */
static int send_body_instead(struct session *session) {
        struct output *output = session->output;
        struct counters *counters = &session->worker->counters;
        struct output_item *item;
        struct stat st;
        bool body;
        uint32_t i = 0;

        while (item_at(output, i)->kind != OUTPUT_BYTES || item_at(output, i)->fd < 0)
                i++;

        item = item_at(output, i);
        if (fstat(item->fd, &st) < 0)
                return -errno;

        assert(item->size == load_le32(item->p) && item->n_replies == 1); /* no other is timed as it is */
        body = st.st_size > 0;
        if (body && !insert(output, i + 1))
                return -ENOMEM;

        item = item_at(output, i);
        item->timed = TIMED_GET_COPY;
        if (body) {
                *item_at(output, i + 1) = (struct output_item){
                        .kind = OUTPUT_FILE,
                        .n_replies = 1,
                        .timed = TIMED_GET_COPY,
                        .fd = TAKE_FD(item->fd),
                        .size = (uint64_t) st.st_size,
                        .asked_usec = item->asked_usec,
                };
                output->n_fds--;
        } else
                close_file(output, item);

        proto_head_set_body(item->p, OP_COPY, (uint64_t) st.st_size);
        proto_head_set_fd(item->p, 0, 0);
        item->n_replies = !body;
        session->output_wait = OUTPUT_READY;

        count_add(&counters->replies[OP_COPY], 1);
        count_add(&counters->bytes[OP_COPY], (uint64_t) st.st_size);
        return 0;
}

/* One sendmsg() of what is in memory at the head of the queue. Returns the bytes sent; 0 and output_wait, when the
 * client has to receive descriptors first; or an error. */
static ssize_t send_batch(struct session *session) {
        struct output *output = session->output;
        struct iovec iov[IOV_PARTS];
        struct output_item *owners[FDPASS_MAX_FDS];
        int fds[FDPASS_MAX_FDS];
        uint32_t n_iov = 0, n_fds = 0, n_items, allowed = 0;
        uint64_t size = 0, max = session->worker->may_send;
        ssize_t n;

        /* A client may take a body without room for descriptors: no message that brings some begins there. */
        if (output->n_fds > 0 && !output->begun)
                allowed = fds_allowed(session);

        for (n_items = 0; n_items < output->n_items && size < max; n_items++) {
                struct output_item *item = item_at(output, n_items);
                uint64_t part = MIN(item->size, max - size);

                if (item->kind == OUTPUT_FILE ||
                    (item->kind == OUTPUT_BYTES && item->fd >= 0 && n_fds == allowed))
                        break;

                if (n_iov > 0 && (uint8_t *) iov[n_iov - 1].iov_base + iov[n_iov - 1].iov_len == item->p)
                        iov[n_iov - 1].iov_len += part;
                else if (n_iov == IOV_PARTS)
                        break;
                else
                        iov[n_iov++] = (struct iovec){ item->p, part };

                size += part;
                if (item->kind == OUTPUT_BYTES && item->fd >= 0) {
                        owners[n_fds] = item;
                        fds[n_fds++] = item->fd;
                }
        }

        if (n_iov == 0) {
                session->output_wait = OUTPUT_WAIT_FDS;
                return 0;
        }

        for (uint32_t i = 0; i < n_fds; i++)
                proto_head_set_fd(owners[i]->p, (uint16_t) i, (uint16_t) n_fds);

        n = fdpass_write(session->fd, iov, n_iov, fds, n_fds);
        if (n <= 0 || n_fds == 0)
                return n;

        /* They went with the first byte. */
        for (uint32_t i = 0; i < n_fds; i++)
                (void) take_file(output, owners[i]);
        close_fds(fds, n_fds);
        session->fds_sent += n_fds;
        return n;
}

/* Of what is in memory at the head of the queue. Returns the bytes sent; 0, output_wait says whether it waits for
 * something; or the error that ends the session. */
static ssize_t send_some(struct session *session, const struct output_item *item) {
        bool is_alone = session->output->n_items == 1 && item->fd < 0; /* needs no lists */
        uint64_t max = session->worker->may_send;
        ssize_t n = is_alone ? fdpass_write_bytes(session->fd, item->p, MIN(item->size, max))
                             : send_batch(session);

        if (n >= 0)
                return n;
        if (n == -ETOOMANYREFS)
                return send_body_instead(session);
        if (n != -EAGAIN)
                return n;

        session->output_wait = OUTPUT_WAIT_ROOM;
        return 0;
}

int output_flush(struct session *session) {
        struct output *output = session->output;
        struct worker *worker = session->worker;

        while (output->n_items > 0) {
                struct output_item *item = item_at(output, 0);
                ssize_t n;

                if (item->kind == OUTPUT_FILE) {
                        uint64_t max = worker->turns ? worker->may_send : worker->may_send_alone;

                        if (max == 0 || worker->small_first)
                                return 1;
                        n = deliver_file_send(session, item, max);
                } else if (worker->may_send == 0)
                        return 1;
                else
                        n = send_some(session, item);
                if (n < 0)
                        return (int) n;
                if (n > 0) {
                        advance(output, (uint64_t) n);
                        worker->may_send -= MIN(worker->may_send, (uint64_t) n);
                        worker->may_send_alone -= MIN(worker->may_send_alone, (uint64_t) n);
                        session->output_usec = worker->now_usec;
                        return_chunks(session);
                } else if (session->output_wait != OUTPUT_READY)
                        return 0;
        }

        output_release(session);
        return 0;
}
