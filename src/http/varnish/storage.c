/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <errno.h>

#include "varnish.h"

#include "pool.h"
#include "storage.h"

/* All storages of the process, which only grow; loading a VCL is one thread's work at a time, but Varnish does not promise
 * so. */
static struct {
        pthread_mutex_t mutex;
        struct storage *first;
} storages = { .mutex = PTHREAD_MUTEX_INITIALIZER };

/* Varnish would unload the module with its last VCL, while objects still need its code. */
static int stay_loaded(void) {
        Dl_info info;

        return dladdr(&storages, &info) != 0 && dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE)
                               ? 0
                               : -ENOTSUP;
}

/* Half of what a process may have: the rest is for threads and memory. */
static uint64_t read_mappings_max(void) {
        FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
        unsigned long value = 0;

        if (file) {
                if (fscanf(file, "%lu", &value) != 1)
                        value = 0;
                (void) fclose(file);
        }
        return (value > 0 ? value : 65530) / 2;
}

static int new_storage(struct storage **ret,
                       const char *name,
                       const char *reader,
                       const char *publisher,
                       uint64_t timeout_usec) {
        struct storage *storage;
        unsigned n = 1;
        int r;

        r = stay_loaded();
        if (r < 0)
                return r;

        ALLOC_OBJ(storage, STORAGE_MAGIC);
        AN(storage);
        r = pool_new(&storage->pool, reader, publisher, timeout_usec);
        if (r < 0) {
                FREE_OBJ(storage);
                return r;
        }

        /* Names are unique, so that counters are. */
        for (const struct storage *other = storages.first; other; other = other->next)
                n += strncmp(other->name, name, strlen(name)) == 0;
        if ((n > 1 ? asprintf(&storage->name, "%s.%u", name, n) : asprintf(&storage->name, "%s", name)) < 0)
                storage->name = NULL;
        AN(storage->name);
        storage->reader = strdup(reader);
        AN(storage->reader);
        storage->publisher = strdup(publisher);
        AN(storage->publisher);

        (void) pthread_mutex_init(&storage->mutex, NULL);
        turn_init(&storage->turn);
        storage->mappings_max = read_mappings_max();
        storage->counters = VSC_objmapper_storage_New(NULL, &storage->segment, "%s", storage->name);
        AN(storage->counters);
        stevedore_init(&storage->stevedore, storage);

        *ret = storage;
        return 0;
}

int storage_get(struct storage **ret,
                const char *name,
                const char *reader,
                const char *publisher,
                const struct storage_limits *limits) {
        struct storage *storage;
        int r = 0;

        if (!stevedore_check())
                return -ENOTSUP;

        (void) pthread_mutex_lock(&storages.mutex);
        for (storage = storages.first; storage; storage = storage->next)
                if (strcmp(storage->reader, reader) == 0 && strcmp(storage->publisher, publisher) == 0)
                        break;
        if (!storage) {
                r = new_storage(&storage, name, reader, publisher, limits->timeout_usec);
                if (r >= 0) {
                        storage->next = storages.first;
                        storages.first = storage;
                }
        }
        (void) pthread_mutex_unlock(&storages.mutex);
        if (r < 0)
                return r;

        atomic_store(&storage->timeout_usec, limits->timeout_usec);
        atomic_store(&storage->memory_max, limits->memory_max);
        atomic_store(&storage->mapped_max, limits->mapped_max);
        *ret = storage;
        return 0;
}

static uint64_t get(const uint64_t *counter) {
        return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

bool storage_take_memory(struct worker *worker, struct storage *storage, uint64_t size) {
        for (;;) {
                STORAGE_COUNT(storage, memory, size);
                if (get(&storage->counters->memory) <= atomic_load(&storage->memory_max))
                        return true;
                STORAGE_COUNT(storage, memory, -size);
                if (!LRU_NukeOne(worker, storage->stevedore.lru))
                        return false;
        }
}

bool storage_may_map(struct worker *worker, struct storage *storage, uint64_t size) {
        const struct VSC_objmapper_storage *counters = storage->counters;

        /* Without a log Varnish can't tell what it gives up. */
        while (worker->vsl && (get(&counters->mappings) >= storage->mappings_max ||
                               get(&counters->mapped) + size > atomic_load(&storage->mapped_max)))
                if (!LRU_NukeOne(worker, storage->stevedore.lru))
                        break;

        return get(&counters->mappings) < storage->mappings_max;
}
