/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dictionary.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "bytes.h"
#include "due.h"
#include "macro.h"
#include "order.h"

#define TABLES         6
#define STATE_KEY      "state"
#define REBUILD_KEY    "rebuild"
#define LAYOUT_KEY     "layout"
#define KEY_HASH_SIZE  16
#define KEY_CHAIN_SIZE (KEY_HEAD + 1 + KEY_HASH_SIZE) /* what the keys of one chain share */

struct dictionary {
        struct environment *environment;
        struct environment_table tables[TABLES];
        MDB_dbi objects, meta, live, due, order, accounts;
        uint64_t seed;
        key_hash_fn hash;
        uint8_t *buffer; /* the writer's */
        size_t buffer_size;
        uint64_t allocated; /* the writer's: bytes of the file that the disk has set aside */
};

static void hash_key(const void *data, size_t size, uint64_t seed, uint8_t ret[static 16]) {
        XXH128_canonical_t canonical;

        XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(data, size, seed));
        memcpy(ret, canonical.digest, KEY_HASH_SIZE);
}

int dictionary_open(
                struct dictionary **ret, const char *path, size_t map_size, uint64_t seed, key_hash_fn hash) {
        _cleanup_(dictionary_freep) struct dictionary *dictionary = calloc(1, sizeof(*dictionary));
        int r;

        assert(ret);

        if (!dictionary)
                return -ENOMEM;

        dictionary->seed = seed;
        dictionary->hash = hash ?: hash_key;
        r = environment_open(&dictionary->environment, path, map_size);
        if (r < 0)
                return r;

        assert(mdb_env_get_maxkeysize(environment_get(dictionary->environment)) >= KEY_MAX);
        *ret = TAKE_PTR(dictionary);
        return 0;
}

int dictionary_open_tables(struct dictionary *dictionary) {
        const struct environment_table tables[TABLES] = {
                { "objects", &dictionary->objects }, { "meta", &dictionary->meta },
                { "live", &dictionary->live },       { "due", &dictionary->due },
                { "order", &dictionary->order },     { "accounts", &dictionary->accounts },
        };

        memcpy(dictionary->tables, tables, sizeof(tables));
        return environment_open_tables(dictionary->environment, dictionary->tables, TABLES);
}

void dictionary_free(struct dictionary *dictionary) {
        if (dictionary->environment)
                environment_free(dictionary->environment);
        free(dictionary->buffer);
        free(dictionary);
}

int dictionary_read_begin(struct dictionary *dictionary, MDB_txn **ret) {
        return environment_read_begin(dictionary->environment, ret);
}

bool dictionary_is_shut(const struct dictionary *dictionary) {
        return environment_is_shut(dictionary->environment);
}

void dictionary_read_end(struct dictionary *dictionary, MDB_txn *txn) {
        environment_read_end(dictionary->environment, txn);
}

int dictionary_write_begin(struct dictionary *dictionary, MDB_txn **ret) {
        return environment_write_begin(dictionary->environment, ret);
}

int dictionary_write_commit(struct dictionary *dictionary, MDB_txn *txn) {
        return environment_write_commit(dictionary->environment, txn);
}

void dictionary_write_abort(MDB_txn *txn) {
        environment_write_abort(txn);
}

int dictionary_find_key(struct dictionary *dictionary,
                        MDB_txn *txn,
                        const void *key,
                        size_t key_size,
                        struct record *ret) {
        MDB_val k = { key_size, (void *) key }, v;
        int r;

        r = mdb_get(txn, dictionary->objects, &k, &v);
        if (r != 0)
                return environment_errno(r);

        return record_decode(key, key_size, v.mv_data, v.mv_size, ret);
}

static void number_key(struct key *key, unsigned number) {
        key->data[KEY_CHAIN_SIZE] = (uint8_t) (number >> 8);
        key->data[KEY_CHAIN_SIZE + 1] = (uint8_t) number;
}

/* Follows the chain of key, whose number is 0. The key of an absent URI gets the lowest number that is free.
 */
