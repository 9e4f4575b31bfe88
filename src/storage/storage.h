/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The object store: a dictionary from URI to object, and the bodies. Usable on its own: it knows of no
 * socket, no bus and no client.
 *
 * URIs are opaque bytes, 1 to STORAGE_URI_MAX of them, no NUL; never a path. Bodies are immutable: a put
 * makes a new object under a new generation, and whoever holds the old body keeps it. Metadata is an opaque
 * block of up to STORAGE_METADATA_MAX bytes.
 *
 * All functions may be called from any thread at any time between storage_init() and storage_cleanup(),
 * unless their comment says otherwise. Changes are made by one thread of the store, in the order they were
 * submitted, many in one transaction; a change that was reported as done survives SIGKILL and a power cut, but for
 * a visible put, which may be missing after them if they come within the time of a commit; it is never there in
 * part, and its generation is not used again. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "histogram.h"

#define STORAGE_URI_MAX      4096
#define STORAGE_METADATA_MAX 32768
#define STORAGE_CURSOR_MAX   8192

struct storage;

/* Which objects go when room is needed. */
enum storage_policy {
        STORAGE_POLICY_S3FIFO, /* those not asked for again soon after they came, larger ones first */
        STORAGE_POLICY_LRU,    /* those not asked for the longest */
        STORAGE_POLICY_LFU,    /* those asked for the least */
};

/* What the store has to tell that is no call's result. Called from any thread, one that is in a call to the
 * store included; must not call back. */
enum storage_event {
        STORAGE_EVENT_DAMAGED, /* a body is missing (-ENOENT), has a wrong size (-EMSGSIZE) or wrong bytes
                                       (-EILSEQ), or the record can't be read (-EBADMSG): the object is absent
                                       from now on */
        STORAGE_EVENT_WRITE_FAILED, /* a transaction failed: error says why; once per change of state */
        STORAGE_EVENT_WRITE_RECOVERED,
        STORAGE_EVENT_BODY_WRITE_FAILED, /* a body can't be written to a file: error says why; once per change
                                            of state */
        STORAGE_EVENT_BODY_WRITE_RECOVERED,
        STORAGE_EVENT_READ_FAILED, /* the body of an object can't be read: error says why; once per change of
                                      state of that object */
        STORAGE_EVENT_READ_RECOVERED,
        STORAGE_EVENT_VIEW_UNUSABLE, /* bodies are opened directly: the view is not the same folder or not
                                        read-only */
        STORAGE_EVENT_UPGRADED, /* from version count: its dictionary is kept in dictionary/data.mdb.VERSION */
        STORAGE_EVENT_CACHE_UNUSABLE, /* there are no copies at cache_path: another process has it (-EBUSY), it has
                                         files of something else (-ENOTEMPTY), or it can't be used */
        STORAGE_EVENT_CACHE_VIEW_UNUSABLE, /* copies are opened directly: as VIEW_UNUSABLE */
        STORAGE_EVENT_CACHE_FAILED, /* a copy can't be made: error says why; once per change of state */
        STORAGE_EVENT_CACHE_RECOVERED,
        STORAGE_EVENT_SWEPT, /* count blobs that an earlier process left over were removed; error: why not all,
                                or 0 */
};

/* Bytes, or a share of the file system that they are on. */
struct storage_amount {
        uint64_t bytes;   /* UINT64_MAX: no limit */
        unsigned percent; /* not 0: this share counts, and not bytes */
};

/* A part of the store: the objects whose URIs begin with prefix, and with no longer one of another's. Maxima count
 * bytes of bodies and objects; 0 or UINT64_MAX: none. */
struct storage_namespace {
        const char *name; /* at most STORAGE_NAMESPACE_NAME_MAX bytes; what it holds stays its own under this name */
        const void *prefix; /* 0 to STORAGE_NAMESPACE_PREFIX_MAX bytes */
        size_t prefix_size;
        uint64_t bytes_max;
        uint64_t objects_max;
        uint64_t ttl_msec; /* of puts that carry none; 0: none */
        enum storage_policy policy;
        bool evict; /* false: its objects are not evicted, what does not fit is refused */
};

