/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef OBJMAPPER_H
#define OBJMAPPER_H

/* libobjmapper: objects from the objmapper daemon of this host, as open files, as copies or spliced.
 *
 * Functions return 0 or a positive value on success and a negative errno on failure; objmapper_client_error()
 * has the words. Handles are opaque. A client and everything that came from it belong to one thread at a
 * time: nothing here is safe to call from two threads at once on the same client. Two clients share nothing.
 * Objects outlive the client they came from. No function raises SIGPIPE, and every descriptor is
 * close-on-exec. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define OBJMAPPER_API __attribute__((visibility("default")))
#else
#define OBJMAPPER_API
#endif

#define OBJMAPPER_TO_END       UINT64_MAX /* a range's size: to the end of the object */
#define OBJMAPPER_URI_MAX      4096
#define OBJMAPPER_METADATA_MAX 32768 /* bytes of all keys and values of an object, and 6 more for each pair */

typedef struct objmapper_client objmapper_client;   /* a connection to the daemon, made when it is needed */
typedef struct objmapper_request objmapper_request; /* something to ask for */
typedef struct objmapper_object objmapper_object;   /* an answer: what is known of an object, and its body */

/* How a body is delivered. */
enum objmapper_mode {
        OBJMAPPER_FDPASS = 1, /* an open file: nothing is copied */
        OBJMAPPER_COPY = 2,   /* bytes on the socket, into memory */
        OBJMAPPER_SPLICE = 3, /* bytes on the socket, moved by the kernel, without passing through memory */
        OBJMAPPER_AUTO = 4,   /* a copy when small, an open file otherwise: the default */
};

/* When a put is answered. */
enum objmapper_durability {
        OBJMAPPER_AS_CONFIGURED = 0, /* as the daemon's configuration says: the default */
        OBJMAPPER_DURABLE = 1,       /* when the object is on the disk */
        OBJMAPPER_VISIBLE = 2,       /* as soon as gets find it; it may be gone again after a crash */
};

enum objmapper_verb {
        OBJMAPPER_GET = 2,
        OBJMAPPER_STAT = 3,
        OBJMAPPER_PUT = 4,
        OBJMAPPER_SET_METADATA = 8,
        OBJMAPPER_REMOVE = 9,
        OBJMAPPER_PURGE = 10,
        OBJMAPPER_LIST = 11,
        OBJMAPPER_STATS = 12,
};

/* Errors with a meaning of their own, as negative errno values. What the daemon answered:
 * - ENOENT: absent
 * - EEXIST: if-absent, and there is one
 * - ESTALE: expired
 * - ECANCELED: if-generation, and it is another, or there is none
 * - ERANGE: the range begins past the end
 * - EFBIG: too large
 * - ENOSPC: no space, or a quota
 * - EROFS: the store can't be written at present
 * - EBADMSG: the checksum is wrong
 * - EBUSY: a limit of the daemon at this moment: try again later
 * - EACCES: not permitted, by the socket's mode or by the daemon
 * - EINVAL: a bad request
 * - EOPNOTSUPP: unknown to this daemon
 * - EREMOTEIO: an error inside the daemon
 *
 * What happened on the way:
 * - EHOSTDOWN: no daemon is listening there
 * - ETIMEDOUT: no answer in time (objmapper_client_set_timeout()); a change has an unknown outcome then
 * - EINPROGRESS: outcome unknown: the daemon went away, or sent nonsense, and the change may or may not have
 *   been made
 * - ECONNRESET: the daemon went away, nothing was changed, and the request can't be repeated by the library:
 *   a put whose body came from a pipe, a get whose output had begun, or too many connections lost in a row
 * - EPROTO: what listens there does not speak the protocol; a change was not sent whole
 * - ENOLINK: the descriptor was lost: this process has none free (objmapper_client_set_fd_fallback())
 * - ENODATA: the put's descriptor ended before the announced size: nothing was stored
 *
 * Beside these, each function may return -ENOMEM, and an errno of a system call on a descriptor of the
 * caller's (a put's body, a get's output). */

/* ---- clients ---- */

/* Makes a client with the system's sockets and OBJMAPPER_AUTO; nothing is connected yet. *ret is to be given
 * to objmapper_client_close(). -ENOMEM, -EMFILE. */
OBJMAPPER_API int objmapper_client_new(objmapper_client **ret);

/* Which sockets: before anything is connected. reader serves what changes nothing; publisher serves
 * everything, and is opened when a change is asked for. Either may be NULL: then the other is used for all.
 * Copied. -EINVAL: both are NULL, or one does not fit into a socket address; -EBUSY: already connected;
 * -ENOMEM. */
