/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Many objects: listing, purging, keys too long for the dictionary, order. */

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "storage-harness.h"

/* Every long URI of the same head gets the same key. */
static void hash_to_one(_unused_ const void *data,
                        _unused_ size_t size,
                        _unused_ uint64_t seed,
                        uint8_t ret[static 16]) {
        memset(ret, 0x11, 16);
}

static int visit(const void *uri, size_t uri_size, const struct storage_info *info, void *userdata) {
        GHashTable *seen = userdata;
        char *name = g_strndup(uri, uri_size);

        g_assert_cmpuint(info->etag.generation, >, 0);
        g_assert_true(g_hash_table_add(seen, name)); /* none twice */
        return 0;
}

/* Lists in pages of max, and returns what was seen. */
static GHashTable *list(struct shelf *shelf, const char *prefix, size_t max) {
        GHashTable *seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        struct storage_cursor cursor = {};
        unsigned before;

        do {
                before = g_hash_table_size(seen);
                assert_ok(storage_list(shelf->storage, prefix, strlen(prefix), &cursor, max, visit, seen));
                g_assert_cmpuint(g_hash_table_size(seen) - before, <=, max);
        } while (cursor.size > 0);

        return seen;
}

static unsigned count_listed(struct shelf *shelf) {
        g_autoptr(GHashTable) seen = list(shelf, "", 1000);

        return g_hash_table_size(seen);
}

static char *long_uri(const char *head, size_t size, unsigned number) {
        char *uri = g_malloc(size + 1);
        int n = snprintf(uri, size, "%s", head);

        memset(uri + n, 'l', size - (size_t) n);
        (void) snprintf(uri + size - 8, 9, "%08u", number % 100000000);
        return uri;
}

static unsigned count_prefixed(GPtrArray *uris, const char *prefix) {
        unsigned n = 0;

        for (unsigned i = 0; i < uris->len; i++)
                n += g_str_has_prefix(uris->pdata[i], prefix);

        return n;
}

/* URIs of all lengths around the key's, some of them prefixes of others. */
static GPtrArray *make_uris(void) {
        static const size_t lengths[] = { 500, 510, 511, 512, 513, 600, 1000, 4096 };
        GPtrArray *uris = g_ptr_array_new_with_free_func(g_free);

        for (unsigned i = 0; i < 300; i++)
                g_ptr_array_add(uris, g_strdup_printf("%c/%u", 'a' + (int) (i % 3), i));
        for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++)
                for (unsigned j = 0; j < 20; j++)
                        g_ptr_array_add(uris, long_uri(j % 2 ? "b/" : "long/", lengths[i], j));
        /* Between the two ranges of a prefix of more bytes than a long key has of its URI. */
        g_ptr_array_add(uris, g_strdup_printf("b/%*s", 490, "x"));
        g_ptr_array_add(uris, g_strdup_printf("b/%*s", 500, "x"));

        return uris;
}

static void assert_lists(struct shelf *shelf, GPtrArray *uris) {
        g_autofree char *at_head = long_uri("b/", 600, 0), *past_head = long_uri("b/", 600, 0),
                        *at_key = long_uri("b/", 600, 0), *past_key = long_uri("b/", 600, 0),
                        *exact = long_uri("b/", 1000, 3);
        const char *prefixes[] = { "",    "a",     "a/1",     "b/",   "long/",  "c/299", "nothing",
                                   "b/l", at_head, past_head, at_key, past_key, exact };
        static const size_t pages[] = { 1, 7, 10000 };

        at_head[KEY_HEAD] = 0;
        past_head[KEY_HEAD + 1] = 0;
        at_key[502] = 0; /* 'l's alone: of all URIs of that head */
        past_key[550] = 0;

        for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++)
                for (size_t j = 0; j < G_N_ELEMENTS(pages); j++) {
                        g_autoptr(GHashTable) seen = list(shelf, prefixes[i], pages[j]);

                        g_assert_cmpuint(g_hash_table_size(seen), ==, count_prefixed(uris, prefixes[i]));
                        for (unsigned k = 0; k < uris->len; k++)
                                g_assert_true(g_hash_table_contains(seen, uris->pdata[k]) ==
                                              g_str_has_prefix(uris->pdata[k], prefixes[i]));
                }
        g_assert_cmpuint(count_prefixed(uris, past_key), >, 0);
        g_assert_cmpuint(count_prefixed(uris, exact), ==, 1);
}

