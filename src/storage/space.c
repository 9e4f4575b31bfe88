/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Room for puts: what those that were gathered need is worked out before they are made, so that what has to go
 * for it goes before, and that nothing goes for one that can't have it. */

#include <sys/statvfs.h>

#include "macro.h"
#include "upload.h"
#include "writer.h"

/* A replaced body keeps its name until the commit. Up to this part of the maximum room is made for both. */
#define REPLACED_SHARE 64

void writer_forget_plan(struct writer *writer) {
        struct accounts *accounts = writer->storage->accounts;

        for (size_t i = 0; i < accounts->n; i++)
                if (accounts->list[i])
                        accounts->list[i]->plan = (struct account_plan){};
        writer->plan = (struct account_plan){};
        memset(writer->planned, 0, sizeof(writer->planned));
        writer->is_plan_stale = false;
}

static struct planned *find_planned(struct writer *writer, const void *uri, size_t uri_size) {
        uint64_t hash = accounts_hash(writer->storage->accounts, uri, uri_size) | 1; /* 0: free */
        size_t i = (size_t) (hash >> 32) % ARRAY_SIZE(writer->planned);

        while (writer->planned[i].hash != 0 && writer->planned[i].hash != hash)
                i = (i + 1) % ARRAY_SIZE(writer->planned);

        return &writer->planned[i];
}

bool writer_is_planned(struct writer *writer, const void *uri, size_t uri_size) {
        return find_planned(writer, uri, uri_size)->hash != 0;
}

/* What can't go: pinned objects, and all of an account that evicts nothing. */
static void begin_plan(struct writer *writer) {
        const struct accounts *accounts = writer->storage->accounts;
        bool evict = accounts->limits->value.evict;

        writer_forget_plan(writer);
        for (size_t i = 0; i < accounts->n; i++) {
                struct account *account = accounts->list[i];

                if (!account)
                        continue;
                account->plan.bytes_fixed = account_may_evict(account) ? account->pinned_bytes
                                                                       : account_bytes(account);
                account->plan.objects_fixed = account_may_evict(account) ? account->pinned_objects
                                                                         : account_objects(account);
                writer->plan.bytes_fixed += account->plan.bytes_fixed;
                writer->plan.objects_fixed += account->plan.objects_fixed;
        }

        if (!evict) {
                writer->plan.bytes_fixed = writer->state.bytes;
                writer->plan.objects_fixed = writer->state.objects;
        }
}

/* What is at a URI before the first of the changes. The record's URI is in *ret_key. */
static int look_up(struct writer *writer,
                   MDB_txn *txn,
                   const struct storage_change *change,
                   struct planned *planned,
                   struct key *ret_key,
                   struct record *record) {
        int r;

        r = dictionary_find(writer->storage->dictionary, txn, change->uri, change->uri_size, ret_key, record);
        planned->hash = accounts_hash(writer->storage->accounts, change->uri, change->uri_size) | 1;
        planned->account = r >= 0 ? accounts_get(writer->storage->accounts, record->account) : NULL;
        planned->size = r >= 0 ? record->info.size : 0;
        planned->is_pinned = r >= 0 && record->info.pinned;
        planned->is_coming = false;
        return r;
}

static void count(struct account_plan *plan, int64_t bytes, int64_t objects) {
        plan->bytes += bytes;
        plan->objects += objects;
        plan->bytes_peak = (uint64_t) MAX((int64_t) plan->bytes_peak, plan->bytes);
        plan->objects_peak = (uint64_t) MAX((int64_t) plan->objects_peak, plan->objects);
}

/* What is there can't be evicted from where it counts. */
static bool is_fixed(const struct planned *planned, bool evict) {
        return planned->is_pinned || planned->is_coming || !evict || !account_may_evict(planned->account);
}

