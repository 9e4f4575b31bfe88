/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "flush.h"

#include "log.h"
#include "option.h"

static int run(struct call *call) {
        return storage_drop_cache(calls_storage(call->calls));
}

static int answer(struct call *call) {
        log_notice("Uid %u has had the cache flushed.", (unsigned) call->uid);
        return sd_bus_reply_method_return(call->message, NULL);
}

static const struct method method = {
        .size = sizeof(struct call),
        .verb = ACCESS_FLUSH_CACHE,
        .is_long = true,
        .run = run,
        .answer = answer,
};

int flush_cache(struct calls *calls, sd_bus_message *message) {
        _cleanup_(call_freep) struct call *call = NULL;
        int r;

        r = call_new(&call, calls, message, &method);
        if (r != 0)
                return r;
        r = bus_read_options(message, "FlushCache", NULL, 0);
        if (r != 0)
                return r;

        return call_ask(TAKE_PTR(call));
}