#define STORAGE_NAMESPACE_NAME_MAX   255
#define STORAGE_NAMESPACE_PREFIX_MAX 480
#define STORAGE_NAMESPACES_MAX       1024

struct storage_limits {
        uint64_t bytes_max; /* of the whole store, as objects_max */
        uint64_t objects_max;
        uint64_t keep_free;         /* bytes of the file system to leave free; 0: none */
        enum storage_policy policy; /* of what is in no namespace */
        bool evict; /* false: nothing is evicted for the sake of these limits; namespaces evict for their own */
        const struct storage_namespace *namespaces;
        size_t n_namespaces;
};

struct storage_config {
        const char *directory; /* the store's folder, made when missing; owned by one process at a time */
        const char *view; /* a read-only bind mount of directory/blobs to open bodies through; NULL: none */
        size_t dictionary_max; /* bytes of address space for the dictionary; 0: 1 TiB, or what is to be had */
        size_t inline_max;     /* bodies up to this many bytes live in the dictionary; SIZE_MAX: the default,
                                  2,000 */
        uint64_t object_max;   /* bytes of one body; 0: no limit */
        uint64_t cache_size;   /* bytes of memory for the hot table; 0: there is none */
        bool check_on_fill;    /* no body is served that this process has not read and found right */
        uint64_t expired_keep_usec; /* an expired object is cleared so long after; UINT64_MAX: never */
        struct storage_limits limits;
        const char *cache_path; /* a folder on a faster file system for copies of bodies that are got often; it
                                   exists, and belongs to one process at a time. NULL: none */
        const char *cache_view; /* a read-only bind mount of it to open copies through; NULL: none */
        struct storage_amount cache_path_max; /* for copies */
        void (*on_event)(enum storage_event event,
                         const void *uri,
                         size_t uri_size,
                         int error,
                         uint64_t count,
                         void *userdata);
        /* Called after each step of what may take long as a whole: of an upgrade in storage_init(), and each commit
         * to the end of storage_cleanup(). From any thread; must not block nor call back. NULL: nobody asks. */
        void (*on_progress)(void *userdata);
        void *userdata;
};

/* Names one state of one object in one store. */
struct storage_etag {
        uint64_t store_id;         /* random, made with the store */
        uint64_t generation;       /* grows with each put, never used twice */
        uint64_t metadata_version; /* 1 at the put, raised by each set-metadata */
};

struct storage_info {
        struct storage_etag etag;
        uint64_t size;         /* bytes of the body */
        uint64_t checksum;     /* XXH3-64 of the body */
        uint64_t stored_usec;  /* CLOCK_REALTIME of the put */
        uint64_t expires_usec; /* CLOCK_REALTIME; 0: never */
        uint64_t hits;         /* gets; those of the last minute are lost when the process is killed */
        uint64_t used_usec;    /* CLOCK_REALTIME of the last get; 0: never */
        bool pinned;           /* never evicted */
};

/* Opens or makes the store. *ret is the caller's, to be given to storage_cleanup(). Returns 0, or
 *   -EBUSY           another process has it open
 *   -EPROTONOSUPPORT its format is newer than this code: nothing was touched
 *   -EUCLEAN         a file that says what it is says something else, or is missing beside others
 *   -EINVAL          the configuration makes no sense
 *   -ENOMEM, or the errno of making or opening files (-EACCES, -ENOSPC, -EROFS, ...). */
int storage_init(struct storage **ret, const struct storage_config *config);

/* Finishes what was submitted, writes the counters of use, ends the threads and frees the store. No other
 * call may be under way. NULL is fine. */
void storage_cleanup(struct storage *storage);
DEFINE_CLEANUP(struct storage, storage_cleanup)

uint64_t storage_get_id(struct storage *storage);

/* Whether changes are taken, as far as is known: 0, or the errno that the last ones of transactions, or of bodies,
 * failed with. Only a change that succeeds shows that they are taken again. */