static int find_in_chain(struct dictionary *dictionary,
                         MDB_txn *txn,
                         const void *uri,
                         size_t uri_size,
                         struct key *key,
                         struct record *ret) {
        MDB_val k = { key->size, key->data }, v;
        unsigned lowest_free = 0;
        MDB_cursor *cursor;
        int r;

        r = mdb_cursor_open(txn, dictionary->objects, &cursor);
        if (r != 0)
                return environment_errno(r);

        for (r = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); r == 0;
             r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
                const uint8_t *p = k.mv_data;
                unsigned number;

                if (k.mv_size != KEY_MAX || memcmp(p, key->data, KEY_CHAIN_SIZE) != 0) {
                        r = MDB_NOTFOUND;
                        break;
                }

                number = (unsigned) p[KEY_CHAIN_SIZE] << 8 | p[KEY_CHAIN_SIZE + 1];
                if (number == lowest_free)
                        lowest_free++;

                /* A damaged one is nobody's: it keeps its place in the chain until it is repaired. */
                if (record_decode(p, k.mv_size, v.mv_data, v.mv_size, ret) >= 0 &&
                    ret->uri_size == uri_size && memcmp(ret->uri, uri, uri_size) == 0) {
                        number_key(key, number);
                        break;
                }
        }

        mdb_cursor_close(cursor);
        if (r == MDB_NOTFOUND) {
                if (lowest_free > UINT16_MAX)
                        return -ENOSPC;
                number_key(key, lowest_free);
        }

        return environment_errno(r);
}

int dictionary_find(struct dictionary *dictionary,
                    MDB_txn *txn,
                    const void *uri,
                    size_t uri_size,
                    struct key *ret_key,
                    struct record *ret) {
        if (uri_size <= KEY_MAX) {
                memcpy(ret_key->data, uri, uri_size);
                ret_key->size = uri_size;
                return dictionary_find_key(dictionary, txn, ret_key->data, uri_size, ret);
        }

        memcpy(ret_key->data, uri, KEY_HEAD);
        ret_key->data[KEY_HEAD] = 0;
        dictionary->hash(uri, uri_size, dictionary->seed, ret_key->data + KEY_HEAD + 1);
        number_key(ret_key, 0);
        ret_key->size = KEY_MAX;
        return find_in_chain(dictionary, txn, uri, uri_size, ret_key, ret);
}

int dictionary_put(struct dictionary *dictionary,
                   MDB_txn *txn,
                   const struct key *key,
                   const struct record *record) {
        MDB_val k = { key->size, (void *) key->data }, v;
        int r;

        v.mv_size = record_size(key, record);
        r = mdb_put(txn, dictionary->objects, &k, &v, MDB_RESERVE);
        if (r != 0)
                return environment_errno(r);

        record_encode(key, record, v.mv_data);
        return 0;
}

static int note(struct dictionary *dictionary,
                MDB_txn *txn,
                const struct key *key,
                const struct record *record) {
        int r = record->blob != 0 ? live_add(dictionary->live, txn, record->blob) : 0;

        if (r >= 0)
                r = due_add(dictionary->due, txn, key, record);
        return r < 0 ? r : order_add(dictionary->order, txn, key, record);
}

int dictionary_insert(struct dictionary *dictionary,
                      MDB_txn *txn,
                      const struct key *key,
                      const struct record *record) {
        int r = dictionary_put(dictionary, txn, key, record);

        return r < 0 ? r : note(dictionary, txn, key, record);
}

int dictionary_forget(struct dictionary *dictionary,
                      MDB_txn *txn,
                      const struct record *record,
                      bool *ret_is_last) {
        int r = 0;

        *ret_is_last = false;
        if (record->blob != 0)
                r = live_remove(dictionary->live, txn, record->blob, ret_is_last);
        if (r >= 0)
                r = due_remove(dictionary->due, txn, record);
        return r < 0 ? r : order_remove(dictionary->order, txn, record);
}

