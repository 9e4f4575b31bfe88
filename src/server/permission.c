/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "permission.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "macro.h"
#include "message-ids.h"
#include "request.h"
#include "server-internal.h"
#include "session.h"
#include "worker.h"

#define REFUSAL_SECONDS 600 /* after which a refusal is logged again */

/* ---- the rules ---- */

void rules_set(struct rules *rules, struct access_rules *new) {
        struct access_rules *old;

        (void) pthread_mutex_lock(&rules->lock);
        old = rules->rules;
        rules->rules = access_rules_ref(new);
        __atomic_fetch_add(&rules->version, 1, __ATOMIC_RELEASE);
        (void) pthread_mutex_unlock(&rules->lock);

        access_rules_unref(old);
}

struct access_rules *rules_look_again(struct rules *rules, struct rules_view *view) {
        access_rules_unref(view->rules);
        (void) pthread_mutex_lock(&rules->lock);
        view->rules = access_rules_ref(rules->rules);
        view->version = __atomic_load_n(&rules->version, __ATOMIC_RELAXED);
        (void) pthread_mutex_unlock(&rules->lock);
        return view->rules;
}

void rules_view_done(struct rules_view *view) {
        access_rules_unref(view->rules);
        *view = (struct rules_view){};
}

void rules_done(struct rules *rules) {
        access_rules_unref(rules->rules);
        (void) pthread_mutex_destroy(&rules->lock);
}

struct access_rules *worker_rules(struct worker *worker) {
        return rules_look(&worker->server->rules, &worker->rules);
}

void server_set_rules(struct server *server, struct access_rules *rules) {
        rules_set(&server->rules, rules);

        /* What is refused now is news. */
        for (size_t i = 0; i < REFUSALS; i++)
                __atomic_store_n(&server->refusals.entries[i], 0, __ATOMIC_RELAXED);
}

struct access_rules *server_get_rules(struct server *server) {
        return server->rules.rules;
}

/* ---- who is refused ---- */

/* FNV-1a. Two that have the same are logged as one: no more than a line is lost. */
static uint32_t hash_refusal(uid_t uid, const char *namespace, char why) {
        uint32_t hash = (2166136261U ^ (uint8_t) why) * 16777619U;

        for (size_t i = 0; i < sizeof(uid); i++)
                hash = (hash ^ (uint8_t) (uid >> (8 * i))) * 16777619U;
        for (const char *p = namespace; *p; p++)
                hash = (hash ^ (uint8_t) *p) * 16777619U;

        return hash;
}

/* Whether it was not logged lately. Users and namespaces that share an entry take it from each other: then the
 * limit of all together bounds what is logged. */
