/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An input is the text of a configuration file. Whatever it says, every setting stays within its bounds, and
 * what is refused is told, in text that can be shown. */

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "config.h"
#include "fuzz.h"
#include "utf8.h"

struct messages {
        unsigned n_errors;
};

static void on_message(int level, const char *file, unsigned line, const char *text, void *userdata) {
        struct messages *messages = userdata;
        size_t size = strlen(text);
        char begin[32];

        (void) snprintf(begin, sizeof(begin), line > 0 ? "%s:%u: " : "%s: ", file, line);
        CHECK(strncmp(text, begin, strlen(begin)) == 0);
        CHECK(level == LOG_ERR || level == LOG_WARNING);
        CHECK(size < 1000 && utf8_is_valid(text, size) && !strpbrk(text, "\r\n\x1b"));
        messages->n_errors += level == LOG_ERR;
}

static void check_bounds(const struct config *config) {
        CHECK(!config->store_directory || config->store_directory[0] == '/');
        CHECK(config->object_max >= 1);
        CHECK(config->workers <= 256);
        CHECK(config->connections_max >= 1 && config->connections_max <= 1000000);
        CHECK(config->connections_per_user_max >= 1 && config->connections_per_user_max <= 1000000);
        CHECK(config->inline_max <= UINT64_C(1) << 20);
        CHECK(config->pipeline_max >= 1 && config->pipeline_max <= 65536);
        CHECK(config->streams_max >= 1 && config->streams_max <= 1024);
        CHECK(config->fds_in_flight_max >= 1 && config->fds_in_flight_max <= 65536);
        CHECK(config->output_max >= UINT64_C(64) << 10 && config->output_max <= UINT64_C(1) << 30);
        CHECK(config->idle_timeout_usec >= 1000000);
        CHECK(config->write_timeout_usec >= 1000000);
        CHECK(config->log_level >= LOG_EMERG && config->log_level <= LOG_DEBUG);
}

static const char reset[] = "[Store]\nStoreDirectory=\nMaxObjectSize=\nExpiredKeepSec=\n[Server]\nWorkers="
                            "\nMaxConnections=\n"
                            "MaxConnectionsPerUser=\nInlineMax=\nMaxPipeline=\nMaxStreams=\n"
                            "MaxDescriptorsInFlight=\nMaxOutput=\nIdleTimeoutSec=\nWriteTimeoutSec=\n"
                            "LogLevel=\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct messages messages = {}, again = {};
        struct config config, unread;
        char *text = malloc(size + 1);
        int r;

        CHECK(text);
        memcpy(text, data, size);

        config_init(&config);
        r = config_parse(&config, "f", text, size, on_message, &messages);
        CHECK(r == (messages.n_errors > 0 ? -EINVAL : 0));
        check_bounds(&config);

        /* A setting that is empty is at its default: nothing read is left. */
        config_init(&unread);
        CHECK(config_parse(&config, "f", reset, sizeof(reset) - 1, on_message, &again) == 0);
        CHECK(again.n_errors == 0);
        CHECK(memcmp(&config, &unread, offsetof(struct config, log_level)) == 0);
        CHECK(config.log_level == unread.log_level);

        config_done(&config);
        config_done(&unread);
        free(text);
        return 0;
}