int dictionary_read_live(struct dictionary *dictionary, uint64_t folder, struct live_map *ret) {
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = live_read(dictionary->live, txn, folder, ret);
        dictionary_read_end(dictionary, txn);
        return r;
}

int dictionary_peek_due(struct dictionary *dictionary, MDB_txn *txn, uint64_t *ret_usec) {
        return due_peek(dictionary->due, txn, ret_usec);
}

int dictionary_take_due(struct dictionary *dictionary,
                        MDB_txn *txn,
                        struct key *ret_key,
                        uint64_t *ret_generation) {
        return due_take(dictionary->due, txn, ret_key, ret_generation);
}

int dictionary_count_due(struct dictionary *dictionary, uint64_t *ret) {
        MDB_txn *txn;
        MDB_stat st;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = mdb_stat(txn, dictionary->due, &st);
        dictionary_read_end(dictionary, txn);
        if (r != 0)
                return environment_errno(r);

        *ret = st.ms_entries;
        return 0;
}

int dictionary_first_queued(struct dictionary *dictionary,
                            MDB_txn *txn,
                            uint32_t account,
                            uint8_t queue,
                            struct order_entry *ret) {
        return order_first(dictionary->order, txn, account, queue, ret);
}

int dictionary_drop_queued(struct dictionary *dictionary, MDB_txn *txn, const struct order_entry *entry) {
        return order_drop(dictionary->order, txn, entry);
}

int dictionary_requeue(struct dictionary *dictionary,
                       MDB_txn *txn,
                       const struct key *key,
                       const struct record *old,
                       struct record *record) {
        int r;

        r = dictionary_keep(dictionary, record);
        if (r >= 0)
                r = order_remove(dictionary->order, txn, old);
        if (r >= 0)
                r = dictionary_put(dictionary, txn, key, record);
        return r < 0 ? r : order_add(dictionary->order, txn, key, record);
}

int dictionary_find_notes(struct dictionary *dictionary,
                          MDB_txn *txn,
                          const struct key *key,
                          const struct record *record,
                          struct dictionary_notes *ret) {
        struct live_map map;
        int r;

        *ret = (struct dictionary_notes){};
        if (record->blob != 0) {
                r = live_read(dictionary->live, txn, record->blob >> BLOB_FOLDER_BITS, &map);
                if (r < 0)
                        return r;
                ret->live = live_has(&map, record->blob);
        }

        r = due_has(dictionary->due, txn, key, record);
        if (r < 0)
                return r;
        ret->due = (uint64_t) r;

        r = order_has(dictionary->order, txn, key, record);
        if (r < 0)
                return r;
        ret->order = (uint64_t) r;
        return 0;
}

int dictionary_count_notes(struct dictionary *dictionary, MDB_txn *txn, struct dictionary_notes *ret) {
        MDB_stat st;
        int r;

        r = live_count(dictionary->live, txn, &ret->live);
        if (r < 0)
                return r;

        r = mdb_stat(txn, dictionary->due, &st);
        ret->due = st.ms_entries;
        if (r == 0)
                r = mdb_stat(txn, dictionary->order, &st);
        ret->order = st.ms_entries;
        return environment_errno(r);
}