/* -ENOSPC: it does not fit. -EAGAIN: it does once what is to come is committed, and some of it evicted. */
static int check_fit(const struct account_plan *plan,
                     uint64_t bytes_max,
                     uint64_t objects_max,
                     const struct planned *replaced, /* NULL: none that is fixed there */
                     uint64_t size) {
        uint64_t bytes = plan->bytes_fixed - (replaced ? MIN(replaced->size, plan->bytes_fixed) : 0);
        uint64_t objects = plan->objects_fixed - (replaced ? MIN(1U, plan->objects_fixed) : 0);

        if (size > bytes_max)
                return -ENOSPC;
        if (bytes <= bytes_max - size && objects < objects_max)
                return 0;

        bytes -= MIN(bytes, (uint64_t) plan->bytes_coming);
        objects -= MIN(objects, (uint64_t) plan->objects_coming);
        return bytes <= bytes_max - size && objects < objects_max ? -EAGAIN : -ENOSPC;
}

static void subtract_fixed(struct account_plan *plan, uint64_t size) {
        plan->bytes_fixed -= MIN(size, plan->bytes_fixed);
        plan->objects_fixed -= MIN(1U, plan->objects_fixed);
}

static void add_fixed(struct account_plan *plan, uint64_t size) {
        plan->bytes_fixed += size;
        plan->objects_fixed++;
}

/* sign: 1: what is planned there comes; -1: after all it does not. */
static void count_coming(struct writer *writer, const struct planned *planned, int sign) {
        struct account *account = planned->account;

        if (!account || !planned->is_coming || planned->is_pinned || !account_may_evict(account))
                return;

        account->plan.bytes_coming += sign * (int64_t) planned->size;
        account->plan.objects_coming += sign;
        if (writer->storage->accounts->limits->value.evict) {
                writer->plan.bytes_coming += sign * (int64_t) planned->size;
                writer->plan.objects_coming += sign;
        }
}

/* Whether a put fits into its account, and into the whole: as check_fit(). */
static int check_put(const struct writer *writer,
                     const struct account *account,
                     const struct planned *fixed_there,
                     const struct planned *fixed,
                     uint64_t size) {
        const struct storage_limits *limits = &writer->storage->accounts->limits->value;
        const struct storage_namespace *namespace = account->namespace;
        int account_fit = 0,
            fit = check_fit(&writer->plan, limits->bytes_max, limits->objects_max, fixed, size);

        if (account->id != ACCOUNT_REST)
                account_fit = check_fit(&account->plan, namespace->bytes_max, namespace->objects_max,
                                        fixed_there, size);

        return account_fit == -ENOSPC || fit == 0 ? account_fit : fit; /* the worse of both */
}

static int plan_put(struct writer *writer,
                    struct account *account,
                    uint64_t size,
                    struct planned *planned,
                    uint64_t *replaced_bytes) {
        const struct storage_limits *limits = &writer->storage->accounts->limits->value;
        bool is_there = planned->account, is_same = planned->account == account;
        const struct planned *fixed_there = is_same && is_fixed(planned, true) ? planned : NULL;
        const struct planned *fixed = is_there && is_fixed(planned, limits->evict) ? planned : NULL;
        int r;

        count_coming(writer, planned, -1); /* it is replaced */
        if (!is_same || size > planned->size) {
                r = check_put(writer, account, fixed_there, fixed, size);
                if (r < 0) {
                        count_coming(writer, planned, 1);
                        return r;
                }
        }

        if (is_there && is_fixed(planned, true))
                subtract_fixed(&planned->account->plan, planned->size);
        if (fixed)
                subtract_fixed(&writer->plan, planned->size);
        add_fixed(&account->plan, size);
        add_fixed(&writer->plan, size);
        if (is_there) {
                count(&planned->account->plan, -(int64_t) planned->size, -1);
                count(&writer->plan, -(int64_t) planned->size, -1);
                *replaced_bytes += planned->size;
        }
        count(&account->plan, (int64_t) size, 1);
        count(&writer->plan, (int64_t) size, 1);

        planned->account = account;
        planned->size = size;
        planned->is_coming = true;
        count_coming(writer, planned, 1);
        return 0;
}

