/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "report.h"
#include "stand-in.h"

int verb_set_meta(struct ctl *ctl) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        const struct arguments *a = &ctl->arguments;
        const char *uri = a->operands[0];
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_SET_METADATA, uri, strlen(uri));
        if (r >= 0)
                r = request_add_pairs(request, (const char *const *) a->operands + 1, a->n_operands - 1);
        if (r >= 0 && a->if_generation_set)
                r = objmapper_request_set_if_generation(request, a->if_generation);
        if (r < 0)
                return report_file("can't set the metadata of", uri, r);

        r = objmapper_client_call(ctl->client, request, NULL);
        if (r < 0)
                return report(ctl, r);

        return EXIT_DONE;
}

static int remove_one(struct ctl *ctl, const char *uri) {
        _cleanup_(objmapper_request_freep) objmapper_request *request = NULL;
        const struct arguments *a = &ctl->arguments;
        int r;

        r = objmapper_request_new(&request, OBJMAPPER_REMOVE, uri, strlen(uri));
        if (r >= 0 && a->if_generation_set)
                r = objmapper_request_set_if_generation(request, a->if_generation);
        if (r < 0)
                return report_file("can't remove", uri, r);

        r = objmapper_client_call(ctl->client, request, NULL);
        if (stand_in_is_wanted(ctl, r))
                return stand_in_remove(ctl, uri);
        if (r < 0)
                return report(ctl, r);

        return EXIT_DONE;
}

int verb_rm(struct ctl *ctl) {
        int result = EXIT_DONE;

        for (size_t i = 0; i < ctl->arguments.n_operands; i++) {
                int r = remove_one(ctl, ctl->arguments.operands[i]);

                if (result == EXIT_DONE)
                        result = r;
                if (r == EXIT_NO_DAEMON)
                        break; /* the others would fail in the same way */
        }

        return result;
}

int verb_purge(struct ctl *ctl) {
        const char *prefix = ctl->arguments.all ? "" : ctl->arguments.operands[0];
        uint64_t count;
        int r;

        r = objmapper_purge(ctl->client, prefix, &count);
        if (stand_in_is_wanted(ctl, r))
                return stand_in_purge(ctl, prefix);
        if (r < 0)
                return report(ctl, r);

        printf("%" PRIu64 " object%s removed\n", count, count == 1 ? "" : "s");
        return EXIT_DONE;
}