static unsigned n_done; /* atomic */

static void on_done(_unused_ struct storage_change *change) {
        (void) __atomic_fetch_add(&n_done, 1, __ATOMIC_RELEASE);
}

static void wait_done(unsigned n) {
        uint64_t deadline = clock_usec(CLOCK_MONOTONIC) + 60 * USEC_PER_SEC;

        while (__atomic_load_n(&n_done, __ATOMIC_ACQUIRE) < n) {
                g_assert_cmpuint(clock_usec(CLOCK_MONOTONIC), <, deadline);
                g_usleep(200);
        }
}

/* All at once: what is to be tested comes after. */
static void put_all(struct shelf *shelf, GPtrArray *uris) {
        g_autofree struct storage_change *changes = g_new0(struct storage_change, uris->len);

        n_done = 0;
        for (unsigned i = 0; i < uris->len; i++) {
                changes[i].kind = STORAGE_PUT;
                changes[i].uri = uris->pdata[i];
                changes[i].uri_size = strlen(uris->pdata[i]);
                changes[i].done = on_done;
                assert_ok(storage_upload_new(shelf->storage, sizeof(i), &changes[i].upload));
                assert_ok(storage_upload_write(changes[i].upload, &i, sizeof(i)));
                assert_ok(storage_upload_finish(changes[i].upload));
                storage_submit(shelf->storage, &changes[i]);
        }

        wait_done(uris->len);
        for (unsigned i = 0; i < uris->len; i++) {
                assert_ok(changes[i].result);
                storage_upload_free(changes[i].upload);
        }
}

static void test_list(void) {
        g_autoptr(GPtrArray) uris = make_uris();
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        g_assert_cmpuint(count_listed(&shelf), ==, 0);
        put_all(&shelf, uris);
        assert_lists(&shelf, uris);
        shelf_destroy(&shelf);

        /* The same with every hash equal. */
        shelf_init(&shelf);
        shelf.hooks.hash = hash_to_one;
        shelf_open(&shelf);
        put_all(&shelf, uris);
        assert_lists(&shelf, uris);
        shelf_destroy(&shelf);
}

/* What is not to be seen: all that begins with one of these, and one URI alone. */
static const char *const hidden[] = { "a/1", "b/", "long/l", "c/299" };
#define HIDDEN_ALONE "a/30"

struct excepting {
        GHashTable *seen;
        unsigned n_asked;
};

static size_t skip_hidden(const void *uri, size_t uri_size, void *userdata) {
        struct excepting *excepting = userdata;

        excepting->n_asked++;
        if (uri_size == strlen(HIDDEN_ALONE) && memcmp(uri, HIDDEN_ALONE, uri_size) == 0)
                return uri_size + 1;
        for (size_t i = 0; i < G_N_ELEMENTS(hidden); i++)
                if (uri_size >= strlen(hidden[i]) && memcmp(uri, hidden[i], strlen(hidden[i])) == 0)
                        return strlen(hidden[i]);

        return 0;
}

static int visit_excepting(const void *uri,
                           size_t uri_size,
                           const struct storage_info *info,
                           void *userdata) {
        struct excepting *excepting = userdata;

        return visit(uri, uri_size, info, excepting->seen);
}

static bool is_hidden(const char *uri) {
        return skip_hidden(uri, strlen(uri), &(struct excepting){}) > 0;
}