static void plan_removal(struct writer *writer, struct planned *planned, uint64_t *replaced_bytes) {
        bool evict = writer->storage->accounts->limits->value.evict;

        if (!planned->account)
                return;

        count_coming(writer, planned, -1);
        if (is_fixed(planned, true))
                subtract_fixed(&planned->account->plan, planned->size);
        if (is_fixed(planned, evict))
                subtract_fixed(&writer->plan, planned->size);
        count(&planned->account->plan, -(int64_t) planned->size, -1);
        count(&writer->plan, -(int64_t) planned->size, -1);
        *replaced_bytes += planned->size;
        planned->account = NULL;
        planned->is_pinned = false;
}

/* Whether the change will not be made for what is there: of another one that comes before nobody knows yet. */
static bool is_refused(struct writer *writer,
                       const struct storage_change *change,
                       const struct record *found) {
        const struct storage_info *present = found && !writer_find_purge(writer, found) ? &found->info : NULL;

        return change_check(change, present, storage_now(writer->storage)) < 0;
}

static bool is_conditional(const struct storage_change *change) {
        return change->if_absent || change->if_generation != 0;
}

/* *is_uncertain: set when what can be evicted will be known only after the change: when it pins or unpins, depends on
 * another one before it, or is of what a purge is about to remove. */
static int plan_change(struct writer *writer,
                       MDB_txn *txn,
                       const struct storage_change *change,
                       uint64_t *replaced_bytes,
                       bool *is_uncertain) {
        struct planned *planned = find_planned(writer, change->uri, change->uri_size);

        if (change->kind == STORAGE_PIN || change->kind == STORAGE_UNPIN ||
            (planned->hash != 0 && is_conditional(change)))
                *is_uncertain = true;

        if (planned->hash == 0) {
                struct record record;
                struct key key;
                int r = look_up(writer, txn, change, planned, &key, &record);

                if (r >= 0 && writer_find_purge(writer, &record))
                        *is_uncertain = true;
                if (is_refused(writer, change, r >= 0 ? &record : NULL))
                        return 0;
        }

        if (change->kind == STORAGE_PUT)
                return plan_put(writer, accounts_of(writer->storage->accounts, change->uri, change->uri_size),
                                change->upload->size, planned, replaced_bytes);
        if (change->kind == STORAGE_REMOVE)
                plan_removal(writer, planned, replaced_bytes);
        return 0;
}

/* *n: less when a put is to wait for the commit of those before it. *ret_certain: of so many it is certain what can go
 * for them. *ret_replaced: what is replaced and counts too, so that there is room for both. */
static int plan(struct writer *writer,
                struct storage_change **changes,
                size_t *n,
                size_t from,
                size_t *ret_certain,
                uint64_t *ret_replaced) {
        const struct storage_limits *limits = &writer->storage->accounts->limits->value;
        uint64_t replaced_bytes = 0;
        bool is_uncertain = false;
        MDB_txn *txn;
        int r;

        *ret_certain = SIZE_MAX;
        *ret_replaced = 0;
        begin_plan(writer);
        r = dictionary_read_begin(writer->storage->dictionary, &txn);
        if (r < 0)
                return r;

        for (size_t i = 0; i < *n; i++) {
                struct storage_change *change = changes[i];
                bool was_uncertain = is_uncertain;

                if (change->error < 0 || !change_is_sound(change))
                        continue;
                if (change->kind == STORAGE_PUT && was_uncertain && i >= from)
                        *ret_certain = MIN(*ret_certain, i);
                r = plan_change(writer, txn, change, &replaced_bytes, &is_uncertain);
                if (r >= 0 || i < from)
                        continue;
                if (r == -EAGAIN || was_uncertain)
                        *n = i;
                else
                        change->error = r;
        }
        dictionary_read_end(writer->storage->dictionary, txn);

        if (replaced_bytes <= limits->bytes_max / REPLACED_SHARE)
                *ret_replaced = replaced_bytes;
        writer->plan.bytes_peak += *ret_replaced;
        return 0;
}

