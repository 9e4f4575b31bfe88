/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlay.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "lines.h"
#include "macro.h"
#include "store.h"

#define BUCKETS 1024 /* powers of two */
#define LOCKS   64

struct overlay {
        size_t n_puts; /* atomic */
        struct {
                pthread_mutex_t mutex;
        } __attribute__((aligned(64))) locks[LOCKS];
        struct overlay_put *buckets[BUCKETS]; /* atomic; written under the mutex; the newest first */
};

int overlay_new(struct overlay **ret) {
        struct overlay *overlay = lines_alloc(sizeof(*overlay));

        if (!overlay)
                return -ENOMEM;

        memset(overlay, 0, sizeof(*overlay));
        for (size_t i = 0; i < LOCKS; i++)
                (void) pthread_mutex_init(&overlay->locks[i].mutex, NULL);

        *ret = overlay;
        return 0;
}

void overlay_free(struct overlay *overlay) {
        if (!overlay)
                return;

        assert(overlay->n_puts == 0);
        for (size_t i = 0; i < LOCKS; i++)
                (void) pthread_mutex_destroy(&overlay->locks[i].mutex);
        free(overlay);
}

int overlay_put_new(struct overlay_put **ret, const struct storage_change *change) {
        struct storage_upload *upload = change->upload;
        size_t body_size = upload->fd < 0 ? upload->size : 0;
        struct overlay_put *put;
        uint8_t *p;

        put = malloc(sizeof(*put) + change->uri_size + change->metadata_size + body_size);
        if (!put)
                return -ENOMEM;

        *put = (struct overlay_put){
                .change = *change,
                .record = {
                        .info = change->info,
                        .blob = change->blob,
                        .uri_size = change->uri_size,
                        .metadata_size = change->metadata_size,
                },
                .hash = XXH3_64bits(change->uri, change->uri_size),
        };

        p = put->data;
        memcpy(p, change->uri, change->uri_size);
        put->change.uri = put->record.uri = p;
        p += change->uri_size;
        if (change->metadata_size > 0)
                memcpy(p, change->metadata, change->metadata_size);
        put->change.metadata = put->record.metadata = p;
        p += change->metadata_size;
        if (body_size > 0)
                memcpy(p, upload->buffer, body_size);
        put->record.body = change->blob == 0 ? p : NULL;
        upload_move(&put->upload, upload);
        put->upload.buffer = p;
        put->change.upload = &put->upload;
        *ret = put;
        return 0;
}

void overlay_put_free(struct overlay_put *put) {
        storage_upload_release(&put->upload);
        free(put);
}

struct overlay_put *overlay_put_of(struct storage_change *change) {
        return container_of(change, struct overlay_put, change);
}

static struct overlay_put **bucket_of(struct overlay *overlay, uint64_t hash) {
        return &overlay->buckets[hash % BUCKETS];
}

static pthread_mutex_t *mutex_of(struct overlay *overlay, uint64_t hash) {
        return &overlay->locks[hash % LOCKS].mutex;
}

void overlay_add(struct overlay *overlay, struct overlay_put *put) {
        struct overlay_put **bucket = bucket_of(overlay, put->hash);
        pthread_mutex_t *mutex = mutex_of(overlay, put->hash);

        /* Before: whoever looked when there was another one may find it at once, and must not find none the next time. */
        (void) __atomic_add_fetch(&overlay->n_puts, 1, __ATOMIC_RELEASE);
        (void) pthread_mutex_lock(mutex);
        put->next = *bucket;
        __atomic_store_n(bucket, put, __ATOMIC_RELEASE);
        (void) pthread_mutex_unlock(mutex);
}

void overlay_drop(struct overlay *overlay, struct overlay_put *put) {
        struct overlay_put **link = bucket_of(overlay, put->hash);
        pthread_mutex_t *mutex = mutex_of(overlay, put->hash);

        (void) pthread_mutex_lock(mutex);
        while (*link != put)
                link = &(*link)->next;
        __atomic_store_n(link, put->next, __ATOMIC_RELEASE);
        (void) pthread_mutex_unlock(mutex);
        (void) __atomic_sub_fetch(&overlay->n_puts, 1, __ATOMIC_RELEASE);
}

bool overlay_is_empty(const struct overlay *overlay) {
        return __atomic_load_n(&overlay->n_puts, __ATOMIC_ACQUIRE) == 0;
}

int overlay_find(struct overlay *overlay,
                 const void *uri,
                 size_t uri_size,
                 int (*visit)(const struct record *record, void *userdata),
                 void *userdata) {
        struct overlay_put **bucket;
        pthread_mutex_t *mutex;
        uint64_t hash;
        int r = -ENOENT;

        if (overlay_is_empty(overlay))
                return -ENOENT;

        hash = XXH3_64bits(uri, uri_size);
        bucket = bucket_of(overlay, hash);
        if (!__atomic_load_n(bucket, __ATOMIC_ACQUIRE))
                return -ENOENT;

        mutex = mutex_of(overlay, hash);
        (void) pthread_mutex_lock(mutex);
        for (const struct overlay_put *put = *bucket; put; put = put->next)
                if (put->hash == hash && put->record.uri_size == uri_size &&
                    memcmp(put->record.uri, uri, uri_size) == 0) {
                        r = visit(&put->record, userdata);
                        break;
                }
        (void) pthread_mutex_unlock(mutex);

        return r;
}