/* It names no more than what is seen, and the first bytes of what is not. */
static void assert_says_nothing(const struct storage_cursor *cursor, GPtrArray *uris) {
        for (unsigned i = 0; i < uris->len; i++) {
                const char *uri = uris->pdata[i];
                size_t size = skip_hidden(uri, strlen(uri), &(struct excepting){}) + 1;

                if (size > 1 && strlen(uri) >= size)
                        g_assert_null(memmem(cursor->data, cursor->size, uri, size));
        }
}

static void test_list_except(void) {
        static const char *const prefixes[] = { "",    "a",  "a/",   "a/3",   "b",
                                                "b/2", "c/", "c/29", "long/", "long/ll" };
        static const size_t pages[] = { 1, 7, 10000 };
        g_autoptr(GPtrArray) uris = make_uris();
        struct shelf shelf;

        shelf_init(&shelf);
        shelf_open(&shelf);
        put_all(&shelf, uris);

        for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++)
                for (size_t j = 0; j < G_N_ELEMENTS(pages); j++) {
                        g_autoptr(GHashTable)
                                        seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
                        struct excepting excepting = { .seen = seen };
                        struct storage_cursor cursor = {};
                        unsigned n_wanted = 0, n_pages = 0;

                        do {
                                assert_ok(storage_list_except(shelf.storage, prefixes[i], strlen(prefixes[i]),
                                                              &cursor, pages[j], skip_hidden, visit_excepting,
                                                              &excepting));
                                assert_says_nothing(&cursor, uris);
                                n_pages++;
                        } while (cursor.size > 0);

                        for (unsigned k = 0; k < uris->len; k++) {
                                bool wanted = g_str_has_prefix(uris->pdata[k], prefixes[i]) &&
                                              !is_hidden(uris->pdata[k]);

                                g_assert_true(g_hash_table_contains(seen, uris->pdata[k]) == wanted);
                                n_wanted += wanted;
                        }
                        g_assert_cmpuint(g_hash_table_size(seen), ==, n_wanted);

                        /* However many there are, they are passed by at once. */
                        g_assert_cmpuint(excepting.n_asked, <=,
                                         n_wanted + (G_N_ELEMENTS(hidden) + 1) * n_pages);
                }

        shelf_destroy(&shelf);
}

struct stopping {
        unsigned left;
        GHashTable *seen;
};

static int visit_some(const void *uri, size_t uri_size, const struct storage_info *info, void *userdata) {
        struct stopping *stopping = userdata;

        if (stopping->left == 0)
                return -EBADMSG; /* one that the store itself knows */
        stopping->left--;
        return visit(uri, uri_size, info, stopping->seen);
}

