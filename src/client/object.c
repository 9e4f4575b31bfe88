/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "object.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "bytes.h"
#include "macro.h"
#include "transfer.h"

/* Metadata is kept with a NUL after each key and value: sizes of both, key, NUL, value, NUL. */
#define PAIR_HEAD 8

static size_t unpacked_size(struct proto_bytes block) {
        struct proto_pair pair;
        size_t position = 0, size = 0;

        while (proto_metadata_next(block, &position, &pair) > 0)
                size += PAIR_HEAD + pair.key.size + 1 + pair.value.size + 1;

        return size;
}

static char *copy_string(char *p, struct proto_bytes bytes) {
        if (bytes.size > 0)
                memcpy(p, bytes.data, bytes.size);
        p[bytes.size] = 0;

        return p + bytes.size + 1;
}

static char *unpack(char *p, struct proto_bytes block) {
        struct proto_pair pair;
        size_t position = 0;

        while (proto_metadata_next(block, &position, &pair) > 0) {
                store_le32(p, (uint32_t) pair.key.size);
                store_le32(p + 4, (uint32_t) pair.value.size);
                p = copy_string(p + PAIR_HEAD, pair.key);
                p = copy_string(p, pair.value);
        }

        return p;
}

/* Closes and unmaps what it has of the body. */
static void forget_body(objmapper_object *object) {
        if (object->mapping)
                (void) munmap(object->mapping, (size_t) object->body_size);
        (void) close_fd(object->fd);
}

int object_new(objmapper_object **ret,
               objmapper_object *old,
               struct proto_bytes uri,
               const struct proto_message *message) {
        size_t metadata_size = message->metadata.size > 0 ? unpacked_size(message->metadata) : 0;
        size_t size = uri.size + 1 + metadata_size + message->cursor.size + 1;
        objmapper_object *object = old;
        uint8_t *spare = NULL;
        size_t spare_size = 0;
        char *p;

        if (old) {
                forget_body(old);
                spare = old->data ?: old->spare;
                spare_size = old->data_allocated;
                if (size > old->memory_size) {
                        free(old);
                        object = NULL;
                } else
                        size = old->memory_size;
        }

        if (!object)
                object = malloc(sizeof(*object) + size);
        if (!object) {
                free(spare);
                return -ENOMEM;
        }

        /* Not all of it needs a value. */
        object->info = message->info;
        object->usage = message->usage;
        object->offset = message->range.offset;
        object->body_size = 0;
        object->count = message->count;
        object->mode = OP_DEFAULT;
        object->page = object->taken = false;
        object->unmodified = message->head.status == PROTO_NOT_MODIFIED;
        object->fd = -EBADF;
        object->data = NULL;
        object->spare = spare;
        object->data_allocated = spare_size;
        object->mapping = NULL;
        object->etag[0] = 0;
        object->uri_size = uri.size;
        object->metadata_size = metadata_size;
        object->cursor_size = message->cursor.size;
        object->memory_size = size;

        p = object->memory;
        object->uri = p;
        p = copy_string(p, uri);
        object->metadata = p;
        if (metadata_size > 0)
                p = unpack(p, message->metadata);
        object->cursor = p;
        (void) copy_string(p, message->cursor);

        *ret = object;
        return 0;
}

int object_set_body(objmapper_object *object, const uint8_t *p, size_t size) {
        if (!object->spare || object->data_allocated < size) {
                uint8_t *data = malloc(MAX(size, 1U));

                if (!data)
                        return -ENOMEM;
                free(object->spare);
                object->spare = data;
                object->data_allocated = MAX(size, 1U);
        }

        object->data = TAKE_PTR(object->spare);
        object->body_size = size;
        if (size > 0)
                memcpy(object->data, p, size);
        return 0;
}

void objmapper_object_free(objmapper_object *object) {
        if (!object)
                return;

        forget_body(object);
        free(object->data);
        free(object->spare);
        free(object);
}

const char *objmapper_object_get_uri(objmapper_object *object, size_t *ret_size) {
        if (ret_size)
                *ret_size = object->uri_size;

        return object->uri;
}

uint64_t objmapper_object_get_size(objmapper_object *object) {
        return object->info.size;
}

uint64_t objmapper_object_get_body_size(objmapper_object *object) {
        return object->page ? 0 : object->body_size;
}

uint64_t objmapper_object_get_offset(objmapper_object *object) {
        return object->offset;
}

const char *objmapper_object_get_etag(objmapper_object *object) {
        if (object->etag[0] == 0)
                etag_format(object->etag, &object->info.etag);

        return object->etag;
}

uint64_t objmapper_object_get_generation(objmapper_object *object) {
        return object->info.etag.generation;
}

uint64_t objmapper_object_get_checksum(objmapper_object *object) {
        return object->info.checksum;
}

uint64_t objmapper_object_get_stored(objmapper_object *object) {
        return object->info.stored_usec;
}

uint64_t objmapper_object_get_expires(objmapper_object *object) {
        return object->info.expires_usec;
}

uint64_t objmapper_object_get_hits(objmapper_object *object) {
        return object->usage.hits;
}

uint64_t objmapper_object_get_used(objmapper_object *object) {
        return object->usage.used_usec;
}

uint64_t objmapper_object_get_count(objmapper_object *object) {
        return object->count;
}

