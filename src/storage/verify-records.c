/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every record and its body, in the order of the keys, some in a transaction. */

#include <string.h>
#include <xxhash.h>

#include "audit.h"
#include "macro.h"
#include "verify-live.h"
#include "verify.h"

#define STEP_RECORDS 128
#define STEP_BYTES   (UINT64_C(1) << 20) /* of bodies in the dictionary */

/* A record as it was seen. */
struct seen {
        struct key key;
        int error;      /* 0; -EBADMSG: it can't be read; -EILSEQ: its body in the dictionary is damaged */
        unsigned audit; /* what is wrong beside it */
        uint64_t generation, blob, size, checksum;
};

/* ... with its URI, or what the key of one that can't be read tells of it. */
struct object {
        struct seen seen;
        size_t uri_size;
        uint8_t uri[STORAGE_URI_MAX];
};

static void see(const struct key *key, int r, const struct record *record, struct seen *ret) {
        *ret = (struct seen){ .key = *key, .error = r < 0 ? r : 0 };
        if (r < 0)
                return;

        ret->generation = record->info.etag.generation;
        ret->blob = record->blob;
        ret->size = record->info.size;
        ret->checksum = record->info.checksum;
        if (record->blob == 0 && XXH3_64bits(record->body, record->info.size) != record->info.checksum)
                ret->error = -EILSEQ;
}

/* -ENOENT: there is none any more. */
static int see_object(struct dictionary *dictionary, const struct key *key, struct object *ret) {
        struct record record;
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_find_key(dictionary, txn, key->data, key->size, &record);
        if (r >= 0 || r == -EBADMSG) {
                const void *uri = r >= 0 ? record.uri : key->data;

                ret->uri_size = r >= 0                              ? record.uri_size
                                : key_is_long(key->data, key->size) ? KEY_HEAD
                                                                    : key->size;
                memcpy(ret->uri, uri, ret->uri_size);
                see(key, r, &record, &ret->seen);
                r = 0;
        }

        dictionary_read_end(dictionary, txn);
        return r;
}

/* ---- repair ---- */

struct record_task {
        struct writer_task task;
        const struct seen *seen;
};

static int drop_unreadable(struct writer *writer, MDB_txn *txn, struct writer_task *task) {
        const struct key *key = &container_of(task, struct record_task, task)->seen->key;
        struct dictionary *dictionary = writer->storage->dictionary;
        struct record record;
        int r;

        r = dictionary_find_key(dictionary, txn, key->data, key->size, &record);
        if (r != -EBADMSG)
                return r >= 0 || r == -ENOENT ? 0 : r; /* replaced or removed meanwhile */

        r = dictionary_delete(dictionary, txn, key);
        if (r < 0)
                return r;

        writer_drop_unreadable(writer, key);
        writer->batch.n_written++;
        return 0;
}

static int mend_beside(struct writer *writer, MDB_txn *txn, struct writer_task *task) {
        const struct seen *seen = container_of(task, struct record_task, task)->seen;
        struct dictionary *dictionary = writer->storage->dictionary;
        struct record record;
        int r;

        r = dictionary_find_key(dictionary, txn, seen->key.data, seen->key.size, &record);
        if (r == -ENOENT || r == -EBADMSG || (r >= 0 && record.info.etag.generation != seen->generation))
                return 0;
        if (r < 0)
                return r;

        writer_expect_expiry(writer, record.info.expires_usec);
        writer->batch.n_written++;
        return audit_mend_record(dictionary, txn, writer->storage->accounts, &seen->key, &record);
}

static int run_record_task(struct storage_verify *verify,
                           const struct seen *seen,
                           int (*run)(struct writer *writer, MDB_txn *txn, struct writer_task *task)) {
        struct record_task task = { .task.run = run, .seen = seen };

        return writer_run_task(verify->storage->writer, &task.task);
}

