/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "verify-harness.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

static const char *const with_blob[] = { "a", "b", "c", "d", "e" };

static void on_finding(const struct storage_finding *finding, void *userdata) {
        struct report *report = userdata;
        g_autofree char *uri = finding->uri ? g_strndup(finding->uri, finding->uri_size) : g_strdup("-");

        (void) pthread_mutex_lock(&report->mutex);
        g_ptr_array_add(report->lines,
                        g_strdup_printf("%s %s %s %s", storage_problem_name(finding->problem), uri,
                                        finding->file ?: "-",
                                        finding->repair > 0    ? (finding->quarantine ? "moved" : "repaired")
                                        : finding->repair == 0 ? "found"
                                                               : strerror(-finding->repair)));
        if (report->kill_at == report->lines->len)
                (void) raise(SIGKILL);
        (void) pthread_mutex_unlock(&report->mutex);
}

static void on_done(int result, void *userdata) {
        struct report *report = userdata;

        (void) pthread_mutex_lock(&report->mutex);
        report->is_done = true;
        report->result = result;
        (void) pthread_cond_signal(&report->cond);
        (void) pthread_mutex_unlock(&report->mutex);
}

static int compare_lines(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

struct storage_verify *report_begin(struct shelf *shelf, struct report *report, bool repair, uint64_t rate) {
        struct storage_verify *verify;

        *report = (struct report){
                .mutex = PTHREAD_MUTEX_INITIALIZER,
                .cond = PTHREAD_COND_INITIALIZER,
                .lines = g_ptr_array_new_with_free_func(g_free),
                .kill_at = report->kill_at,
        };
        assert_ok(storage_verify_begin(&verify, shelf->storage,
                                       &(struct storage_verify_config){
                                                       .repair = repair,
                                                       .bytes_per_sec = rate,
                                                       .on_finding = on_finding,
                                                       .on_done = on_done,
                                                       .userdata = report,
                                       }));
        return verify;
}

void report_end(struct storage_verify *verify, struct report *report) {
        (void) pthread_mutex_lock(&report->mutex);
        while (!report->is_done)
                (void) pthread_cond_wait(&report->cond, &report->mutex);
        (void) pthread_mutex_unlock(&report->mutex);

        storage_verify_get_progress(verify, &report->progress);
        storage_verify_end(verify);
        g_ptr_array_sort(report->lines, compare_lines);
}

void report_done(struct report *report) {
        g_ptr_array_unref(report->lines);
}

/* Verifies, and g_asserts that it finds these lines, in order. */
void assert_verify(struct shelf *shelf, bool repair, const char *const *lines) {
        struct report report = {};
        size_t n = 0, n_repaired = 0;

        report_end(report_begin(shelf, &report, repair, UINT64_MAX), &report);
        assert_ok(report.result);

        for (; lines && lines[n]; n++) {
                if (n >= report.lines->len)
                        g_error("not found: %s", lines[n]);
                g_assert_cmpstr(g_ptr_array_index(report.lines, n), ==, lines[n]);
                n_repaired += g_str_has_suffix(lines[n], "moved") || g_str_has_suffix(lines[n], "repaired");
        }
        if (n < report.lines->len)
                g_error("found: %s", (const char *) g_ptr_array_index(report.lines, n));

        g_assert_cmpuint(report.progress.problems, ==, n);
        g_assert_cmpuint(report.progress.repaired, ==, n_repaired);
        g_assert_cmpuint(report.progress.uncounted, ==, 0);
        report_done(&report);
}

void assert_clean(struct shelf *shelf) {
        assert_verify(shelf, false, NULL);
        assert_consistent(shelf); /* says another who looks */
}

/* Long URIs share what their keys begin with. */

static char *long_uri(unsigned i) {
        g_autofree char *head = g_strnfill(600, 'l');

        return g_strdup_printf("%s/%u", head, i);
}

void verify_fill(struct shelf *shelf) {
        for (unsigned i = 0; i < G_N_ELEMENTS(with_blob); i++)
                assert_ok(put_seeded(shelf, with_blob[i], i, BIG, NULL));
        assert_ok(put_seeded(shelf, "y", 100, SMALL, NULL));
        assert_ok(put_seeded(shelf, "z", 101, SMALL, NULL));
        assert_ok(put_seeded(shelf, "empty", 102, 0, NULL));
        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *uri = long_uri(i);

                assert_ok(put_seeded(shelf, uri, 200 + i, i == 0 ? SMALL : BIG, NULL));
        }
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
                g_autofree uint8_t *bytes = make_bytes(300 + i, BIG);
                g_autofree char *uri = g_strdup_printf("ttl/%u", i);

                assert_ok(storage_upload_new(shelf->storage, i == 0 ? BIG : SMALL, &upload));
                assert_ok(storage_upload_write(upload, bytes, i == 0 ? BIG : SMALL));
                assert_ok(storage_upload_finish(upload));
                assert_ok(storage_change_wait(shelf->storage, &(struct storage_change){
                                                                              .kind = STORAGE_PUT,
                                                                              .uri = uri,
                                                                              .uri_size = strlen(uri),
                                                                              .upload = upload,
                                                                              .ttl_msec = 3600000 + i,
                                                              }));
        }
}