static bool has_room(const struct account *account, uint64_t bytes, uint64_t objects) {
        const struct storage_namespace *namespace = account->namespace;

        return !namespace || account->id == ACCOUNT_REST ||
               ((namespace->bytes_max == UINT64_MAX ||
                 account_bytes(account) + bytes <= namespace->bytes_max) &&
                (namespace->objects_max == UINT64_MAX ||
                 account_objects(account) + objects <= namespace->objects_max));
}

/* Whether all puts fit, at a glance: replaced ones are not looked for. */
static bool is_roomy(const struct writer *writer, struct storage_change *const *changes, size_t n) {
        const struct accounts *accounts = writer->storage->accounts;
        const struct storage_limits *limits = &accounts->limits->value;
        uint64_t bytes = 0, objects = 0;

        for (size_t i = 0; i < n; i++)
                if (changes[i]->kind == STORAGE_PUT) {
                        bytes += changes[i]->upload->size;
                        objects++;
                }

        if (objects == 0)
                return true;
        if ((limits->bytes_max != UINT64_MAX && writer->state.bytes + bytes > limits->bytes_max) ||
            (limits->objects_max != UINT64_MAX && writer->state.objects + objects > limits->objects_max))
                return false;

        for (size_t i = 0; limits->n_namespaces > 0 && i < n; i++)
                if (changes[i]->kind == STORAGE_PUT &&
                    !has_room(accounts_of(accounts, changes[i]->uri, changes[i]->uri_size), bytes, objects))
                        return false;

        return true;
}

bool writer_make_space(struct writer *writer, struct storage_change **changes, size_t *n, size_t from) {
        struct evicted evicted;
        uint64_t replaced;
        size_t certain;
        bool is_made;
        int r;

        accounts_begin(writer->storage->accounts); /* the last transaction may have been given up */
        if (is_roomy(writer, changes, *n))
                return true;

        /* When something goes that was to be replaced, less is replaced. */
        do {
                r = plan(writer, changes, n, from, &certain, &replaced);
                if (r >= 0 && certain < *n && !writer_has_space(writer)) {
                        *n = certain; /* the others wait until it is known what may go for them */
                        r = plan(writer, changes, n, from, &certain, &replaced);
                }
                if (r >= 0)
                        r = writer_evict(writer, &(struct evicted){}, &evicted);
        } while (r > 0);

        writer->plan.bytes_peak -= replaced;
        is_made = r >= 0 && writer_has_space(writer);
        writer_forget_plan(writer);
        return is_made;
}

static bool is_too_much(uint64_t there, uint64_t old, uint64_t new, uint64_t max) {
        uint64_t left = there - MIN(there, old);

        return new > old &&max != UINT64_MAX && (new > max || left > max - new);
}

int writer_check_space(struct writer *writer,
                       const struct account *account,
                       const struct record *old,
                       uint64_t size) {
        const struct storage_limits *limits = &writer->storage->accounts->limits->value;
        bool is_same = old && old->account == account->id;
        uint64_t old_size = old ? old->info.size : 0;

        if (account->id != ACCOUNT_REST &&
            (is_too_much(account_bytes(account), is_same ? old_size : 0, size,
                         account->namespace->bytes_max) ||
             is_too_much(account_objects(account), is_same, 1, account->namespace->objects_max)))
                return -ENOSPC;
        if (is_too_much(writer->batch.state.bytes, old_size, size, limits->bytes_max) ||
            is_too_much(writer->batch.state.objects, old ? 1 : 0, 1, limits->objects_max))
                return -ENOSPC;

        return 0;
}