int dictionary_visit_accounts(struct dictionary *dictionary,
                              MDB_txn *txn,
                              int (*visit)(uint32_t id, const uint8_t *value, size_t size, void *userdata),
                              void *userdata) {
        MDB_cursor *cursor;
        MDB_val k, v;
        int r, k_r;

        r = mdb_cursor_open(txn, dictionary->accounts, &cursor);
        if (r != 0)
                return environment_errno(r);

        r = 0;
        while (r >= 0 && (k_r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
                r = k.mv_size == 4 ? visit(load_be32(k.mv_data), v.mv_data, v.mv_size, userdata) : -EUCLEAN;
        mdb_cursor_close(cursor);

        return r < 0 || k_r == MDB_NOTFOUND ? r : environment_errno(k_r);
}

int dictionary_write_account(
                struct dictionary *dictionary, MDB_txn *txn, uint32_t id, const uint8_t *value, size_t size) {
        uint8_t key[4];
        MDB_val k = { sizeof(key), key }, v = { size, (void *) value };
        int r;

        store_be32(key, id);
        if (value)
                return environment_errno(mdb_put(txn, dictionary->accounts, &k, &v, 0));

        r = mdb_del(txn, dictionary->accounts, &k, NULL);
        return r == MDB_NOTFOUND ? 0 : environment_errno(r);
}

int dictionary_keep(struct dictionary *dictionary, struct record *record) {
        size_t body_size = record->blob == 0 ? record->info.size : 0;
        size_t size = record->uri_size + record->metadata_size + body_size;
        uint8_t *p;

        if (size > dictionary->buffer_size) {
                p = realloc(dictionary->buffer, size);
                if (!p)
                        return -ENOMEM;

                dictionary->buffer = p;
                dictionary->buffer_size = size;
        }

        p = dictionary->buffer;
        record->uri = memcpy(p, record->uri, record->uri_size);
        p += record->uri_size;
        record->metadata = memcpy(p, record->metadata, record->metadata_size);
        p += record->metadata_size;
        if (record->blob == 0)
                record->body = memcpy(p, record->body, body_size);

        return 0;
}

int dictionary_delete(struct dictionary *dictionary, MDB_txn *txn, const struct key *key) {
        MDB_val k = { key->size, (void *) key->data };

        return environment_errno(mdb_del(txn, dictionary->objects, &k, NULL));
}

/* The state's record: check, version (32 bits), 32 bits of nothing, the numbers. The last came with version 3. */
#define STATE_NUMBERS 7
#define STATE_SIZE    (16 + STATE_NUMBERS * 8)

static int check_state(const MDB_val *v, unsigned *ret_version) {
        const uint8_t *p = v->mv_data;

        if (v->mv_size < 16 || load_le64(p) != XXH3_64bits(p + 8, v->mv_size - 8) || load_le32(p + 8) == 0)
                return -EUCLEAN;
        if (load_le32(p + 8) > DICTIONARY_VERSION)
                return -EPROTONOSUPPORT;
        if (v->mv_size != (load_le32(p + 8) < 3 ? STATE_SIZE - 8 : STATE_SIZE))
                return -EUCLEAN;

        *ret_version = load_le32(p + 8);
        return 0;
}

int dictionary_read_version(struct dictionary *dictionary, unsigned *ret) {
        MDB_val k = { strlen(STATE_KEY), (void *) STATE_KEY }, v;
        MDB_txn *txn;
        MDB_dbi meta;
        int r;

        r = mdb_txn_begin(environment_get(dictionary->environment), NULL, MDB_RDONLY, &txn);
        if (r != 0)
                return environment_errno(r);

        r = mdb_dbi_open(txn, "meta", 0, &meta);
        if (r == 0)
                r = mdb_get(txn, meta, &k, &v);
        r = r != 0 ? environment_errno(r) : check_state(&v, ret);
        mdb_txn_abort(txn);
        return r;
}

int dictionary_read_state(struct dictionary *dictionary, MDB_txn *txn, struct dictionary_state *ret) {
        MDB_val k = { strlen(STATE_KEY), (void *) STATE_KEY }, v;
        unsigned version;
        const uint8_t *p;
        int r;

        r = mdb_get(txn, dictionary->meta, &k, &v);
        if (r != 0)
                return environment_errno(r);
        r = check_state(&v, &version);
        if (r < 0)
                return r;

        p = v.mv_data;
        *ret = (struct dictionary_state){
                .store_id = load_le64(p + 16),
                .generations = load_le64(p + 24),
                .blobs = load_le64(p + 32),
                .objects = load_le64(p + 40),
                .objects_inline = load_le64(p + 48),
                .bytes = load_le64(p + 56),
                .clock = version >= 3 ? load_le64(p + 64) : 0,
        };
        return 0;
}

int dictionary_write_state(struct dictionary *dictionary,
                           MDB_txn *txn,
                           const struct dictionary_state *state) {
        const uint64_t numbers[STATE_NUMBERS] = { state->store_id, state->generations,    state->blobs,
                                                  state->objects,  state->objects_inline, state->bytes,
                                                  state->clock };
        uint8_t value[STATE_SIZE] = {};
        MDB_val k = { strlen(STATE_KEY), (void *) STATE_KEY }, v = { sizeof(value), value };

        store_le32(value + 8, DICTIONARY_VERSION);
        for (size_t i = 0; i < STATE_NUMBERS; i++)
                store_le64(value + 16 + i * 8, numbers[i]);
        store_le64(value, XXH3_64bits(value + 8, STATE_SIZE - 8));

        return environment_errno(mdb_put(txn, dictionary->meta, &k, &v, 0));
}

int dictionary_read_rebuild(struct dictionary *dictionary, MDB_txn *txn, struct key *ret) {
        MDB_val k = { strlen(REBUILD_KEY), (void *) REBUILD_KEY }, v;
        int r;

        r = mdb_get(txn, dictionary->meta, &k, &v);
        if (r != 0)
                return r == MDB_NOTFOUND ? 0 : environment_errno(r);
        if (v.mv_size > KEY_MAX + 1)
                return -EUCLEAN;

        ret->size = v.mv_size - 1;
        memcpy(ret->data, (const uint8_t *) v.mv_data + 1, ret->size);
        return 1;
}

int dictionary_write_rebuild(struct dictionary *dictionary, MDB_txn *txn, const struct key *last) {
        MDB_val k = { strlen(REBUILD_KEY), (void *) REBUILD_KEY }, v;
        uint8_t value[KEY_MAX + 1] = {}; /* a value of no bytes is none */
        int r;

        if (!last) {
                r = mdb_del(txn, dictionary->meta, &k, NULL);
                return r == MDB_NOTFOUND ? 0 : environment_errno(r);
        }

        memcpy(value + 1, last->data, last->size);
        v = (MDB_val){ last->size + 1, value };
        return environment_errno(mdb_put(txn, dictionary->meta, &k, &v, 0));
}

int dictionary_get_layout(struct dictionary *dictionary, uint64_t *ret) {
        MDB_val k = { strlen(LAYOUT_KEY), (void *) LAYOUT_KEY }, v;
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = mdb_get(txn, dictionary->meta, &k, &v);
        if (r == 0 && v.mv_size == 8)
                *ret = load_le64(v.mv_data);
        else
                *ret = 0; /* none was ever set */
        dictionary_read_end(dictionary, txn);
        return r == MDB_NOTFOUND ? 0 : environment_errno(r);
}

int dictionary_set_layout(struct dictionary *dictionary, MDB_txn *txn, uint64_t layout) {
        MDB_val k = { strlen(LAYOUT_KEY), (void *) LAYOUT_KEY }, v;
        uint8_t value[8];

        store_le64(value, layout);
        v = (MDB_val){ sizeof(value), value };
        return environment_errno(mdb_put(txn, dictionary->meta, &k, &v, 0));
}

int dictionary_clear_notes(struct dictionary *dictionary, MDB_txn *txn) {
        const MDB_dbi dbis[] = { dictionary->live, dictionary->due, dictionary->order, dictionary->accounts };

        for (size_t i = 0; i < ARRAY_SIZE(dbis); i++) {
                int r = mdb_drop(txn, dbis[i], 0);

                if (r != 0)
                        return environment_errno(r);
        }

        return 0;
}

int dictionary_copy(struct dictionary *dictionary, int fd, void (*on_step)(void *userdata), void *userdata) {
        return environment_copy(dictionary->environment, fd, on_step, userdata);
}

/* An update copies pages before it frees them: on a full disk not even a removal could be made. So what only
 * adds must leave this much. */
#define HEADROOM (UINT64_C(4) << 20)

static uint64_t growth(uint64_t from, uint64_t to) {
        return to > from ? to - from : 0;
}

int dictionary_make_room(struct dictionary *dictionary, uint64_t size, uint64_t growth_max) {
        uint64_t map_size = environment_map_size(dictionary->environment), used, end, on_disk,
                 wanted = HEADROOM + size;
        MDB_env *env = environment_get(dictionary->environment);
        mdb_filehandle_t fd;
        struct stat file;
        int r;

        if (!env)
                return -EIO;

        (void) mdb_env_get_fd(env, &fd);
        on_disk = fstat(fd, &file) < 0 ? 0 : (uint64_t) file.st_blocks * 512;
        if (dictionary->allocated == 0) /* by who had it open before */
                dictionary->allocated = on_disk;

        r = dictionary_used(dictionary, &used);
        if (r < 0)
                return r;

        wanted = MIN(wanted, map_size / 4);
        if (used + wanted > map_size)
                return -ENOSPC;
        if (used + wanted <= dictionary->allocated)
                return 0;

        end = dictionary_extent(dictionary);
        if (end >= map_size) /* it is as large as it gets, and there is room in it */
                return 0;

        /* When it may not grow, what was freed within it may do. */
        if (growth(on_disk, end + wanted) > growth_max)
                return used + wanted <= end ? 0 : -ENOSPC;

        /* Twice of it, so as not to be back at once. */
        for (unsigned times = 2; times > 0; times--) {
                uint64_t size_wanted = MIN(end + times * wanted, map_size);

                if (times > 1 && growth(on_disk, size_wanted) > growth_max)
                        continue;
                /* Of what is there already XFS would want as much again to be free. */
                if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t) end, (off_t) (size_wanted - end)) >= 0) {
                        dictionary->allocated = size_wanted;
                        return 0;
                }
        }

        /* A file system that can't do it can't be asked. */
        return errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -errno;
}