/* Every object but those named is as it was put. */
void assert_intact(struct shelf *shelf, const char *but) {
        for (unsigned i = 0; i < G_N_ELEMENTS(with_blob); i++)
                if (!strstr(but, with_blob[i]))
                        assert_object(shelf, with_blob[i], 1, i, BIG);
                else
                        assert_absent(shelf, with_blob[i]);
        assert_object(shelf, "y", 1, 100, SMALL);
        if (!strstr(but, "z"))
                assert_object(shelf, "z", 1, 101, SMALL);
        assert_object(shelf, "empty", 5, 102, 0);
        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *uri = long_uri(i);

                assert_object(shelf, uri, strlen(uri), 200 + i, i == 0 ? SMALL : BIG);
        }
        assert_object(shelf, "ttl/0", 5, 300, BIG);
        assert_object(shelf, "ttl/1", 5, 301, SMALL);
}

void shelf_fill(struct shelf *shelf) {
        shelf_init(shelf);
        shelf_open(shelf);
        verify_fill(shelf);
}

unsigned shelf_count_quarantined(struct shelf *shelf) {
        g_autofree char *path = g_strdup_printf("%s/quarantine", shelf->path);
        GDir *dir = g_dir_open(path, 0, NULL);
        unsigned n = 0;

        if (!dir)
                return 0;
        while (g_dir_read_name(dir))
                n++;
        g_dir_close(dir);
        return n;
}

void flip_byte(struct shelf *shelf, uint64_t blob) {
        g_autofree char *path = shelf_blob_path(shelf, blob);
        _cleanup_close_ int fd = -EBADF;
        uint8_t byte;

        g_assert_cmpint(chmod(path, 0600), ==, 0);
        fd = open(path, O_RDWR | O_CLOEXEC);
        g_assert_cmpint(pread(fd, &byte, 1, BIG / 2), ==, 1);
        byte ^= 4;
        g_assert_cmpint(pwrite(fd, &byte, 1, BIG / 2), ==, 1);
}

void resize_blob(struct shelf *shelf, uint64_t blob, off_t size) {
        g_autofree char *path = shelf_blob_path(shelf, blob);

        g_assert_cmpint(chmod(path, 0600), ==, 0);
        g_assert_cmpint(truncate(path, size), ==, 0);
}

void make_stray(struct shelf *shelf, const char *name) {
        g_autofree char *path = g_strdup_printf("%s/blobs/%s", shelf->path, name);

        g_assert_true(g_file_set_contents(path, "x", 1, NULL));
}

void flip_middle(uint8_t *value, size_t size) {
        value[size / 2] ^= 1;
}
