/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "namespaces.h"

#include <assert.h>

#include "clock.h"

/* The ids of those whom lists name, in one block of memory. */
struct ids {
        uint32_t *ids;
        size_t n;
};

static void take_known(struct ids *ids, const struct config_owners *owners) {
        for (size_t i = 0; i < owners->n_owners; i++)
                if (owners->owners[i].known)
                        ids->ids[ids->n++] = owners->owners[i].id;
}

/* NULL when there is no rule: nobody is named, known or not. */
static const struct access_list *make_list(struct access_list *list,
                                           struct ids *ids,
                                           const struct config_owners *users,
                                           const struct config_owners *groups) {
        size_t begin = ids->n, end_of_users;

        if (users->n_owners == 0 && groups->n_owners == 0)
                return NULL;

        take_known(ids, users);
        end_of_users = ids->n;
        take_known(ids, groups);
        *list = (struct access_list){
                .uids = ids->ids + begin,
                .n_uids = end_of_users - begin,
                .gids = ids->ids + end_of_users,
                .n_gids = ids->n - end_of_users,
        };
        return list;
}

static size_t count_owners(const struct config *config) {
        size_t n = 0;

        for (size_t i = 0; i < config->n_namespaces; i++) {
                const struct config_namespace *namespace = &config->namespaces[i];

                n += namespace->read_users.n_owners + namespace->read_groups.n_owners +
                     namespace->publish_users.n_owners + namespace->publish_groups.n_owners;
        }

        return n;
}

int namespaces_compile(struct access_rules **ret, const struct config *config) {
        _cleanup_free_ struct access_namespace *namespaces = NULL;
        _cleanup_free_ struct access_list *lists = NULL;
        _cleanup_free_ uint32_t *memory = NULL;
        struct ids ids = {};

        assert(ret);

        *ret = NULL;
        if (config->n_namespaces == 0)
                return 0;

        namespaces = calloc(config->n_namespaces, sizeof(namespaces[0]));
        lists = calloc(2 * config->n_namespaces, sizeof(lists[0]));
        ids.ids = memory = calloc(count_owners(config) + 1, sizeof(memory[0]));
        if (!namespaces || !lists || !memory)
                return -ENOMEM;

        for (size_t i = 0; i < config->n_namespaces; i++) {
                const struct config_namespace *namespace = &config->namespaces[i];

                namespaces[i] = (struct access_namespace){
                        .name = namespace->name,
                        .prefix = namespace->prefix.data,
                        .prefix_size = namespace->prefix.size,
                        .readers = make_list(&lists[2 * i], &ids, &namespace->read_users,
                                             &namespace->read_groups),
                        .publishers = make_list(&lists[2 * i + 1], &ids, &namespace->publish_users,
                                                &namespace->publish_groups),
                };
        }

        return access_rules_new(ret, namespaces, config->n_namespaces, geteuid());
}

enum storage_policy policy_from(int policy) {
        static const enum storage_policy policies[] = {
                [CONFIG_POLICY_S3FIFO] = STORAGE_POLICY_S3FIFO,
                [CONFIG_POLICY_LRU] = STORAGE_POLICY_LRU,
                [CONFIG_POLICY_LFU] = STORAGE_POLICY_LFU,
        };

        return policies[policy];
}

int namespaces_limit(struct storage_namespace **ret,
                     const struct config *config,
                     const struct storage_limits *of_store) {
        struct storage_namespace *namespaces;

        assert(ret);

        *ret = NULL;
        if (config->n_namespaces == 0)
                return 0;

        namespaces = calloc(config->n_namespaces, sizeof(namespaces[0]));
        if (!namespaces)
                return -ENOMEM;

        for (size_t i = 0; i < config->n_namespaces; i++) {
                const struct config_namespace *namespace = &config->namespaces[i];

                namespaces[i] = (struct storage_namespace){
                        .name = namespace->name,
                        .prefix = namespace->prefix.data,
                        .prefix_size = namespace->prefix.size,
                        .bytes_max = namespace->bytes_max,
                        .objects_max = namespace->objects_max,
                        .ttl_msec = namespace->default_ttl_usec == UINT64_MAX
                                                    ? 0
                                                    : namespace->default_ttl_usec / USEC_PER_MSEC,
                        .policy = namespace->policy < 0 ? of_store->policy : policy_from(namespace->policy),
                        .evict = namespace->evict < 0 ? of_store->evict : namespace->evict,
                };
        }

        *ret = namespaces;
        return 0;
}
