/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One object at a time: what goes in comes out, by every face, and the refusals. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "clock.h"
#include "storage-harness.h"

#define BIG 300000

static const size_t sizes[] = { 0, 1, 1999, 2000, 2001, 4096, 65536, BIG };

static void test_faces(void) {
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *uri = g_strdup_printf("size/%zu", sizes[i]);
                g_autofree uint8_t *bytes = make_bytes(i, sizes[i]);
                struct storage_object object = STORAGE_OBJECT_INIT;
                uint64_t before = clock_usec(CLOCK_REALTIME);
                struct storage_info info, got;
                char metadata[16] = "";
                size_t metadata_size = sizeof(metadata);
                const void *address;

                assert_ok(storage_put(shelf.storage, uri, strlen(uri), bytes, sizes[i], "meta", 4, &info));
                g_assert_cmpuint(info.size, ==, sizes[i]);
                g_assert_true(info.checksum == XXH3_64bits(bytes, sizes[i]));
                g_assert_true(info.etag.store_id == storage_get_id(shelf.storage));
                g_assert_cmpuint(info.etag.generation, ==, i + 1);
                g_assert_cmpuint(info.etag.metadata_version, ==, 1);
                g_assert_cmpuint(info.stored_usec, >=, before);
                g_assert_cmpuint(info.stored_usec, <=, clock_usec(CLOCK_REALTIME));
                g_assert_cmpuint(info.expires_usec, ==, 0);
                g_assert_cmpuint(info.hits, ==, 0);

                assert_object(&shelf, uri, strlen(uri), i, sizes[i]);

                assert_ok(storage_get_mmap(shelf.storage, uri, strlen(uri), &address, &got));
                g_assert_nonnull(address);
                g_assert_cmpmem(address, got.size, bytes, sizes[i]);
                storage_munmap(address, got.size);

                assert_ok(storage_get(shelf.storage, uri, strlen(uri), STORAGE_GET_OPEN, NULL, &object));
                g_assert_cmpmem(object.metadata, object.metadata_size, "meta", 4);
                if (sizes[i] <= 2000) {
                        g_assert_cmpint(object.fd, ==, -EBADF);
                        g_assert_nonnull(object.body);
                        g_assert_cmpmem(object.body, object.info.size, bytes, sizes[i]);
                } else {
                        g_assert_null(object.body);
                        g_assert_cmpint(fcntl(object.fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
                        g_assert_cmpint(fcntl(object.fd, F_GETFD), ==, FD_CLOEXEC);
                        assert_fd_bytes(object.fd, bytes, sizes[i]);
                }
                storage_object_done(&object);

                assert_ok(storage_get_info(shelf.storage, uri, strlen(uri), &got, metadata, &metadata_size));
                g_assert_cmpmem(metadata, metadata_size, "meta", 4);
                g_assert_cmpuint(got.hits, ==, 3);
                g_assert_cmpuint(got.used_usec, >, 0);
                g_assert_true(memcmp(&got.etag, &info.etag, sizeof(info.etag)) == 0);
        }

        shelf_destroy(&shelf);
}

static void assert_cannot_change(int fd) {
        g_autofree char *name = g_strdup_printf("/proc/self/fd/%i", fd);
        struct stat st;
        int again;

        g_assert_cmpint(write(fd, "x", 1), ==, -1);
        g_assert_cmpint(ftruncate(fd, 0), ==, -1);
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, 0444);

        again = open(name, O_RDONLY | O_CLOEXEC);
        g_assert_cmpint(again, >=, 0);
        (void) close_fd(again);

        if (geteuid() != 0) /* root ignores the mode: the view is for that */
                g_assert_cmpint(open(name, O_WRONLY | O_CLOEXEC), ==, -1);
}