const uint8_t *dictionary_map(const struct dictionary *dictionary) {
        return environment_map(dictionary->environment);
}

uint64_t dictionary_map_size(const struct dictionary *dictionary) {
        return environment_map_size(dictionary->environment);
}

int dictionary_get_file(struct dictionary *dictionary, int *ret_fd, size_t *ret_size) {
        MDB_env *env = environment_get(dictionary->environment);
        MDB_envinfo info;
        MDB_stat st;

        (void) mdb_env_info(env, &info);
        (void) mdb_env_stat(env, &st);
        *ret_size = (info.me_last_pgno + 1) * st.ms_psize;
        return environment_errno(mdb_env_get_fd(env, ret_fd));
}

int dictionary_used(struct dictionary *dictionary, uint64_t *ret) {
        const MDB_dbi dbis[] = { 0 /* the free list */, 1 /* the names */,   dictionary->objects,
                                 dictionary->meta,      dictionary->live,    dictionary->due,
                                 dictionary->order,     dictionary->accounts };
        uint64_t used = 0;
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ARRAY_SIZE(dbis) && r == 0; i++) {
                MDB_stat st;

                r = mdb_stat(txn, dbis[i], &st);
                if (r == 0)
                        used += (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) * st.ms_psize;
        }

        dictionary_read_end(dictionary, txn);
        if (r != 0)
                return environment_errno(r);

        *ret = used;
        return 0;
}

