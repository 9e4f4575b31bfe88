/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "account.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "bytes.h"
#include "dictionary.h"
#include "macro.h"

#define ACCOUNTS_MAX 65536

uint64_t accounts_hash(const struct accounts *accounts, const void *uri, size_t uri_size) {
        return XXH3_64bits_withSeed(uri, uri_size, accounts->seed);
}

void accounts_note_hit(struct accounts *accounts, uint64_t hash) {
        if (__atomic_load_n(&accounts->is_heat_exact, __ATOMIC_RELAXED))
                heat_table_touch(accounts->heat, hash);
        else
                heat_table_note(accounts->heat, hash, POLICY_FIFO_HITS_MAX);
}

static void account_free(struct account *account) {
        if (!account)
                return;

        if (account->policy)
                policy_free(account->policy);
        free(account->name);
        free(account);
}
DEFINE_CLEANUP(struct account, account_free)

static int make_space(struct accounts *accounts, size_t n) {
        struct account **list;

        if (n <= accounts->n)
                return 0;

        list = reallocarray(accounts->list, n, sizeof(*list));
        if (!list)
                return -ENOMEM;

        memset(list + accounts->n, 0, (n - accounts->n) * sizeof(*list));
        accounts->list = list;
        accounts->n = n;
        return 0;
}

static int add_account(struct accounts *accounts,
                       uint32_t id,
                       const void *name,
                       size_t name_size,
                       struct account **ret) {
        _cleanup_(account_freep) struct account *account = calloc(1, sizeof(*account));
        int r;

        if (!account)
                return -ENOMEM;

        account->id = id;
        account->name = strndup(name, name_size);
        if (!account->name)
                return -ENOMEM;
        r = policy_new(&account->policy, STORAGE_POLICY_S3FIFO, NULL);
        if (r < 0)
                return r;

        (void) pthread_mutex_lock(&accounts->mutex);
        r = make_space(accounts, (size_t) id + 1);
        if (r >= 0)
                *ret = accounts->list[id] = TAKE_PTR(account);
        (void) pthread_mutex_unlock(&accounts->mutex);
        return r;
}

int accounts_new(struct accounts **ret, uint64_t seed, uint64_t clock) {
        _cleanup_(accounts_freep) struct accounts *accounts = calloc(1, sizeof(*accounts));
        struct account *rest;
        struct limits *limits;
        int r;

        if (!accounts)
                return -ENOMEM;

        accounts->seed = seed;
        (void) pthread_mutex_init(&accounts->mutex, NULL);
        r = heat_table_new(&accounts->heat, clock);
        if (r >= 0)
                r = add_account(accounts, ACCOUNT_REST, "", 0, &rest);
        if (r >= 0)
                r = limits_new(&limits, &(struct storage_limits){});
        if (r >= 0)
                r = accounts_configure(accounts, limits);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(accounts);
        return 0;
}

void accounts_free(struct accounts *accounts) {
        for (size_t i = 0; i < accounts->n; i++)
                account_free(accounts->list[i]);
        if (accounts->heat)
                heat_table_free(accounts->heat);
        if (accounts->limits)
                limits_free(accounts->limits);
        (void) pthread_mutex_destroy(&accounts->mutex);
        free(accounts->list);
        free(accounts);
}

struct account *accounts_get(const struct accounts *accounts, uint32_t id) {
        return id < accounts->n ? accounts->list[id] : NULL;
}

struct account *accounts_of(const struct accounts *accounts, const void *uri, size_t uri_size) {
        struct account *best = accounts->list[ACCOUNT_REST];

        for (size_t i = 0; i < accounts->n; i++) {
                struct account *account = accounts->list[i];
                const struct storage_namespace *namespace = account ? account->namespace : NULL;

                /* One of no bytes comes before the rest of the store. */
                if (namespace && namespace->prefix_size >= best->namespace->prefix_size &&
                    namespace->prefix_size <= uri_size &&
                    (namespace->prefix_size == 0 ||
                     memcmp(namespace->prefix, uri, namespace->prefix_size) == 0))
                        best = account;
        }

        return best;
}