/* Two gets share neither offset nor flags nor locks, and nothing can be written. */
static void test_descriptions(void) {
        _cleanup_close_ int a = -EBADF, b = -EBADF, memfd = -EBADF;
        struct shelf shelf;
        char c;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "big", 1, BIG, NULL));
        assert_ok(put(&shelf, "small", "abc", 3));

        assert_ok(storage_get_fd(shelf.storage, "big", 3, &a, NULL));
        assert_ok(storage_get_fd(shelf.storage, "big", 3, &b, NULL));
        g_assert_cmpint(lseek(a, 100, SEEK_SET), ==, 100);
        g_assert_cmpint(lseek(b, 0, SEEK_CUR), ==, 0);
        g_assert_cmpint(fcntl(a, F_SETFL, O_NONBLOCK), ==, 0);
        g_assert_cmpint(fcntl(b, F_GETFL) & O_NONBLOCK, ==, 0);
        g_assert_cmpint(flock(a, LOCK_EX | LOCK_NB), ==, 0);
        g_assert_cmpint(flock(b, LOCK_EX | LOCK_NB), ==, -1); /* a description of its own */
        assert_cannot_change(a);

        assert_ok(storage_get_fd(shelf.storage, "small", 5, &memfd, NULL));
        g_assert_cmpint(fcntl(memfd, F_GET_SEALS) & F_SEAL_WRITE, ==, F_SEAL_WRITE);
        g_assert_cmpint(write(memfd, "x", 1), ==, -1);
        g_assert_cmpint(ftruncate(memfd, 0), ==, -1);
        g_assert_cmpint(read(memfd, &c, 1), ==, 1);
        g_assert_cmpint(c, ==, 'a');

        shelf_destroy(&shelf);
}

static void test_hostile_uris(void) {
        char every[256], longest[STORAGE_URI_MAX + 1];
        static const char *const paths[] = { "../../etc/passwd", "/",    ".",      "..", "//", "/etc/passwd",
                                             "a/../b",           "lock", "format", "\n", " ",  "%00" };
        struct stat before, after;
        struct shelf shelf;

        for (unsigned i = 0; i < 255; i++)
                every[i] = (char) (i + 1);
        memset(longest, 'x', sizeof(longest));

        shelf_init(&shelf);
        shelf_open(&shelf);
        g_assert_cmpint(stat("/etc/passwd", &before), ==, 0);

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                assert_ok(put_seeded(&shelf, paths[i], i, 10, NULL));
                assert_ok(put_seeded(&shelf, paths[i], i, 5000, NULL));
        }
        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
                assert_object(&shelf, paths[i], strlen(paths[i]), i, 5000);
        g_assert_cmpint(stat("/etc/passwd", &after), ==, 0);
        g_assert_cmpint(before.st_mtime, ==, after.st_mtime);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, G_N_ELEMENTS(paths));

        for (size_t size = 0; size < 3; size++) {
                size_t body = size * 2000;
                g_autofree uint8_t *bytes = make_bytes(size, body);

                assert_ok(storage_put(shelf.storage, every, 255, bytes, body, NULL, 0, NULL));
                assert_object(&shelf, every, 255, size, body);
                assert_ok(storage_put(shelf.storage, longest, STORAGE_URI_MAX, bytes, body, NULL, 0, NULL));
                assert_object(&shelf, longest, STORAGE_URI_MAX, size, body);
        }

        /* Every length around what fits a key is its own object. */
        for (size_t size = 485; size < 520; size++)
                assert_ok(storage_put(shelf.storage, longest, size, &size, sizeof(size), NULL, 0, NULL));
        for (size_t size = 485; size < 520; size++) {
                struct storage_object object = STORAGE_OBJECT_INIT;

                assert_ok(storage_get(shelf.storage, longest, size, 0, NULL, &object));
                g_assert_cmpmem(object.body, object.info.size, &size, sizeof(size));
                storage_object_done(&object);
        }

        assert_errno(storage_put(shelf.storage, "", 0, "x", 1, NULL, 0, NULL), -EINVAL);
        assert_errno(storage_put(shelf.storage, "a\0b", 3, "x", 1, NULL, 0, NULL), -EINVAL);
        assert_errno(storage_put(shelf.storage, longest, STORAGE_URI_MAX + 1, "x", 1, NULL, 0, NULL),
                     -EINVAL);
        assert_errno(storage_get_info(shelf.storage, longest, STORAGE_URI_MAX + 1, NULL, NULL, NULL),
                     -EINVAL);
        assert_errno(storage_get_info(shelf.storage, "a\0b", 3, NULL, NULL, NULL), -EINVAL);
        assert_errno(storage_get_info(shelf.storage, "", 0, NULL, NULL, NULL), -EINVAL);
        assert_errno(storage_remove(shelf.storage, "", 0), -EINVAL);

        shelf_destroy(&shelf);
}

