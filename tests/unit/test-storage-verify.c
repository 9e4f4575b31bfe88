/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whatever is wrong is named, and repaired; nothing else is touched. */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "bytes.h"
#include "storage-harness.h"
#include "writer.h"

#define BIG   5000
#define SMALL 100

/* ---- a verification and what it told ---- */

struct report {
        pthread_mutex_t mutex;
        pthread_cond_t cond;
        bool is_done;
        int result;
        GPtrArray *lines;
        unsigned kill_at; /* SIGKILL in the n-th finding */
        struct storage_verify_progress progress;
};

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

static struct storage_verify *begin(struct shelf *shelf, struct report *report, bool repair, uint64_t rate) {
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

static void end(struct storage_verify *verify, struct report *report) {
        (void) pthread_mutex_lock(&report->mutex);
        while (!report->is_done)
                (void) pthread_cond_wait(&report->cond, &report->mutex);
        (void) pthread_mutex_unlock(&report->mutex);

        storage_verify_get_progress(verify, &report->progress);
        storage_verify_end(verify);
        g_ptr_array_sort(report->lines, compare_lines);
}

static void report_done(struct report *report) {
        g_ptr_array_unref(report->lines);
}

/* Verifies, and g_asserts that it finds these lines, in order. */
static void assert_verify(struct shelf *shelf, bool repair, const char *const *lines) {
        struct report report = {};
        size_t n = 0, n_repaired = 0;

        end(begin(shelf, &report, repair, UINT64_MAX), &report);
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

#define FOUND(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void assert_clean(struct shelf *shelf) {
        assert_verify(shelf, false, NULL);
        assert_consistent(shelf); /* says another who looks */
}

/* ---- a store to damage ---- */

/* "a" has blob 1, "b" blob 2 and so on; long URIs share what their keys begin with. */
static const char *const with_blob[] = { "a", "b", "c", "d", "e" };

static char *long_uri(unsigned i) {
        g_autofree char *head = g_strnfill(600, 'l');

        return g_strdup_printf("%s/%u", head, i);
}

static void fill(struct shelf *shelf) {
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
static void assert_intact(struct shelf *shelf, const char *but) {
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

static void shelf_fill(struct shelf *shelf) {
        shelf_init(shelf);
        shelf_open(shelf);
        fill(shelf);
}

static unsigned count_quarantined(struct shelf *shelf) {
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

static void flip_byte(struct shelf *shelf, uint64_t blob) {
        g_autofree char *path = shelf_blob_path(shelf, blob);
        _cleanup_close_ int fd = -EBADF;
        uint8_t byte;

        g_assert_cmpint(chmod(path, 0600), ==, 0);
        fd = open(path, O_RDWR | O_CLOEXEC);
        g_assert_cmpint(pread(fd, &byte, 1, BIG / 2), ==, 1);
        byte ^= 4;
        g_assert_cmpint(pwrite(fd, &byte, 1, BIG / 2), ==, 1);
}

static void resize(struct shelf *shelf, uint64_t blob, off_t size) {
        g_autofree char *path = shelf_blob_path(shelf, blob);

        g_assert_cmpint(chmod(path, 0600), ==, 0);
        g_assert_cmpint(truncate(path, size), ==, 0);
}

static void make_file(struct shelf *shelf, const char *name) {
        g_autofree char *path = g_strdup_printf("%s/blobs/%s", shelf->path, name);

        g_assert_true(g_file_set_contents(path, "x", 1, NULL));
}

/* ---- what is wrong with files ---- */

static void test_clean(void) {
        struct report report = {};
        struct shelf shelf;

        shelf_fill(&shelf);
        end(begin(&shelf, &report, false, 0), &report);
        assert_ok(report.result);
        g_assert_cmpuint(report.lines->len, ==, 0);
        g_assert_cmpuint(report.progress.checked, ==, 13);
        g_assert_cmpuint(report.progress.total, ==, 13);
        g_assert_cmpuint(report.progress.bytes, ==, 8 * BIG + 4 * SMALL);
        report_done(&report);

        assert_verify(&shelf, true, NULL);
        assert_intact(&shelf, "");
        g_assert_cmpuint(count_quarantined(&shelf), ==, 0);
        shelf_close(&shelf);

        shelf_open(&shelf);
        assert_clean(&shelf);
        shelf_destroy(&shelf);
}

static void test_bodies(void) {
        g_autofree char *gone = NULL, *link_path = NULL;
        struct shelf shelf;

        shelf_fill(&shelf);
        flip_byte(&shelf, 1);
        resize(&shelf, 2, BIG - 1);
        resize(&shelf, 3, BIG + 1);
        gone = shelf_blob_path(&shelf, 4);
        g_assert_cmpint(unlink(gone), ==, 0);
        link_path = shelf_blob_path(&shelf, 5);
        g_assert_cmpint(unlink(link_path), ==, 0);
        g_assert_cmpint(symlink("/etc/passwd", link_path), ==, 0);

        for (unsigned i = 0; i < 2; i++) /* looking changes nothing */
                assert_verify(&shelf, false,
                              FOUND("checksum a blobs/0000000000000/0000000000000001 found",
                                    "missing d blobs/0000000000000/0000000000000004 found",
                                    "size b blobs/0000000000000/0000000000000002 found",
                                    "size c blobs/0000000000000/0000000000000003 found",
                                    "unreadable e blobs/0000000000000/0000000000000005 found"));
        assert_verify(&shelf, true,
                      FOUND("checksum a blobs/0000000000000/0000000000000001 moved",
                            "missing d blobs/0000000000000/0000000000000004 repaired",
                            "size b blobs/0000000000000/0000000000000002 moved",
                            "size c blobs/0000000000000/0000000000000003 moved",
                            "unreadable e blobs/0000000000000/0000000000000005 moved"));
        assert_clean(&shelf);
        assert_intact(&shelf, "abcde");
        g_assert_cmpuint(count_quarantined(&shelf), ==, 4);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);

        /* They can be put again. */
        for (unsigned i = 0; i < G_N_ELEMENTS(with_blob); i++)
                assert_ok(put_seeded(&shelf, with_blob[i], i, BIG, NULL));
        assert_intact(&shelf, "");
        shelf_close(&shelf);
        shelf_open(&shelf);
        assert_clean(&shelf);
        g_assert_cmpuint(count_quarantined(&shelf), ==, 4);
        shelf_destroy(&shelf);
}

static void test_strays(void) {
        g_autofree char *folder = NULL, *inner = NULL, *empty = NULL, *link_path = NULL;
        struct shelf shelf;

        shelf_fill(&shelf);
        make_file(&shelf, "README");
        make_file(&shelf, "0000000000000/odd name\n");
        make_file(&shelf, "0000000000000/0000000000001001"); /* another folder's */
        make_file(&shelf, "0000000000003");                  /* a file where a folder would be */
        folder = g_strdup_printf("%s/blobs/lost+found", shelf.path);
        inner = g_strdup_printf("%s/a file", folder);
        g_assert_cmpint(mkdir(folder, 0700), ==, 0);
        g_assert_true(g_file_set_contents(inner, "x", 1, NULL));
        link_path = g_strdup_printf("%s/blobs/link", shelf.path);
        g_assert_cmpint(symlink("/nowhere", link_path), ==, 0);
        empty = shelf_folder_path(&shelf, 7); /* no problem */
        g_assert_cmpint(mkdir(empty, 0700), ==, 0);
        shelf_plant(&shelf, 100);   /* a number that is still to come: a put would fail by it */
        shelf_plant(&shelf, 70000); /* ... in another folder */

        assert_verify(&shelf, false,
                      FOUND("stray - blobs/0000000000000/0000000000000064 found",
                            "stray - blobs/0000000000000/0000000000001001 found",
                            "stray - blobs/0000000000000/odd name\n found",
                            "stray - blobs/0000000000003 found",
                            "stray - blobs/0000000000011/0000000000011170 found",
                            "stray - blobs/README found", "stray - blobs/link found",
                            "stray - blobs/lost+found found"));
        g_assert_cmpuint(shelf_stats(&shelf).foreign, ==, 8);
        assert_verify(&shelf, true,
                      FOUND("stray - blobs/0000000000000/0000000000000064 moved",
                            "stray - blobs/0000000000000/0000000000001001 moved",
                            "stray - blobs/0000000000000/odd name\n moved",
                            "stray - blobs/0000000000003 moved",
                            "stray - blobs/0000000000011/0000000000011170 moved",
                            "stray - blobs/README moved", "stray - blobs/link moved",
                            "stray - blobs/lost+found moved"));
        g_assert_cmpuint(shelf_stats(&shelf).foreign, ==, 0);
        assert_clean(&shelf);
        assert_intact(&shelf, "");
        g_assert_cmpuint(count_quarantined(&shelf), ==, 8);

        /* A name that is there is not overwritten. */
        make_file(&shelf, "README");
        assert_verify(&shelf, true, FOUND("stray - blobs/README moved"));
        g_assert_cmpuint(count_quarantined(&shelf), ==, 9);
        shelf_destroy(&shelf);
}

static void test_orphan(void) {
        struct shelf shelf;

        shelf_fill(&shelf);
        assert_ok(put_seeded(&shelf, "a", 50, BIG, NULL)); /* blob 1 is free from now on */
        shelf_plant(&shelf, 1);

        assert_verify(&shelf, false, FOUND("orphan - blobs/0000000000000/0000000000000001 found"));
        assert_verify(&shelf, true, FOUND("orphan - blobs/0000000000000/0000000000000001 moved"));
        assert_clean(&shelf);
        assert_object(&shelf, "a", 1, 50, BIG);
        g_assert_cmpuint(count_quarantined(&shelf), ==, 1);
        shelf_destroy(&shelf);
}

/* ---- what is wrong in the dictionary ---- */

static void flip_middle(uint8_t *value, size_t size) {
        value[size / 2] ^= 1;
}

static void test_record(void) {
        struct shelf shelf;

        shelf_fill(&shelf);
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "objects", flip_middle); /* of "z" */

        shelf_open(&shelf);
        assert_verify(&shelf, false, FOUND("record z - found"));
        assert_verify(&shelf, true, FOUND("record z - repaired"));
        assert_clean(&shelf);
        assert_intact(&shelf, "z");
        assert_absent(&shelf, "z");
        g_assert_cmpuint(shelf_stats(&shelf).objects, ==, 12);
        assert_ok(put_seeded(&shelf, "z", 101, SMALL, NULL));
        assert_clean(&shelf);
        shelf_destroy(&shelf);
}

/* With the record nobody knows any more which blob it had. */
static void test_record_with_blob(void) {
        static const char *const blob = "orphan - blobs/0000000000000/0000000000000009 moved";
        struct shelf shelf;

        for (unsigned round = 0; round < 2; round++) {
                shelf_fill(&shelf);
                assert_ok(put_seeded(&shelf, "zz", 60, BIG, NULL));
                shelf_close(&shelf);
                shelf_alter_table(&shelf, "objects", flip_middle);

                shelf_open(&shelf);
                if (round == 0) {
                        assert_verify(&shelf, false,
                                      FOUND("orphan - blobs/0000000000000/0000000000000009 found",
                                            "record zz - found"));
                        assert_verify(&shelf, true, FOUND(blob, "record zz - repaired"));
                } else { /* it was replaced before anybody looked: the sums lack what it was */
                        assert_ok(put_seeded(&shelf, "zz", 61, SMALL, NULL));
                        assert_verify(&shelf, true, FOUND("order zz - repaired", blob, "sums - - repaired"));
                        assert_object(&shelf, "zz", 2, 61, SMALL);
                }
                assert_clean(&shelf);
                assert_intact(&shelf, "");
                g_assert_cmpuint(count_quarantined(&shelf), ==, 1);
                shelf_destroy(&shelf);
        }
}

static void seal_map(uint8_t *value, size_t size) {
        store_le64(value, XXH3_64bits_withSeed(value + 8, size - 8, 0));
}

static void unname_first(uint8_t *value, size_t size) {
        value[8] &= (uint8_t) ~(1U << 1);
        seal_map(value, size);
}

/* Blob 1 of "a": the next start would remove it. */
static void test_unnamed_blob(void) {
        struct shelf shelf;

        shelf_fill(&shelf);
        shelf_close(&shelf);
        shelf.hooks.sweep_rest_usec = 1;
        shelf_alter_table(&shelf, "live", unname_first);
        {
                g_autofree char *path = shelf_blob_path(&shelf, 1),
                                *aside = g_strconcat(path, ".aside", NULL);

                g_assert_cmpint(rename(path, aside), ==, 0);
                shelf_open(&shelf);
                wait_until(shelf_stats(&shelf).sweeps == 1);
                g_assert_cmpint(rename(aside, path), ==, 0);
        }
        assert_verify(&shelf, false, FOUND("live a blobs/0000000000000/0000000000000001 found"));
        assert_verify(&shelf, true, FOUND("live a blobs/0000000000000/0000000000000001 repaired"));
        assert_clean(&shelf);
        shelf_close(&shelf);
        shelf_open(&shelf);
        wait_until(shelf_stats(&shelf).sweeps == 1);
        assert_intact(&shelf, "");
        shelf_destroy(&shelf);
}

static void name_too_many(uint8_t *value, size_t size) {
        value[8] |= 1U;       /* blob 0 */
        value[8 + 1] |= 0x40; /* blob 14: still to come */
        value[size - 1] |= 0x80;
        seal_map(value, size);
}

static void test_map(void) {
        struct shelf shelf;

        /* Blobs are named that are not there. */
        shelf_fill(&shelf);
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "live", name_too_many);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "more", 1, BIG, NULL)); /* in another folder */
        assert_verify(&shelf, false, FOUND("live - blobs/0000000000000 found"));
        assert_verify(&shelf, true, FOUND("live - blobs/0000000000000 repaired"));
        assert_clean(&shelf);
        assert_intact(&shelf, "");
        shelf_destroy(&shelf);

        /* It can't be read; a file is there that nobody has. */
        for (unsigned change = 0; change < 2; change++) {
                shelf_fill(&shelf);
                shelf_close(&shelf);
                shelf_alter_table(&shelf, "live", flip_middle);
                shelf_plant(&shelf, 20);
                shelf_open(&shelf);
                wait_until(shelf_stats(&shelf).sweeps == 1);
                if (change) /* it becomes readable by that, but not right */
                        assert_ok(storage_remove(shelf.storage, "a", 1));
                assert_ok(put_seeded(&shelf, "more", 1, BIG, NULL));
                assert_verify(&shelf, false,
                              FOUND("live - blobs/0000000000000 found",
                                    "orphan - blobs/0000000000000/0000000000000014 found"));
                assert_verify(&shelf, true,
                              FOUND("live - blobs/0000000000000 repaired",
                                    "orphan - blobs/0000000000000/0000000000000014 moved"));
                assert_clean(&shelf);
                assert_intact(&shelf, change ? "a" : "");
                shelf_destroy(&shelf);
        }
}