int storage_get_write_error(struct storage *storage);
/* changed is called when that may have changed, from any thread; it must not block, nor call the store. NULL: nobody
 * is told, and no call is under way when this returns. */
void storage_watch_writes(struct storage *storage, void (*changed)(void *userdata), void *userdata);

/* Another limit for the copies at cache_path; what is too much goes soon. */
void storage_set_cache_path_max(struct storage *storage, const struct storage_amount *max);

/* Whether an address is in the mapped dictionary: a call that needs a page of it that the disk can't read gets
 * SIGBUS. May be called from a signal's handler. */
bool storage_is_mapped(struct storage *storage, const void *address);

/* What a get brings. Zero it (STORAGE_OBJECT_INIT) before the first use and keep it for the next get: its
 * buffer is used again. One thread at a time. */
struct storage_object {
        uint64_t body_max; /* the caller's to set: a file's body of up to so many bytes may come in memory, if it
                              happens to be there; 0: none */
        uint64_t now_usec; /* likewise: CLOCK_REALTIME, not more than a second behind; 0: the clock is looked at */
        struct storage_info info;
        const uint8_t *metadata; /* borrowed until the next use of the struct */
        size_t metadata_size;
        const uint8_t *body; /* a body in memory, borrowed likewise; NULL: in a file */
        int fd; /* the body's file: open, O_RDONLY, offset 0, a description of its own; -EBADF otherwise */
        uint64_t copy;      /* fd is the copy of this number at cache_path; 0: it is none */
        uint8_t *buffer;    /* private */
        size_t buffer_size; /* private */
};

#define STORAGE_OBJECT_INIT ((struct storage_object){ .fd = -EBADF })

/* Frees what the struct holds (and closes fd); it can be used again. */
void storage_object_done(struct storage_object *object);

#define STORAGE_GET_OPEN  (1U << 0) /* open the body's file and count a hit */
#define STORAGE_GET_STALE (1U << 1) /* an expired object is welcome, as long as it is kept */
#define STORAGE_GET_NOWAIT \
        (1U << 2) /* never waits for a disk, but for what was opened within the last 16 seconds */

/* Looks an object up. known: NULL, or an ETag the caller has: when it is still the object's, nothing is
 * opened. Without STORAGE_GET_OPEN the body of a file is not opened; with it, hits and used_usec are those that are
 * written: to add up what is not would be to read what other threads write. Returns 0, or
 *   1                known is still right: info and metadata are filled
 *   -ENOENT          absent
 *   -ESTALE          expired and not cleared yet: info and metadata are filled
 *   -EINVAL          not a URI
 *   -EINPROGRESS     STORAGE_GET_NOWAIT: the disk has to be asked
 *   -EIO             it may be there but can't be read
 *   -EMFILE, -ENFILE, -ENOMEM, -EAGAIN (more gets at once than the dictionary takes, 1,000). */
int storage_get(struct storage *storage,
                const void *uri,
                size_t uri_size,
                unsigned flags,
                const struct storage_etag *known,
                struct storage_object *object);

/* What the hot table has of an object, its body among it, where it is there. */
struct storage_view {
        const struct storage_info *info; /* but for hits and used_usec */
        const uint8_t *metadata, *body;
        size_t metadata_size;

        struct hot_entry *entry; /* private */
};

/* Who looks at many of them, one after the other. All private. */
struct storage_viewer {
        struct storage *storage;
        struct epoch_slot *slot;
        struct tally *tally;
        uint64_t now_usec;
        uint64_t n_hits;
};

/* The short way of storage_get() for objects that are small and hot, without a copy of them. now_usec: CLOCK_REALTIME,
 * not more than a second behind. false: there are objects that are in no table yet; else storage_viewer_end() has to
 * follow soon, on the same thread, without waiting for anything and without another call to the store but the next two.
 * What is put and acknowledged in between may not be seen. */
bool storage_viewer_begin(struct storage *storage, uint64_t now_usec, struct storage_viewer *ret);
void storage_viewer_end(struct storage_viewer *viewer);
/* true when it is found with a body of at most body_max bytes, or one that has no file, and has not expired. What *ret
 * names is good until storage_viewer_end(). false: storage_get() may say more; that uri is none, for one. */