static void test_replace_under_reader(void) {
        g_autofree uint8_t *old = make_bytes(1, BIG);
        struct storage_info first, second;
        _cleanup_close_ int fd = -EBADF;
        const void *address;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, BIG, &first));
        assert_ok(storage_get_fd(shelf.storage, "a", 1, &fd, NULL));
        assert_ok(storage_get_mmap(shelf.storage, "a", 1, &address, NULL));

        assert_ok(put_seeded(&shelf, "a", 2, BIG + 1, &second));
        g_assert_cmpuint(second.etag.generation, >, first.etag.generation);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
        assert_object(&shelf, "a", 1, 2, BIG + 1);
        assert_fd_bytes(fd, old, BIG);
        g_assert_cmpmem(address, BIG, old, BIG);

        assert_ok(put(&shelf, "a", "small", 5)); /* from a file to the dictionary and back */
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 0);
        assert_ok(put_seeded(&shelf, "a", 3, BIG, NULL));
        assert_object(&shelf, "a", 1, 3, BIG);

        assert_ok(storage_remove(shelf.storage, "a", 1));
        assert_errno(storage_remove(shelf.storage, "a", 1), -ENOENT);
        assert_absent(&shelf, "a");
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 0);
        assert_fd_bytes(fd, old, BIG);
        g_assert_cmpmem(address, BIG, old, BIG);
        storage_munmap(address, BIG);

        shelf_destroy(&shelf);
}

static int set_metadata(struct shelf *shelf,
                        const char *uri,
                        const void *metadata,
                        size_t size,
                        uint64_t if_generation,
                        struct storage_info *ret) {
        struct storage_change change = {
                .kind = STORAGE_SET_METADATA,
                .uri = uri,
                .uri_size = strlen(uri),
                .metadata = metadata,
                .metadata_size = size,
                .if_generation = if_generation,
        };
        int r = storage_change_wait(shelf->storage, &change);

        if (ret)
                *ret = change.info;
        return r;
}

static void test_metadata(void) {
        g_autofree uint8_t *most = make_bytes(7, STORAGE_METADATA_MAX + 1), *got = g_malloc(40000);
        static const char *const uris[] = { "small", "big" };
        struct storage_info info;
        struct shelf shelf;
        size_t size;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "small", 1, 1500, NULL));
        assert_ok(put_seeded(&shelf, "big", 1, BIG, NULL));

        for (size_t i = 0; i < 2; i++) {
                size_t body = i == 0 ? 1500 : BIG;

                assert_ok(set_metadata(&shelf, uris[i], "k=v", 3, 0, &info));
                g_assert_cmpuint(info.etag.generation, ==, i + 1);
                g_assert_cmpuint(info.etag.metadata_version, ==, 2);
                assert_ok(set_metadata(&shelf, uris[i], most, STORAGE_METADATA_MAX, i + 1, &info));
                g_assert_cmpuint(info.etag.metadata_version, ==, 3);
                assert_errno(set_metadata(&shelf, uris[i], most, STORAGE_METADATA_MAX + 1, 0, NULL), -EINVAL);
                assert_errno(set_metadata(&shelf, uris[i], "", 0, 99, NULL), -ECANCELED);

                size = 10;
                assert_errno(storage_get_info(shelf.storage, uris[i], strlen(uris[i]), &info, got, &size),
                             -ENOBUFS);
                g_assert_cmpuint(size, ==, STORAGE_METADATA_MAX);
                size = 40000;
                assert_ok(storage_get_info(shelf.storage, uris[i], strlen(uris[i]), &info, got, &size));
                g_assert_cmpmem(got, size, most, STORAGE_METADATA_MAX);
                g_assert_cmpuint(info.etag.metadata_version, ==, 3);
                assert_object(&shelf, uris[i], strlen(uris[i]), 1, body);

                assert_ok(set_metadata(&shelf, uris[i], NULL, 0, 0, NULL));
                size = 40000;
                assert_ok(storage_get_info(shelf.storage, uris[i], strlen(uris[i]), NULL, got, &size));
                g_assert_cmpuint(size, ==, 0);
        }

        assert_errno(set_metadata(&shelf, "none", "", 0, 0, NULL), -ENOENT);
        assert_errno(storage_put(shelf.storage, "x", 1, "x", 1, most, STORAGE_METADATA_MAX + 1, NULL),
                     -EINVAL);
        assert_absent(&shelf, "x");

        shelf_destroy(&shelf);
}

