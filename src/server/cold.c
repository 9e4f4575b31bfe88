/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cold.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "job.h"
#include "macro.h"
#include "request.h"
#include "session.h"
#include "thread.h"
#include "worker.h"

#define PROBE_STEP ((uint64_t) 128 << 10)
#define READ_SIZE  ((size_t) 64 << 10)

/* A tmpfs can't be asked what is in memory, but all of it is. */
static bool is_in_memory(int fd) {
        struct statfs fs;

        return fstatfs(fd, &fs) >= 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

ssize_t cold_read(int fd, void *buffer, size_t size, uint64_t offset) {
        ssize_t n = preadv2(fd, &(struct iovec){ buffer, size }, 1, (off_t) offset, RWF_NOWAIT);

        if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
                if (!is_in_memory(fd))
                        return -EAGAIN;
                n = pread(fd, buffer, size, (off_t) offset);
        }

        return n < 0 ? -errno : n;
}

bool cold_is_cached(int fd, uint64_t offset, uint64_t size) {
        uint8_t byte;

        for (uint64_t at = 0; at < size; at += PROBE_STEP)
                if (cold_read(fd, &byte, 1, offset + at) <= 0)
                        return false;

        return (size - 1) % PROBE_STEP == 0 || cold_read(fd, &byte, 1, offset + size - 1) > 0;
}

/* One window on its way from the disk; when it is there the session goes on, or a get is answered. */
struct cold {
        struct request request;
        struct job job;
        int fd;
        uint64_t offset, size; /* of all that is to be sent */
        uint64_t copy;         /* as of struct storage_object */
        bool is_original;      /* fd is the body itself, in place of the copy */

        /* Of a get that was not answered yet: the reply's head and the whole of its body. */
        enum timed timed;
        uint64_t generation;
        int error; /* why its beginning can't be read */
        size_t head_size, uri_size;
        uint8_t data[]; /* the head, the URI */
};

/* Nothing of the body has been promised yet: what can't be read can still be said. */
static void note(struct cold *cold, int error) {
        if (cold->head_size == 0)
                return;

        cold->error = error;
        storage_note_body_read(cold->request.worker->storage, cold->data + cold->head_size, cold->uri_size,
                               cold->generation, error);
}

/* A copy can't be read: nobody is to feel that. Returns false when there is nothing else to read. */
static bool leave_copy(struct cold *cold) {
        int fd = cold->copy != 0 ? storage_open_original(cold->request.worker->storage, cold->copy, cold->fd)
                                 : -ENOENT;

        cold->copy = 0;
        if (fd < 0)
                return false;

        (void) close_fd(cold->fd);
        cold->fd = fd;
        cold->is_original = true;
        return true;
}

static void run(struct job *job) {
        struct cold *cold = container_of(job, struct cold, job);
        uint64_t end = cold->offset + WARM_WINDOW, wanted = cold->offset + MIN(cold->size, WARM_WINDOW);
        uint8_t buffer[READ_SIZE];
        unsigned n_done = 0;

        /* The windows after this one are on their way while this one is sent. */
        (void) posix_fadvise(cold->fd, (off_t) cold->offset, (off_t) WARM_AHEAD, POSIX_FADV_WILLNEED);
        for (uint64_t at = cold->offset; at < end;) {
                ssize_t n = pread(cold->fd, buffer, sizeof(buffer), (off_t) at);

                thread_give_way(&n_done, 1); /* sessions that wait for nothing come first */
                if (n <= 0) {
                        if (at < wanted && leave_copy(cold))
                                continue;
                        if (at < wanted)
                                note(cold, n < 0 ? -errno : -EIO);
                        return;
                }
                at += (uint64_t) n;
                if (at >= wanted && at - (uint64_t) n < wanted)
                        note(cold, 0);
        }
}

static void cold_free(struct cold *cold) {
        (void) close_fd(cold->fd);
        free(cold);
}

static void orphaned(_unused_ struct request *request) {
        /* The job is under way: done() frees it. */
}

