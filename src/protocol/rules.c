/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "fields.h"
#include "macro.h"

#define HAS_URI    PROTO_HAS(PROTO_TAG_URI)
#define HAS_INFO   PROTO_HAS(PROTO_TAG_INFO)
#define HAS_LIMITS PROTO_HAS(PROTO_TAG_LIMITS)
#define HAS_META   PROTO_HAS(PROTO_TAG_METADATA)
#define HAS_TEXT   PROTO_HAS(PROTO_TAG_TEXT)

#define BODY_REQUEST (1U << 0) /* a request may have a body */
#define BODY_REPLY   (1U << 1) /* an OK reply is, or may have, a body of a page */
#define REFUSED_ONLY (1U << 2) /* has no OK reply */

/* What a request of a type needs and may have beside, and what its OK reply does. */
struct rule {
        uint32_t needs, takes;
        uint32_t reply_needs, reply_takes;
        unsigned what;
};

static const struct rule rules[] = {
        [PROTO_HELLO] = { .needs = PROTO_HAS(PROTO_TAG_HELLO), .reply_needs = HAS_LIMITS },
        [PROTO_GET] = { .needs = HAS_URI,
                        .takes = PROTO_HAS(PROTO_TAG_RANGE) | PROTO_HAS(PROTO_TAG_IF_NONE_MATCH) |
                                 PROTO_HAS(PROTO_TAG_STALE_OK),
                        .reply_needs = HAS_INFO,
                        .reply_takes = HAS_META | PROTO_HAS(PROTO_TAG_RANGE) },
        [PROTO_STAT] = { .needs = HAS_URI,
                         .takes = PROTO_HAS(PROTO_TAG_STALE_OK),
                         .reply_needs = HAS_INFO | PROTO_HAS(PROTO_TAG_USAGE),
                         .reply_takes = HAS_META },
        [PROTO_PUT] = { .needs = HAS_URI,
                        .takes = HAS_META | PROTO_HAS(PROTO_TAG_IF_ABSENT) |
                                 PROTO_HAS(PROTO_TAG_IF_GENERATION) | PROTO_HAS(PROTO_TAG_SIZE) |
                                 PROTO_HAS(PROTO_TAG_CHECKSUM) | PROTO_HAS(PROTO_TAG_TTL),
                        .reply_needs = HAS_INFO,
                        .what = BODY_REQUEST },
        [PROTO_DATA] = { .what = BODY_REQUEST | REFUSED_ONLY },
        [PROTO_END] = { .takes = HAS_META | PROTO_HAS(PROTO_TAG_CHECKSUM), .what = REFUSED_ONLY },
        [PROTO_ABORT] = { .what = REFUSED_ONLY },
        [PROTO_SET_METADATA] = { .needs = HAS_URI | HAS_META,
                                 .takes = PROTO_HAS(PROTO_TAG_IF_GENERATION),
                                 .reply_needs = HAS_INFO },
        [PROTO_REMOVE] = { .needs = HAS_URI,
                           .takes = PROTO_HAS(PROTO_TAG_IF_GENERATION),
                           .reply_needs = HAS_INFO },
        [PROTO_PURGE] = { .needs = PROTO_HAS(PROTO_TAG_PREFIX), .reply_needs = PROTO_HAS(PROTO_TAG_COUNT) },
        [PROTO_LIST] = { .needs = PROTO_HAS(PROTO_TAG_PREFIX),
                         .takes = PROTO_HAS(PROTO_TAG_CURSOR) | PROTO_HAS(PROTO_TAG_LIMIT),
                         .reply_needs = PROTO_HAS(PROTO_TAG_COUNT),
                         .reply_takes = PROTO_HAS(PROTO_TAG_CURSOR),
                         .what = BODY_REPLY },
        [PROTO_STATS] = { .what = BODY_REPLY },
        [PROTO_NOTICE] = { .takes = HAS_TEXT, .what = REFUSED_ONLY },
};

static int refuse(int error, const char *what, const char **ret_what) {
        *ret_what = what;
        return error;
}

static int check_fields(uint32_t has, uint32_t needs, uint32_t takes, const char **ret_what) {
        uint32_t missing = needs & ~has, misplaced = has & ~(needs | takes);

        if (missing)
                return refuse(-EBADMSG, proto_fields[__builtin_ctz(missing)].missing, ret_what);
        if (misplaced)
                return refuse(-EBADMSG, proto_fields[__builtin_ctz(misplaced)].misplaced, ret_what);

        return 0;
}

static int check_put(const struct proto_message *message, const char **ret_what) {
        const uint8_t durabilities = PROTO_FLAG_VISIBLE | PROTO_FLAG_DURABLE;
        const uint32_t conditions = PROTO_HAS(PROTO_TAG_IF_ABSENT) | PROTO_HAS(PROTO_TAG_IF_GENERATION);

        if ((message->has & conditions) == conditions)
                return refuse(-EBADMSG, "IF_ABSENT and IF_GENERATION exclude each other", ret_what);

        if ((message->head.flags & durabilities) == durabilities)
                return refuse(-EBADMSG, "VISIBLE and DURABLE exclude each other", ret_what);

        if (message->head.flags & PROTO_FLAG_STREAM) {
                if (message->head.body_size > 0)
                        return refuse(-EBADMSG, "a streamed put has a body of its own", ret_what);
        } else if ((message->has & PROTO_HAS(PROTO_TAG_SIZE)) && message->size != message->head.body_size)
                return refuse(-EBADMSG, "the SIZE field is not the body's size", ret_what);

        return 0;
}

