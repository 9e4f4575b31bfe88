/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "access.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"

#define OVERFLOW_ID 65534

/* Ids in ascending order. */
struct ids {
        uint32_t *ids;
        size_t n;
};

struct list {
        bool is_rule; /* else everybody is in it */
        struct ids uids, gids;
};

struct namespace {
        char *name;
        uint8_t *prefix;
        size_t prefix_size;
        ssize_t parent; /* that with the longest other prefix that this one begins with; -1: none */
        struct list readers, publishers;
};

struct access_rules {
        unsigned n_references; /* atomic */
        uid_t own_uid;
        size_t n_namespaces;
        struct namespace namespaces[]; /* in the order of their prefixes */
};

static int compare_bytes(const void *a, size_t a_size, const void *b, size_t b_size) {
        size_t size = MIN(a_size, b_size);
        int c = size > 0 ? memcmp(a, b, size) : 0;

        return c != 0 ? c : (a_size > b_size) - (a_size < b_size);
}

static bool begins_with(const void *uri, size_t uri_size, const struct namespace *namespace) {
        return uri_size >= namespace->prefix_size &&
               (namespace->prefix_size == 0 || memcmp(uri, namespace->prefix, namespace->prefix_size) == 0);
}

/* ---- making them ---- */

static int compare_ids(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

        return (x > y) - (x < y);
}

static int copy_ids(struct ids *ret, const uint32_t *ids, size_t n) {
        if (n == 0)
                return 0;

        ret->ids = malloc(n * sizeof(ids[0]));
        if (!ret->ids)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++)
                if (ids[i] != OVERFLOW_ID)
                        ret->ids[ret->n++] = ids[i];
        qsort(ret->ids, ret->n, sizeof(ids[0]), compare_ids);
        return 0;
}

static int copy_list(struct list *ret, const struct access_list *list) {
        int r;

        if (!list)
                return 0;

        ret->is_rule = true;
        r = copy_ids(&ret->uids, list->uids, list->n_uids);
        return r < 0 ? r : copy_ids(&ret->gids, list->gids, list->n_gids);
}

static int copy_namespace(struct namespace *ret, const struct access_namespace *namespace) {
        int r;

        ret->name = strdup(namespace->name);
        ret->prefix = malloc(namespace->prefix_size + 1);
        if (!ret->name || !ret->prefix)
                return -ENOMEM;

        if (namespace->prefix_size > 0)
                memcpy(ret->prefix, namespace->prefix, namespace->prefix_size);
        ret->prefix_size = namespace->prefix_size;

        r = copy_list(&ret->readers, namespace->readers);
        return r < 0 ? r : copy_list(&ret->publishers, namespace->publishers);
}

static int compare_namespaces(const void *a, const void *b) {
        const struct namespace *x = a, *y = b;

        return compare_bytes(x->prefix, x->prefix_size, y->prefix, y->prefix_size);
}

/* What precedes a prefix in the order is its parent, or begins with it like the prefix itself. */
static void find_parents(struct access_rules *rules) {
        for (size_t i = 0; i < rules->n_namespaces; i++) {
                struct namespace *namespace = &rules->namespaces[i];
                ssize_t parent = (ssize_t) i - 1;

                while (parent >= 0 &&
                       !begins_with(namespace->prefix, namespace->prefix_size, &rules->namespaces[parent]))
                        parent = rules->namespaces[parent].parent;
                namespace->parent = parent;
        }
}

int access_rules_new(struct access_rules **ret,
                     const struct access_namespace *namespaces,
                     size_t n_namespaces,
                     uid_t own_uid) {
        _cleanup_(access_rules_unrefp) struct access_rules *rules = NULL;

        assert(ret);

        rules = calloc(1, sizeof(*rules) + n_namespaces * sizeof(rules->namespaces[0]));
        if (!rules)
                return -ENOMEM;

        rules->n_references = 1;
        rules->own_uid = own_uid;
        while (rules->n_namespaces < n_namespaces) {
                size_t i = rules->n_namespaces++;
                int r = copy_namespace(&rules->namespaces[i], &namespaces[i]);

                if (r < 0)
                        return r;
        }

        qsort(rules->namespaces, n_namespaces, sizeof(rules->namespaces[0]), compare_namespaces);
        find_parents(rules);

        *ret = TAKE_PTR(rules);
        return 0;
}

struct access_rules *access_rules_ref(struct access_rules *rules) {
        if (rules)
                __atomic_fetch_add(&rules->n_references, 1, __ATOMIC_RELAXED);

        return rules;
}

static void list_done(struct list *list) {
        free(list->uids.ids);
        free(list->gids.ids);
}

void access_rules_unref(struct access_rules *rules) {
        if (!rules || __atomic_sub_fetch(&rules->n_references, 1, __ATOMIC_ACQ_REL) > 0)
                return;

        for (size_t i = 0; i < rules->n_namespaces; i++) {
                struct namespace *namespace = &rules->namespaces[i];

                list_done(&namespace->readers);
                list_done(&namespace->publishers);
                free(namespace->name);
                free(namespace->prefix);
        }
        free(rules);
}

