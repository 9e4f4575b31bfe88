/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive-input.h"
#include "bulk.h"
#include "clock.h"
#include "macro.h"
#include "member.h"
#include "report.h"

#define SMALL_MAX   (UINT64_C(256) << 10) /* bytes of a body that is read into memory */
#define BATCH_BYTES (UINT64_C(8) << 20)   /* bytes of the bodies in memory, but for the last one */

/* A put whose body is in memory. */
struct job {
        struct import *import;
        objmapper_request *request;
        uint64_t expires_usec;
        char *uri;
        size_t uri_size;
        void *body;
};

struct import {
        struct bulk bulk;
        struct archive_input *input;
        uint64_t n_expired;

        /* Small objects are gathered, and put when nothing is being read: however slow the input is, nothing is
         * under way meanwhile that could time out. */
        struct job jobs[BULK_IN_FLIGHT_MAX];
        size_t n_jobs;
        uint64_t bytes;
};

static void job_done(struct job *job) {
        objmapper_request_free(job->request);
        free(job->uri);
        free(job->body);
        *job = (struct job){};
}

static void forget_jobs(struct import *import) {
        for (size_t i = 0; i < import->n_jobs; i++)
                job_done(&import->jobs[i]);

        import->n_jobs = 0;
        import->bytes = 0;
}

static void member_failed(struct import *import, const char *what) {
        progress_clear(&import->bulk.progress);
        complain("member '%s' %s", archive_input_name(import->input), what);
        bulk_failed(&import->bulk, EXIT_FAILED);
}

static void on_reply(objmapper_client *client _unused_, int error, objmapper_object *object, void *userdata) {
        _cleanup_(objmapper_object_freep) _unused_ objmapper_object *owned = object;
        struct import *import = userdata;

        if (error < 0)
                bulk_request_failed(&import->bulk, error);
        else
                bulk_done(&import->bulk, object);
}

/* What is left of an object's life is known when it is put. */
static void set_expiry(objmapper_request *request, uint64_t expires_usec) {
        uint64_t now = clock_usec(CLOCK_REALTIME);

        if (expires_usec > 0)
                (void) objmapper_request_set_ttl(
                                request, expires_usec > now ? (expires_usec - now) / USEC_PER_MSEC + 1 : 1);
}

static int put_jobs(struct import *import) {
        int r;

        for (size_t i = 0; i < import->n_jobs && !import->bulk.stop; i++) {
                struct job *job = &import->jobs[i];

                set_expiry(job->request, job->expires_usec);
                (void) bulk_submit(&import->bulk, job->request, on_reply, import);
        }

        r = bulk_wait(&import->bulk, 0);
        if (r >= 0) /* otherwise the client still has the bodies; it is closed next */
                forget_jobs(import);

        return r;
}

/* Puts under way at the same time may be made in any order: of two with the same URI the later must win. */
static bool has_job_for(const struct import *import, const struct member *member) {
        for (size_t i = 0; i < import->n_jobs; i++)
                if (import->jobs[i].uri_size == member->uri_size &&
                    memcmp(import->jobs[i].uri, member->uri, member->uri_size) == 0)
                        return true;

        return false;
}

/* Takes the request, in any case. */
static int put_small(struct import *import, const struct member *member, objmapper_request *request) {
        struct job *job;
        int r;

        assert(import->n_jobs < BULK_IN_FLIGHT_MAX);

        if (has_job_for(import, member)) {
                r = put_jobs(import);
                if (r < 0) {
                        objmapper_request_free(request);
                        return r;
                }
        }

        job = &import->jobs[import->n_jobs++];
        *job = (struct job){
                .request = request,
                .expires_usec = member->expires_usec,
                .uri = malloc(member->uri_size),
                .uri_size = member->uri_size,
                .body = malloc(MAX(member->size, 1U)),
        };
        r = job->uri && job->body ? 0 : -ENOMEM;
        if (r >= 0) {
                memcpy(job->uri, member->uri, member->uri_size);
                r = archive_input_read(import->input, job->body, (size_t) member->size);
        }
        if (r >= 0)
                r = objmapper_request_set_body(request, job->body, (size_t) member->size);
        if (r < 0) {
                job_done(job);
                import->n_jobs--;
                return r;
        }

        import->bytes += member->size;
        if (import->n_jobs < BULK_IN_FLIGHT_MAX && import->bytes < BATCH_BYTES)
                return 0;

        return put_jobs(import);
}

