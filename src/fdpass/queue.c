/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fdpass.h"

#include <errno.h>
#include <stdlib.h>

/* Two rings of fixed size: what waits is bounded whatever the peer sends, and nothing is allocated while
 * frames are received. An empty queue starts at its beginning again, so that a client which keeps up touches
 * the same few cache lines. */

struct batch {
        uint8_t n; /* descriptors that arrived, and that were not taken yet: the next ones of the ring */
        bool truncated;
};

_Static_assert(FDPASS_MAX_FDS <= UINT8_MAX, "a batch counts its descriptors in a byte");

struct fdpass_queue {
        size_t batches_begin, n_batches;
        size_t fds_begin, n_fds;
        unsigned index; /* that the next frame must have; 0: it begins a batch */
        unsigned count; /* of the batch that was begun */
        bool broken;    /* the peer lied: nothing is right any more */
        struct batch batch[FDPASS_QUEUE_BATCHES_MAX];
        int fd[FDPASS_QUEUE_FDS_MAX];
};

int fdpass_queue_new(struct fdpass_queue **ret) {
        struct fdpass_queue *queue = malloc(sizeof(*queue));

        if (!queue)
                return -ENOMEM;

        /* The rings need no value, and their pages no memory, before they are used. */
        queue->batches_begin = queue->n_batches = 0;
        queue->fds_begin = queue->n_fds = 0;
        queue->index = queue->count = 0;
        queue->broken = false;

        *ret = queue;
        return 0;
}

static int pop_fd(struct fdpass_queue *queue) {
        int fd = queue->fd[queue->fds_begin];

        queue->n_fds--;
        queue->fds_begin = queue->n_fds > 0 ? (queue->fds_begin + 1) % FDPASS_QUEUE_FDS_MAX : 0;

        return fd;
}

static void pop_batch(struct fdpass_queue *queue) {
        for (unsigned left = queue->batch[queue->batches_begin].n; left > 0; left--)
                (void) close_fd(pop_fd(queue));

        queue->n_batches--;
        queue->batches_begin = queue->n_batches > 0 ? (queue->batches_begin + 1) % FDPASS_QUEUE_BATCHES_MAX
                                                    : 0;
}

static int give_up(struct fdpass_queue *queue, int error) {
        while (queue->n_batches > 0)
                pop_batch(queue);

        queue->broken = true;
        return error;
}

void fdpass_queue_free(struct fdpass_queue *queue) {
        if (!queue)
                return;

        (void) give_up(queue, 0);
        free(queue);
}

int fdpass_queue_push(struct fdpass_queue *queue, struct fdpass_fds *fds) {
        if (fds->n == 0 && !fds->truncated)
                return 0;

        if (queue->broken || queue->n_batches == FDPASS_QUEUE_BATCHES_MAX ||
            fds->n > FDPASS_QUEUE_FDS_MAX - queue->n_fds) {
                fdpass_fds_close(fds);
                return give_up(queue, -ENOBUFS);
        }

        for (size_t i = 0; i < fds->n; i++)
                queue->fd[(queue->fds_begin + queue->n_fds++) % FDPASS_QUEUE_FDS_MAX] = fds->fd[i];
        queue->batch[(queue->batches_begin + queue->n_batches++) % FDPASS_QUEUE_BATCHES_MAX] = (struct batch){
                .n = (uint8_t) fds->n, .truncated = fds->truncated
        };

        fds->n = 0;
        fds->truncated = false;
        return 0;
}

int fdpass_queue_take(struct fdpass_queue *queue, unsigned index, unsigned count) {
        struct batch *batch = &queue->batch[queue->batches_begin];
        int fd = -ENOLINK;

        if (queue->broken || queue->n_batches == 0 || index != queue->index || index >= count ||
            count > FDPASS_MAX_FDS || (index > 0 && count != queue->count))
                return give_up(queue, -EBADMSG);

        /* Fewer than the frames own, and none was lost on the way: they were never sent. */
        if (index == 0 && batch->n < count && !batch->truncated)
                return give_up(queue, -EBADMSG);

        if (batch->n > 0) {
                batch->n--;
                fd = pop_fd(queue);
        }

        queue->count = count;
        queue->index = index + 1;
        if (queue->index == count) {
                pop_batch(queue);
                queue->index = 0;
        }

        return fd;
}