static void point_elsewhere(uint8_t *value, size_t size) {
        value[size - 1] = '7';
}

static void test_due(void) {
        struct shelf shelf;

        shelf_fill(&shelf);
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "due", point_elsewhere); /* of "ttl/1" */
        shelf_open(&shelf);
        assert_verify(&shelf, false, FOUND("due ttl/1 - found", "due ttl/7 - found"));
        assert_verify(&shelf, true, FOUND("due ttl/1 - repaired"));
        assert_clean(&shelf);
        assert_intact(&shelf, "");
        shelf_close(&shelf);

        shelf_alter_table(&shelf, "due", NULL);
        shelf_open(&shelf);
        assert_verify(&shelf, false, FOUND("due ttl/0 - found", "due ttl/1 - found"));
        assert_verify(&shelf, true, FOUND("due ttl/0 - repaired", "due ttl/1 - repaired"));
        assert_clean(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).objects_expiring, ==, 2);
        assert_intact(&shelf, "");
        shelf_destroy(&shelf);
}

static void test_order(void) {
        struct shelf shelf;

        shelf_fill(&shelf);
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "order", point_elsewhere); /* of "ttl/1", put last */
        shelf_open(&shelf);
        assert_verify(&shelf, false, FOUND("order ttl/1 - found", "order ttl/7 - found"));
        assert_verify(&shelf, true, FOUND("order ttl/1 - repaired"));
        assert_clean(&shelf);
        shelf_close(&shelf);

        shelf_alter_table(&shelf, "order", NULL);
        shelf_open(&shelf);
        {
                struct report report = {};

                end(begin(&shelf, &report, true, UINT64_MAX), &report);
                g_assert_cmpuint(report.lines->len, ==, 13);
                for (unsigned i = 0; i < report.lines->len; i++)
                        g_assert_true(g_str_has_prefix(g_ptr_array_index(report.lines, i), "order "));
                report_done(&report);
        }
        assert_clean(&shelf);
        assert_intact(&shelf, "");
        shelf_destroy(&shelf);
}