static bool is_news(struct refusals *refusals, uint32_t hash) {
        uint32_t now = (uint32_t) (clock_usec(CLOCK_MONOTONIC_COARSE) / USEC_PER_SEC);
        uint64_t *entry = &refusals->entries[hash % REFUSALS];
        uint64_t before = __atomic_load_n(entry, __ATOMIC_RELAXED);

        if (before != 0 && before >> 32 == hash && now - (uint32_t) before < REFUSAL_SECONDS)
                return false;

        return __atomic_compare_exchange_n(entry, &before, (uint64_t) hash << 32 | now, false,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static const char *const verb_names[ACCESS_VERB_MAX] = {
        [ACCESS_GET] = "get",
        [ACCESS_STAT] = "stat",
        [ACCESS_LIST] = "list",
        [ACCESS_STATS] = "stats",
        [ACCESS_PUT] = "put",
        [ACCESS_SET_METADATA] = "set-metadata",
        [ACCESS_REMOVE] = "remove",
        [ACCESS_PURGE] = "purge",
        [ACCESS_RELOAD] = "reload",
        [ACCESS_PIN] = "pin",
        [ACCESS_FLUSH_CACHE] = "flush-cache",
        [ACCESS_VERIFY] = "verify",
};

/* It was not logged after all: the next one is news again. */
static void forget(struct refusals *refusals, uint32_t hash) {
        __atomic_store_n(&refusals->entries[hash % REFUSALS], 0, __ATOMIC_RELAXED);
}

/* Who it was, for the log. */
struct who {
        char uid[16], pid[16], text[48], suffix[LOG_DROPPED_MAX];
        struct log_field fields[3];
        size_t n_fields;
};

/* Whether it is to be logged that this peer was refused something. */
static bool take_refusal(struct server *server,
                         const struct access_peer *peer,
                         const char *namespace,
                         char why,
                         struct who *ret) {
        uint32_t hash = hash_refusal(peer->uid, namespace, why);
        unsigned dropped;

        if (!is_news(&server->refusals, hash))
                return false;
        if (!log_provoked_pass(&server->refusals.limit, &dropped)) {
                forget(&server->refusals, hash);
                return false;
        }

        (void) snprintf(ret->uid, sizeof(ret->uid), "%" PRIu32, (uint32_t) peer->uid);
        (void) snprintf(ret->pid, sizeof(ret->pid), "%i", (int) peer->pid);
        (void) snprintf(ret->text, sizeof(ret->text), peer->pid > 0 ? "uid %s (pid %s)" : "uid %s", ret->uid,
                        ret->pid);
        (void) log_dropped(dropped, ret->suffix);

        ret->n_fields = 0;
        ret->fields[ret->n_fields++] = LOG_FIELD_STRING("OBJMAPPER_PEER_UID", ret->uid);
        if (*namespace)
                ret->fields[ret->n_fields++] = LOG_FIELD_STRING("OBJMAPPER_NAMESPACE", namespace);
        if (peer->pid > 0)
                ret->fields[ret->n_fields++] = LOG_FIELD_STRING("OBJMAPPER_PEER_PID", ret->pid);
        return true;
}

void server_log_refusal(struct server *server,
                        const struct access_peer *peer,
                        enum access_verb verb,
                        const char *namespace) {
        struct who who;

        if (take_refusal(server, peer, namespace, 'r', &who))
                log_write(LOG_NOTICE, 0, MESSAGE_ACCESS_REFUSED, who.fields, who.n_fields,
                          "Refused a %s in namespace %s to %s: its rules do not permit it%s",
                          verb_names[verb], namespace, who.text, who.suffix);
}

void server_log_no_room(struct server *server, const struct access_peer *peer, const char *namespace) {
        struct who who;

        if (take_refusal(server, peer, namespace ?: "", 's', &who))
                log_write(LOG_WARNING, 0, MESSAGE_NO_ROOM, who.fields, who.n_fields,
                          "Refused a put to %s: there is no room for it in %s%s%s", who.text,
                          namespace ? "namespace " : "the store", namespace ?: "", who.suffix);
}

/* ---- the requests ---- */

bool permission_check(struct session *session,
                      enum access_verb verb,
                      const struct proto_message *message,
                      char ret_text[static PROTO_TEXT_MAX]) {
        bool by_prefix = verb == ACCESS_LIST || verb == ACCESS_PURGE;
        const struct proto_bytes *uri = by_prefix ? &message->prefix : &message->uri;
        const char *namespace;

        if (access_check_session(session->role, verb) < 0) {
                (void) snprintf(ret_text, PROTO_TEXT_MAX, "%s", SESSION_READ_ONLY_TEXT);
                return false;
        }

        if (verb == ACCESS_STATS || access_check(worker_rules(session->worker), &session->peer, verb,
                                                 uri->data, uri->size, &namespace) >= 0)
                return true;

        (void) snprintf(ret_text, PROTO_TEXT_MAX, "namespace %s: its rules do not permit a %s to this user",
                        namespace, verb_names[verb]);
        server_log_refusal(session->server, &session->peer, verb, namespace);
        return false;
}

bool permission_may_get(struct session *session, struct proto_bytes uri) {
        struct access_rules *rules = worker_rules(session->worker);
        const char *namespace;

        return !rules || access_check(rules, &session->peer, ACCESS_GET, uri.data, uri.size, &namespace) >= 0;
}

void permission_no_room(struct session *session,
                        const void *uri,
                        size_t uri_size,
                        char ret_text[static PROTO_TEXT_MAX]) {
        const char *namespace = access_find_namespace(worker_rules(session->worker), uri, uri_size);

        server_log_no_room(session->server, &session->peer, namespace);
        if (namespace)
                (void) snprintf(ret_text, PROTO_TEXT_MAX, "namespace %s: there is no room for it", namespace);
        else
                (void) snprintf(ret_text, PROTO_TEXT_MAX, "%s", status_text(PROTO_NO_SPACE));
}