OBJMAPPER_API int objmapper_client_set_sockets(objmapper_client *client,
                                               const char *reader,
                                               const char *publisher);
/* The sockets of the instance objmapper@NAME; user not 0: those of the user's own daemon (name may be NULL
 * then). -EINVAL: no such name can be; -ENXIO: $XDG_RUNTIME_DIR is not set; -EBUSY, -ENOMEM. */
OBJMAPPER_API int objmapper_client_set_instance(objmapper_client *client, const char *name, int user);
/* The mode of gets that name none. -EBUSY: already connected; -EINVAL: no such mode. */
OBJMAPPER_API int objmapper_client_set_mode(objmapper_client *client, enum objmapper_mode mode);
/* How long a request may go without any progress, in microseconds, before it ends with -ETIMEDOUT; 0 and
 * UINT64_MAX: for ever. Progress is a byte of its own frames or bodies in either direction; while it waits in
 * the client for others, theirs counts. So a body of any size has the time that it needs. Waiting for a put's
 * source or a get's output does not count. Default: 30 s. Holds for requests under way, too. */
OBJMAPPER_API void objmapper_client_set_timeout(objmapper_client *client, uint64_t usec);
/* What happens when a descriptor was lost because this process has none free: not 0 (the default): the object
 * is asked for again as a copy; 0: -ENOLINK. */
OBJMAPPER_API void objmapper_client_set_fd_fallback(objmapper_client *client, int enabled);

/* Makes a client, connects with mode and agrees with the daemon. path: the one socket for all; NULL: the
 * system's two, and the readers' is connected. *ret is set on success only. Errors: as
 * objmapper_client_new(), objmapper_client_set_sockets(), objmapper_client_set_mode(), and -EHOSTDOWN,
 * -EACCES, -EBUSY, -EPROTO, -ETIMEDOUT. */
OBJMAPPER_API int objmapper_client_connect(objmapper_client **ret,
                                           const char *path,
                                           enum objmapper_mode mode);

/* Ends everything under way without an answer, and frees the client. NULL is fine. */
OBJMAPPER_API void objmapper_client_close(objmapper_client *client);

/* What went wrong in the last call that failed, in words, for people: what, where, and what to do about it.
 * Never NULL; borrowed until the next call. */
OBJMAPPER_API const char *objmapper_client_error(objmapper_client *client);

/* ---- the simple calls: each asks and waits ---- */

/* Gets an object. *ret is the caller's, to be given to objmapper_object_free(), and set on success only, as
 * in all that follow. uri: bytes, no NUL at the end needed. -ENOENT, -ESTALE, and the errors above. */
OBJMAPPER_API int objmapper_client_request(objmapper_client *client,
                                           const void *uri,
                                           size_t uri_size,
                                           objmapper_object **ret);
/* The same for a URI that is a C string. */
OBJMAPPER_API int objmapper_get(objmapper_client *client, const char *uri, objmapper_object **ret);
/* Gets n objects, by one message where the daemon's pipeline depth allows it: much faster than n calls. uris: C strings.
 * objects: n places, each of them NULL or an object of an earlier call, which is consumed: its memory, that of a copied
 * body included, is used again, and is kept with the object until it is freed. Then objects[i] is the object of uris[i],
 * to be given to objmapper_object_free(), or NULL. errors: NULL, or n places for what each came to: 0 or an error as of
 * objmapper_get(). Returns how many were got; objmapper_client_error() tells of the first that was not. When not one
 * could be asked for: why, as objmapper_client_submit(), or -ENOMEM, -EINVAL: uris or objects is NULL, n above INT_MAX;
 * -EDEADLK: called from inside a reply; objects are then as they were. */
OBJMAPPER_API int objmapper_get_many(objmapper_client *client,
                                     const char *const *uris,
                                     size_t n,
                                     objmapper_object **objects,
                                     int *errors);
/* What is known of an object, without its body. */
OBJMAPPER_API int objmapper_stat(objmapper_client *client, const char *uri, objmapper_object **ret);
/* Puts size bytes. ret may be NULL; else it tells the new ETag. Durable when it returns, unless the daemon is
 * configured to answer earlier. */
OBJMAPPER_API int objmapper_put(objmapper_client *client,
                                const char *uri,
                                const void *data,
                                size_t size,
                                objmapper_object **ret);
/* Puts what fd has from its present position to its end, by sendfile where fd is a file, by read and write
 * where it is a pipe or a socket. A file is put as long as it is when the call begins. fd stays the caller's;
 * on success its position is behind what was put, otherwise anywhere. */