static int remove_object(struct storage_verify *verify, const struct object *object) {
        struct storage_change change = {
                .kind = STORAGE_REMOVE,
                .uri = object->uri,
                .uri_size = object->uri_size,
                .if_generation = object->seen.generation,
        };
        int r;

        if (object->seen.error == -EBADMSG) {
                verify->has_dropped = true;
                return run_record_task(verify, &object->seen, drop_unreadable);
        }

        stats_add(&verify->storage->stats.damaged, 1);
        r = storage_change_wait(verify->storage, &change);
        return r == -ENOENT || r == -ECANCELED ? 0 : r; /* removed or replaced meanwhile */
}

/* ---- findings ---- */

static enum storage_problem problem_of(int error) {
        switch (error) {
        case -EBADMSG:
                return STORAGE_PROBLEM_RECORD;
        case -ENOENT:
                return STORAGE_PROBLEM_MISSING;
        case -EMSGSIZE:
                return STORAGE_PROBLEM_SIZE;
        case -EILSEQ:
                return STORAGE_PROBLEM_CHECKSUM;
        default:
                return STORAGE_PROBLEM_UNREADABLE;
        }
}

/* What can't be read now may be later: that is not undone. It is lost when it is not there, or is not what was
 * stored. */
static bool is_lost(int error) {
        return error == -EBADMSG || error == -ENOENT || error == -EMSGSIZE || error == -EILSEQ ||
               error == -ENOTDIR || error == -ELOOP || error == -ENXIO;
}

/* First its file goes where it is kept, then the object. */
static void found_damaged(struct storage_verify *verify, const struct object *object) {
        const struct seen *seen = &object->seen;
        struct storage_finding finding = {
                .problem = problem_of(seen->error),
                .error = seen->error,
                .uri = object->uri,
                .uri_size = object->uri_size,
        };
        char path[BLOB_PATH_MAX], quarantine[QUARANTINE_PATH_MAX];
        int r = 0;

        blob_path(seen->blob, path);
        if (verify->config.repair && !is_lost(seen->error))
                finding.repair = seen->error;
        else if (verify->config.repair) {
                if (seen->blob != 0 && seen->error != -ENOENT) {
                        r = verify_quarantine(verify, path, quarantine);
                        finding.quarantine = r >= 0 ? quarantine : NULL;
                }
                if (r >= 0 || r == -ENOENT)
                        r = remove_object(verify, object);
                finding.repair = r < 0 ? r : 1;
        }

        verify_found(verify, &finding, seen->blob != 0 ? path : NULL);
}

static int found_beside(struct storage_verify *verify, const struct seen *seen) {
        struct storage_finding finding = {};
        char path[BLOB_PATH_MAX];
        struct object object;
        int r;

        r = see_object(verify->storage->dictionary, &seen->key, &object);
        if (r < 0)
                return r == -ENOENT ? 0 : r;

        finding.uri = object.uri;
        finding.uri_size = object.uri_size;
        if (verify->config.repair) {
                r = run_record_task(verify, seen, mend_beside);
                finding.repair = r < 0 ? r : 1;
        }

        blob_path(seen->blob, path);
        if (seen->audit & AUDIT_LIVE) {
                verify->has_unnoted = verify->has_unnoted || finding.repair <= 0;
                finding.problem = STORAGE_PROBLEM_LIVE;
                verify_found(verify, &finding, path);
        }
        if (seen->audit & AUDIT_DUE) {
                finding.problem = STORAGE_PROBLEM_DUE;
                verify_found(verify, &finding, NULL);
        }
        if (seen->audit & AUDIT_ORDER) {
                finding.problem = STORAGE_PROBLEM_ORDER;
                verify_found(verify, &finding, NULL);
        }
        return 0;
}

/* ---- the walk ---- */