static void answer(struct cold *cold, struct session *session) {
        uint8_t *p;

        request_resume(&cold->request);
        if (cold->error < 0) {
                request_refuse(session, PROTO_GET, cold->request.id, status_from_error(cold->error), NULL);
                return;
        }

        p = output_reserve(session, cold->head_size);
        if (!p)
                return;

        memcpy(p, cold->data, cold->head_size);
        count_add(&session->worker->counters.statuses[PROTO_OK], 1);
        output_commit(session, p, cold->head_size, -EBADF, TIMED_NOT, 0);
        output_add_file(session, cold->timed,
                        &(struct output_file){
                                        .fd = TAKE_FD(cold->fd),
                                        .offset = cold->offset,
                                        .size = cold->size,
                                        .warm = cold->offset + WARM_WINDOW,
                                        .copy = cold->copy,
                                        .generation = cold->generation,
                        });
}

static void done(struct job *job) {
        struct cold *cold = container_of(job, struct cold, job);
        struct session *session = cold->request.session;

        cold->request.worker->n_files--;
        if (session && cold->head_size > 0)
                answer(cold, session);
        else if (session) {
                struct output_item *item = output_first_file(session);

                session->warming = false;
                if (item) {
                        item->warm = cold->offset + WARM_WINDOW;
                        item->is_recent = false;
                        item->copy = cold->copy;
                }
                if (item && cold->is_original) {
                        (void) close_fd(item->fd);
                        item->fd = TAKE_FD(cold->fd);
                }
                if (session->output_wait == OUTPUT_WAIT_BODY)
                        session->output_wait = OUTPUT_READY;
        }

        request_end(&cold->request);
        cold_free(cold);
}

static void begin(struct cold *cold, struct session *session, uint64_t id) {
        cold->job = (struct job){
                .run = run, .done = done, .mailbox = session->worker->mailbox, .owner = session->peer.uid
        };
        cold->request.orphaned = orphaned;
        count_add(&session->worker->counters.windows_read, 1);
        session->worker->n_files++;
        request_begin(&cold->request, session, id, PROTO_GET);
        request_set_pending(&cold->request, sizeof(*cold) + cold->head_size + cold->uri_size);
        job_submit(session->worker->jobs, &cold->job);
}

int cold_warm_output(struct session *session, struct output_item *item) {
        struct cold *cold;

        session->output_wait = OUTPUT_WAIT_BODY;
        if (session->warming)
                return 0;

        cold = malloc(sizeof(*cold));
        if (!cold)
                return -ENOMEM;

        /* A descriptor of the job's own: the session may be closed meanwhile. */
        *cold = (struct cold){ .fd = fcntl(item->fd, F_DUPFD_CLOEXEC, 0),
                               .offset = item->offset,
                               .size = item->size,
                               .copy = item->copy };
        if (cold->fd < 0) {
                int r = -errno;

                free(cold);
                return r;
        }

        session->warming = true;
        begin(cold, session, 0);
        return 0;
}

void cold_deliver(struct delivery *delivery, enum timed timed) {
        struct session *session = delivery->session;
        struct proto_message *reply = delivery->reply;
        size_t head_size = proto_message_size(reply);
        struct cold *cold = malloc(sizeof(*cold) + head_size + delivery->uri.size);
        ssize_t n;

        if (!cold) {
                request_refuse(session, PROTO_GET, reply->head.id, PROTO_BUSY, NULL);
                return;
        }

        *cold = (struct cold){
                .fd = TAKE_FD(delivery->object->fd),
                .copy = delivery->object->copy,
                .offset = delivery->offset,
                .size = delivery->size,
                .timed = timed,
                .generation = delivery->object->info.etag.generation,
                .head_size = head_size,
                .uri_size = delivery->uri.size,
        };
        memcpy(cold->data + head_size, delivery->uri.data, delivery->uri.size);
        n = proto_message_encode(reply, cold->data, head_size);
        assert(n >= 0 && (size_t) n == head_size);
        begin(cold, session, reply->head.id);
}
