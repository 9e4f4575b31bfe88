/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deliver.h"

#include "session.h"

void deliver_auto(struct delivery *delivery) {
        if (delivery->object->fd < 0 || delivery->size <= delivery->session->limits.inline_max)
                deliver_copy(delivery);
        else
                deliver_fdpass(delivery);
}