static struct account *find_by_name(const struct accounts *accounts, const char *name) {
        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i] && strcmp(accounts->list[i]->name, name) == 0)
                        return accounts->list[i];

        return NULL;
}

static int add_by_name(struct accounts *accounts, const char *name) {
        struct account *account;
        size_t id;

        for (id = 0; id < accounts->n && accounts->list[id]; id++)
                ;
        if (id >= ACCOUNTS_MAX)
                return -ENOMEM;

        return add_account(accounts, (uint32_t) id, name, strlen(name), &account);
}

static void set_namespace(struct account *account, const struct storage_namespace *namespace) {
        account->namespace = namespace;
        if (policy_get_kind(account->policy) != namespace->policy)
                policy_set_kind(account->policy, namespace->policy);
}

int accounts_configure(struct accounts *accounts, struct limits *limits) {
        const struct storage_limits *value = &limits->value;
        bool is_heat_exact = false;

        for (size_t i = 0; i < value->n_namespaces; i++)
                if (!find_by_name(accounts, limits->namespaces[i].name)) {
                        int r = add_by_name(accounts, limits->namespaces[i].name);

                        if (r < 0)
                                return r;
                }

        (void) pthread_mutex_lock(&accounts->mutex);
        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i])
                        accounts->list[i]->namespace = NULL;

        accounts->rest = (struct storage_namespace){
                .name = "",
                .bytes_max = value->bytes_max,
                .objects_max = value->objects_max,
                .policy = value->policy,
                .evict = value->evict,
        };
        set_namespace(accounts->list[ACCOUNT_REST], &accounts->rest);
        for (size_t i = 0; i < value->n_namespaces; i++)
                set_namespace(find_by_name(accounts, limits->namespaces[i].name), &limits->namespaces[i]);

        for (size_t i = 0; i < accounts->n; i++)
                is_heat_exact |= accounts->list[i] &&
                                 policy_get_kind(accounts->list[i]->policy) != STORAGE_POLICY_S3FIFO;
        __atomic_store_n(&accounts->is_heat_exact, is_heat_exact, __ATOMIC_RELAXED);

        if (accounts->limits)
                limits_free(accounts->limits);
        accounts->limits = limits;
        (void) pthread_mutex_unlock(&accounts->mutex);
        return 0;
}

uint64_t accounts_layout(const struct accounts *accounts) {
        uint64_t layout = 0;

        for (size_t i = 0; i < accounts->n; i++) {
                const struct account *account = accounts->list[i];

                if (account && account->namespace && account->id != ACCOUNT_REST)
                        layout ^= XXH3_64bits_withSeed(account->namespace->prefix,
                                                       account->namespace->prefix_size, account->id);
        }

        return layout;
}

bool account_is_unused(const struct account *account) {
        return !account->namespace && account_objects(account) == 0 && account_bytes(account) == 0;
}

void accounts_forget(struct accounts *accounts, uint32_t id) {
        (void) pthread_mutex_lock(&accounts->mutex);
        account_free(TAKE_PTR(accounts->list[id]));
        (void) pthread_mutex_unlock(&accounts->mutex);
}

/* A value: XXH3-64 of the rest, seeded with the number; the sums; the name. */
#define N_SUMS     (2 + 2 * POLICY_QUEUES)
#define VALUE_HEAD (8 + 8 * N_SUMS)

static uint64_t *sum_at(struct account_sums *sums, size_t i) {
        switch (i) {
        case 0:
                return &sums->pinned_bytes;
        case 1:
                return &sums->pinned_objects;
        default:
                return i % 2 == 0 ? &sums->queued.queues[i / 2 - 1].bytes
                                  : &sums->queued.queues[i / 2 - 1].objects;
        }
}

void account_get_sums(const struct account *account, struct account_sums *ret) {
        ret->pinned_bytes = account->pinned_bytes;
        ret->pinned_objects = account->pinned_objects;
        policy_get_state(account->policy, &ret->queued);
}

static void set_sums(struct account *account, const struct account_sums *sums) {
        account->pinned_bytes = sums->pinned_bytes;
        account->pinned_objects = sums->pinned_objects;
        policy_set_state(account->policy, &sums->queued);
        account->is_dirty = false;
}

