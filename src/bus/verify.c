/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "verify.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "error.h"
#include "escape.h"
#include "log.h"
#include "macro.h"
#include "mailbox.h"
#include "message-ids.h"
#include "option.h"

#define FINDINGS_MAX       1000
#define FINDINGS_BYTES_MAX (8U << 20) /* of their texts */
#define PROGRESS_USEC      (500 * USEC_PER_MSEC)
#define PROGRESS_ACCURACY  (100 * USEC_PER_MSEC)

struct found {
        enum storage_problem problem;
        bool is_repaired;
        char *object, *text;
};

struct verifier {
        sd_event *event;
        struct storage *storage;
        const char *path, *interface;
        struct mailbox *mailbox;

        /* Of the one under way. */
        struct storage_verify *verify; /* NULL: there is none */
        sd_bus_message *message;       /* the call, to be answered */
        sd_bus_track *track;           /* its caller */
        sd_event_source *timer;

        struct storage_verify_progress progress; /* at the end */

        struct mail done_mail;
        int result; /* set before the mail is posted */

        /* The store's thread's, until the mail is posted. */
        struct found *found;
        size_t n_found, n_bytes;
        uint64_t n_omitted;
};

/* ---- what it finds, on the store's thread ---- */

/* "URI" or "blobs/FILE", what is wrong with it, and what became of it. Free both. */
static int describe(const struct storage_finding *finding, char **ret_object, char **ret_text) {
        _cleanup_free_ char *object = NULL, *text = NULL;
        size_t object_size, text_size;
        FILE *out;

        out = open_memstream(&object, &object_size);
        if (!out)
                return -ENOMEM;
        if (finding->uri)
                print_escaped(out, finding->uri, finding->uri_size);
        else
                print_escaped(out, finding->file ?: "dictionary", strlen(finding->file ?: "dictionary"));
        if (fclose(out) == EOF)
                return -ENOMEM;

        out = open_memstream(&text, &text_size);
        if (!out)
                return -ENOMEM;
        fputs(storage_problem_text(finding->problem), out);
        if (finding->problem == STORAGE_PROBLEM_UNREADABLE || finding->problem == STORAGE_PROBLEM_DICTIONARY)
                fprintf(out, ": %s", strerror(-finding->error));
        if (finding->uri && finding->file)
                fprintf(out, " (%s)", finding->file);
        if (finding->repair < 0)
                fprintf(out, "; could not be repaired: %s", strerror(-finding->repair));
        if (finding->quarantine) {
                fputs("; moved to ", out);
                print_escaped(out, finding->quarantine, strlen(finding->quarantine));
        } else if (finding->repair > 0)
                fputs(finding->problem == STORAGE_PROBLEM_MISSING ||
                                                      finding->problem == STORAGE_PROBLEM_RECORD
                                      ? "; the object was removed"
                                      : "; corrected",
                      out);
        if (fclose(out) == EOF)
                return -ENOMEM;

        *ret_object = TAKE_PTR(object);
        *ret_text = TAKE_PTR(text);
        return 0;
}

static void log_finding(const struct storage_finding *finding, const char *object, const char *text) {
        static struct log_ratelimit limit = { .interval_usec = 10 * USEC_PER_SEC, .burst = 200 };
        struct log_field fields[4] = { LOG_FIELD_STRING("OBJMAPPER_PROBLEM",
                                                        storage_problem_name(finding->problem)) };
        size_t n_fields = 1;
        unsigned dropped;

        if (!log_ratelimit_pass(&limit, &dropped))
                return;

        if (finding->uri)
                fields[n_fields++] = LOG_FIELD("OBJMAPPER_URI", finding->uri, finding->uri_size);
        if (finding->file)
                fields[n_fields++] = LOG_FIELD_STRING("OBJMAPPER_FILE", finding->file);
        if (finding->quarantine)
                fields[n_fields++] = LOG_FIELD_STRING("OBJMAPPER_QUARANTINE", finding->quarantine);
        if (dropped > 0)
                log_warning("%u findings of a verification were not logged.", dropped);
        log_write(finding->repair > 0 ? LOG_WARNING : LOG_ERR, finding->error, MESSAGE_STORE_PROBLEM, fields,
                  n_fields, "%s: %s", object, text);
}