static void test_cursors(void) {
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        struct stopping stopping = { 0, seen };
        struct storage_cursor cursor = {}, wrong;
        g_autoptr(GPtrArray) uris = make_uris();
        struct shelf shelf, other;
        unsigned rounds = 0;
        char name[32];
        int r;

        shelf_init(&shelf);
        shelf_open(&shelf);
        put_all(&shelf, uris);

        /* Stopped by the visitor, reopened in between, and changed: what stays is seen once. */
        do {
                stopping.left = 37;
                r = storage_list(shelf.storage, "", 0, &cursor, SIZE_MAX, visit_some, &stopping);
                g_assert_true(r == 0 || r == -EBADMSG);
                if (rounds++ == 3) {
                        shelf_close(&shelf);
                        shelf_open(&shelf);
                }
                (void) snprintf(name, sizeof(name), "a/0new%u", rounds);
                assert_ok(put(&shelf, name, "x", 1));
                assert_ok(put(&shelf, uris->pdata[rounds], "replaced", 8));
        } while (r == -EBADMSG);
        g_assert_cmpuint(cursor.size, ==, 0);
        for (unsigned i = 0; i < uris->len; i++)
                g_assert_true(g_hash_table_contains(seen, uris->pdata[i]));

        /* Cursors that no listing gave. */
        g_hash_table_remove_all(seen);
        assert_ok(storage_list(shelf.storage, "", 0, &cursor, 1, visit, seen));
        for (size_t i = 0; i < 9; i++) {
                wrong = cursor;
                wrong.data[i] ^= 1;
                assert_errno(storage_list(shelf.storage, "", 0, &wrong, 1, visit_some, &stopping), -EINVAL);
        }
        for (size_t i = 0; i < 3; i++) {
                wrong = cursor;
                wrong.size = (const size_t[]){ 9, 9 + KEY_MAX + 1, SIZE_MAX }[i];
                assert_errno(storage_list(shelf.storage, "", 0, &wrong, 1, visit_some, &stopping), -EINVAL);
        }
        wrong = cursor;
        for (size_t size = 10; size <= 9 + KEY_MAX; size++) { /* any key will do */
                g_autoptr(GHashTable) any = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

                memset(wrong.data + 9, (int) size, size - 9);
                wrong.size = size;
                assert_ok(storage_list(shelf.storage, uris->pdata[300], 497, &wrong, 5, visit, any));
        }
        assert_errno(storage_list(shelf.storage, "a\0", 2, &cursor, 1, visit_some, &stopping), -EINVAL);

        shelf_init(&other);
        shelf_open(&other);
        assert_errno(storage_list(other.storage, "", 0, &cursor, 1, visit_some, &stopping), -EINVAL);
        shelf_destroy(&other);
        shelf_destroy(&shelf);
}

static int purge(struct shelf *shelf, const char *prefix, uint64_t *ret_count) {
        struct storage_change change = { .kind = STORAGE_PURGE, .uri = prefix, .uri_size = strlen(prefix) };
        int r = storage_change_wait(shelf->storage, &change);

        *ret_count = change.count;
        return r;
}

static void test_purge(void) {
        g_autofree char *past_key = long_uri("b/", 600, 0);
        const char *prefixes[] = { "a/1", past_key, "long/", "nothing", "" };
        g_autoptr(GPtrArray) uris = make_uris();
        struct storage_stats stats;
        uint64_t count, left;
        struct shelf shelf;

        past_key[550] = 0;
        shelf_init(&shelf);
        shelf.config.inline_max = 2; /* most have files */
        shelf.hooks.hash = hash_to_one;
        shelf_open(&shelf);
        put_all(&shelf, uris);
        left = uris->len;

        for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
                unsigned expected = 0;

                for (unsigned j = uris->len; j-- > 0;)
                        if (g_str_has_prefix(uris->pdata[j], prefixes[i])) {
                                g_ptr_array_remove_index_fast(uris, j);
                                expected++;
                        }

                assert_ok(purge(&shelf, prefixes[i], &count));
                g_assert_cmpuint(count, ==, expected);
                left -= count;
                g_assert_cmpuint(shelf_count_blobs(&shelf), ==, left);
                g_assert_cmpuint(count_listed(&shelf), ==, left);
                storage_get_stats(shelf.storage, &stats);
                g_assert_cmpuint(stats.objects, ==, left);
                g_assert_cmpuint(stats.bytes, ==, left * sizeof(unsigned));
        }
        g_assert_cmpuint(left, ==, 0);
        assert_errno(storage_change_wait(shelf.storage, &(struct storage_change){ .kind = STORAGE_PURGE,
                                                                                  .uri = "a\0b",
                                                                                  .uri_size = 3 }),
                     -EINVAL);

        shelf_destroy(&shelf);
}

/* Changes submitted at once: each counts its own. */
struct sent {
        struct storage_change change;
        struct storage_upload *upload;
        char uri[32];
        int value;
};