void account_mend_sums(struct account *account, const struct account_sums *sums) {
        set_sums(account, sums);
        account->is_dirty = true;
}

static void add_up(const struct account_sums *sums, struct storage_usage *ret) {
        *ret = (struct storage_usage){
                .bytes = sums->pinned_bytes,
                .objects = sums->pinned_objects,
                .pinned_bytes = sums->pinned_bytes,
                .pinned_objects = sums->pinned_objects,
        };
        for (size_t i = 0; i < POLICY_QUEUES; i++) {
                ret->bytes += sums->queued.queues[i].bytes;
                ret->objects += sums->queued.queues[i].objects;
        }
}

uint64_t account_bytes(const struct account *account) {
        struct account_sums sums;
        struct storage_usage usage;

        account_get_sums(account, &sums);
        add_up(&sums, &usage);
        return usage.bytes;
}

uint64_t account_objects(const struct account *account) {
        struct account_sums sums;
        struct storage_usage usage;

        account_get_sums(account, &sums);
        add_up(&sums, &usage);
        return usage.objects;
}

static int load_account(uint32_t id, const uint8_t *value, size_t size, void *userdata) {
        struct accounts *accounts = userdata;
        struct account *account;
        int r;

        if (size < VALUE_HEAD || size > VALUE_HEAD + STORAGE_NAMESPACE_NAME_MAX || id >= ACCOUNTS_MAX ||
            load_le64(value) != XXH3_64bits_withSeed(value + 8, size - 8, id))
                return -EUCLEAN;

        account = accounts_get(accounts, id);
        if (!account) {
                r = add_account(accounts, id, value + VALUE_HEAD, size - VALUE_HEAD, &account);
                if (r < 0)
                        return r;
        }

        for (size_t i = 0; i < N_SUMS; i++)
                *sum_at(&account->committed, i) = load_le64(value + 8 + 8 * i);
        set_sums(account, &account->committed);
        return 0;
}

void account_sums_add(struct account_sums *sums, const struct record *record) {
        if (record->info.pinned) {
                sums->pinned_bytes += record->info.size;
                sums->pinned_objects++;
        } else if (record->queue < POLICY_QUEUES) {
                sums->queued.queues[record->queue].bytes += record->info.size;
                sums->queued.queues[record->queue].objects++;
        }
}

int accounts_load(struct accounts *accounts, struct dictionary *dictionary, MDB_txn *txn) {
        return dictionary_visit_accounts(dictionary, txn, load_account, accounts);
}

static int write_account(struct account *account, struct dictionary *dictionary, MDB_txn *txn) {
        uint8_t value[VALUE_HEAD + STORAGE_NAMESPACE_NAME_MAX];
        size_t name_size = strlen(account->name), size = VALUE_HEAD + name_size;
        struct account_sums sums;

        assert(name_size <= STORAGE_NAMESPACE_NAME_MAX);

        account_get_sums(account, &sums);
        for (size_t i = 0; i < N_SUMS; i++)
                store_le64(value + 8 + 8 * i, *sum_at(&sums, i));
        memcpy(value + VALUE_HEAD, account->name, name_size);
        store_le64(value, XXH3_64bits_withSeed(value + 8, size - 8, account->id));
        return dictionary_write_account(dictionary, txn, account->id, value, size);
}

void accounts_begin(struct accounts *accounts) {
        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i] && accounts->list[i]->is_dirty)
                        set_sums(accounts->list[i], &accounts->list[i]->committed);
}

int accounts_write(struct accounts *accounts, struct dictionary *dictionary, MDB_txn *txn) {
        for (size_t i = 0; i < accounts->n; i++) {
                struct account *account = accounts->list[i];
                int r;

                if (!account || !account->is_dirty)
                        continue;

                r = write_account(account, dictionary, txn);
                if (r < 0)
                        return r;
        }

        return 0;
}

void accounts_commit(struct accounts *accounts) {
        (void) pthread_mutex_lock(&accounts->mutex);
        for (size_t i = 0; i < accounts->n; i++) {
                struct account *account = accounts->list[i];

                if (account && account->is_dirty) {
                        account_get_sums(account, &account->committed);
                        account->is_dirty = false;
                }
        }
        (void) pthread_mutex_unlock(&accounts->mutex);
}