bool storage_view(const struct storage_viewer *viewer,
                  const void *uri,
                  size_t uri_size,
                  uint64_t body_max,
                  struct storage_view *ret);
/* It counts as a get. */
void storage_view_count(struct storage_viewer *viewer, const struct storage_view *view);

/* Whoever reads a body from the file that storage_get() opened says so when the disk can't (an errno), and when it
 * can (0; nothing is to be said of what is in memory). Any thread. */
void storage_note_body_read(
                struct storage *storage, const void *uri, size_t uri_size, uint64_t generation, int error);

/* A copy that a get brought can't be read: it is not to be used any more. Opens the body itself in its place. Returns
 * the descriptor, which the caller owns as he goes on to own fd, -ENOENT (replaced or removed since), or the errno
 * of opening it. */
int storage_open_original(struct storage *storage, uint64_t copy, int fd);

/* The three simple faces of storage_get().
 * storage_get_fd(): a descriptor that the caller owns; a body in the dictionary comes as a sealed memfd.
 * storage_get_mmap(): a read-only private mapping of the body, to be given to storage_munmap(); an empty body
 * is a valid address of size 0. storage_get_info(): no hit is counted. metadata: NULL, or a buffer of
 * *metadata_size bytes that becomes what was needed; -ENOBUFS when it was too small. Errors as storage_get().
 * ret_info may be NULL. */
int storage_get_fd(struct storage *storage,
                   const void *uri,
                   size_t uri_size,
                   int *ret_fd,
                   struct storage_info *ret_info);
int storage_get_mmap(struct storage *storage,
                     const void *uri,
                     size_t uri_size,
                     const void **ret_address,
                     struct storage_info *ret_info);
void storage_munmap(const void *address, uint64_t size);
int storage_get_info(struct storage *storage,
                     const void *uri,
                     size_t uri_size,
                     struct storage_info *ret_info,
                     void *metadata,
                     size_t *metadata_size);

/* A body on its way in: private until a change that names it is done. One thread at a time. */
struct storage_upload;

/* size: the bytes that will come, UINT64_MAX when unknown: -EFBIG at once when over object_max. Others:
 * -ENOMEM, -EROFS, -ENOSPC, ... */
int storage_upload_new(struct storage *storage, uint64_t size, struct storage_upload **ret);
/* Blocks on the disk. -EFBIG: over object_max, or over the size that was said. -ENOSPC, -EDQUOT, -EIO,
 * -ENOMEM. */
int storage_upload_write(struct storage_upload *upload, const void *data, size_t size);
/* The body is whole: syncs it and fixes its checksum. Blocks on the disk. -EMSGSIZE: fewer bytes than were
 * said. No write after it. */
int storage_upload_finish(struct storage_upload *upload);
/* The same without the sync, which the store's thread makes up for before the commit: for visible puts. */
int storage_upload_finish_unsynced(struct storage_upload *upload);
uint64_t storage_upload_size(const struct storage_upload *upload);     /* bytes so far */
uint64_t storage_upload_checksum(const struct storage_upload *upload); /* XXH3-64 of the bytes so far */
/* Nothing of it remains. NULL is fine. */
void storage_upload_free(struct storage_upload *upload);
DEFINE_CLEANUP(struct storage_upload, storage_upload_free)

enum storage_change_kind {
        STORAGE_PUT,
        STORAGE_SET_METADATA,
        STORAGE_REMOVE,
        STORAGE_PIN, /* it is not evicted until STORAGE_UNPIN; it expires and can be removed as before, and what is
                          put in its place is pinned too */
        STORAGE_UNPIN,
        STORAGE_PURGE, /* everything that begins with uri (may be empty) and was there when it was submitted
                        */
        STORAGE_TASK,  /* private */
};

/* A change to the store. The caller owns the struct and all it points at, and keeps them until done() is
 * called. */