/* Something is wrong, unless the object is another by now. */
static int look_again(struct storage_verify *verify, const struct seen *seen) {
        uint64_t generation = seen->generation;
        struct object object;
        int r;

        for (;;) {
                r = see_object(verify->storage->dictionary, &seen->key, &object);
                if (r < 0)
                        return r == -ENOENT ? 0 : r;

                if (object.seen.error == 0 && object.seen.blob != 0)
                        object.seen.error = verify_body(verify, object.seen.blob, object.seen.size,
                                                        object.seen.checksum);
                if (object.seen.error == 0 || verify_is_shortage(object.seen.error))
                        return object.seen.error;

                if (object.seen.generation == generation) {
                        found_damaged(verify, &object);
                        return 0;
                }
                generation = object.seen.generation;
        }
}

static int check(struct storage_verify *verify, const struct seen *seen) {
        int error = seen->error, r;

        if (seen->audit != 0) {
                r = found_beside(verify, seen);
                if (r < 0)
                        return r;
        }

        if (error == 0 && seen->blob != 0)
                error = verify_body(verify, seen->blob, seen->size, seen->checksum);
        if (error == 0 || verify_is_shortage(error))
                return error;

        return look_again(verify, seen);
}

struct walk {
        struct key last;
        size_t n;
        uint64_t n_bytes;
        struct seen seen[STEP_RECORDS];
};

/* Some records, seen in one moment. 1: there may be more; 0: there are none; or an errno. */
static int step(struct storage_verify *verify, struct live_check *live, struct walk *walk) {
        struct dictionary *dictionary = verify->storage->dictionary;
        struct dictionary_walk records = { .last = walk->last };
        struct record record;
        MDB_txn *txn;
        int r;

        r = dictionary_read_begin(dictionary, &txn);
        if (r < 0)
                return r;

        r = dictionary_walk_begin(&records, dictionary, txn, NULL, 0);
        if (r < 0) {
                dictionary_read_end(dictionary, txn);
                return r;
        }

        walk->n = walk->n_bytes = 0;
        while (walk->n < STEP_RECORDS && walk->n_bytes < STEP_BYTES) {
                struct seen *seen = &walk->seen[walk->n];

                r = dictionary_walk_next(&records, &record);
                if (r <= 0 && r != -EBADMSG)
                        break;

                see(&records.last, r, &record, seen);
                if (r > 0) {
                        live_check_strike(live, record.blob);
                        walk->n_bytes += record.blob == 0 ? record.info.size : 0;
                        r = audit_record(dictionary, txn, &records.last, &record, &seen->audit);
                        if (r < 0)
                                break;
                }
                walk->n++;
                r = 1;
        }

        walk->last = records.last;
        dictionary_walk_end(&records);
        dictionary_read_end(dictionary, txn);
        return r;
}

/* looks_at_bodies: and at all else but which blobs are named. */
static int walk_all(struct storage_verify *verify,
                    struct live_check *live,
                    struct walk *walk,
                    bool looks_at_bodies) {
        int more, r;

        walk->last.size = 0;
        do {
                more = step(verify, live, walk);
                if (more < 0)
                        return more;
                if (verify_is_stopped(verify))
                        return -ECANCELED;
                if (!looks_at_bodies)
                        continue;
                verify_pause(verify, VERIFY_SEEN);

                for (size_t i = 0; i < walk->n; i++) {
                        r = check(verify, &walk->seen[i]);
                        if (r < 0)
                                return r;
                        stats_add(&verify->progress.checked, 1);
                }
                stats_add(&verify->progress.bytes, walk->n_bytes);
                verify_pay(verify, walk->n_bytes);
        } while (more > 0);

        return 0;
}

int verify_records(struct storage_verify *verify) {
        _cleanup_(live_check_freep) struct live_check *live = NULL;
        _cleanup_free_ struct walk *walk = malloc(sizeof(*walk));
        int more, r;

        if (!walk)
                return -ENOMEM;

        r = live_check_new(&live, verify);
        for (bool is_first = true; r >= 0; is_first = false) {
                more = live_check_load(live);
                if (more < 0)
                        return more;

                r = walk_all(verify, live, walk, is_first);
                if (r >= 0)
                        r = live_check_judge(live);
                if (more == 0)
                        break;
        }

        return r;
}
