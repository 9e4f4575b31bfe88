/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "macro.h"
#include "manager.h"
#include "print.h"
#include "progress.h"
#include "report.h"

struct report {
        uint64_t checked, bytes, problems, repaired, omitted;
        int sums_compared;
};

static int on_progress(sd_bus_message *signal, void *userdata, sd_bus_error *error _unused_) {
        struct progress *progress = userdata;
        uint64_t checked, total, bytes, problems;
        int r;

        r = sd_bus_message_read(signal, "tttt", &checked, &total, &bytes, &problems);
        if (r < 0)
                return r;

        progress->total = total;
        progress_draw(progress, checked, bytes);
        return 0;
}

/* What the daemon says is text for people already. */
static int show_findings(sd_bus_message *answer) {
        const char *problem, *object, *text;
        int repaired, r;

        r = sd_bus_message_enter_container(answer, 'v', "a(sssb)");
        if (r >= 0)
                r = sd_bus_message_enter_container(answer, 'a', "(sssb)");
        while (r >= 0 && (r = sd_bus_message_read(answer, "(sssb)", &problem, &object, &text, &repaired)) > 0)
                printf("%s: %s\n", object, text);
        for (unsigned i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_exit_container(answer);

        return r;
}

/* What a newer daemon says besides is skipped. */
static int read_report(sd_bus_message *answer, struct report *ret) {
        const struct {
                const char *name;
                const char *type;
                void *value;
        } fields[] = {
                { "checked", "t", &ret->checked },          { "bytes", "t", &ret->bytes },
                { "problems", "t", &ret->problems },        { "repaired", "t", &ret->repaired },
                { "findings-omitted", "t", &ret->omitted }, { "sums-compared", "b", &ret->sums_compared },
        };
        const char *name;
        int r;

        *ret = (struct report){};

        r = sd_bus_message_enter_container(answer, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(answer, 'e', "sv")) > 0) {
                size_t i = 0;

                r = sd_bus_message_read(answer, "s", &name);
                if (r < 0)
                        break;

                while (i < ARRAY_SIZE(fields) && strcmp(fields[i].name, name) != 0)
                        i++;
                if (i < ARRAY_SIZE(fields))
                        r = sd_bus_message_read(answer, "v", fields[i].type, fields[i].value);
                else if (strcmp(name, "findings") == 0)
                        r = show_findings(answer);
                else
                        r = sd_bus_message_skip(answer, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(answer);
        }

        return r;
}

static int verify(struct manager *manager, const struct arguments *a, sd_bus_message **ret) {
        struct progress progress = { .enabled = progress_wanted() };
        sd_bus_message *call = NULL;
        int r, code;

        r = sd_bus_match_signal(manager->bus, NULL, manager->name, MANAGER_PATH, MANAGER_INTERFACE,
                                "VerifyProgress", on_progress, &progress);
        if (r >= 0)
                r = manager_new_call(manager, &call, "Verify");
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(call, "{sv}", "repair", "b", (int) a->repair);
        if (r >= 0 && a->rate > 0)
                r = sd_bus_message_append(call, "{sv}", "rate", "t", a->rate);
        if (r >= 0)
                r = sd_bus_message_close_container(call);

        code = r < 0 ? manager_report(manager, r) : manager_call(manager, call, ret);
        progress_clear(&progress);
        sd_bus_message_unref(call);
        return code;
}

int verb_verify(struct ctl *ctl) {
        _cleanup_(manager_done) struct manager manager = {};
        const struct arguments *a = &ctl->arguments;
        sd_bus_message *answer = NULL;
        char bytes[BYTES_TEXT_MAX];
        struct report report;
        int r;

        r = manager_connect(&manager, ctl);
        if (r == EXIT_DONE)
                r = verify(&manager, a, &answer);
        if (r != EXIT_DONE)
                return r;

        r = read_report(answer, &report);
        sd_bus_message_unref(answer);
        if (r < 0)
                return manager_report(&manager, r);

        if (report.omitted > 0)
                printf("... and %" PRIu64 " more, which the journal has\n", report.omitted);
        printf("%" PRIu64 " objects, %s checked; %" PRIu64 " problems found, %" PRIu64 " repaired\n",
               report.checked, bytes_text(report.bytes, bytes), report.problems, report.repaired);
        if (!report.sums_compared)
                complain("the sums of objects and bytes were not compared, too much changed meanwhile");
        if (report.problems > report.repaired && !a->repair)
                complain("objmapperctl verify --repair takes out what is wrong");

        return report.problems > report.repaired ? EXIT_FAILED : EXIT_DONE;
}
