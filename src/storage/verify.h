/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the passes of a verification share. All but the progress is the thread's own. */

#include "audit.h"
#include "background.h"
#include "quarantine.h"
#include "store.h"
#include "writer.h"

#define VERIFY_PIECE (UINT64_C(256) << 10) /* bytes of a body read at once */

struct storage_verify {
        struct storage *storage;
        struct storage_verify_config config;
        struct background background;
        struct storage_verify_progress progress; /* each number atomic */

        uint64_t due_usec; /* CLOCK_MONOTONIC: when what was read so far is paid for */
        uint8_t *buffer;   /* for pieces of bodies */
        struct quarantine quarantine;
        bool has_dropped; /* records that could not be read: nobody knows what they were */
        bool has_unnoted; /* blobs that records name are noted as nobody's still */
};

static inline bool verify_is_stopped(struct storage_verify *verify) {
        return background_is_stopped(&verify->background);
}

static inline void verify_pause(struct storage_verify *verify, enum verify_point point) {
        const struct storage_hooks *hooks = &verify->storage->hooks;

        if (hooks->verify_pause)
                hooks->verify_pause(point, hooks->userdata);
}

/* Rests as long as reading that many bytes may take. */
void verify_pay(struct storage_verify *verify, uint64_t bytes);

/* Counts a finding and tells it. path: of the file, below the folder of blobs; NULL: as the finding says. */
void verify_found(struct storage_verify *verify, struct storage_finding *finding, const char *path);

/* Moves a file of the folder of blobs to quarantine: as quarantine_move(). */
int verify_quarantine(struct storage_verify *verify, const char *path, char ret[static QUARANTINE_PATH_MAX]);

/* A file that is to be nowhere: moves it where repair is asked for, and tells the finding. */
void verify_found_file(struct storage_verify *verify, enum storage_problem problem, const char *path);

/* Whether an error says that this process lacks something, and not that the object is damaged. */
bool verify_is_shortage(int error);

/* The passes. 0, also when something was found; -ECANCELED: stopped; or an errno, which ends the verification.
 *
 * verify-body.c: reads a blob and compares it: 0, or what is wrong: -ENOENT, -EMSGSIZE, -EILSEQ (the checksum), an
 * errno of reading. */
int verify_body(struct storage_verify *verify, uint64_t blob, uint64_t size, uint64_t checksum);
/* verify-records.c: every record, its body, and what is noted beside it. */
int verify_records(struct storage_verify *verify);
/* verify-files.c: what there is among the blobs. */
int verify_files(struct storage_verify *verify);
/* verify-sums.c: what is noted for no record, and the sums. */
int verify_entries(struct storage_verify *verify);
int verify_sums(struct storage_verify *verify);