static void send_change(struct shelf *shelf,
                        struct sent *sent,
                        enum storage_change_kind kind,
                        const char *uri,
                        int value) {
        sent->value = value;
        (void) snprintf(sent->uri, sizeof(sent->uri), "%s", uri);
        sent->change.kind = kind;
        sent->change.uri = sent->uri;
        sent->change.uri_size = strlen(uri);
        sent->change.done = on_done;
        if (kind == STORAGE_PUT) {
                assert_ok(storage_upload_new(shelf->storage, sizeof(value), &sent->upload));
                assert_ok(storage_upload_write(sent->upload, &sent->value, sizeof(value)));
                assert_ok(storage_upload_finish(sent->upload));
                sent->change.upload = sent->upload;
        }
        storage_submit(shelf->storage, &sent->change);
}

static void assert_value(struct shelf *shelf, const char *uri, int value) {
        struct storage_object object = STORAGE_OBJECT_INIT;

        assert_ok(storage_get(shelf->storage, uri, strlen(uri), 0, NULL, &object));
        g_assert_cmpmem(object.body, object.info.size, &value, sizeof(value));
        storage_object_done(&object);
}

/* A purge takes what was there when it was submitted, however much is put and changed while it goes on, and
 * every later change finds what it would if the purge had been done at once. */
static void test_purge_order(void) {
        enum { N = 5000 };
        g_autofree struct sent *sent = g_new0(struct sent, N + 10);
        struct sent *p = sent;
        uint64_t removed;
        struct shelf shelf;
        char uri[32];

        shelf_init(&shelf);
        shelf_open(&shelf);
        n_done = 0;
        for (int i = 0; i < N; i++) {
                (void) snprintf(uri, sizeof(uri), "p/%05d", i);
                send_change(&shelf, p++, STORAGE_PUT, uri, i);
        }
        send_change(&shelf, p++, STORAGE_SET_METADATA, "p/04999", 0); /* still there */
        send_change(&shelf, p++, STORAGE_PURGE, "p/", 0);
        send_change(&shelf, p++, STORAGE_SET_METADATA, "p/04998", 0); /* gone */
        send_change(&shelf, p++, STORAGE_REMOVE, "p/04997", 0);       /* gone */
        p->change.if_absent = true;
        send_change(&shelf, p++, STORAGE_PUT, "p/04996", -1); /* possible */
        p->change.if_generation = 1;
        send_change(&shelf, p++, STORAGE_PUT, "p/00000", -1); /* not possible */
        send_change(&shelf, p++, STORAGE_PUT, "p/new", -1);
        send_change(&shelf, p++, STORAGE_PURGE, "p/new", 0);
        send_change(&shelf, p++, STORAGE_PUT, "p/newer", -1);
        wait_done((unsigned) (p - sent));

        for (int i = 0; i < N; i++)
                assert_ok(sent[i].change.result);
        assert_ok(sent[N].change.result);
        assert_ok(sent[N + 1].change.result);
        g_assert_cmpuint(sent[N + 1].change.count, ==, N);
        assert_errno(sent[N + 2].change.result, -ENOENT);
        assert_errno(sent[N + 3].change.result, -ENOENT);
        assert_ok(sent[N + 4].change.result);
        assert_errno(sent[N + 5].change.result, -ENOENT);
        assert_ok(sent[N + 6].change.result);
        assert_ok(sent[N + 7].change.result);
        g_assert_cmpuint(sent[N + 7].change.count, ==, 1);
        assert_ok(sent[N + 8].change.result);
        assert_value(&shelf, "p/04996", -1);
        assert_value(&shelf, "p/newer", -1);
        g_assert_cmpuint(count_listed(&shelf), ==, 2);

        assert_ok(purge(&shelf, "", &removed));
        g_assert_cmpuint(removed, ==, 2);
        while (p-- > sent)
                storage_upload_free(p->upload);
        shelf_destroy(&shelf);
}

