/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "words.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "macro.h"

#define UNIT_MAX 160

int status_to_errno(unsigned status) {
        static const int errors[] = {
                [PROTO_ABSENT] = ENOENT,          [PROTO_EXISTS] = EEXIST,
                [PROTO_EXPIRED] = ESTALE,         [PROTO_TOO_LARGE] = EFBIG,
                [PROTO_NO_SPACE] = ENOSPC,        [PROTO_BUSY] = EBUSY,
                [PROTO_NOT_PERMITTED] = EACCES,   [PROTO_BAD_REQUEST] = EINVAL,
                [PROTO_UNSUPPORTED] = EOPNOTSUPP, [PROTO_INTERNAL] = EREMOTEIO,
                [PROTO_CONFLICT] = ECANCELED,     [PROTO_BAD_RANGE] = ERANGE,
                [PROTO_BAD_CHECKSUM] = EBADMSG,   [PROTO_ABORTED] = ECANCELED,
                [PROTO_READ_ONLY] = EROFS,
        };

        if (status == PROTO_OK || status == PROTO_NOT_MODIFIED)
                return 0;

        /* A status of a later version is an error, whatever it says. */
        return status < ARRAY_SIZE(errors) && errors[status] != 0 ? -errors[status] : -EREMOTEIO;
}

const char *error_meaning(int error) {
        switch (-error) {
        case ENOENT:
                return "absent";
        case EEXIST:
                return "there is one already";
        case ESTALE:
                return "expired";
        case ECANCELED:
                return "it is not the expected generation any more";
        case ERANGE:
                return "the range begins past the object's end";
        case EFBIG:
                return "too large";
        case ENOSPC:
                return "no space left in the store";
        case EROFS:
                return "the store can't be written at present: systemctl status objmapper.service";
        case EBADMSG:
                return "the body does not have the announced checksum";
        case EBUSY:
                return "the daemon is busy: try again later";
        case EACCES:
                return "not permitted";
        case EINVAL:
                return "bad request";
        case EOPNOTSUPP:
                return "unknown to this daemon";
        case EREMOTEIO:
                return "an error inside the daemon: journalctl -u objmapper.service";
        case EHOSTDOWN:
                return "no daemon is listening";
        case ETIMEDOUT:
                return "no answer in time";
        case EINPROGRESS:
                return "outcome unknown: the daemon went away before it answered";
        case ECONNRESET:
                return "the daemon went away; nothing was changed";
        case EPROTO:
                return "what listens there does not speak the protocol";
        case ENOLINK:
                return "the descriptor was lost: this process has none free (see ulimit -n)";
        case ENODATA:
                return "the source ended before its announced size";
        default:
                return strerror(error < 0 ? -error : error);
        }
}

char *printable(char *buffer, size_t buffer_size, const void *bytes, size_t size) {
        const unsigned char *p = bytes;
        size_t n = MIN(size, buffer_size - 1);

        for (size_t i = 0; i < n; i++)
                buffer[i] = (char) (p[i] < ' ' || p[i] == 0x7f ? '?' : p[i]);
        buffer[n] = 0;
        if (n < size && n >= 3)
                memcpy(buffer + n - 3, "...", 3);

        return buffer;
}

struct units {
        bool known; /* the path is one of those that our units make */
        bool user;
        char socket[UNIT_MAX], service[UNIT_MAX];
};

/* Which units stand behind a socket, by its path: DIRECTORY/objmapper[-INSTANCE]/{objmapper,publish}.sock. */
static struct units find_units(const char *path) {
        const char *runtime = getenv("XDG_RUNTIME_DIR"), *name, *slash, *kind;
        struct units units = {};
        char instance[80] = "";

        if (strncmp(path, "/run/objmapper", strlen("/run/objmapper")) == 0)
                name = path + strlen("/run/");
        else if (runtime && strncmp(path, runtime, strlen(runtime)) == 0 && path[strlen(runtime)] == '/') {
                name = path + strlen(runtime) + 1;
                units.user = true;
        } else
                return units;

        slash = strchr(name, '/');
        if (!slash || strncmp(name, "objmapper", strlen("objmapper")) != 0)
                return units;
        if (strcmp(slash, "/objmapper.sock") == 0)
                kind = "objmapper";
        else if (strcmp(slash, "/publish.sock") == 0)
                kind = "objmapper-publish";
        else
                return units;

