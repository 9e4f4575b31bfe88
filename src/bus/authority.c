/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authority.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "error.h"
#include "macro.h"

#define QUESTIONS_PER_USER  8 /* to polkit at a time: a person may be asked, and takes a while */
#define PERSON_TIMEOUT_USEC (120 * USEC_PER_SEC)

struct question {
        struct authority *authority;
        sd_bus_message *message;
        enum access_verb verb;
        const char *uri;
        int (*decided)(const struct permission *permission, void *userdata);
        void *userdata;

        struct question *previous, *next;
        sd_bus_slot *slot; /* what is asked of the bus or of polkit */
        uid_t uid;         /* (uid_t) -1: not known yet */
};

struct authority {
        uid_t own_uid;
        bool user_bus, asks_uid_alone;
        struct question *questions;
};

static const char *action_of(enum access_verb verb) {
        switch (verb) {
        case ACCESS_PUT:
                return "org.objmapper1.put";
        case ACCESS_REMOVE:
                return "org.objmapper1.remove";
        case ACCESS_PURGE:
                return "org.objmapper1.purge";
        case ACCESS_PIN:
                return "org.objmapper1.pin";
        case ACCESS_FLUSH_CACHE:
                return "org.objmapper1.flush-cache";
        case ACCESS_VERIFY:
                return "org.objmapper1.verify";
        case ACCESS_RELOAD:
                return "org.objmapper1.reload";
        default:
                return NULL;
        }
}

static int question_new(struct question **ret,
                        struct authority *authority,
                        sd_bus_message *message,
                        enum access_verb verb) {
        struct question *question = calloc(1, sizeof(*question));

        if (!question)
                return -ENOMEM;

        *question = (struct question){
                .authority = authority,
                .message = sd_bus_message_ref(message),
                .verb = verb,
                .next = authority->questions,
                .uid = (uid_t) -1,
        };
        if (question->next)
                question->next->previous = question;
        authority->questions = question;

        *ret = question;
        return 0;
}

static void question_free(struct question *question) {
        if (question->previous)
                question->previous->next = question->next;
        else
                question->authority->questions = question->next;
        if (question->next)
                question->next->previous = question->previous;

        sd_bus_slot_unref(question->slot);
        sd_bus_message_unref(question->message);
        free(question);
}
DEFINE_CLEANUP(struct question, question_free)

static int decide(struct question *question, const struct permission *permission) {
        int (*decided)(const struct permission *, void *) = question->decided;
        void *userdata = question->userdata;

        question_free(question);
        return decided(permission, userdata);
}

/* result: what answering the message returned. */
static int decide_against(struct question *question, int result) {
        int r = decide(question, NULL);

        return result < 0 ? result : r;
}

static const char *method_of(const struct question *question) {
        return sd_bus_message_get_member(question->message);
}

/* ---- polkit ---- */

static int refuse(struct question *question) {
        return decide_against(question, bus_reject(question->message, BUS_ERROR_NOT_PERMITTED,
                                                   "%s is not permitted to uid %" PRIu32 ".",
                                                   method_of(question), (uint32_t) question->uid));
}

static int refuse_by_polkit(struct question *question, bool is_challenge) {
        const char *action = action_of(question->verb);

        if (is_challenge)
                return decide_against(question,
                                      bus_reject(question->message,
                                                 SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                                 "%s is not permitted to uid %" PRIu32
                                                 " without authentication (polkit's action %s).",
                                                 method_of(question), (uint32_t) question->uid, action));

        return decide_against(question,
                              bus_reject(question->message, BUS_ERROR_NOT_PERMITTED,
                                         "%s is not permitted to uid %" PRIu32 " (polkit's action %s).",
                                         method_of(question), (uint32_t) question->uid, action));
}

static int refuse_without_polkit(struct question *question, const char *reason) {
        return decide_against(question, bus_reject(question->message, BUS_ERROR_NOT_PERMITTED,
                                                   "%s is not permitted to uid %" PRIu32
                                                   ", and polkit can't be asked: %s",
                                                   method_of(question), (uint32_t) question->uid, reason));
}

static int on_polkit(sd_bus_message *answer, void *userdata, _unused_ sd_bus_error *error) {
        struct question *question = userdata;
        const sd_bus_error *failure = sd_bus_message_get_error(answer);
        int is_authorized, is_challenge, r;

        if (failure)
                return refuse_without_polkit(question, failure->message ?: failure->name);

        r = sd_bus_message_enter_container(answer, 'r', "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(answer, "bb", &is_authorized, &is_challenge);
        if (r < 0)
                return refuse_without_polkit(question, "its answer can't be read");
        if (!is_authorized)
                return refuse_by_polkit(question, is_challenge);

        return decide(question, &(struct permission){
                                                .peer = &(struct access_peer){ .uid = question->uid,
                                                                               .gid = (gid_t) -1 },
                                                .by_polkit = true,
                                });
}

static int append_question(sd_bus_message *m, const struct question *question, bool may_ask_person) {
        int r;

        r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(question->message), action_of(question->verb));
        if (r < 0)
                return r;

        r = question->uri ? sd_bus_message_append(m, "a{ss}", 1,
                                                  question->verb == ACCESS_PURGE ? "prefix" : "uri",
                                                  question->uri)
                          : sd_bus_message_append(m, "a{ss}", 0);
        if (r < 0)
                return r;

        return sd_bus_message_append(m, "us", (uint32_t) may_ask_person, "");
}

static bool asks_too_much(const struct authority *authority, uid_t uid) {
        unsigned n = 0;

        for (const struct question *question = authority->questions; question; question = question->next)
                n += question->uid == uid;

        return n > QUESTIONS_PER_USER; /* this one is among them */
}

