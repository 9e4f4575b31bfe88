/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whatever is wrong is named, and repaired; nothing else is touched. */

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "bytes.h"
#include "verify-harness.h"

/* ---- what is wrong with files ---- */

static void test_clean(void) {
        struct report report = {};
        struct shelf shelf;

        shelf_fill(&shelf);
        report_end(report_begin(&shelf, &report, false, 0), &report);
        assert_ok(report.result);
        g_assert_cmpuint(report.lines->len, ==, 0);
        g_assert_cmpuint(report.progress.checked, ==, 13);
        g_assert_cmpuint(report.progress.total, ==, 13);
        g_assert_cmpuint(report.progress.bytes, ==, 8 * BIG + 4 * SMALL);
        report_done(&report);

        assert_verify(&shelf, true, NULL);
        assert_intact(&shelf, "");
        g_assert_cmpuint(shelf_count_quarantined(&shelf), ==, 0);
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
        resize_blob(&shelf, 2, BIG - 1);
        resize_blob(&shelf, 3, BIG + 1);
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
        g_assert_cmpuint(shelf_count_quarantined(&shelf), ==, 4);
        g_assert_cmpuint(shelf_events(&shelf, STORAGE_EVENT_DAMAGED), ==, 0);

        /* They can be put again. */
        for (unsigned i = 0; i < 5; i++)
                assert_ok(put_seeded(&shelf, (char[]){ (char) ('a' + i), 0 }, i, BIG, NULL));
        assert_intact(&shelf, "");
        shelf_close(&shelf);
        shelf_open(&shelf);
        assert_clean(&shelf);
        g_assert_cmpuint(shelf_count_quarantined(&shelf), ==, 4);
        shelf_destroy(&shelf);
}

static void test_strays(void) {
        g_autofree char *folder = NULL, *inner = NULL, *empty = NULL, *link_path = NULL;
        struct shelf shelf;

        shelf_fill(&shelf);
        make_stray(&shelf, "README");
        make_stray(&shelf, "0000000000000/odd name\n");
        make_stray(&shelf, "0000000000000/0000000000001001"); /* another folder's */
        make_stray(&shelf, "0000000000003");                  /* a file where a folder would be */
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
        g_assert_cmpuint(shelf_count_quarantined(&shelf), ==, 8);

        /* A name that is there is not overwritten. */
        make_stray(&shelf, "README");
        assert_verify(&shelf, true, FOUND("stray - blobs/README moved"));
        g_assert_cmpuint(shelf_count_quarantined(&shelf), ==, 9);
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
        g_assert_cmpuint(shelf_count_quarantined(&shelf), ==, 1);
        shelf_destroy(&shelf);
}

/* ---- what is wrong in the dictionary ---- */

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
                g_assert_cmpuint(shelf_count_quarantined(&shelf), ==, 1);
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

                report_end(report_begin(&shelf, &report, true, UINT64_MAX), &report);
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

/* Of the account of what is in no namespace. */
static void miscount_account(uint8_t *value, size_t size) {
        store_le64(value + 8 + 16, load_le64(value + 8 + 16) + 1000);
        store_le64(value, XXH3_64bits_withSeed(value + 8, size - 8, 0));
}

static void test_sums(void) {
        static const struct {
                const char *table;
                void (*change)(uint8_t *value, size_t size);
        } wrong[] = { { "meta", miscount }, { "accounts", miscount_account } };

        for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
                struct storage_stats before, after;
                struct shelf shelf;

                shelf_fill(&shelf);
                before = shelf_stats(&shelf);
                shelf_close(&shelf);
                shelf_alter_table(&shelf, wrong[i].table, wrong[i].change);
                shelf_open(&shelf);
                assert_verify(&shelf, false, FOUND("sums - - found"));
                assert_verify(&shelf, true, FOUND("sums - - repaired"));
                assert_clean(&shelf);
                after = shelf_stats(&shelf);
                g_assert_cmpuint(after.objects, ==, before.objects);
                g_assert_cmpuint(after.objects_inline, ==, before.objects_inline);
                g_assert_cmpuint(after.bytes, ==, before.bytes);
                shelf_close(&shelf);
                shelf_open(&shelf);
                assert_clean(&shelf);
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
        return g_test_run();
}