struct storage_change {
        enum storage_change_kind kind;
        const void *uri;
        size_t uri_size;
        struct storage_upload *upload; /* STORAGE_PUT: finished; stays the caller's, of no use afterwards */
        const void *metadata;          /* STORAGE_PUT, STORAGE_SET_METADATA: replaces all that was there */
        size_t metadata_size;
        uint64_t ttl_msec; /* STORAGE_PUT: time to live; 0: for ever */
        bool visible;      /* STORAGE_PUT: done() is called as soon as gets find the object (not listings,
                                   which show what is committed); the commit follows within some milliseconds.
                                   When that fails the object is gone again, and what it replaced is back */
        bool if_absent;    /* only when there is none (an expired one counts as none) */
        uint64_t if_generation; /* only when there is one of this generation; 0: whatever there is */

        /* Called once, from the store's thread, when the change is durable (or visible, when that is what was
         * asked for; too many at once, and those that there may be no room for, wait for a commit) or was
         * refused. It must not block and may free the change. */
        void (*done)(struct storage_change *change);
        void *userdata;

        /* 0, or
         *   -ENOENT (set-metadata, remove, pin, unpin, if_generation: absent), -EEXIST (if_absent), -ECANCELED
         * (if_generation: another), -EINVAL (not a URI, metadata too large), -ENOSPC, -EDQUOT, -EROFS, -EIO,
         * -ENOMEM, -EAGAIN (it can't be now): nothing was changed (but count objects, when a purge fails on its way). */
        int result;
        struct storage_info info; /* of the object put, set or pinned; of the one removed */
        uint64_t count;           /* STORAGE_PURGE: objects removed */

        struct storage_change *next; /* private */
        uint64_t submitted_usec;     /* private */
        uint64_t mark;               /* private */
        uint64_t blob;               /* private */
        int error;                   /* private: why it can't be made */
        bool is_shown;               /* private: of the overlay, its info told */
};

/* Hands a change to the store's thread. Never blocks. */
void storage_submit(struct storage *storage, struct storage_change *change);

/* The same, waited for; the result is returned. done and userdata are the function's. */
int storage_change_wait(struct storage *storage, struct storage_change *change);

/* Puts size bytes at data (may be NULL when 0) and waits until they are durable. metadata may be NULL.
 * ret_info may be NULL. Errors: those of storage_upload_*() and of a change. */
int storage_put(struct storage *storage,
                const void *uri,
                size_t uri_size,
                const void *data,
                size_t size,
                const void *metadata,
                size_t metadata_size,
                struct storage_info *ret_info);

/* Removes an object, waits until that is durable. */
int storage_remove(struct storage *storage, const void *uri, size_t uri_size);

/* Where a listing goes on: opaque bytes; empty at first and when there is no more. */
struct storage_cursor {
        size_t size;
        uint8_t data[STORAGE_CURSOR_MAX];
};

/* Calls visit for up to max objects whose URI begins with prefix (may be empty), from cursor on, which is
 * moved. Expired ones are left out. The order is the store's: that of the bytes, but for URIs too long for a
 * key of the dictionary, which come together in no useful order. What is put or removed meanwhile may or may
 * not be seen; what is there throughout is seen once. visit returns 0, or an error that ends the walk and is
 * returned, the object being not consumed. Returns 0, -EINVAL (not a cursor of this store), or an error of
 * the dictionary. */
int storage_list(struct storage *storage,
                 const void *prefix,
                 size_t prefix_size,
                 struct storage_cursor *cursor,
                 size_t max,
                 int (*visit)(const void *uri,
                              size_t uri_size,
                              const struct storage_info *info,
                              void *userdata),
                 void *userdata);

/* The same without the objects of which skip says n > 0: that none that begins with the first n bytes of uri is to
 * be seen, or when n is more than uri_size that this one is not. They take no time, and the cursor says nothing of
 * them past these bytes. n bytes of a URI have to be at most STORAGE_SKIP_MAX. */