static void miscount(uint8_t *value, size_t size) {
        store_le64(value + 40, load_le64(value + 40) + 1);
        store_le64(value + 56, load_le64(value + 56) + 1000);
        store_le64(value, XXH3_64bits(value + 8, size - 8));
}

static void test_sums(void) {
        struct storage_stats before, after;
        struct shelf shelf;

        shelf_fill(&shelf);
        before = shelf_stats(&shelf);
        shelf_close(&shelf);
        shelf_alter_table(&shelf, "meta", miscount);
        shelf_open(&shelf);
        g_assert_cmpuint(shelf_stats(&shelf).objects, ==, before.objects + 1);
        assert_verify(&shelf, false, FOUND("sums - - found"));
        assert_verify(&shelf, true, FOUND("sums - - repaired"));
        assert_clean(&shelf);
        after = shelf_stats(&shelf);
        g_assert_cmpuint(after.objects, ==, before.objects);
        g_assert_cmpuint(after.objects_inline, ==, before.objects_inline);
        g_assert_cmpuint(after.bytes, ==, before.bytes);
        shelf_destroy(&shelf);
}

/* ---- how it runs ---- */

static void test_one_at_a_time(void) {
        struct storage_verify *verify, *second;
        struct storage_verify_progress progress;
        struct report report = {};
        struct shelf shelf;

        shelf_fill(&shelf);
        verify = begin(&shelf, &report, false, 1);
        do
                storage_verify_get_progress(verify, &progress);
        while (progress.bytes == 0);
        assert_errno(storage_verify_begin(&second, shelf.storage, &(struct storage_verify_config){}), -EBUSY);

        /* At a byte a second it is at rest now. */
        storage_verify_cancel(verify);
        end(verify, &report);
        assert_errno(report.result, -ECANCELED);
        g_assert_cmpuint(report.progress.bytes, <, 8 * BIG);
        report_done(&report);

        verify = begin(&shelf, &report, true, 1);
        storage_verify_end(verify); /* ends it as well */
        g_assert_true(report.is_done);
        report_done(&report);
        assert_clean(&shelf);
        shelf_destroy(&shelf);
}