        name += strlen("objmapper");
        if (*name == '-')
                (void) snprintf(instance, sizeof(instance), "@%.*s", (int) MIN(slash - name - 1, 64),
                                name + 1);
        else if (name != slash)
                return units;

        (void) snprintf(units.socket, sizeof(units.socket), "%s%s.socket", kind, instance);
        (void) snprintf(units.service, sizeof(units.service), "objmapper%s.service", instance);
        units.known = true;
        return units;
}

static void explain_permission(char *buffer, size_t size, const char *path) {
        char memory[1024];
        struct group group, *found = NULL;
        struct stat st;

        if (stat(path, &st) < 0)
                (void) snprintf(buffer, size, "not permitted to enter the folder of %s", path);
        else if (!(st.st_mode & S_IWGRP))
                (void) snprintf(buffer, size, "not permitted to connect to %s: only its owner is", path);
        else if (getgrgid_r(st.st_gid, &group, memory, sizeof(memory), &found) == 0 && found)
                (void) snprintf(buffer, size,
                                "not permitted to connect to %s: become a member of the group %s "
                                "(usermod -aG %s USER), then log in again",
                                path, group.gr_name, group.gr_name);
        else
                (void) snprintf(buffer, size,
                                "not permitted to connect to %s: only members of the group %u are", path,
                                (unsigned) st.st_gid);
}

void explain_connect(char *buffer, size_t size, const char *path, int error) {
        struct units units = find_units(path);
        const char *user = units.user ? " --user" : "";

        switch (-error) {
        case EACCES:
        case EPERM:
                explain_permission(buffer, size, path);
                break;
        case ENOENT:
        case ENOTDIR:
                if (units.known)
                        (void) snprintf(buffer, size, "there is no socket %s: systemctl%s start %s", path,
                                        user, units.socket);
                else
                        (void) snprintf(buffer, size, "there is no socket %s: is the daemon to listen there?",
                                        path);
                break;
        case ECONNREFUSED:
                if (units.known)
                        (void) snprintf(buffer, size,
                                        "nobody listens on %s: systemctl%s status %s %s says why, "
                                        "systemctl%s restart %s starts it again",
                                        path, user, units.service, units.socket, user, units.socket);
                else
                        (void) snprintf(buffer, size, "nobody listens on %s: is the daemon running?", path);
                break;
        default:
                (void) snprintf(buffer, size, "can't connect to %s: %s", path, strerror(-error));
        }
}

void explain_lost(char *buffer, size_t size, const char *path) {
        struct units units = find_units(path);

        if (units.known)
                (void) snprintf(buffer, size,
                                "the daemon behind %s closes the connection: "
                                "journalctl%s -u %s may say why",
                                path, units.user ? " --user" : "", units.service);
        else
                (void) snprintf(buffer, size, "the daemon behind %s closes the connection: see its log",
                                path);
}

void etag_format(char text[static ETAG_MAX], const struct proto_etag *etag) {
        (void) snprintf(text, ETAG_MAX, "%016" PRIx64 "-%" PRIx64 "-%" PRIx64, etag->store_id,
                        etag->generation, etag->metadata_version);
}

/* Hex digits, at least one and at most sixteen, up to end. */
static const char *parse_hex(const char *p, char end, uint64_t *ret) {
        uint64_t value = 0;
        unsigned n = 0;

        for (; isxdigit((unsigned char) *p); p++, n++) {
                unsigned digit = (unsigned) (isdigit((unsigned char) *p) ? *p - '0' : (*p | 0x20) - 'a' + 10);

                value = value << 4 | digit;
        }

        if (n == 0 || n > 16 || *p != end)
                return NULL;

        *ret = value;
        return p + 1;
}

int etag_parse(const char *text, struct proto_etag *ret) {
        struct proto_etag etag;
        const char *p;

        p = parse_hex(text, '-', &etag.store_id);
        if (p)
                p = parse_hex(p, '-', &etag.generation);
        if (p)
                p = parse_hex(p, 0, &etag.metadata_version);
        if (!p)
                return -EINVAL;

        *ret = etag;
        return 0;
}