#define STORAGE_SKIP_MAX 480
int storage_list_except(struct storage *storage,
                        const void *prefix,
                        size_t prefix_size,
                        struct storage_cursor *cursor,
                        size_t max,
                        size_t (*skip)(const void *uri, size_t uri_size, void *userdata),
                        int (*visit)(const void *uri,
                                     size_t uri_size,
                                     const struct storage_info *info,
                                     void *userdata),
                        void *userdata);

/* Other limits from now on: for changes that are submitted later, and in the background for what is there. Copies
 * them. -EINVAL: two namespaces have one name or one prefix, or a name is empty, or one of them is too long,
 * or there are too many; -ENOMEM. */
int storage_set_limits(struct storage *storage, const struct storage_limits *limits);

struct storage_usage {
        uint64_t bytes; /* of all bodies, pinned ones included */
        uint64_t objects;
        uint64_t pinned_bytes;
        uint64_t pinned_objects;
};

/* Calls visit for each namespace of the limits with what it holds, and first for the rest of the store, whose name
 * is "" and whose limits are those of the whole. After other namespaces were set the numbers are on their way
 * for a while. visit must not call the store. */
void storage_visit_namespaces(struct storage *storage,
                              void (*visit)(const struct storage_namespace *namespace,
                                            const struct storage_usage *usage,
                                            void *userdata),
                              void *userdata);

struct storage_stats {
        uint64_t objects;
        uint64_t bytes;            /* of all bodies */
        uint64_t objects_inline;   /* whose bodies live in the dictionary */
        uint64_t objects_expiring; /* that have a time to live */
        uint64_t pinned_objects;
        uint64_t pinned_bytes;
        uint64_t dictionary_bytes; /* of the dictionary's file that are in use */
        uint64_t gets;             /* since the store was opened, as all below */
        uint64_t hits;
        uint64_t puts;
        uint64_t puts_visible; /* reported as done before their commit */
        uint64_t puts_lost;    /* ... which then failed */
        uint64_t removes;      /* objects removed, purged ones included */
        uint64_t expired;      /* objects cleared since their time to live was over */
        uint64_t evictions;    /* objects that had to go for others */
        uint64_t evicted_bytes;
        uint64_t commits; /* transactions */
        uint64_t changes; /* changes in them */
        uint64_t bytes_put;
        uint64_t generation;  /* the newest */
        uint64_t sweeps;      /* 1 once all that an earlier process left over was looked for */
        uint64_t swept;       /* blobs of no object that an earlier process left over, removed */
        uint64_t foreign;     /* files among the blobs that are not the store's, when it was looked last */
        uint64_t damaged;     /* objects that were found damaged, and are absent since */
        uint64_t fast_hits;   /* bodies opened as copies at cache_path */
        uint64_t fast_misses; /* ... that had none there */
        uint64_t fast_bytes;  /* that copies take there */
        uint64_t fast_objects;
        uint64_t hot_hits;   /* gets that the hot table answered */
        uint64_t hot_misses; /* ... and that it did not */
        uint64_t hot_bytes;  /* memory that it takes */
        uint64_t hot_objects;
        uint64_t changes_waiting;      /* for the thread that makes them */
        struct histogram waits;        /* of changes, until the thread that makes them took them up */
        struct histogram commit_times; /* of the transactions, what they sync included */
};

void storage_get_stats(struct storage *storage, struct storage_stats *ret);

/* Another size of the hot table, as cache_size: what was in it is dropped. -ENOMEM: the size stays. */
int storage_set_cache_size(struct storage *storage, uint64_t cache_size);
/* Whether bodies are checked; how large one may be, for uploads that are begun later; and how long expired objects
 * are kept: as the numbers of the same names in struct storage_config. */
void storage_set_check_on_fill(struct storage *storage, bool check_on_fill);
void storage_set_object_max(struct storage *storage, uint64_t object_max);
void storage_set_expired_keep(struct storage *storage, uint64_t expired_keep_usec);

/* Drops what is kept in memory and removes the copies at cache_path; what is got from now on is kept again. Blocks on
 * the disk. -ENOMEM: nothing is kept in memory from now on. */
int storage_drop_cache(struct storage *storage);