static void test_throttle(void) {
        enum { SIZE = 1 << 20, RATE = 8 << 20 };
        struct report report = {};
        struct shelf shelf;
        gint64 begun;

        shelf_init(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 2; i++)
                assert_ok(put_seeded(&shelf, with_blob[i], i, SIZE, NULL));

        begun = g_get_monotonic_time();
        end(begin(&shelf, &report, false, RATE), &report);
        g_assert_cmpuint(report.progress.bytes, ==, 2 * SIZE);
        g_assert_cmpint(g_get_monotonic_time() - begun, >=,
                        (gint64) 2 * SIZE * G_USEC_PER_SEC / RATE * 9 / 10);
        report_done(&report);
        shelf_destroy(&shelf);
}

/* Bytes of a blob that are in the page cache. */
static size_t count_cached(struct shelf *shelf, uint64_t blob, size_t size) {
        g_autofree char *path = shelf_blob_path(shelf, blob);
        size_t n_pages = (size + 4095) / 4096, n = 0;
        g_autofree unsigned char *pages = g_malloc(n_pages);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

        g_assert_true(map != MAP_FAILED);
        g_assert_cmpint(mincore(map, size, pages), ==, 0);
        for (size_t i = 0; i < n_pages; i++)
                n += pages[i] & 1;
        g_assert_cmpint(munmap(map, size), ==, 0);
        return n * 4096;
}