void accounts_fit_heat(struct accounts *accounts, uint64_t objects) {
        struct policy_state state;

        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i]) {
                        policy_get_state(accounts->list[i]->policy, &state);
                        objects += state.queues[POLICY_QUEUE_FREQUENT].objects;
                }

        heat_table_fit(accounts->heat, objects);
}

static void set_place(struct record *record, struct policy_place place) {
        record->queue = (uint8_t) place.queue;
        record->position = place.position;
}

static struct policy_place place_of(const struct record *record) {
        return (struct policy_place){ (enum policy_queue) record->queue, record->position };
}

/* Numbers of queues come from the disk. */
static bool is_queued(const struct record *record) {
        return record->queue < POLICY_QUEUES;
}

void accounts_enter(struct accounts *accounts, struct account *account, struct record *record) {
        account->is_dirty = true;
        record->account = account->id;

        if (record->info.pinned) {
                record->queue = QUEUE_NONE;
                record->position = 0;
                account->pinned_bytes += record->info.size;
                account->pinned_objects++;
                return;
        }

        set_place(record,
                  policy_insert(account->policy, accounts_hash(accounts, record->uri, record->uri_size),
                                record->info.size, heat_table_tick(accounts->heat)));
}

static uint64_t subtract(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

void accounts_leave(struct accounts *accounts, const struct record *record) {
        struct account *account = accounts_get(accounts, record->account);
        struct policy_place place = place_of(record);

        if (!account)
                return;

        account->is_dirty = true;
        if (record->info.pinned) {
                account->pinned_bytes = subtract(account->pinned_bytes, record->info.size);
                account->pinned_objects = subtract(account->pinned_objects, 1);
        } else if (is_queued(record)) {
                policy_remove(account->policy, &place, record->info.size);
                (void) heat_table_take(accounts->heat,
                                       accounts_hash(accounts, record->uri, record->uri_size));
        }
}

void accounts_replace(struct accounts *accounts,
                      struct account *account,
                      const struct record *old,
                      struct record *record) {
        struct policy_place place = place_of(old);

        record->info.pinned = old->info.pinned;
        if (old->info.pinned || !is_queued(old) || old->account != account->id) {
                accounts_leave(accounts, old);
                accounts_enter(accounts, account, record);
                return;
        }

        account->is_dirty = true;
        record->account = account->id;
        policy_replace(account->policy, &place, old->info.size, record->info.size,
                       heat_table_tick(accounts->heat));
        set_place(record, place);
}

bool accounts_examine(struct accounts *accounts,
                      struct account *account,
                      struct record *record,
                      bool is_pressing) {
        uint64_t hash = accounts_hash(accounts, record->uri, record->uri_size);
        uint64_t heat = heat_table_take(accounts->heat, hash);
        struct policy_place place = place_of(record);

        account->is_dirty = true;
        if (policy_examine(account->policy, &place, hash, record->info.size, is_pressing ? 0 : heat,
                           heat_table_tick(accounts->heat)))
                return true;

        set_place(record, place);
        return false;
}

void accounts_visit(struct accounts *accounts,
                    void (*visit)(const struct storage_namespace *namespace,
                                  const struct storage_usage *usage,
                                  void *userdata),
                    void *userdata) {
        struct storage_usage usage;

        (void) pthread_mutex_lock(&accounts->mutex);
        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i] && accounts->list[i]->namespace) {
                        add_up(&accounts->list[i]->committed, &usage);
                        visit(accounts->list[i]->namespace, &usage, userdata);
                }
        (void) pthread_mutex_unlock(&accounts->mutex);
}

void accounts_get_pinned(struct accounts *accounts, uint64_t *ret_objects, uint64_t *ret_bytes) {
        *ret_objects = *ret_bytes = 0;

        (void) pthread_mutex_lock(&accounts->mutex);
        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i]) {
                        *ret_objects += accounts->list[i]->committed.pinned_objects;
                        *ret_bytes += accounts->list[i]->committed.pinned_bytes;
                }
        (void) pthread_mutex_unlock(&accounts->mutex);
}
