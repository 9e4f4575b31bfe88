/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "counters.h"

#include "option.h"

struct list {
        sd_bus_message *reply;
        int result;
};

static void append_counter(const char *name, uint64_t value, void *userdata) {
        struct list *list = userdata;

        if (list->result >= 0)
                list->result = sd_bus_message_append(list->reply, "{sv}", name, "t", value);
}

static int append_counters(struct server *server, sd_bus_message *reply) {
        struct list list = { .reply = reply };
        int r;

        r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r < 0)
                return r;
        server_visit_counters(server, append_counter, &list);
        if (list.result < 0)
                return list.result;

        return sd_bus_message_close_container(reply);
}

int counters_get_stats(struct server *server, sd_bus_message *message) {
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(message, &reply);
        if (r < 0)
                return r;

        r = append_counters(server, reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);

        sd_bus_message_unref(reply);
        return r;
}

static int append_namespace(sd_bus_message *reply,
                            const struct storage_namespace *namespace,
                            const struct storage_usage *usage) {
        int r;

        r = sd_bus_message_open_container(reply, 'r', "sa{sv}");
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", namespace->name);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}", "objects", "t", usage->objects, "bytes",
                                          "t", usage->bytes, "objects-pinned", "t", usage->pinned_objects,
                                          "bytes-pinned", "t", usage->pinned_bytes);
        if (r >= 0 && namespace->objects_max != UINT64_MAX)
                r = sd_bus_message_append(reply, "{sv}", "objects-max", "t", namespace->objects_max);
        if (r >= 0 && namespace->bytes_max != UINT64_MAX)
                r = sd_bus_message_append(reply, "{sv}", "bytes-max", "t", namespace->bytes_max);
        for (unsigned i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_close_container(reply);

        return r;
}

static void visit_namespace(const struct storage_namespace *namespace,
                            const struct storage_usage *usage,
                            void *userdata) {
        struct list *list = userdata;

        if (namespace->name[0] && list->result >= 0) /* not what is in none */
                list->result = append_namespace(list->reply, namespace, usage);
}

int counters_get_namespaces(struct storage *storage, sd_bus_message *message) {
        struct list list = {};
        int r;

        r = bus_read_options(message, "GetNamespaces", NULL, 0);
        if (r != 0)
                return r;

        r = sd_bus_message_new_method_return(message, &list.reply);
        if (r < 0)
                return r;

        r = sd_bus_message_open_container(list.reply, 'a', "(sa{sv})");
        if (r >= 0) {
                storage_visit_namespaces(storage, visit_namespace, &list);
                r = list.result;
        }
        if (r >= 0)
                r = sd_bus_message_close_container(list.reply);
        if (r >= 0)
                r = sd_bus_send(NULL, list.reply, NULL);

        sd_bus_message_unref(list.reply);
        return r;
}