static int ask_polkit(struct question *question) {
        bool may_ask_person = sd_bus_message_get_allow_interactive_authorization(question->message) > 0;
        sd_bus *bus = sd_bus_message_get_bus(question->message);
        sd_bus_message *m = NULL;
        int r;

        if (asks_too_much(question->authority, question->uid))
                return decide_against(question,
                                      bus_reject(question->message, BUS_ERROR_BUSY,
                                                 "polkit is being asked about %i calls of uid %" PRIu32
                                                 " already: try again later.",
                                                 QUESTIONS_PER_USER, (uint32_t) question->uid));

        r = sd_bus_message_new_method_call(bus, &m, "org.freedesktop.PolicyKit1",
                                           "/org/freedesktop/PolicyKit1/Authority",
                                           "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization");
        if (r >= 0)
                r = append_question(m, question, may_ask_person);
        question->slot = sd_bus_slot_unref(question->slot);
        if (r >= 0)
                r = sd_bus_call_async(bus, &question->slot, m, on_polkit, question,
                                      may_ask_person ? PERSON_TIMEOUT_USEC : 0);
        sd_bus_message_unref(m);
        if (r < 0)
                return refuse_without_polkit(question, strerror(-r));

        return 0;
}

/* ---- the bus ---- */

/* The credentials that the bus had from the kernel when the caller connected to it. -ENXIO: it does not know the
 * user. Groups are none where the bus does not know them. Borrowed from answer. */
static int read_credentials(sd_bus_message *answer, struct access_peer *ret) {
        struct access_peer peer = { .uid = (uid_t) -1, .gid = (gid_t) -1 };
        const char *name;
        bool found = false;
        int r;

        r = sd_bus_message_enter_container(answer, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(answer, 'e', "sv")) > 0) {
                const void *groups;
                size_t size;

                r = sd_bus_message_read(answer, "s", &name);
                if (r < 0)
                        return r;

                if (strcmp(name, "UnixUserID") == 0) {
                        uint32_t uid;

                        r = sd_bus_message_read(answer, "v", "u", &uid);
                        peer.uid = uid;
                        found = r > 0;
                } else if (strcmp(name, "UnixGroupIDs") == 0) {
                        r = sd_bus_message_enter_container(answer, 'v', "au");
                        if (r >= 0)
                                r = sd_bus_message_read_array(answer, 'u', &groups, &size);
                        if (r > 0 && size <= ACCESS_GROUPS_MAX * sizeof(gid_t)) {
                                peer.groups = groups;
                                peer.n_groups = size / sizeof(gid_t);
                        }
                        if (r >= 0)
                                r = sd_bus_message_exit_container(answer);
                } else
                        r = sd_bus_message_skip(answer, "v");
                if (r < 0)
                        return r;

                r = sd_bus_message_exit_container(answer);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;

        *ret = peer;
        return found ? 0 : -ENXIO;
}

/* The user alone, where that was asked. */
static int read_uid(sd_bus_message *answer, struct access_peer *ret) {
        uint32_t uid;
        int r;

        r = sd_bus_message_read(answer, "u", &uid);
        if (r < 0)
                return r;

        *ret = (struct access_peer){ .uid = uid, .gid = (gid_t) -1 };
        return 0;
}

static int on_credentials(sd_bus_message *answer, void *userdata, _unused_ sd_bus_error *error) {
        struct question *question = userdata;
        const struct authority *authority = question->authority;
        struct access_peer peer;
        int r;

        if (sd_bus_message_is_method_error(answer, NULL))
                r = -ESRCH;
        else
                r = authority->asks_uid_alone ? read_uid(answer, &peer) : read_credentials(answer, &peer);
        if (r < 0) /* it is gone, most likely */
                return decide_against(question, bus_reject(question->message, BUS_ERROR_NOT_PERMITTED,
                                                           "The bus does not say who is calling."));

        question->uid = peer.uid;
        if (access_check_bus(peer.uid, authority->own_uid, authority->user_bus, question->verb) >= 0)
                return decide(question, &(struct permission){ .peer = &peer });
        if (authority->user_bus || !action_of(question->verb))
                return refuse(question);

        return ask_polkit(question);
}

int authority_ask(struct authority *authority,
                  sd_bus_message *message,
                  enum access_verb verb,
                  const char *uri,
                  int (*decided)(const struct permission *permission, void *userdata),
                  void *userdata) {
        _cleanup_(question_freep) struct question *question = NULL;
        int r;

        assert(decided);

        r = question_new(&question, authority, message, verb);
        if (r < 0)
                return r;

        question->uri = uri;
        question->decided = decided;
        question->userdata = userdata;

        /* The bus knows: not /proc, where the caller may be hidden, or another meanwhile. */
        r = sd_bus_call_method_async(sd_bus_message_get_bus(message), &question->slot, "org.freedesktop.DBus",
                                     "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                     authority->asks_uid_alone ? "GetConnectionUnixUser"
                                                               : "GetConnectionCredentials",
                                     on_credentials, question, "s", sd_bus_message_get_sender(message));
        if (r < 0)
                return r;

        (void) TAKE_PTR(question);
        return 0;
}

int authority_new(struct authority **ret, uid_t own_uid, bool user_bus) {
        struct authority *authority = calloc(1, sizeof(*authority));

        if (!authority)
                return -ENOMEM;

        authority->own_uid = own_uid;
        authority->user_bus = user_bus;
        *ret = authority;
        return 0;
}

void authority_ask_uid_alone(struct authority *authority) {
        authority->asks_uid_alone = true;
}

void authority_free(struct authority *authority) {
        if (!authority)
                return;

        while (authority->questions) {
                struct question *question = authority->questions;

                (void) decide_against(question, bus_reject(question->message, BUS_ERROR_BUSY,
                                                           "The daemon is stopping."));
        }
        free(authority);
}