/* Takes both strings. */
static void gather(struct verifier *verifier,
                   const struct storage_finding *finding,
                   char *object,
                   char *text) {
        size_t size = strlen(object) + strlen(text);

        if (verifier->n_found == FINDINGS_MAX || verifier->n_bytes + size > FINDINGS_BYTES_MAX) {
                verifier->n_omitted++;
                free(object);
                free(text);
                return;
        }

        verifier->found[verifier->n_found++] = (struct found){
                .problem = finding->problem,
                .is_repaired = finding->repair > 0,
                .object = object,
                .text = text,
        };
        verifier->n_bytes += size;
}

static void on_finding(const struct storage_finding *finding, void *userdata) {
        struct verifier *verifier = userdata;
        char *object, *text;

        if (describe(finding, &object, &text) < 0) {
                verifier->n_omitted++;
                return;
        }

        log_finding(finding, object, text);
        gather(verifier, finding, object, text);
}

static void on_done(int result, void *userdata) {
        struct verifier *verifier = userdata;

        verifier->result = result;
        mailbox_post(verifier->mailbox, &verifier->done_mail);
}

/* ---- what the caller is told ---- */

static int append_findings(sd_bus_message *reply, const struct verifier *verifier) {
        int r;

        r = sd_bus_message_open_container(reply, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", "findings");
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'v', "a(sssb)");
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sssb)");

        for (size_t i = 0; i < verifier->n_found && r >= 0; i++) {
                const struct found *found = &verifier->found[i];

                r = sd_bus_message_append(reply, "(sssb)", storage_problem_name(found->problem),
                                          found->object, found->text, found->is_repaired);
        }

        for (unsigned i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(reply);
        return r;
}

static int reply_report(const struct verifier *verifier) {
        const struct storage_verify_progress *progress = &verifier->progress;
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(verifier->message, &reply);
        if (r < 0)
                return r;

        r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}", "checked", "t",
                                          progress->checked, "bytes", "t", progress->bytes, "problems", "t",
                                          progress->problems, "repaired", "t", progress->repaired,
                                          "sums-compared", "b", progress->uncounted == 0, "findings-omitted",
                                          "t", verifier->n_omitted);
        if (r >= 0)
                r = append_findings(reply, verifier);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);

        sd_bus_message_unref(reply);
        return r;
}

static void log_result(const struct verifier *verifier) {
        const struct storage_verify_progress *progress = &verifier->progress;

        if (verifier->result == -ECANCELED)
                log_notice("The verification of the store was cancelled after %" PRIu64 " of %" PRIu64
                           " objects: its caller is gone, or the daemon is stopping.",
                           progress->checked, progress->total);
        else if (verifier->result < 0)
                (void) log_errno(LOG_ERR, verifier->result,
                                 "The verification of the store could not be carried out: %m");
        else
                log_write(progress->problems > progress->repaired ? LOG_ERR : LOG_NOTICE, 0,
                          MESSAGE_STORE_VERIFIED, NULL, 0,
                          "The store was verified: %" PRIu64 " objects, %" PRIu64 " problems found, %" PRIu64
                          " repaired.",
                          progress->checked, progress->problems, progress->repaired);
}

static void clear(struct verifier *verifier) {
        for (size_t i = 0; i < verifier->n_found; i++) {
                free(verifier->found[i].object);
                free(verifier->found[i].text);
        }
        verifier->n_found = verifier->n_bytes = 0;
        verifier->n_omitted = 0;
        free(TAKE_PTR(verifier->found));
        verifier->track = sd_bus_track_unref(verifier->track);
        verifier->timer = sd_event_source_disable_unref(verifier->timer);
        verifier->message = sd_bus_message_unref(verifier->message);
}

/* When this returns the mail was posted. */
static void end(struct verifier *verifier) {
        if (!verifier->verify)
                return;

        storage_verify_get_progress(verifier->verify, &verifier->progress);
        storage_verify_end(TAKE_PTR(verifier->verify));
}