static void test_order(void) {
        enum { N = 1000, URIS = 7 };
        g_autofree struct sent *sent = g_new0(struct sent, N);
        struct storage_stats stats;
        uint64_t generation = 0;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.config.inline_max = 0;
        shelf_open(&shelf);
        n_done = 0;
        for (int i = 0; i < N; i++)
                send_change(&shelf, &sent[i], i % 50 == 49 ? STORAGE_REMOVE : STORAGE_PUT,
                            (const char *[]){ "a", "b", "c", "d", "e", "f", "g" }[i % URIS], i);
        wait_done(N);

        for (int i = 0; i < N; i++) {
                if (i % 50 == 49)
                        continue;
                assert_ok(sent[i].change.result);
                g_assert_cmpuint(sent[i].change.info.etag.generation, >, generation);
                generation = sent[i].change.info.etag.generation;
        }
        for (int i = N - URIS; i < N; i++) {
                const char *uri = (const char *[]){ "a", "b", "c", "d", "e", "f", "g" }[i % URIS];
                struct storage_info info;
                g_autofree uint8_t *value = g_memdup2(&i, sizeof(i));
                int fd;

                if (i % 50 == 49) {
                        assert_absent(&shelf, uri);
                        continue;
                }
                assert_ok(storage_get_fd(shelf.storage, uri, 1, &fd, &info));
                assert_fd_bytes(fd, value, sizeof(i));
                (void) close_fd(fd);
        }
        g_assert_cmpuint(shelf_count_blobs(&shelf), ==, URIS - 1);

        storage_get_stats(shelf.storage, &stats);
        g_assert_cmpuint(stats.changes, ==, N);
        g_assert_cmpuint(stats.commits, <, N); /* gathered */

        for (int i = 0; i < N; i++)
                storage_upload_free(sent[i].upload);
        shelf_destroy(&shelf);
}

static void test_chains(void) {
        enum { N = 100 };
        char *uris[N];
        struct storage_info info;
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.hooks.hash = hash_to_one;
        shelf_open(&shelf);
        for (unsigned i = 0; i < N; i++) {
                uris[i] = long_uri("chain/", 600 + i, i);
                assert_ok(put_seeded(&shelf, uris[i], i, 3000 * (i % 2), NULL));
        }
        for (unsigned i = 0; i < N; i++)
                assert_object(&shelf, uris[i], strlen(uris[i]), i, 3000 * (i % 2));

        /* Holes are found again, and hide nothing behind them. */
        for (unsigned i = 0; i < N; i += 3)
                assert_ok(storage_remove(shelf.storage, uris[i], strlen(uris[i])));
        for (unsigned i = 0; i < N; i++)
                if (i % 3 == 0)
                        assert_absent(&shelf, uris[i]);
                else
                        assert_object(&shelf, uris[i], strlen(uris[i]), i, 3000 * (i % 2));
        for (unsigned i = 0; i < N; i += 6)
                assert_ok(put_seeded(&shelf, uris[i], i + 1000, 100, NULL));
        assert_ok(put_seeded(&shelf, uris[1], 5000, 10, NULL));

        shelf_close(&shelf);
        shelf_open(&shelf);
        for (unsigned i = 0; i < N; i++) {
                if (i == 1)
                        assert_object(&shelf, uris[i], strlen(uris[i]), 5000, 10);
                else if (i % 6 == 0)
                        assert_object(&shelf, uris[i], strlen(uris[i]), i + 1000, 100);
                else if (i % 3 == 0)
                        assert_absent(&shelf, uris[i]);
                else
                        assert_object(&shelf, uris[i], strlen(uris[i]), i, 3000 * (i % 2));
        }
        assert_ok(storage_get_info(shelf.storage, uris[1], strlen(uris[1]), &info, NULL, NULL));
        g_assert_cmpuint(info.hits, ==, 1);

        for (unsigned i = 0; i < N; i++)
                g_free(uris[i]);
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/storage/list", test_list);
        harness_add("/storage/list-except", test_list_except);
        harness_add("/storage/cursors", test_cursors);
        harness_add("/storage/purge", test_purge);
        harness_add("/storage/purge-order", test_purge_order);
        harness_add("/storage/order", test_order);
        harness_add("/storage/chains", test_chains);
        return g_test_run();
}