static int put_if(struct shelf *shelf,
                  const char *uri,
                  const void *data,
                  size_t size,
                  bool if_absent,
                  uint64_t if_generation,
                  uint64_t ttl_msec,
                  struct storage_info *ret) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        struct storage_change change = {
                .kind = STORAGE_PUT,
                .uri = uri,
                .uri_size = strlen(uri),
                .if_absent = if_absent,
                .if_generation = if_generation,
                .ttl_msec = ttl_msec,
        };
        int r;

        assert_ok(storage_upload_new(shelf->storage, size, &upload));
        assert_ok(storage_upload_write(upload, data, size));
        assert_ok(storage_upload_finish(upload));
        change.upload = upload;
        r = storage_change_wait(shelf->storage, &change);
        if (r >= 0 && ret)
                *ret = change.info;
        return r;
}

static int remove_if(struct shelf *shelf, const char *uri, uint64_t if_generation) {
        return storage_change_wait(shelf->storage, &(struct storage_change){
                                                                   .kind = STORAGE_REMOVE,
                                                                   .uri = uri,
                                                                   .uri_size = strlen(uri),
                                                                   .if_generation = if_generation,
                                                   });
}

static void test_conditions(void) {
        g_autofree uint8_t *big = make_bytes(1, BIG);
        struct storage_object object = STORAGE_OBJECT_INIT;
        struct storage_info info, other;
        struct storage_etag etag;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);

        assert_errno(put_if(&shelf, "a", big, BIG, false, 1, 0, NULL), -ENOENT);
        assert_errno(remove_if(&shelf, "a", 1), -ENOENT);
        assert_ok(put_if(&shelf, "a", big, BIG, true, 0, 0, &info));
        assert_errno(put_if(&shelf, "a", big, 10, true, 0, 0, NULL), -EEXIST);
        assert_errno(put_if(&shelf, "a", big, BIG - 1, true, 0, 0, NULL), -EEXIST);
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
        assert_errno(put_if(&shelf, "a", big, BIG - 1, false, info.etag.generation + 1, 0, NULL), -ECANCELED);
        assert_errno(remove_if(&shelf, "a", info.etag.generation + 1), -ECANCELED);
        assert_object(&shelf, "a", 1, 1, BIG);
        assert_ok(put_if(&shelf, "a", big, 10, false, info.etag.generation, 0, &other));
        g_assert_cmpuint(other.etag.generation, >, info.etag.generation);

        /* What the caller has already is not fetched again. */
        assert_ok(put_seeded(&shelf, "b", 2, BIG, &info));
        etag = info.etag;
        assert_errno(storage_get(shelf.storage, "b", 1, STORAGE_GET_OPEN, &etag, &object), 1);
        g_assert_cmpint(object.fd, ==, -EBADF);
        g_assert_cmpuint(object.info.size, ==, BIG);
        etag.metadata_version++;
        assert_ok(storage_get(shelf.storage, "b", 1, STORAGE_GET_OPEN, &etag, &object));
        g_assert_cmpint(object.fd, >=, 0);
        etag = info.etag;
        etag.store_id++;
        assert_ok(storage_get(shelf.storage, "b", 1, STORAGE_GET_OPEN, &etag, &object));
        etag = info.etag;
        etag.generation++;
        assert_ok(storage_get(shelf.storage, "b", 1, STORAGE_GET_OPEN, &etag, &object));
        assert_ok(storage_get(shelf.storage, "b", 1, 0, NULL, &object));
        g_assert_cmpint(object.fd, ==, -EBADF); /* the one before was closed */
        storage_object_done(&object);

        assert_ok(remove_if(&shelf, "a", other.etag.generation));
        assert_absent(&shelf, "a");
        shelf_destroy(&shelf);
}