int dictionary_walk_begin(struct dictionary_walk *walk,
                          struct dictionary *dictionary,
                          MDB_txn *txn,
                          const void *prefix,
                          size_t prefix_size) {
        walk->prefix = prefix;
        walk->prefix_size = prefix_size;
        walk->positioned = false;
        return environment_errno(mdb_cursor_open(txn, dictionary->objects, &walk->cursor));
}

/* With a prefix of more than KEY_HEAD bytes the keys lie in two ranges: those of longer URIs, of which more
 * than belong to it, and then, maybe far behind, the URIs that are their own keys. */
static bool walk_is_split(const struct dictionary_walk *walk) {
        return walk->prefix_size > KEY_HEAD;
}

static int walk_seek(struct dictionary_walk *walk, MDB_val *k, MDB_val *v) {
        uint8_t start[KEY_HEAD + 1];
        int r;

        if (walk->last.size > 0) {
                *k = (MDB_val){ walk->last.size, walk->last.data };
                r = mdb_cursor_get(walk->cursor, k, v, MDB_SET_RANGE);
                if (r == 0 && k->mv_size == walk->last.size &&
                    memcmp(k->mv_data, walk->last.data, k->mv_size) == 0)
                        r = mdb_cursor_get(walk->cursor, k, v, MDB_NEXT);
                return r;
        }

        if (walk->prefix_size == 0)
                return mdb_cursor_get(walk->cursor, k, v, MDB_FIRST);

        if (walk_is_split(walk)) {
                memcpy(start, walk->prefix, KEY_HEAD);
                start[KEY_HEAD] = 0;
                *k = (MDB_val){ sizeof(start), start };
        } else
                *k = (MDB_val){ walk->prefix_size, (void *) walk->prefix };

        return mdb_cursor_get(walk->cursor, k, v, MDB_SET_RANGE);
}