static int put_large(struct import *import, const struct member *member, objmapper_request *request) {
        int r;

        r = put_jobs(import);
        if (r < 0 || import->bulk.stop)
                return r;

        set_expiry(request, member->expires_usec);
        return archive_input_put(import->input, &import->bulk, request, on_reply, import);
}

static int add_what_is_said(struct import *import, const struct member *member, objmapper_request *request) {
        int r;

        r = objmapper_request_set_checksum(request, member->checksum);
        if (r >= 0)
                r = member_add_metadata(member, request);
        if (r >= 0)
                r = request_add_put_options(request, &import->bulk.ctl->arguments);

        return r;
}

static int put_member(struct import *import, const struct member *member) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        int r;

        if (member->expires_usec > 0 && member->expires_usec <= clock_usec(CLOCK_REALTIME)) {
                import->n_expired++;
                return 0;
        }

        r = objmapper_request_new(&request, OBJMAPPER_PUT, member->uri, member->uri_size);
        if (r >= 0)
                r = add_what_is_said(import, member, request);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                member_failed(import, "has a URI or metadata that no object can have");
                return 0;
        }

        return member->size <= SMALL_MAX ? put_small(import, member, TAKE_PTR(request))
                                         : put_large(import, member, request);
}

/* Puts all that is there. 0; or an error that ended it: of reading, of memory. */
static int import_all(struct import *import) {
        struct member member;
        const char *refusal;
        int r = 0, put = 0;

        while (!import->bulk.stop && (r = archive_input_next(import->input, &member, &refusal)) > 0) {
                if (refusal)
                        member_failed(import, refusal);
                else {
                        r = put_member(import, &member);
                        if (r < 0)
                                break;
                }
                progress_draw(&import->bulk.progress, import->bulk.n_done + import->bulk.n_failed,
                              archive_input_position(import->input));
        }

        /* What came whole is put, whatever follows. */
        if (!import->bulk.stop)
                put = put_jobs(import);

        return import->bulk.stop ? 0 : MIN(r, put);
}

int verb_import(struct ctl *ctl) {
        const struct arguments *a = &ctl->arguments;
        const char *path = a->n_operands > 0 && strcmp(a->operands[0], "-") != 0 ? a->operands[0] : NULL;
        const char *failure = path ? "can't read" : "can't read standard input";
        _cleanup_(archive_input_freep) struct archive_input *input = NULL;
        _cleanup_(forget_jobs) struct import import = { .bulk.ctl = ctl };
        _cleanup_close_ int opened = -EBADF;
        int fd = STDIN_FILENO, r;

        if (path) {
                fd = opened = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
                if (fd < 0)
                        return report_file(failure, path, -errno);
        }
        if (isatty(fd)) {
                complain("an archive does not come from a terminal: name a file, or redirect standard input");
                return EXIT_USAGE;
        }

        r = archive_input_new(fd, &input, &import.bulk.progress.total_bytes);
        if (r < 0)
                return report_file(failure, path, r);

        import.input = input;
        import.bulk.progress.enabled = import.bulk.progress.total_bytes > 0 && progress_wanted();

        r = import_all(&import);
        progress_clear(&import.bulk.progress);
        if (r == -EBADMSG)
                complain("at byte %" PRIu64 " there is no header of a pax archive: it is damaged%s",
                         archive_input_position(input),
                         import.bulk.n_done > 0 ? ", and what follows can't be found"
                                                : ", compressed, or something else");
        else if (r == -ENODATA)
                complain("the archive is cut off at byte %" PRIu64 ": it lacks its end",
                         archive_input_position(input));
        else if (r < 0)
                (void) report_file(failure, path, r);
        if (r < 0 && import.bulk.result == EXIT_DONE)
                import.bulk.result = EXIT_FAILED;
        if (import.bulk.stop)
                complain("stopped there: what follows would fail likewise");

        printf("%" PRIu64 " objects put, %" PRIu64 " bytes; skipped %" PRIu64 " expired; %" PRIu64
               " failed\n",
               import.bulk.n_done, import.bulk.bytes_done, import.n_expired, import.bulk.n_failed);
        return import.bulk.result;
}