static void test_expiry(void) {
        struct storage_object object = STORAGE_OBJECT_INIT;
        struct storage_info info, again;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);

        assert_ok(put_if(&shelf, "hour", "x", 1, false, 0, 3600 * 1000, &info));
        g_assert_cmpuint(info.expires_usec, ==, info.stored_usec + 3600 * USEC_PER_SEC);
        assert_ok(storage_get_info(shelf.storage, "hour", 4, NULL, NULL, NULL));
        assert_ok(put_if(&shelf, "ages", "x", 1, false, 0, UINT64_MAX, &info));
        g_assert_cmpuint(info.expires_usec, ==, UINT64_MAX);
        assert_ok(storage_get_info(shelf.storage, "ages", 4, NULL, NULL, NULL));

        assert_ok(put_if(&shelf, "soon", "old", 3, false, 0, 1, &info));
        while (clock_usec(CLOCK_REALTIME) <= info.expires_usec)
                g_usleep(1000);
        assert_errno(storage_get(shelf.storage, "soon", 4, STORAGE_GET_OPEN, NULL, &object), -ESTALE);
        g_assert_cmpuint(object.info.etag.generation, ==, info.etag.generation);
        g_assert_null(object.body);
        assert_errno(storage_get_info(shelf.storage, "soon", 4, NULL, NULL, NULL), -ESTALE);
        assert_ok(storage_get(shelf.storage, "soon", 4, STORAGE_GET_OPEN | STORAGE_GET_STALE, NULL, &object));
        g_assert_cmpmem(object.body, object.info.size, "old", 3);
        storage_object_done(&object);

        assert_ok(put_if(&shelf, "soon", "new", 3, true, 0, 0, &again)); /* an expired one counts as none */
        assert_ok(storage_get_info(shelf.storage, "soon", 4, &info, NULL, NULL));
        g_assert_cmpuint(info.etag.generation, ==, again.etag.generation);

        shelf_destroy(&shelf);
}

static void test_uploads(void) {
        g_autofree uint8_t *bytes = make_bytes(5, BIG);
        struct storage_upload *upload;
        struct storage_change change;
        struct shelf shelf;
        unsigned n_fds;

        shelf_init(&shelf);
        shelf.config.object_max = BIG;
        shelf_open(&shelf);

        /* In pieces of all sizes, the length unknown. */
        for (size_t piece = 1; piece < BIG; piece = piece * 7 + 1) {
                size_t total = piece < 100 ? 5000 : BIG;
                g_autofree char *uri = g_strdup_printf("piece/%zu", piece);

                assert_ok(storage_upload_new(shelf.storage, UINT64_MAX, &upload));
                for (size_t at = 0; at < total; at += piece)
                        assert_ok(storage_upload_write(upload, bytes + at, MIN(piece, total - at)));
                g_assert_cmpuint(storage_upload_size(upload), ==, total);
                g_assert_true(storage_upload_checksum(upload) == XXH3_64bits(bytes, total));
                assert_ok(storage_upload_finish(upload));
                g_assert_true(storage_upload_checksum(upload) == XXH3_64bits(bytes, total));
                change = (struct storage_change){
                        .kind = STORAGE_PUT, .uri = uri, .uri_size = strlen(uri), .upload = upload
                };
                assert_ok(storage_change_wait(shelf.storage, &change));
                storage_upload_free(upload);
                assert_object(&shelf, uri, strlen(uri), 5, total);
        }

        assert_errno(storage_upload_new(shelf.storage, BIG + 1, &upload), -EFBIG);
        assert_ok(storage_upload_new(shelf.storage, UINT64_MAX, &upload));
        assert_ok(storage_upload_write(upload, bytes, BIG));
        assert_errno(storage_upload_write(upload, bytes, 1), -EFBIG);
        storage_upload_free(upload);

        for (size_t i = 0; i < G_N_ELEMENTS(sizes) - 1; i++) {
                assert_ok(storage_upload_new(shelf.storage, sizes[i], &upload));
                assert_errno(storage_upload_write(upload, bytes, sizes[i] + 1), -EFBIG);
                if (sizes[i] > 0) {
                        assert_ok(storage_upload_write(upload, bytes, sizes[i] - 1));
                        assert_errno(storage_upload_finish(upload), -EMSGSIZE);
                }
                storage_upload_free(upload);
        }

        /* What is given up leaves nothing. */
        n_fds = harness_count_fds();
        assert_ok(storage_remove(shelf.storage, "piece/1", 7));
        for (unsigned i = 0; i < 10; i++) {
                unsigned n = shelf_count_blobs(&shelf);

                assert_ok(storage_upload_new(shelf.storage, BIG, &upload));
                assert_ok(storage_upload_write(upload, bytes, BIG));
                if (i % 2)
                        assert_ok(storage_upload_finish(upload));
                storage_upload_free(upload);
                g_assert_cmpuint(shelf_count_blobs(&shelf), ==, n);
        }
        g_assert_cmpuint(harness_count_fds(), ==, n_fds);

        shelf_destroy(&shelf);
}