static bool begins_with(const MDB_val *k, const struct dictionary_walk *walk) {
        return k->mv_size >= walk->prefix_size &&
               (walk->prefix_size == 0 || memcmp(k->mv_data, walk->prefix, walk->prefix_size) == 0);
}

static bool is_before_prefix(const MDB_val *k, const struct dictionary_walk *walk) {
        int c = memcmp(k->mv_data, walk->prefix, MIN(k->mv_size, walk->prefix_size));

        return c < 0 || (c == 0 && k->mv_size < walk->prefix_size);
}

int dictionary_walk_next(struct dictionary_walk *walk, struct record *ret) {
        bool is_split = walk_is_split(walk), in_first = false;
        MDB_val k, v;
        int r;

        if (walk->positioned)
                r = mdb_cursor_get(walk->cursor, &k, &v, MDB_NEXT);
        else
                r = walk_seek(walk, &k, &v);

        if (r == 0 && is_split) {
                in_first = key_is_long(k.mv_data, k.mv_size) &&
                           memcmp(k.mv_data, walk->prefix, KEY_HEAD) == 0;

                if (!in_first && walk->prefix_size <= KEY_MAX && is_before_prefix(&k, walk)) {
                        k = (MDB_val){ walk->prefix_size, (void *) walk->prefix };
                        r = mdb_cursor_get(walk->cursor, &k, &v, MDB_SET_RANGE);
                }
        }

        if (r == MDB_NOTFOUND)
                return 0;
        if (r != 0)
                return environment_errno(r);
        if (!in_first && !begins_with(&k, walk))
                return 0;

        walk->positioned = true;
        walk->last.size = k.mv_size;
        memcpy(walk->last.data, k.mv_data, MIN(k.mv_size, sizeof(walk->last.data)));

        r = record_decode(k.mv_data, k.mv_size, v.mv_data, v.mv_size, ret);
        if (r < 0)
                return r;

        k = (MDB_val){ ret->uri_size, (void *) ret->uri };
        return begins_with(&k, walk) ? 1 : -EAGAIN;
}

int dictionary_walk_delete(struct dictionary_walk *walk) {
        walk->positioned = false;
        return environment_errno(mdb_cursor_del(walk->cursor, 0));
}

void dictionary_walk_end(struct dictionary_walk *walk) {
        mdb_cursor_close(walk->cursor);
}

struct dictionary_tables dictionary_get_tables(const struct dictionary *dictionary) {
        return (struct dictionary_tables){ .live = dictionary->live,
                                           .due = dictionary->due,
                                           .order = dictionary->order };
}

uint64_t dictionary_extent(struct dictionary *dictionary) {
        return environment_extent(dictionary->environment);
}
