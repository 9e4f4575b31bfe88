/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "limit.h"

#include <string.h>

static uint64_t maximum(uint64_t max) {
        return max == 0 ? UINT64_MAX : max;
}

static bool is_sound(const struct storage_namespace *namespace) {
        size_t name_size = namespace->name ? strlen(namespace->name) : 0;

        return name_size > 0 && name_size <= STORAGE_NAMESPACE_NAME_MAX &&
               namespace->prefix_size <= STORAGE_NAMESPACE_PREFIX_MAX &&
               namespace->policy <= STORAGE_POLICY_LFU;
}

static bool is_other(const struct storage_namespace *a, const struct storage_namespace *b) {
        return strcmp(a->name, b->name) != 0 &&
               (a->prefix_size != b->prefix_size ||
                (a->prefix_size > 0 && memcmp(a->prefix, b->prefix, a->prefix_size) != 0));
}

static int check(const struct storage_limits *limits) {
        if (limits->n_namespaces > STORAGE_NAMESPACES_MAX || limits->policy > STORAGE_POLICY_LFU)
                return -EINVAL;

        for (size_t i = 0; i < limits->n_namespaces; i++) {
                if (!is_sound(&limits->namespaces[i]))
                        return -EINVAL;
                for (size_t j = 0; j < i; j++)
                        if (!is_other(&limits->namespaces[i], &limits->namespaces[j]))
                                return -EINVAL;
        }

        return 0;
}

static int copy_namespace(struct storage_namespace *to, const struct storage_namespace *from) {
        char *name = strdup(from->name);
        void *prefix = malloc(from->prefix_size + 1);

        if (!name || !prefix) {
                free(name);
                free(prefix);
                return -ENOMEM;
        }

        *to = *from;
        to->name = name;
        to->prefix = prefix;
        if (from->prefix_size > 0)
                memcpy(prefix, from->prefix, from->prefix_size);
        to->bytes_max = maximum(from->bytes_max);
        to->objects_max = maximum(from->objects_max);
        return 0;
}

int limits_new(struct limits **ret, const struct storage_limits *from) {
        _cleanup_(limits_freep) struct limits *limits = NULL;
        int r;

        r = check(from);
        if (r < 0)
                return r;

        limits = malloc(sizeof(*limits) + from->n_namespaces * sizeof(*limits->namespaces));
        if (!limits)
                return -ENOMEM;

        limits->value = *from;
        limits->value.bytes_max = maximum(from->bytes_max);
        limits->value.objects_max = maximum(from->objects_max);
        limits->value.keep_free = from->keep_free > INT64_MAX ? INT64_MAX : from->keep_free;
        limits->value.namespaces = limits->namespaces;
        limits->value.n_namespaces = 0;
        for (size_t i = 0; i < from->n_namespaces; i++) {
                r = copy_namespace(&limits->namespaces[i], &from->namespaces[i]);
                if (r < 0)
                        return r;
                limits->value.n_namespaces++;
        }

        *ret = TAKE_PTR(limits);
        return 0;
}

void limits_free(struct limits *limits) {
        for (size_t i = 0; i < limits->value.n_namespaces; i++) {
                free((char *) limits->namespaces[i].name);
                free((void *) limits->namespaces[i].prefix);
        }
        free(limits);
}
