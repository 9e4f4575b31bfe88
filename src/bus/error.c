/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "macro.h"

static const struct {
        int error;
        const char *name;
        const char *text;
} errors[] = {
        { ENOENT, BUS_ERROR_ABSENT, "There is no such object." },
        { EEXIST, BUS_ERROR_EXISTS, "The object exists already." },
        { ESTALE, BUS_ERROR_EXPIRED, "The object has expired." },
        { EFBIG, BUS_ERROR_TOO_LARGE, "The object is larger than MaxObjectSize= allows." },
        { ENOSPC, BUS_ERROR_NO_SPACE, "There is no space left in the store." },
        { EDQUOT, BUS_ERROR_NO_SPACE, "The store's disk quota is used up." },
        { EMFILE, BUS_ERROR_BUSY, "The daemon has no file descriptor left: try again later." },
        { ENFILE, BUS_ERROR_BUSY, "The system has no file descriptor left: try again later." },
        { ENOMEM, BUS_ERROR_BUSY, "The daemon has no memory left: try again later." },
        { EAGAIN, BUS_ERROR_BUSY, "The daemon is busy: try again later." },
        { EPERM, BUS_ERROR_NOT_PERMITTED, "Not permitted." },
        { EINVAL, BUS_ERROR_BAD_REQUEST, "A URI has 1 to 4096 bytes." },
        { ECANCELED, BUS_ERROR_CONFLICT, "The object has another generation." },
        { EROFS, BUS_ERROR_READ_ONLY, "The store can't be written at present." },
};

int bus_reply_errno(sd_bus_message *message, const char *uri, int error) {
        if (error < 0)
                error = -error;

        for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
                if (errors[i].error == error)
                        return sd_bus_reply_method_errorf(message, errors[i].name, "%s: %s", uri,
                                                          errors[i].text);

        return sd_bus_reply_method_errorf(message, BUS_ERROR_INTERNAL, "%s: %s.", uri, strerror(error));
}

int bus_reject(sd_bus_message *message, const char *name, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = sd_bus_reply_method_errorfv(message, name, format, ap);
        va_end(ap);

        return r < 0 ? r : 1;
}