OBJMAPPER_API int objmapper_put_fd(objmapper_client *client, const char *uri, int fd, objmapper_object **ret);
/* Removes an object. Asked again after a lost connection, "absent" counts as removed. */
OBJMAPPER_API int objmapper_remove(objmapper_client *client, const char *uri);
/* Removes all that begins with prefix ("" is everything). ret_count: how many; may be NULL. Asked again after
 * a lost connection, it counts only what was left. */
OBJMAPPER_API int objmapper_purge(objmapper_client *client, const char *prefix, uint64_t *ret_count);
/* Calls visit for each object whose URI begins with prefix. visit returns 0 to go on; anything else ends the
 * listing and is returned. The object is borrowed for the call. visit must not use the client. */
typedef int (*objmapper_visit_fn)(objmapper_object *object, void *userdata);
OBJMAPPER_API int objmapper_list(objmapper_client *client,
                                 const char *prefix,
                                 objmapper_visit_fn visit,
                                 void *userdata);
/* Calls visit for each counter of the daemon. */
typedef int (*objmapper_counter_fn)(const char *name, uint64_t value, void *userdata);
OBJMAPPER_API int objmapper_stats(objmapper_client *client, objmapper_counter_fn visit, void *userdata);

/* ---- requests: the same with all there is to say ---- */

/* A request about uri (for purge and list: a prefix; for stats NULL and 0). Copied. *ret is the caller's, can
 * be asked again and again, and goes to objmapper_request_free(). -EINVAL: not a URI, not a verb; -ENOMEM. */
OBJMAPPER_API int objmapper_request_new(objmapper_request **ret,
                                        enum objmapper_verb verb,
                                        const void *uri,
                                        size_t uri_size);
OBJMAPPER_API void objmapper_request_free(objmapper_request *request);

/* Setters. -EINVAL where the verb has no such thing; -ENOMEM. */
/* get: this mode instead of the session's. */
OBJMAPPER_API int objmapper_request_set_mode(objmapper_request *request, enum objmapper_mode mode);
/* get: size bytes from offset on; a body then comes on the socket, never as an open file. */
OBJMAPPER_API int objmapper_request_set_range(objmapper_request *request, uint64_t offset, uint64_t size);
/* get: only when the object is not this one any more; otherwise the answer is
 * objmapper_object_is_unmodified(). */
OBJMAPPER_API int objmapper_request_set_if_modified(objmapper_request *request, const char *etag);
/* get: the body goes to fd as it arrives, by splice or sendfile where the kernel can, without passing through
 * memory; the object then has none. fd is borrowed, written to from its present position on, and with
 * waiting: only for objmapper_client_call(). When that fails half way, part of the body may have been
 * written. */
OBJMAPPER_API int objmapper_request_set_output(objmapper_request *request, int fd);
/* get, stat: an expired object is welcome. */
OBJMAPPER_API int objmapper_request_set_stale_ok(objmapper_request *request, int stale_ok);
/* put, set-metadata, remove: only when there is none (put), or one with this generation. */
OBJMAPPER_API int objmapper_request_set_if_absent(objmapper_request *request, int if_absent);
OBJMAPPER_API int objmapper_request_set_if_generation(objmapper_request *request, uint64_t generation);
/* put, set-metadata: one more pair. The pairs of a set-metadata replace all that were there. -EINVAL also
 * where the key has not 1 to 255 bytes, or OBJMAPPER_METADATA_MAX would be passed. */
OBJMAPPER_API int objmapper_request_add_metadata(objmapper_request *request,
                                                 const char *key,
                                                 const void *value,
                                                 size_t value_size);
/* put: time to live in milliseconds. */
OBJMAPPER_API int objmapper_request_set_ttl(objmapper_request *request, uint64_t msec);
/* put: when it is answered. */
OBJMAPPER_API int objmapper_request_set_durability(objmapper_request *request,
                                                   enum objmapper_durability durability);
/* put: what the body must have as XXH3-64, or it is refused (-EBADMSG). */
OBJMAPPER_API int objmapper_request_set_checksum(objmapper_request *request, uint64_t checksum);
/* put: the body. data is borrowed, and must stay until the answer. Up to 1 MiB it goes as one frame. */
OBJMAPPER_API int objmapper_request_set_body(objmapper_request *request, const void *data, size_t size);
/* put: the body is what fd has from its position at the time of asking; size: how many bytes,
 * OBJMAPPER_TO_END: to its end, for a file to the end that it has at that time. fd is borrowed, must stay
 * until the answer, and goes to one request at a time. A pipe or socket is read when it has something, in the
 * non-blocking face too. */