/* Descriptors of bodies that this process has, and one more. */
static unsigned count_bodies(void) {
        unsigned n = 1;

        for (int fd = 0; fd < 1024; fd++) {
                g_autofree char *link = g_strdup_printf("/proc/self/fd/%i", fd);
                g_autofree char *target = g_file_read_link(link, NULL);
                struct stat st;

                n += target && strstr(target, "/blobs/") && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
        }
        return n;
}

static void count_open(struct storage_change *change) {
        __atomic_store_n((unsigned *) change->userdata, count_bodies(), __ATOMIC_RELEASE);
}

/* Its owner, who may be the last that has the file open by then, is not to wait for the disk. */
static void test_upload_is_closed(void) {
        g_autofree uint8_t *bytes = make_bytes(1, BIG);
        struct storage_upload *upload;
        unsigned n_open = 0;
        struct storage_change change = {
                .kind = STORAGE_PUT, .uri = "a", .uri_size = 1, .done = count_open, .userdata = &n_open
        };
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(storage_upload_new(shelf.storage, BIG, &upload));
        assert_ok(storage_upload_write(upload, bytes, BIG));
        assert_ok(storage_upload_finish(upload));
        g_assert_cmpuint(count_bodies(), ==, 2);

        change.upload = upload;
        storage_submit(shelf.storage, &change);
        wait_until(__atomic_load_n(&n_open, __ATOMIC_ACQUIRE) > 0);
        assert_ok(change.result);
        g_assert_cmpuint(n_open, ==, 1);
        storage_upload_free(upload);
        shelf_destroy(&shelf);
}

static void test_inline_max(void) {
        static const size_t limits[] = { 0, 1, 5000 };
        struct shelf shelf;

        for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
                shelf_init(&shelf);
                shelf.config.inline_max = limits[i];
                shelf_open(&shelf);
                assert_ok(put_seeded(&shelf, "empty", 1, 0, NULL));
                assert_ok(put_seeded(&shelf, "fits", 1, limits[i], NULL));
                g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 0);
                assert_ok(put_seeded(&shelf, "over", 1, limits[i] + 1, NULL));
                g_assert_cmpuint(shelf_count_blobs(&shelf), ==, 1);
                assert_object(&shelf, "empty", 5, 1, 0);
                assert_object(&shelf, "fits", 4, 1, limits[i]);
                assert_object(&shelf, "over", 4, 1, limits[i] + 1);
                shelf_destroy(&shelf);
        }
}

static void test_stats(void) {
        struct storage_stats stats;
        struct shelf shelf;
        int fd;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, 100, NULL));
        assert_ok(put_seeded(&shelf, "b", 1, 5000, NULL));
        assert_ok(put_seeded(&shelf, "b", 1, 6000, NULL));
        assert_object(&shelf, "b", 1, 1, 6000);
        assert_errno(storage_get_fd(shelf.storage, "none", 4, &fd, NULL), -ENOENT);

        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.objects, ==, 2);
        g_assert_cmpuint(stats.objects_inline, ==, 1);
        g_assert_cmpuint(stats.bytes, ==, 6100);
        g_assert_cmpuint(stats.puts, ==, 3);
        g_assert_cmpuint(stats.changes, ==, 3);
        g_assert_cmpuint(stats.bytes_put, ==, 11100);
        g_assert_cmpuint(stats.gets, ==, 2);
        g_assert_cmpuint(stats.hits, ==, 1);
        g_assert_cmpuint(stats.generation, ==, 3);
        g_assert_cmpuint(stats.dictionary_bytes, >, 0);

        assert_ok(storage_remove(shelf.storage, "b", 1));
        assert_ok(put(&shelf, "a", "", 0));
        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.objects, ==, 1);
        g_assert_cmpuint(stats.objects_inline, ==, 1);
        g_assert_cmpuint(stats.bytes, ==, 0);
        g_assert_cmpuint(stats.removes, ==, 1);

        shelf_destroy(&shelf);
}