static void test_page_cache(void) {
        enum { SIZE = 2 << 20 };
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < 2; i++)
                assert_ok(put_seeded(&shelf, with_blob[i], i, SIZE, NULL));
        {
                g_autofree char *path = shelf_blob_path(&shelf, 1);
                _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

                (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
                if (count_cached(&shelf, 1, SIZE) > 0) {
                        g_test_skip("this file system keeps its pages");
                        shelf_destroy(&shelf);
                        return;
                }
        }
        assert_object(&shelf, "b", 1, 1, SIZE);

        assert_clean(&shelf);
        g_assert_cmpuint(count_cached(&shelf, 1, SIZE), ==, 0);
        g_assert_cmpuint(count_cached(&shelf, 2, SIZE), ==, SIZE);
        shelf_destroy(&shelf);
}

/* ---- what changes meanwhile, at the worst moment ---- */

struct moment {
        struct shelf shelf;
        bool is_armed;
        int step; /* atomic */
};

static int step_of(struct moment *moment) {
        return __atomic_load_n(&moment->step, __ATOMIC_SEQ_CST);
}

static void go_to(struct moment *moment, int step) {
        __atomic_store_n(&moment->step, step, __ATOMIC_SEQ_CST);
}

/* Records were seen: now each is of the past. */
static void change_all(enum verify_point point, void *userdata) {
        struct moment *moment = userdata;
        struct shelf *shelf = &moment->shelf;

        if (point != VERIFY_SEEN || !moment->is_armed)
                return;

        moment->is_armed = false;
        assert_ok(put_seeded(shelf, "a", 70, BIG, NULL));
        assert_ok(put_seeded(shelf, "b", 71, SMALL, NULL));
        assert_ok(storage_remove(shelf->storage, "c", 1));
        assert_ok(storage_remove(shelf->storage, "d", 1));
        assert_ok(put_seeded(shelf, "d", 72, BIG, NULL));
}