static void deliver_done(struct mail *mail) {
        struct verifier *verifier = container_of(mail, struct verifier, done_mail);
        int r;

        end(verifier);
        log_result(verifier);

        if (verifier->result == -ECANCELED)
                r = sd_bus_reply_method_errorf(verifier->message, BUS_ERROR_BUSY,
                                               "The verification was cancelled.");
        else if (verifier->result < 0)
                r = bus_reply_errno(verifier->message, "Verify", verifier->result);
        else
                r = reply_report(verifier);
        if (r < 0) /* the caller may be gone, and the bus too */
                (void) log_errno(LOG_DEBUG, r, "A call over the bus can't be answered: %m");

        clear(verifier);
}

static int on_timer(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        struct verifier *verifier = userdata;
        struct storage_verify_progress progress;
        sd_bus_message *signal = NULL;
        int r;

        storage_verify_get_progress(verifier->verify, &progress);
        r = sd_bus_message_new_signal(sd_bus_message_get_bus(verifier->message), &signal, verifier->path,
                                      verifier->interface, "VerifyProgress");
        if (r >= 0)
                r = sd_bus_message_append(signal, "tttt", progress.checked, progress.total, progress.bytes,
                                          progress.problems);
        if (r >= 0)
                r = sd_bus_message_set_destination(signal, sd_bus_message_get_sender(verifier->message));
        if (r >= 0)
                (void) sd_bus_send(NULL, signal, NULL);
        sd_bus_message_unref(signal);

        r = sd_event_source_set_time_relative(source, PROGRESS_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_caller_gone(_unused_ sd_bus_track *track, void *userdata) {
        struct verifier *verifier = userdata;

        if (verifier->verify)
                storage_verify_cancel(verifier->verify);
        return 0;
}

/* ---- begin and end ---- */

static int begin(struct verifier *verifier, sd_bus_message *message, bool repair, uint64_t rate) {
        struct storage_verify_config config = {
                .repair = repair,
                .bytes_per_sec = rate,
                .on_finding = on_finding,
                .on_done = on_done,
                .userdata = verifier,
        };
        int r;

        verifier->found = calloc(FINDINGS_MAX, sizeof(*verifier->found));
        if (!verifier->found)
                return -ENOMEM;

        verifier->message = sd_bus_message_ref(message);
        r = sd_bus_track_new(sd_bus_message_get_bus(message), &verifier->track, on_caller_gone, verifier);
        if (r >= 0)
                r = sd_bus_track_add_sender(verifier->track, message);
        if (r >= 0)
                r = sd_event_add_time_relative(verifier->event, &verifier->timer, CLOCK_MONOTONIC,
                                               PROGRESS_USEC, PROGRESS_ACCURACY, on_timer, verifier);
        if (r < 0)
                return r;

        return storage_verify_begin(&verifier->verify, verifier->storage, &config);
}

int verifier_handle(sd_bus_message *message, void *userdata) {
        struct verifier *verifier = userdata;
        uint64_t rate = 0;
        int repair = false, r;

        r = bus_read_options(
                        message, "Verify",
                        (const struct bus_option[]){ { "repair", 'b', &repair }, { "rate", 't', &rate } }, 2);
        if (r > 0)
                return 1;
        if (r >= 0 && verifier->verify)
                return bus_reject(message, BUS_ERROR_BUSY, "A verification is under way.");

        if (r >= 0) {
                r = begin(verifier, message, repair, rate);
                if (r < 0)
                        clear(verifier);
        }
        if (r < 0)
                (void) bus_reply_errno(message, "Verify", r);

        return 1;
}

bool verifier_is_busy(const struct verifier *verifier) {
        return verifier->verify;
}

int verifier_new(struct verifier **ret,
                 sd_event *event,
                 struct storage *storage,
                 const char *path,
                 const char *interface) {
        _cleanup_(verifier_freep) struct verifier *verifier = calloc(1, sizeof(*verifier));
        int r;

        assert(ret);

        if (!verifier)
                return -ENOMEM;

        verifier->event = event;
        verifier->storage = storage;
        verifier->path = path;
        verifier->interface = interface;
        verifier->done_mail.deliver = deliver_done;
        r = mailbox_new(&verifier->mailbox, event);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(verifier);
        return 0;
}

void verifier_free(struct verifier *verifier) {
        if (!verifier)
                return;

        end(verifier);
        if (verifier->mailbox)
                mailbox_free(verifier->mailbox); /* delivers the end */
        free(verifier);
}
