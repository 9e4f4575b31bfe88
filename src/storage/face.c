/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The simple faces of the store: one call, one thing done. */

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "storage.h"

#define _cleanup_object_ _cleanup_(storage_object_done)

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static int make_memfd(const void *data, size_t size) {
        _cleanup_close_ int fd = memfd_create("objmapper-object",
                                              MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create("objmapper-object", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;

        for (size_t done = 0; done < size;) {
                ssize_t n = pwrite(fd, (const uint8_t *) data + done, size - done, (off_t) done);

                if (n < 0)
                        return -errno;
                done += (size_t) n;
        }

        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;

        return TAKE_FD(fd);
}

int storage_get_fd(struct storage *storage,
                   const void *uri,
                   size_t uri_size,
                   int *ret_fd,
                   struct storage_info *ret_info) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        int r;

        assert(ret_fd);

        r = storage_get(storage, uri, uri_size, STORAGE_GET_OPEN, NULL, &object);
        if (ret_info)
                *ret_info = object.info;
        if (r < 0)
                return r;

        r = object.body ? make_memfd(object.body, object.info.size) : TAKE_FD(object.fd);
        if (r < 0)
                return r;

        *ret_fd = r;
        return 0;
}

static const uint8_t empty_body[1];

int storage_get_mmap(struct storage *storage,
                     const void *uri,
                     size_t uri_size,
                     const void **ret_address,
                     struct storage_info *ret_info) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        void *p;
        int r;

        assert(ret_address);

        r = storage_get(storage, uri, uri_size, STORAGE_GET_OPEN, NULL, &object);
        if (ret_info)
                *ret_info = object.info;
        if (r < 0)
                return r;

        if (object.info.size == 0) {
                *ret_address = empty_body;
                return 0;
        }

        if (object.body)
                p = mmap(NULL, object.info.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        else
                p = mmap(NULL, object.info.size, PROT_READ, MAP_PRIVATE, object.fd, 0);
        if (p == MAP_FAILED)
                return errno == ENOMEM ? -ENOMEM : -EIO;

        if (object.body) {
                memcpy(p, object.body, object.info.size);
                (void) mprotect(p, object.info.size, PROT_READ);
        }

        *ret_address = p;
        return 0;
}

void storage_munmap(const void *address, uint64_t size) {
        if (size > 0)
                (void) munmap((void *) address, size);
}

int storage_get_info(struct storage *storage,
                     const void *uri,
                     size_t uri_size,
                     struct storage_info *ret_info,
                     void *metadata,
                     size_t *metadata_size) {
        _cleanup_object_ struct storage_object object = STORAGE_OBJECT_INIT;
        size_t space;
        int r;

        assert(!metadata || metadata_size);

        r = storage_get(storage, uri, uri_size, 0, NULL, &object);
        if (ret_info)
                *ret_info = object.info;
        if (r < 0 || !metadata_size)
                return r;

        space = metadata ? *metadata_size : 0;
        *metadata_size = object.metadata_size;
        if (!metadata)
                return 0;
        if (object.metadata_size > space)
                return -ENOBUFS;

        if (object.metadata_size > 0)
                memcpy(metadata, object.metadata, object.metadata_size);
        return 0;
}

struct waiter {
        pthread_mutex_t mutex;
        pthread_cond_t wake;
        bool is_done;
};

static void wake_waiter(struct storage_change *change) {
        struct waiter *waiter = change->userdata;

        (void) pthread_mutex_lock(&waiter->mutex);
        waiter->is_done = true;
        (void) pthread_cond_signal(&waiter->wake);
        (void) pthread_mutex_unlock(&waiter->mutex);
}

int storage_change_wait(struct storage *storage, struct storage_change *change) {
        struct waiter waiter = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false };

        change->done = wake_waiter;
        change->userdata = &waiter;
        storage_submit(storage, change);

        (void) pthread_mutex_lock(&waiter.mutex);
        while (!waiter.is_done)
                (void) pthread_cond_wait(&waiter.wake, &waiter.mutex);
        (void) pthread_mutex_unlock(&waiter.mutex);

        (void) pthread_cond_destroy(&waiter.wake);
        (void) pthread_mutex_destroy(&waiter.mutex);
        return change->result;
}

int storage_put(struct storage *storage,
                const void *uri,
                size_t uri_size,
                const void *data,
                size_t size,
                const void *metadata,
                size_t metadata_size,
                struct storage_info *ret_info) {
        _cleanup_(storage_upload_freep) struct storage_upload *upload = NULL;
        struct storage_change change = {
                .kind = STORAGE_PUT,
                .uri = uri,
                .uri_size = uri_size,
                .metadata = metadata,
                .metadata_size = metadata_size,
        };
        int r;

        r = storage_upload_new(storage, size, &upload);
        if (r < 0)
                return r;

        r = storage_upload_write(upload, data, size);
        if (r < 0)
                return r;

        r = storage_upload_finish(upload);
        if (r < 0)
                return r;

        change.upload = upload;
        r = storage_change_wait(storage, &change);
        if (r < 0)
                return r;

        if (ret_info)
                *ret_info = change.info;
        return 0;
}

int storage_remove(struct storage *storage, const void *uri, size_t uri_size) {
        return storage_change_wait(storage, &(struct storage_change){
                                                            .kind = STORAGE_REMOVE,
                                                            .uri = uri,
                                                            .uri_size = uri_size,
                                            });
}