static void test_changed_meanwhile(void) {
        struct moment moment = { .is_armed = true };
        struct shelf *shelf = &moment.shelf;

        shelf_init(shelf);
        shelf->hooks.verify_pause = change_all;
        shelf->hooks.userdata = &moment;
        shelf_open(shelf);
        fill(shelf);

        assert_verify(shelf, true, NULL);
        g_assert_false(moment.is_armed);
        assert_object(shelf, "a", 1, 70, BIG);
        assert_object(shelf, "d", 1, 72, BIG);
        assert_clean(shelf);
        g_assert_cmpuint(count_quarantined(shelf), ==, 0);
        shelf_destroy(shelf);
}

static void *remove_a(void *userdata) {
        struct moment *moment = userdata;

        assert_ok(storage_remove(moment->shelf.storage, "a", 1));
        return NULL;
}

/* Before a folder is looked at: a removal is committed, and its file still there. */
static void begin_removal(enum verify_point point, void *userdata) {
        struct moment *moment = userdata;

        if (point != VERIFY_FOLDER || !moment->is_armed)
                return;

        moment->is_armed = false;
        go_to(moment, 1);
        wait_until(step_of(moment) == 2);
}

static void hold_removal(void *userdata) {
        struct moment *moment = userdata;

        if (step_of(moment) != 1)
                return;
        go_to(moment, 2);
        g_usleep(100 * 1000); /* time to be wrong in: who is right waits for it */
}

static void test_removed_meanwhile(void) {
        struct moment moment = { .is_armed = true };
        struct shelf *shelf = &moment.shelf;
        struct storage_verify *verify;
        struct report report = {};
        pthread_t thread;

        shelf_init(shelf);
        shelf->hooks.verify_pause = begin_removal;
        shelf->hooks.after_commit = hold_removal;
        shelf->hooks.userdata = &moment;
        shelf_open(shelf);
        fill(shelf);

        verify = begin(shelf, &report, false, UINT64_MAX);
        wait_until(step_of(&moment) == 1);
        assert_ok(pthread_create(&thread, NULL, remove_a, &moment));
        end(verify, &report);
        assert_ok(pthread_join(thread, NULL));
        assert_ok(report.result);
        g_assert_cmpuint(report.lines->len, ==, 0);
        report_done(&report);
        assert_clean(shelf);
        shelf_destroy(shelf);
}

static void hold_files(enum verify_point point, void *userdata) {
        struct moment *moment = userdata;

        if (point == VERIFY_FILES && moment->is_armed) {
                go_to(moment, 1);
                wait_until(step_of(moment) == 2);
        }
}

/* Holds up the writer, then fails the transaction of all that came meanwhile, so that it is tried in parts, of which
 * the last is held up too. */