/* The system is short of memory: gives back about half of what the hot table takes, and takes it again only
 * little by little. */
void storage_shrink(struct storage *storage);

/* ---- integrity ---- */

enum storage_problem {
        STORAGE_PROBLEM_RECORD,     /* an object's record can't be read */
        STORAGE_PROBLEM_MISSING,    /* an object's body is not there */
        STORAGE_PROBLEM_SIZE,       /* ... has another size than it was stored with */
        STORAGE_PROBLEM_CHECKSUM,   /* ... has other bytes */
        STORAGE_PROBLEM_UNREADABLE, /* ... can't be read */
        STORAGE_PROBLEM_ORPHAN,     /* the file of a body belongs to no object */
        STORAGE_PROBLEM_STRAY,      /* a file or folder among the bodies is not the store's */
        STORAGE_PROBLEM_LIVE,       /* which bodies belong to objects is noted wrongly */
        STORAGE_PROBLEM_DUE,        /* which objects expire, and when, is noted wrongly */
        STORAGE_PROBLEM_ORDER,      /* which objects may be evicted, in which order, is noted wrongly */
        STORAGE_PROBLEM_SUMS,       /* how many objects and bytes there are is noted wrongly */
        STORAGE_PROBLEM_DICTIONARY, /* the dictionary can't be read to its end: repair is none for that */
        STORAGE_PROBLEM_MAX,
};

/* "missing", "checksum", ...: for programs, never changed. */
const char *storage_problem_name(enum storage_problem problem);
/* "its body is missing", ...: for people. */
const char *storage_problem_text(enum storage_problem problem);

struct storage_finding {
        enum storage_problem problem;
        int error;       /* 0, or the errno that says it */
        const void *uri; /* of the object; of an unreadable record what its key tells. NULL: of none */
        size_t uri_size;
        const char *file;       /* below the store's folder; NULL: none. Any bytes */
        int repair;             /* 1: repaired; 0: that was not asked for; or why it could not be, an errno */
        const char *quarantine; /* where file is now, below the store's folder; NULL: where it was */
};

struct storage_verify_config {
        bool repair;
        uint64_t bytes_per_sec; /* read from the disk, at most; 0: the default, 64 MiB */

        /* Called from the thread that verifies; what finding points at is borrowed. */
        void (*on_finding)(const struct storage_finding *finding, void *userdata);
        /* Called from it, once and last. result: 0, -ECANCELED, or an errno when it could not be carried out:
         * what was found by then holds. */
        void (*on_done)(int result, void *userdata);
        void *userdata;
};

struct storage_verify_progress {
        uint64_t total;     /* objects there were at the start */
        uint64_t checked;   /* objects */
        uint64_t bytes;     /* of bodies read */
        uint64_t problems;  /* findings */
        uint64_t repaired;  /* ... that were repaired */
        uint64_t uncounted; /* 1: the sums were not compared, since too much changed meanwhile */
};

struct storage_verify;

/* Reads, in a thread that comes last, all that there is and compares: each record, each body with its size and
 * checksum, what is noted beside the records, the files among the bodies. Everything goes on meanwhile; what
 * changes is looked at again and never a finding; what is put after the start is not looked at. repair: moves
 * files that are wrong to the folder "quarantine" of the store (nothing is deleted), removes the objects that
 * have lost their body or record, and corrects what is noted wrongly. *ret is to be given to
 * storage_verify_end() before storage_cleanup(). -EBUSY: one is under way. -ENOMEM, -EAGAIN. */
int storage_verify_begin(struct storage_verify **ret,
                         struct storage *storage,
                         const struct storage_verify_config *config);
/* Any thread. */
void storage_verify_get_progress(struct storage_verify *verify, struct storage_verify_progress *ret);
/* Any thread. on_done is called soon. What was repaired stays so. */
void storage_verify_cancel(struct storage_verify *verify);
/* Cancels what is under way, waits for the thread's end, and frees it. NULL is fine. */
void storage_verify_end(struct storage_verify *verify);
DEFINE_CLEANUP(struct storage_verify, storage_verify_end)
