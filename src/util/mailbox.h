/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How another thread hands something to an event loop: it posts a mail, the loop delivers it. */

#include <systemd/sd-event.h>

#include "cleanup.h"

struct mail {
        struct mail *next;
        void (*deliver)(struct mail *mail); /* runs on the loop's thread; owns the mail from then on */
};

struct mailbox;

/* A mailbox that event delivers. Owner's thread only. -ENOMEM, -EMFILE, or what sd-event says. */
int mailbox_new(struct mailbox **ret, sd_event *event);

/* Any thread. Mails are delivered in the order they were posted. Takes the mail; never fails, never blocks.
 */
void mailbox_post(struct mailbox *mailbox, struct mail *mail);

/* Delivers what is there, then ends it. Owner's thread only, when nobody can post any more. */
void mailbox_free(struct mailbox *mailbox);
DEFINE_CLEANUP(struct mailbox, mailbox_free)
