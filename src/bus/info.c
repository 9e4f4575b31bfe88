/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "info.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "utf8.h"

const char *info_format_etag(const struct storage_etag *etag, char text[static ETAG_TEXT_SIZE]) {
        (void) snprintf(text, ETAG_TEXT_SIZE, "%016" PRIx64 "-%" PRIx64 "-%" PRIx64, etag->store_id,
                        etag->generation, etag->metadata_version);
        return text;
}

static bool pair_is_text(const struct proto_pair *pair) {
        return utf8_is_valid(pair->key.data, pair->key.size) &&
               utf8_is_valid(pair->value.data, pair->value.size);
}

static int append_pair(sd_bus_message *reply, const struct proto_pair *pair) {
        char key[PROTO_KEY_MAX + 1];
        _cleanup_free_ char *value = strndup((const char *) pair->value.data, pair->value.size);

        if (!value)
                return -ENOMEM;

        memcpy(key, pair->key.data, pair->key.size);
        key[pair->key.size] = '\0';
        return sd_bus_message_append(reply, "{ss}", key, value);
}

/* Whether the pair that ends at position repeats an earlier one's key. */
static bool key_is_repeated(struct proto_bytes block, size_t position, const struct proto_pair *pair) {
        struct proto_pair earlier;
        size_t i = 0;

        while (proto_metadata_next(block, &i, &earlier) > 0 && i < position)
                if (earlier.key.size == pair->key.size &&
                    memcmp(earlier.key.data, pair->key.data, pair->key.size) == 0)
                        return true;

        return false;
}

/* A dictionary of text holds neither other bytes nor a key twice: those pairs are left out, and counted. */
static int append_metadata(sd_bus_message *reply, struct proto_bytes block) {
        struct proto_pair pair;
        size_t position = 0;
        uint64_t n_omitted = 0;
        int r;

        r = sd_bus_message_open_container(reply, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "s", "metadata");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'v', "a{ss}");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "{ss}");
        if (r < 0)
                return r;

        while (proto_metadata_next(block, &position, &pair) > 0) {
                if (!pair_is_text(&pair) || key_is_repeated(block, position, &pair)) {
                        n_omitted++;
                        continue;
                }
                r = append_pair(reply, &pair);
                if (r < 0)
                        return r;
        }

        for (unsigned i = 0; i < 3; i++) {
                r = sd_bus_message_close_container(reply);
                if (r < 0)
                        return r;
        }

        return sd_bus_message_append(reply, "{sv}", "metadata-omitted", "t", n_omitted);
}

static int append_bytes(sd_bus_message *reply, const struct proto_bytes *bytes) {
        int r;

        r = sd_bus_message_open_container(reply, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", "uri-bytes");
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(reply, 'y', bytes->data, bytes->size);
        for (unsigned i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_close_container(reply);

        return r;
}

int info_append(sd_bus_message *reply,
                const struct storage_info *info,
                const struct proto_bytes *metadata,
                const struct proto_bytes *bytes) {
        char etag[ETAG_TEXT_SIZE], checksum[17];
        int r;

        (void) snprintf(checksum, sizeof(checksum), "%016" PRIx64, info->checksum);

        r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "etag", "s",
                                          info_format_etag(&info->etag, etag), "size", "t", info->size,
                                          "checksum", "s", checksum, "stored", "t", info->stored_usec,
                                          "expires", "t", info->expires_usec, "hits", "t", info->hits, "used",
                                          "t", info->used_usec, "pinned", "b", (int) info->pinned);
        if (r >= 0 && metadata)
                r = append_metadata(reply, *metadata);
        if (r >= 0 && bytes)
                r = append_bytes(reply, bytes);

        return r < 0 ? r : sd_bus_message_close_container(reply);
}
