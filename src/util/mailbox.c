/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mailbox.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct mailbox {
        int fd;
        sd_event_source *source;
        struct mail *head; /* atomic; the newest first */
};

static void deliver_all(struct mailbox *mailbox) {
        struct mail *mail = __atomic_exchange_n(&mailbox->head, NULL, __ATOMIC_ACQUIRE), *oldest = NULL;

        while (mail) {
                struct mail *next = mail->next;

                mail->next = oldest;
                oldest = mail;
                mail = next;
        }

        while (oldest) {
                struct mail *next = oldest->next;

                oldest->deliver(oldest);
                oldest = next;
        }
}

static int on_mail(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
        uint64_t count;

        (void) read(fd, &count, sizeof(count));
        deliver_all(userdata);
        return 0;
}

int mailbox_new(struct mailbox **ret, sd_event *event) {
        _cleanup_(mailbox_freep) struct mailbox *mailbox = NULL;
        int r;

        assert(ret);

        mailbox = calloc(1, sizeof(*mailbox));
        if (!mailbox)
                return -ENOMEM;

        mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (mailbox->fd < 0)
                return -errno;

        r = sd_event_add_io(event, &mailbox->source, mailbox->fd, EPOLLIN, on_mail, mailbox);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(mailbox);
        return 0;
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail) {
        static const uint64_t one = 1;
        struct mail *head = __atomic_load_n(&mailbox->head, __ATOMIC_RELAXED);
        int fd = mailbox->fd; /* the mail may be the one that ends the mailbox: read before it is posted */

        do
                mail->next = head;
        while (!__atomic_compare_exchange_n(&mailbox->head, &head, mail, true, __ATOMIC_RELEASE,
                                            __ATOMIC_RELAXED));

        /* Whoever finds it empty wakes the loop; the others' mails are taken along. */
        if (!head)
                (void) write(fd, &one, sizeof(one));
}

void mailbox_free(struct mailbox *mailbox) {
        deliver_all(mailbox);
        sd_event_source_disable_unref(mailbox->source);
        close_fd(mailbox->fd);
        free(mailbox);
}
