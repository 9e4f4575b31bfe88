/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "evict-harness.h"

void full_init(struct shelf *shelf, uint64_t bytes_max, uint64_t objects_max, bool evict) {
        shelf_init(shelf);
        shelf->config.limits = (struct storage_limits){
                .bytes_max = bytes_max,
                .objects_max = objects_max,
                .policy = STORAGE_POLICY_S3FIFO,
                .evict = evict,
        };
}

int put_number(struct shelf *shelf, const char *prefix, unsigned number, size_t size) {
        char uri[64];

        (void) snprintf(uri, sizeof(uri), "%s%u", prefix, number);
        return put_seeded(shelf, uri, number, size, NULL);
}

bool is_there(struct shelf *shelf, const char *uri) {
        return storage_get_info(shelf->storage, uri, strlen(uri), NULL, NULL, NULL) >= 0;
}

bool is_number_there(struct shelf *shelf, const char *prefix, unsigned number) {
        char uri[64];

        (void) snprintf(uri, sizeof(uri), "%s%u", prefix, number);
        return is_there(shelf, uri);
}

int change(struct shelf *shelf, enum storage_change_kind kind, const char *uri, struct storage_info *ret) {
        struct storage_change change = { .kind = kind, .uri = uri, .uri_size = strlen(uri) };
        int r = storage_change_wait(shelf->storage, &change);

        if (ret)
                *ret = change.info;
        return r;
}