OBJMAPPER_API int objmapper_request_set_body_fd(objmapper_request *request, int fd, uint64_t size);
/* put: the body is what source gives, piece by piece, for callers that have it come to them. source writes at most
 * size bytes, and returns how many; 0: that was the end; -EAGAIN: it has nothing at
 * present, objmapper_client_wake() tells when; another negative errno: the put ends with it, and nothing is stored. It
 * is called from objmapper_client_process(), _wait() and _call(), never after the answer, must not use the client, and
 * may be called again after the end when a connection was lost. size: as above, but never looked up. */
typedef int64_t (*objmapper_source_fn)(void *data, size_t size, void *userdata);
OBJMAPPER_API int objmapper_request_set_body_source(objmapper_request *request,
                                                    objmapper_source_fn source,
                                                    void *userdata,
                                                    uint64_t size);
/* list: where to go on (objmapper_object_get_cursor() of the page before), and how many entries a page has.
 */
OBJMAPPER_API int objmapper_request_set_cursor(objmapper_request *request, const void *cursor, size_t size);
OBJMAPPER_API int objmapper_request_set_limit(objmapper_request *request, uint32_t limit);

/* Asks and waits. Requests submitted earlier are processed meanwhile. *ret (ret may be NULL) is the caller's.
 * -EDEADLK: called from inside a reply. */
OBJMAPPER_API int objmapper_client_call(objmapper_client *client,
                                        objmapper_request *request,
                                        objmapper_object **ret);

/* ---- the non-blocking face: for callers with an event loop, and for many requests in flight ---- */

/* The answer to a submitted request. error: 0 or a negative errno as above; object: the callee's to free,
 * NULL on error. Answers come in any order. It may submit more; it must not wait, process or close the
 * client. */
typedef void (*objmapper_reply_fn)(objmapper_client *client,
                                   int error,
                                   objmapper_object *object,
                                   void *userdata);

/* Hands a request over: copied but for a put's body. Never waits; what is over the daemon's pipeline depth
 * waits in the client. Where nothing else is in flight it is sent at once; a put, and what is submitted behind another, goes
 * with the next objmapper_client_process(), so that many requests go as one.
 * reply is called from objmapper_client_process(), _wait() or _call(), exactly once unless the client is
 * closed before; never from here. -EINVAL: it has an output; -ENOMEM, -EHOSTDOWN, -EACCES and other errors of
 * connecting, and of the body's descriptor: reply is then not called. */
OBJMAPPER_API int objmapper_client_submit(objmapper_client *client,
                                          objmapper_request *request,
                                          objmapper_reply_fn reply,
                                          void *userdata);
/* A descriptor to poll for reading (POLLIN): objmapper_client_process() has something to do then. It stays
 * the same for the client's whole life, and belongs to the client. */
OBJMAPPER_API int objmapper_client_get_fd(objmapper_client *client);
/* CLOCK_MONOTONIC, microseconds, by when objmapper_client_process() must be called even when the descriptor
 * is silent: a time-out, or the time to try a connection again; 0: at once; UINT64_MAX: no need. To be asked
 * for again after each submit, process and wait. */
OBJMAPPER_API uint64_t objmapper_client_get_deadline(objmapper_client *client);
/* Sends and receives what it can without waiting, and calls what was answered. The number of answers; errors
 * of requests come through their answers. -EDEADLK: called from inside a reply. */
OBJMAPPER_API int objmapper_client_process(objmapper_client *client);
/* Sources (objmapper_request_set_body_source()) that had nothing may have something now, or have come to an end: they
 * are asked again when the client is processed, which its deadline asks for. Also from inside a reply. */
OBJMAPPER_API void objmapper_client_wake(objmapper_client *client);
/* Waits for an answer, at most usec (UINT64_MAX: for ever), processing what comes. The number of answers; 0
 * after the time, or when no request is pending. -EDEADLK. */
OBJMAPPER_API int objmapper_client_wait(objmapper_client *client, uint64_t usec);
/* Requests submitted and not yet answered. */
OBJMAPPER_API size_t objmapper_client_get_pending(objmapper_client *client);

/* ---- objects ---- */

OBJMAPPER_API void objmapper_object_free(objmapper_object *object);