/* ---- asking them ---- */

/* The first namespace whose prefix is not before uri. */
static size_t find_place(const struct access_rules *rules, const void *uri, size_t uri_size) {
        size_t low = 0, high = rules->n_namespaces;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const struct namespace *namespace = &rules->namespaces[middle];

                if (compare_bytes(namespace->prefix, namespace->prefix_size, uri, uri_size) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }

        return low;
}

/* That with the longest prefix that uri begins with: all such prefixes stand before uri in the order, and what
 * stands between one of them and uri begins with it too. place: of uri. */
static const struct namespace *namespace_at(const struct access_rules *rules,
                                            size_t place,
                                            const void *uri,
                                            size_t uri_size) {
        ssize_t i = (ssize_t) place - 1;

        if (place < rules->n_namespaces && begins_with(uri, uri_size, &rules->namespaces[place]))
                i = (ssize_t) place; /* it is uri */

        while (i >= 0 && !begins_with(uri, uri_size, &rules->namespaces[i]))
                i = rules->namespaces[i].parent;

        return i < 0 ? NULL : &rules->namespaces[i];
}

static const struct namespace *find_namespace(const struct access_rules *rules,
                                              const void *uri,
                                              size_t uri_size) {
        return namespace_at(rules, find_place(rules, uri, uri_size), uri, uri_size);
}

static bool ids_contain(const struct ids *ids, uint32_t id) {
        return id != OVERFLOW_ID && ids->n > 0 &&
               bsearch(&id, ids->ids, ids->n, sizeof(id), compare_ids) != NULL;
}

static bool is_permitted(const struct access_rules *rules,
                         const struct access_peer *peer,
                         const struct list *list) {
        if (!list->is_rule || peer->uid == 0 || peer->uid == rules->own_uid)
                return true;

        if (ids_contain(&list->uids, peer->uid) || ids_contain(&list->gids, peer->gid))
                return true;

        for (size_t i = 0; list->gids.n > 0 && i < peer->n_groups; i++)
                if (ids_contain(&list->gids, peer->groups[i]))
                        return true;

        return false;
}

static const struct list *list_for(const struct namespace *namespace, enum access_verb verb) {
        return access_check_session(ACCESS_READER, verb) == 0 ? &namespace->readers : &namespace->publishers;
}

int access_check(const struct access_rules *rules,
                 const struct access_peer *peer,
                 enum access_verb verb,
                 const void *uri,
                 size_t uri_size,
                 const char **ret_namespace) {
        const struct namespace *namespace;
        size_t place;

        assert(verb < ACCESS_VERB_MAX);

        if (!rules || rules->n_namespaces == 0)
                return 0;

        place = find_place(rules, uri, uri_size);
        namespace = namespace_at(rules, place, uri, uri_size);
        if (namespace && !is_permitted(rules, peer, list_for(namespace, verb))) {
                *ret_namespace = namespace->name;
                return -EPERM;
        }

        if (verb != ACCESS_PURGE)
                return 0;

        /* The prefixes that begin with uri follow it. */
        for (; place < rules->n_namespaces; place++) {
                namespace = &rules->namespaces[place];
                if (namespace->prefix_size < uri_size ||
                    (uri_size > 0 && memcmp(namespace->prefix, uri, uri_size) != 0))
                        break;
                if (!is_permitted(rules, peer, &namespace->publishers)) {
                        *ret_namespace = namespace->name;
                        return -EPERM;
                }
        }

        return 0;
}

static size_t common_size(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size) {
        size_t i = 0;

        while (i < a_size && i < b_size && a[i] == b[i])
                i++;

        return i;
}

size_t access_skip(const struct access_rules *rules,
                   const struct access_peer *peer,
                   const void *uri,
                   size_t uri_size) {
        const struct namespace *hidden;
        size_t skip;

        if (!rules || rules->n_namespaces == 0)
                return 0;

        hidden = find_namespace(rules, uri, uri_size);
        if (!hidden || is_permitted(rules, peer, &hidden->readers))
                return 0;

        /* What may be known of below it must not be skipped. */
        skip = MAX(hidden->prefix_size, (size_t) 1);
        for (const struct namespace *below = hidden + 1;
             below < rules->namespaces + rules->n_namespaces &&
             begins_with(below->prefix, below->prefix_size, hidden);
             below++)
                if (is_permitted(rules, peer, &below->readers))
                        skip = MAX(skip, 1 + common_size(uri, uri_size, below->prefix, below->prefix_size));

        return skip;
}

bool access_has_rule(const struct access_rules *rules,
                     enum access_verb verb,
                     const void *uri,
                     size_t uri_size) {
        const struct namespace *namespace = rules ? find_namespace(rules, uri, uri_size) : NULL;

        return namespace && list_for(namespace, verb)->is_rule;
}

const char *access_find_namespace(const struct access_rules *rules, const void *uri, size_t uri_size) {
        const struct namespace *namespace = rules ? find_namespace(rules, uri, uri_size) : NULL;

        return namespace ? namespace->name : NULL;
}