/* Counts of use reach the disk by themselves and at the end, and go with the object they are of. */
static void test_hits(void) {
        uint64_t deadline = clock_usec(CLOCK_MONOTONIC) + 20 * USEC_PER_SEC;
        struct storage_info info;
        struct storage_stats stats;
        uint64_t commits;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, 100, NULL));
        assert_ok(put_seeded(&shelf, "b", 1, 5000, NULL));
        for (unsigned i = 0; i < 5; i++)
                assert_object(&shelf, "a", 1, 1, 100);
        assert_object(&shelf, "b", 1, 1, 5000);
        assert_ok(put_seeded(&shelf, "b", 2, 5000, NULL));
        shelf_close(&shelf);

        shelf.hooks.usage_interval_usec = 1;
        shelf_open(&shelf);
        assert_ok(storage_get_info(shelf.storage, "a", 1, &info, NULL, NULL));
        g_assert_cmpuint(info.hits, ==, 5);
        g_assert_cmpuint(info.etag.generation, ==, 1);
        g_assert_cmpuint(info.etag.metadata_version, ==, 1);
        g_assert_cmpuint(info.used_usec, >, 0);
        assert_ok(storage_get_info(shelf.storage, "b", 1, &info, NULL, NULL));
        g_assert_cmpuint(info.hits, ==, 0);
        g_assert_cmpuint(info.used_usec, ==, 0);

        storage_get_stats(shelf.storage, &stats);
        commits = stats.commits;
        assert_object(&shelf, "a", 1, 1, 100);
        do {
                g_assert_cmpuint(clock_usec(CLOCK_MONOTONIC), <, deadline);
                storage_get_stats(shelf.storage, &stats);
        } while (stats.commits == commits);
        assert_ok(storage_get_info(shelf.storage, "a", 1, &info, NULL, NULL));
        g_assert_cmpuint(info.hits, >=, 6);

        shelf_destroy(&shelf);
}

static void count_usage(struct usage *usage,
                        struct epoch *epoch,
                        uint64_t generation,
                        uint64_t now_usec,
                        bool first) {
        struct epoch_slot *slot = epoch_enter(epoch);

        g_assert_cmpint(usage_count(usage, slot, "uri", 3, 1, generation, now_usec), ==, first);
        epoch_leave(slot);
}

static void assert_usage(struct usage *usage, uint64_t generation, uint64_t hits, uint64_t used_usec) {
        struct storage_info info = { .etag.generation = generation };

        usage_add(usage, &info);
        g_assert_cmpuint(info.hits, ==, hits);
        g_assert_cmpuint(info.used_usec, ==, used_usec);
}

/* Counts are seen while they are being written, and only once; those of another place in the epoch too. */
static void test_usage(void) {
        g_autofree struct epoch *epoch = g_aligned_alloc0(1, sizeof(*epoch), 64);
        struct epoch_slot *held;
        struct usage *usage;
        size_t shard;

        epoch->now = EPOCH_FIRST;
        assert_ok(usage_new(&usage, epoch));
        held = epoch_enter(epoch);
        shard = epoch_index(epoch, held) * USAGE_TABLES + 17 % USAGE_TABLES;
        g_assert_true(usage_count(usage, held, "uri", 3, 1, 17, 5));
        count_usage(usage, epoch, 17, 4, false);
        epoch_leave(held);
        assert_usage(usage, 17, 2, 5);

        g_assert_cmpuint(usage_begin(usage, 0), ==, 0);
        g_assert_cmpuint(usage_begin(usage, shard), ==, 1);
        count_usage(usage, epoch, 17, 3, true);
        assert_usage(usage, 17, 3, 5);
        usage_end(usage, shard);
        assert_usage(usage, 17, 2, 4);

        /* However many objects are got, the memory is bounded, and who is counted stays counted. */
        for (uint64_t i = 1; i < 100000; i++)
                count_usage(usage, epoch, i, 6, false);
        assert_usage(usage, 17, 3, 6);
        g_assert_cmpuint(usage_begin(usage, shard), <, 1024);
        usage_free(usage);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/faces", test_faces);
        harness_add("/storage/descriptions", test_descriptions);
        harness_add("/storage/hostile-uris", test_hostile_uris);
        harness_add("/storage/replace-under-reader", test_replace_under_reader);
        harness_add("/storage/metadata", test_metadata);
        harness_add("/storage/conditions", test_conditions);
        harness_add("/storage/expiry", test_expiry);
        harness_add("/storage/uploads", test_uploads);
        harness_add("/storage/upload-is-closed", test_upload_is_closed);
        harness_add("/storage/inline-max", test_inline_max);
        harness_add("/storage/stats", test_stats);
        harness_add("/storage/hits", test_hits);
        harness_add("/storage/usage", test_usage);
        return g_test_run();
}