static int hold_commit(void *userdata) {
        struct moment *moment = userdata;

        switch (step_of(moment)) {
        case 3:
                go_to(moment, 4);
                wait_until(step_of(moment) == 5);
                return 0;
        case 5:
                go_to(moment, 6);
                return -ENOSPC;
        case 6:
                g_usleep(100 * 1000);
                return 0;
        default:
                return 0;
        }
}

static size_t count_submitted(struct writer *writer) {
        size_t n = 0;

        (void) pthread_mutex_lock(&writer->mutex);
        for (struct storage_change *change = writer->first; change; change = change->next)
                n++;
        (void) pthread_mutex_unlock(&writer->mutex);
        return n;
}

static void *put_new(void *userdata) {
        struct moment *moment = userdata;

        assert_ok(put_seeded(&moment->shelf, step_of(moment) == 3 ? "first" : "second", 80, BIG, NULL));
        return NULL;
}

/* A body has its name already, and is in no record yet: its transaction is tried once more. */
static void test_put_meanwhile(void) {
        struct moment moment = { .is_armed = true };
        struct shelf *shelf = &moment.shelf;
        struct storage_verify *verify;
        struct report report = {};
        pthread_t first, second;

        shelf_init(shelf);
        shelf->hooks.verify_pause = hold_files;
        shelf->hooks.before_commit = hold_commit;
        shelf->hooks.userdata = &moment;
        shelf_open(shelf);
        fill(shelf);

        verify = begin(shelf, &report, true, UINT64_MAX);
        wait_until(step_of(&moment) == 1);
        go_to(&moment, 3);
        assert_ok(pthread_create(&first, NULL, put_new, &moment));
        wait_until(step_of(&moment) == 4);

        /* Now the writer is held up: what is submitted comes into one transaction. */
        moment.is_armed = false;
        __atomic_store_n(&moment.step, 2, __ATOMIC_SEQ_CST);
        wait_until(count_submitted(shelf->storage->writer) == 1);
        assert_ok(pthread_create(&second, NULL, put_new, &moment));
        wait_until(count_submitted(shelf->storage->writer) == 2);
        go_to(&moment, 5);

        end(verify, &report);
        assert_ok(pthread_join(first, NULL));
        assert_ok(pthread_join(second, NULL));
        assert_ok(report.result);
        g_assert_cmpint(step_of(&moment), ==, 6);
        g_assert_cmpuint(report.lines->len, ==, 0);
        report_done(&report);
        assert_object(shelf, "first", 5, 80, BIG);
        assert_object(shelf, "second", 6, 80, BIG);
        assert_clean(shelf);
        shelf_destroy(shelf);
}

#define RACE_THREADS 4
#define RACE_URIS    150

struct race {
        struct shelf *shelf;
        unsigned thread;
        bool *stop; /* atomic */
};

static void race_uri(char uri[static 32], unsigned thread, unsigned i) {
        (void) snprintf(uri, 32, "race/%u/%u", thread, i);
}

/* Each thread has URIs of its own, and knows what they hold. */
static void *run_race(void *userdata) {
        struct race *race = userdata;
        struct shelf *shelf = race->shelf;
        g_autoptr(GRand) rand = g_rand_new_with_seed(race->thread);
        unsigned seeds[RACE_URIS] = {};
        char uri[32];

        for (unsigned round = 1; !__atomic_load_n(race->stop, __ATOMIC_RELAXED); round++) {
                unsigned i = (unsigned) g_rand_int_range(rand, 0, RACE_URIS);
                size_t size = round % 3 == 0 ? SMALL : BIG;
                size_t last_size = seeds[i] % 3 == 0 ? SMALL : BIG;

                race_uri(uri, race->thread, i);
                switch (g_rand_int_range(rand, 0, 5)) {
                case 0 ... 2:
                        assert_ok(put_seeded(shelf, uri, round, size, NULL));
                        seeds[i] = round;
                        break;
                case 3:
                        assert_errno(storage_remove(shelf->storage, uri, strlen(uri)),
                                     seeds[i] ? 0 : -ENOENT);
                        seeds[i] = 0;
                        break;
                default:
                        if (seeds[i])
                                assert_object(shelf, uri, strlen(uri), seeds[i], last_size);
                        else
                                assert_absent(shelf, uri);
                }
        }

        for (unsigned i = 0; i < RACE_URIS; i++) {
                race_uri(uri, race->thread, i);
                if (seeds[i])
                        assert_object(shelf, uri, strlen(uri), seeds[i], seeds[i] % 3 == 0 ? SMALL : BIG);
                else
                        assert_absent(shelf, uri);
        }

        return NULL;
}

