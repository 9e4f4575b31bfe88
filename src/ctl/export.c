/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "bulk.h"
#include "macro.h"
#include "member.h"
#include "output-file.h"
#include "report.h"
#include "write-all.h"

#define GATHER_MAX  (256 * 1024)        /* bytes that are written at once, a little more or less */
#define STEP_MAX    (UINT64_C(1) << 30) /* bytes of one sendfile() */
#define BUFFER_SIZE (64 * 1024)

/* A page of the list is got in one go, and written when all of it is there: however slow the output is,
 * nothing is under way meanwhile that could time out. */
#define PAGE_SIZE BULK_IN_FLIGHT_MAX

struct export;

struct slot {
        struct export *export;
        objmapper_object *object;
};

struct export {
        struct bulk bulk;
        int fd;
        FILE *gathered; /* what is to be written: heads, and bodies that came as copies */
        char *memory;
        size_t memory_size;
        uint64_t n_members;
        uint64_t n_absent; /* listed, and not there when their turn came */
        struct slot slots[PAGE_SIZE];
};

static void export_done(struct export *export) {
        for (size_t i = 0; i < PAGE_SIZE; i++)
                objmapper_object_free(export->slots[i].object);
        if (export->gathered)
                (void) fclose(export->gathered);
        free(export->memory);
}

/* ---- output ---- */

static int flush(struct export *export) {
        off_t size = ftello(export->gathered);

        if (fflush(export->gathered) == EOF || size < 0)
                return -ENOMEM;
        rewind(export->gathered);

        return write_all(export->fd, export->memory, (size_t) size);
}

static int gather_zeros(struct export *export, size_t size) {
        static const uint8_t zeros[TAR_BLOCK * TAR_END_BLOCKS];

        return fwrite(zeros, 1, size, export->gathered) < size ? -ENOMEM : 0;
}

/* Reads a piece, or makes it up where that fails: the member's head has promised the bytes. */
static int write_piece(struct export *export, int from, off_t *offset, uint64_t left, int *ret_damage) {
        uint8_t buffer[BUFFER_SIZE];
        size_t size = (size_t) MIN(left, sizeof(buffer));
        ssize_t n = -1;

        while (*ret_damage == 0 && n < 0) {
                n = pread(from, buffer, size, *offset);
                if (n < 0 && errno != EINTR)
                        *ret_damage = -errno;
                else if (n == 0)
                        *ret_damage = -ENODATA;
        }
        if (*ret_damage < 0) {
                memset(buffer, 0, size);
                n = (ssize_t) size;
        }

        *offset += n;
        return write_all(export->fd, buffer, (size_t) n);
}

/* Writes an open file's size bytes. 0, or what writing says; *ret_damage: what reading says. */
static int write_file(struct export *export, int from, uint64_t size, int *ret_damage) {
        off_t offset = 0;
        bool in_kernel = true;

        *ret_damage = 0;

        while ((uint64_t) offset < size) {
                uint64_t left = size - (uint64_t) offset;
                ssize_t n = 0;
                int r = 0;

                if (in_kernel)
                        n = sendfile(export->fd, from, &offset, (size_t) MIN(left, STEP_MAX));
                else
                        r = write_piece(export, from, &offset, left, ret_damage);

                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        r = wait_writable(export->fd, errno);
                else if (n <= 0)
                        in_kernel = false; /* read() and write() say which side it is */
                if (r < 0)
                        return r;
        }

        return 0;
}

/* ---- objects ---- */

static void body_failed(struct export *export, objmapper_object *object, int error) {
        progress_clear(&export->bulk.progress);
        complain("can't read the body of '%s': %s; the archive has zeros instead, which import refuses",
                 objmapper_object_get_uri(object, NULL), strerror(-error));
        bulk_failed(&export->bulk, EXIT_FAILED);
}

static int write_object(struct export *export, objmapper_object *object) {
        uint64_t size = objmapper_object_get_size(object);
        int r, damage = 0;

        r = member_write_head(export->gathered, &export->memory, object, ++export->n_members);
        if (r < 0)
                return r;

        if (objmapper_object_get_mode(object) == OBJMAPPER_FDPASS) {
                r = flush(export);
                if (r >= 0)
                        r = write_file(export, objmapper_object_get_fd(object), size, &damage);
        } else {
                const void *data;
                size_t n;

                r = objmapper_object_get_data(object, &data, &n);
                if (r >= 0 && fwrite(data, 1, n, export->gathered) < n)
                        r = -ENOMEM;
        }
        if (r >= 0)
                r = gather_zeros(export, tar_padding(size));
        if (r >= 0 && ftello(export->gathered) > GATHER_MAX)
                r = flush(export);
        if (r < 0)
                return r;

        if (damage < 0)
                body_failed(export, object, damage);
        else
                bulk_done(&export->bulk, object);

        return 0;
}

static void on_reply(objmapper_client *client _unused_, int error, objmapper_object *object, void *userdata) {
        struct slot *slot = userdata;

        slot->object = object;
        if (error == -ENOENT)
                slot->export->n_absent++;
        else if (error < 0 && error != -ESTALE) /* expired since it was listed */
                bulk_request_failed(&slot->export->bulk, error);
}