/* The URI asked for, or of a listed object. Borrowed; followed by a NUL that is not counted. */
OBJMAPPER_API const char *objmapper_object_get_uri(objmapper_object *object, size_t *ret_size);
/* Bytes of the whole body; and of the part that this object carries (a range; 0 for a stat). */
OBJMAPPER_API uint64_t objmapper_object_get_size(objmapper_object *object);
OBJMAPPER_API uint64_t objmapper_object_get_body_size(objmapper_object *object);
/* Where the part begins in the whole body: the range's offset. */
OBJMAPPER_API uint64_t objmapper_object_get_offset(objmapper_object *object);
/* The ETag as text: three numbers in hex, joined by '-'. Borrowed. */
OBJMAPPER_API const char *objmapper_object_get_etag(objmapper_object *object);
OBJMAPPER_API uint64_t objmapper_object_get_generation(objmapper_object *object);
/* XXH3-64 of the whole body. */
OBJMAPPER_API uint64_t objmapper_object_get_checksum(objmapper_object *object);
/* Microseconds since 1970; expiry 0: never; use 0: never, or not told (stat alone tells hits and use). */
OBJMAPPER_API uint64_t objmapper_object_get_stored(objmapper_object *object);
OBJMAPPER_API uint64_t objmapper_object_get_expires(objmapper_object *object);
OBJMAPPER_API uint64_t objmapper_object_get_hits(objmapper_object *object);
OBJMAPPER_API uint64_t objmapper_object_get_used(objmapper_object *object);
/* Objects purged, or entries listed. */
OBJMAPPER_API uint64_t objmapper_object_get_count(objmapper_object *object);
/* Not 0: the object is still the one of objmapper_request_set_if_modified(), and there is no body. */
OBJMAPPER_API int objmapper_object_is_unmodified(objmapper_object *object);
/* How the body came; 0 where there is none. A body without a file comes as OBJMAPPER_COPY in every mode. */
OBJMAPPER_API int objmapper_object_get_mode(objmapper_object *object);

/* The first value of key. Borrowed; followed by a NUL that is not counted. NULL: there is none. ret_size may
 * be NULL. */
OBJMAPPER_API const char *objmapper_object_get_metadata(objmapper_object *object,
                                                        const char *key,
                                                        size_t *ret_size);
/* All pairs in order: *position is 0 at first. Key and value are borrowed, and followed by a NUL that is not
 * counted. 1, or 0 at the end. */
OBJMAPPER_API int objmapper_object_next_metadata(objmapper_object *object,
                                                 size_t *position,
                                                 const char **ret_key,
                                                 const char **ret_value,
                                                 size_t *ret_value_size);

/* The body as a descriptor: always possible. An open file in mode fdpass; a sealed memfd otherwise, made at
 * the first call. It can't be written, and its offset, 0 at first, is nobody else's.
 * objmapper_object_get_fd() keeps it with the object; objmapper_object_take_fd() makes it the caller's. The
 * descriptor, or -EBADF: already taken; -EMFILE, -ENFILE, -ENOMEM; -ENODATA: there is no body. */
OBJMAPPER_API int objmapper_object_get_fd(objmapper_object *object);
OBJMAPPER_API int objmapper_object_take_fd(objmapper_object *object);
/* The body in memory: copied bytes, or the file mapped read-only, at the first call. Borrowed; ret_size may
 * be NULL. An empty body has some address and size 0. Reading a mapping raises SIGBUS where the disk fails.
 * -ENODATA: there is no body; -EBADF: the descriptor was taken before; -EFBIG: more than this process can
 * address; -ENOMEM. */
OBJMAPPER_API int objmapper_object_get_data(objmapper_object *object,
                                            const void **ret_data,
                                            size_t *ret_size);
/* Writes the body to fd, by sendfile and its like where the kernel can, with waiting. -ENODATA, -EBADF as
 * above, or what writing says. */
OBJMAPPER_API int objmapper_object_write_to(objmapper_object *object, int fd);

/* A page of a list: the entries as objects. *position is 0 at first. 1 and an object of the caller's, 0 at
 * the end, -ENOMEM, -EPROTO: the page is malformed; -ENODATA: this is no page. */
OBJMAPPER_API int objmapper_object_next_entry(objmapper_object *object,
                                              size_t *position,
                                              objmapper_object **ret);
/* The counters of a stats answer, likewise; name is borrowed until the next call on the object. */
OBJMAPPER_API int objmapper_object_next_counter(objmapper_object *object,
                                                size_t *position,
                                                const char **ret_name,
                                                uint64_t *ret_value);
/* Where the next page begins. Borrowed; *ret_size is 0 when this was the last. */
OBJMAPPER_API const void *objmapper_object_get_cursor(objmapper_object *object, size_t *ret_size);

#ifdef __cplusplus
}
#endif

#endif