static int check_request(const struct proto_message *message,
                         const struct rule *rule,
                         const char **ret_what) {
        const struct proto_head *head = &message->head;
        uint8_t flags = head->type == PROTO_PUT ? PROTO_FLAG_STREAM : 0;
        bool notice = head->type == PROTO_NOTICE;

        if (head->flags & PROTO_FLAGS_MUST & ~flags)
                return refuse(-EOPNOTSUPP, "an unknown flag", ret_what);
        if (head->mode >= OP_MODE_MAX)
                return refuse(-EOPNOTSUPP, WHAT_UNKNOWN_MODE, ret_what);
        if (head->mode != OP_DEFAULT && head->type != PROTO_GET)
                return refuse(-EBADMSG, "a mode has no place in this frame", ret_what);
        if ((head->id == 0) != notice)
                return refuse(-EBADMSG, notice ? "a notice has an id" : "the id is 0", ret_what);
        if (head->status != PROTO_OK && !notice)
                return refuse(-EBADMSG, "a request has a status", ret_what);
        if (head->fd_count != 0)
                return refuse(-EBADMSG, "this frame owns no descriptor", ret_what);
        if (head->body_size > 0 && !(rule->what & BODY_REQUEST))
                return refuse(-EBADMSG, "a body has no place in this frame", ret_what);

        if (head->type == PROTO_PUT) {
                int r = check_put(message, ret_what);
                if (r < 0)
                        return r;
        }

        return check_fields(message->has, rule->needs, rule->takes, ret_what);
}

/* The fields were checked; that body, mode, descriptor and range say the same. */
static int check_delivery(const struct proto_message *message, const char **ret_what) {
        const struct proto_head *head = &message->head;
        const struct proto_range *range = &message->range;
        bool ranged = message->has & PROTO_HAS(PROTO_TAG_RANGE);

        switch (head->mode) {
        case OP_FDPASS:
                if (head->fd_count == 0 || head->body_size > 0 || ranged)
                        return refuse(-EBADMSG, "a descriptor, a body and a range exclude each other",
                                      ret_what);
                return 0;
        case OP_COPY:
        case OP_SPLICE:
                if (head->fd_count > 0)
                        return refuse(-EBADMSG, "this frame owns no descriptor", ret_what);
                break;
        default:
                return refuse(-EOPNOTSUPP, WHAT_UNKNOWN_MODE, ret_what);
        }

        if (!ranged)
                return head->body_size == message->info.size
                                       ? 0
                                       : refuse(-EBADMSG, "the body is not the whole object", ret_what);
        if (range->size != head->body_size || range->offset > message->info.size ||
            range->size > message->info.size - range->offset)
                return refuse(-EBADMSG, "the RANGE field is not the body's range", ret_what);

        return 0;
}

static int check_reply(const struct proto_message *message, const struct rule *rule, const char **ret_what) {
        const struct proto_head *head = &message->head;
        bool ok = head->status == PROTO_OK;
        uint32_t needs = 0, takes = HAS_TEXT;
        int r;

        if (head->flags & PROTO_FLAGS_MUST)
                return refuse(-EOPNOTSUPP, "an unknown flag", ret_what);

        if (ok) {
                if (rule->what & REFUSED_ONLY)
                        return refuse(-EBADMSG, "this frame is not answered so", ret_what);
                needs = rule->reply_needs;
                takes |= rule->reply_takes;
        } else if (head->status == PROTO_NOT_MODIFIED) {
                if (head->type != (PROTO_GET | PROTO_REPLY))
                        return refuse(-EBADMSG, "this frame is not answered so", ret_what);
                needs = HAS_INFO;
                takes |= HAS_META;
        } else
                takes |= rule->reply_needs & (HAS_INFO | HAS_LIMITS);

        r = check_fields(message->has, needs, takes, ret_what);
        if (r < 0)
                return r;

        if (ok && head->type == (PROTO_GET | PROTO_REPLY))
                return check_delivery(message, ret_what);

        if (head->mode != OP_DEFAULT)
                return refuse(-EBADMSG, "a mode has no place in this frame", ret_what);
        if (head->fd_count > 0)
                return refuse(-EBADMSG, "this frame owns no descriptor", ret_what);
        if (head->body_size > 0 && !(ok && (rule->what & BODY_REPLY)))
                return refuse(-EBADMSG, "a body has no place in this frame", ret_what);
        if (head->body_size > PROTO_PAGE_BODY_MAX)
                return refuse(-EBADMSG, "the page is too large", ret_what);
        if (ok && head->type == (PROTO_LIST | PROTO_REPLY) && message->count > PROTO_PAGE_MAX)
                return refuse(-EBADMSG, "the page has too many entries", ret_what);

        return 0;
}

int proto_rules_check(const struct proto_message *message, const char **ret_what) {
        const struct proto_head *head = &message->head;
        unsigned type = head->type & ~PROTO_REPLY;

        /* Of every frame: who receives it must be able to find its descriptor. */
        if (head->fd_count > 0 ? head->fd_index >= head->fd_count : head->fd_index > 0)
                return refuse(-EBADMSG, "the descriptor's index is not below the count", ret_what);

        if (type < PROTO_HELLO || type >= ARRAY_SIZE(rules))
                return 0;

        return head->type & PROTO_REPLY ? check_reply(message, &rules[type], ret_what)
                                        : check_request(message, &rules[type], ret_what);
}