/* 0; or an error: of writing, of memory. */
static int export_page(struct export *export, objmapper_object *page) {
        _cleanup_(objmapper_object_freep) objmapper_object *entry = NULL;
        size_t position = 0, n = 0;
        int r;

        while ((r = objmapper_object_next_entry(page, &position, &entry)) > 0 && n < PAGE_SIZE) {
                _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
                struct slot *slot = &export->slots[n];
                const char *uri;
                size_t size;

                slot->export = export;
                uri = objmapper_object_get_uri(entry, &size);
                r = objmapper_request_new(&request, OBJMAPPER_GET, uri, size);
                objmapper_object_free(TAKE_PTR(entry));
                if (r < 0)
                        break;

                if (bulk_submit(&export->bulk, request, on_reply, slot) >= 0)
                        n++;
        }
        if (r >= 0)
                r = bulk_wait(&export->bulk, 0);
        if (r < 0 || export->bulk.stop)
                return r;

        for (size_t i = 0; i < n; i++) {
                _cleanup_(objmapper_object_freep)
                                objmapper_object *object = TAKE_PTR(export->slots[i].object);

                if (object) {
                        r = write_object(export, object);
                        if (r < 0)
                                return r;
                }
                bulk_draw(&export->bulk);
        }

        return 0;
}

/* 0, also when the daemon failed, which was told; or an error of writing, of memory. */
static int export_all(struct export *export, const char *prefix) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        const void *cursor;
        size_t cursor_size;
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_LIST, prefix, strlen(prefix));
        if (r >= 0)
                r = objmapper_request_set_limit(request, PAGE_SIZE);

        do {
                _cleanup_(objmapper_object_freep) objmapper_object *page = NULL;

                if (r < 0)
                        return r;

                r = objmapper_client_call(export->bulk.ctl->client, request, &page);
                if (r < 0) {
                        bulk_request_failed(&export->bulk, r);
                        export->bulk.stop = true;
                        return 0;
                }

                r = export_page(export, page);
                if (r < 0 || export->bulk.stop)
                        return r;

                cursor = objmapper_object_get_cursor(page, &cursor_size);
                r = objmapper_request_set_cursor(request, cursor, cursor_size);
        } while (cursor_size > 0);

        if (r >= 0)
                r = gather_zeros(export, (size_t) TAR_BLOCK * TAR_END_BLOCKS);
        if (r >= 0)
                r = flush(export);
        return r;
}

static int count_object(objmapper_object *object, void *userdata) {
        struct progress *progress = userdata;

        progress->total++;
        progress->total_bytes += objmapper_object_get_size(object);
        return 0;
}

static int take_damaged(const char *name, uint64_t value, void *userdata) {
        if (strcmp(name, "store_damaged") == 0)
                *(uint64_t *) userdata = value;
        return 0;
}

/* How many objects the daemon has found damaged so far. Zero for one that does not count them. */
static uint64_t count_damaged(struct ctl *ctl) {
        uint64_t n = 0;

        return objmapper_stats(ctl->client, take_damaged, &n) < 0 ? 0 : n;
}

/* An object that is found damaged is absent from then on, as is one that somebody removes meanwhile: nobody can tell
 * them apart but the journal. */
static void tell_damaged(struct export *export, uint64_t n_before) {
        uint64_t n = count_damaged(export->bulk.ctl);

        if (export->n_absent == 0 || n <= n_before)
                return;

        complain("%" PRIu64
                 " of the objects that were listed are not in the archive: the daemon found %" PRIu64
                 " damaged meanwhile, which its journal names",
                 export->n_absent, n - n_before);
        bulk_failed(&export->bulk, EXIT_FAILED);
}

int verb_export(struct ctl *ctl) {
        const struct arguments *a = &ctl->arguments;
        const char *prefix = a->n_operands > 0 ? a->operands[0] : "";
        _cleanup_(output_file_freep) struct output_file *file = NULL;
        _cleanup_(export_done) struct export export = {
                .bulk = { .ctl = ctl, .progress.enabled = progress_wanted() },
                .fd = STDOUT_FILENO,
        };
        uint64_t n_damaged;
        int r;

        if (!a->output && isatty(STDOUT_FILENO)) {
                complain("an archive is nothing for a terminal: name a file with --output, or redirect it");
                return EXIT_USAGE;
        }

        export.gathered = open_memstream(&export.memory, &export.memory_size);
        if (!export.gathered)
                return report_file("can't export", prefix, ENOMEM);

        if (export.bulk.progress.enabled) {
                r = objmapper_list(ctl->client, prefix, count_object, &export.bulk.progress);
                if (r < 0)
                        return report(ctl, r);
        }

        if (a->output) {
                r = output_file_new(a->output, &file);
                if (r < 0)
                        return report_file("can't write", a->output, r);
                export.fd = output_file_get_fd(file);
        }

        n_damaged = count_damaged(ctl);
        r = export_all(&export, prefix);
        progress_clear(&export.bulk.progress);
        if (r >= 0 && !export.bulk.stop)
                tell_damaged(&export, n_damaged);
        if (r >= 0 && file && !export.bulk.stop)
                r = output_file_commit(file);
        if (r == -EPIPE)
                die_of_broken_pipe();
        if (r < 0)
                return report_file(a->output ? "can't write" : "can't write standard output", a->output, r);

        if (export.bulk.stop)
                complain("stopped there: the archive is not complete");
        else if (a->verbose || export.bulk.n_failed > 0)
                complain("%" PRIu64 " objects exported, %" PRIu64 " bytes; %" PRIu64 " failed",
                         export.bulk.n_done, export.bulk.bytes_done, export.bulk.n_failed);

        return export.bulk.result;
}