static void test_race(void) {
        struct race races[RACE_THREADS];
        pthread_t threads[RACE_THREADS];
        struct shelf shelf;
        bool stop = false;

        shelf_fill(&shelf);
        for (unsigned i = 0; i < RACE_THREADS; i++) {
                races[i] = (struct race){ &shelf, i, &stop };
                assert_ok(pthread_create(&threads[i], NULL, run_race, &races[i]));
        }

        for (unsigned round = 0; round < 60; round++)
                assert_verify(&shelf, round % 2 == 1, NULL);

        /* ... and with something to repair. */
        for (unsigned round = 0; round < 10; round++) {
                make_file(&shelf, "stray");
                if (round == 0) {
                        flip_byte(&shelf, 1);
                        assert_verify(&shelf, true,
                                      FOUND("checksum a blobs/0000000000000/0000000000000001 moved",
                                            "stray - blobs/stray moved"));
                } else
                        assert_verify(&shelf, true, FOUND("stray - blobs/stray moved"));
        }

        __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < RACE_THREADS; i++)
                assert_ok(pthread_join(threads[i], NULL));
        assert_intact(&shelf, "a");
        assert_clean(&shelf);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);
        shelf_destroy(&shelf);
}

/* Wherever a repair is killed, the next one ends with the same. */
static void test_killed(void) {
        for (unsigned kill_at = 1; kill_at <= 6; kill_at++) {
                struct report report = {};
                struct shelf shelf;
                int status;
                pid_t pid;

                shelf_fill(&shelf);
                assert_ok(put_seeded(&shelf, "zz", 60, BIG, NULL));
                shelf_close(&shelf);
                shelf_alter_table(&shelf, "objects", flip_middle);
                shelf_alter_table(&shelf, "due", NULL);
                flip_byte(&shelf, 1);
                make_file(&shelf, "stray");

                (void) fflush(NULL);
                pid = fork();
                g_assert_cmpint(pid, >=, 0);
                if (pid == 0) {
                        report.kill_at = kill_at;
                        shelf_open(&shelf);
                        end(begin(&shelf, &report, true, UINT64_MAX), &report);
                        _exit(1);
                }
                g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
                g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

                shelf_open(&shelf);
                assert_intact(&shelf, "a");
                end(begin(&shelf, &report, true, UINT64_MAX), &report);
                assert_ok(report.result);
                g_assert_cmpuint(report.progress.problems, ==, report.progress.repaired);
                report_done(&report);
                assert_clean(&shelf);
                assert_intact(&shelf, "a");
                g_assert_cmpuint(shelf_stats(&shelf).objects, ==, 12);
                shelf_destroy(&shelf);
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/verify/clean", test_clean);
        harness_add("/storage/verify/bodies", test_bodies);
        harness_add("/storage/verify/strays", test_strays);
        harness_add("/storage/verify/orphan", test_orphan);
        harness_add("/storage/verify/record", test_record);
        harness_add("/storage/verify/record-with-blob", test_record_with_blob);
        harness_add("/storage/verify/unnamed-blob", test_unnamed_blob);
        harness_add("/storage/verify/map", test_map);
        harness_add("/storage/verify/due", test_due);
        harness_add("/storage/verify/order", test_order);
        harness_add("/storage/verify/sums", test_sums);
        harness_add("/storage/verify/one-at-a-time", test_one_at_a_time);
        harness_add("/storage/verify/throttle", test_throttle);
        harness_add("/storage/verify/page-cache", test_page_cache);
        harness_add("/storage/verify/changed-meanwhile", test_changed_meanwhile);
        harness_add("/storage/verify/removed-meanwhile", test_removed_meanwhile);
        harness_add("/storage/verify/put-meanwhile", test_put_meanwhile);
        harness_add("/storage/verify/race", test_race);
        harness_add("/storage/verify/killed", test_killed);
        return g_test_run();
}