int objmapper_object_is_unmodified(objmapper_object *object) {
        return object->unmodified;
}

int objmapper_object_get_mode(objmapper_object *object) {
        return (int) object->mode;
}

int objmapper_object_next_metadata(objmapper_object *object,
                                   size_t *position,
                                   const char **ret_key,
                                   const char **ret_value,
                                   size_t *ret_value_size) {
        const char *p = object->metadata + *position;
        size_t key_size, value_size;

        if (*position >= object->metadata_size)
                return 0;

        key_size = load_le32(p);
        value_size = load_le32(p + 4);
        p += PAIR_HEAD;

        if (ret_key)
                *ret_key = p;
        if (ret_value)
                *ret_value = p + key_size + 1;
        if (ret_value_size)
                *ret_value_size = value_size;

        *position += PAIR_HEAD + key_size + 1 + value_size + 1;
        return 1;
}

const char *objmapper_object_get_metadata(objmapper_object *object, const char *key, size_t *ret_size) {
        const char *candidate, *value;
        size_t position = 0, size;

        while (objmapper_object_next_metadata(object, &position, &candidate, &value, &size) > 0)
                if (strcmp(candidate, key) == 0) {
                        if (ret_size)
                                *ret_size = size;
                        return value;
                }

        return NULL;
}

static bool has_body(const objmapper_object *object) {
        return object->mode != OP_DEFAULT && !object->page &&
               (object->data || object->fd >= 0 || object->taken);
}

/* A descriptor of its own for a body in memory. */
static int make_fd(const objmapper_object *object) {
        _cleanup_close_ int fd = memfd_new();
        int r;

        if (fd < 0)
                return TAKE_FD(fd);

        r = transfer_memory(object->data, (size_t) object->body_size, fd);
        if (r < 0)
                return r;

        return memfd_seal(TAKE_FD(fd));
}

int objmapper_object_get_fd(objmapper_object *object) {
        int fd;

        if (object->fd >= 0)
                return object->fd;
        if (!has_body(object))
                return -ENODATA;
        if (object->taken)
                return -EBADF;

        fd = make_fd(object);
        if (fd >= 0)
                object->fd = fd;

        return fd;
}

int objmapper_object_take_fd(objmapper_object *object) {
        int fd = objmapper_object_get_fd(object);

        if (fd >= 0) {
                object->fd = -EBADF;
                object->taken = true;
        }

        return fd;
}

static int map_body(objmapper_object *object) {
        struct stat st;
        void *p;

        if (object->fd < 0)
                return -EBADF;
        if (object->body_size > SIZE_MAX / 2)
                return -EFBIG;

        /* Behind the file's end a mapping is a SIGBUS: the daemon's word is not enough. */
        if (fstat(object->fd, &st) < 0)
                return -errno;
        if ((uint64_t) st.st_size < object->body_size)
                return -EPROTO;

        /* Private, since before Linux 6.7 a sealed descriptor that is open for writing, as it is where there is
         * no /proc, can't be mapped in another way. Nothing is copied as nothing is written. */
        p = mmap(NULL, (size_t) object->body_size, PROT_READ, MAP_PRIVATE, object->fd, 0);
        if (p == MAP_FAILED)
                return -errno;

        object->mapping = p;
        return 0;
}

int objmapper_object_get_data(objmapper_object *object, const void **ret_data, size_t *ret_size) {
        if (!has_body(object))
                return -ENODATA;

        if (object->data)
                *ret_data = object->data;
        else if (object->body_size == 0)
                *ret_data = "";
        else {
                if (!object->mapping) {
                        int r = map_body(object);
                        if (r < 0)
                                return r;
                }
                *ret_data = object->mapping;
        }

        if (ret_size)
                *ret_size = (size_t) object->body_size;
        return 0;
}

int objmapper_object_write_to(objmapper_object *object, int fd) {
        if (!has_body(object))
                return -ENODATA;

        if (object->data)
                return transfer_memory(object->data, (size_t) object->body_size, fd);
        if (object->fd < 0)
                return -EBADF;

        return transfer_file(object->fd, 0, object->body_size, fd);
}

int objmapper_object_next_entry(objmapper_object *object, size_t *position, objmapper_object **ret) {
        struct proto_message message = {};
        struct proto_entry entry;
        int r;

        if (!object->page)
                return -ENODATA;

        r = proto_entry_next((struct proto_bytes){ object->data, (size_t) object->body_size }, position,
                             &entry);
        if (r <= 0)
                return r < 0 ? -EPROTO : 0;

        message.info = entry.info;
        r = object_new(ret, NULL, entry.uri, &message);
        return r < 0 ? r : 1;
}

int objmapper_object_next_counter(objmapper_object *object,
                                  size_t *position,
                                  const char **ret_name,
                                  uint64_t *ret_value) {
        struct proto_counter counter;
        int r;

        if (!object->page)
                return -ENODATA;

        r = proto_counter_next((struct proto_bytes){ object->data, (size_t) object->body_size }, position,
                               &counter);
        if (r <= 0)
                return r < 0 ? -EPROTO : 0;

        (void) copy_string(object->counter, counter.name);
        *ret_name = object->counter;
        *ret_value = counter.value;
        return 1;
}

const void *objmapper_object_get_cursor(objmapper_object *object, size_t *ret_size) {
        if (ret_size)
                *ret_size = object->cursor_size;

        return object->cursor;
}
