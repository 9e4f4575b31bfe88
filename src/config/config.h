/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The configuration file and its drop-ins, with systemd's semantics: one main file and
 * objmapper.conf.d/NAME.conf from /etc, /run, /usr/local/lib and /usr/lib; of drop-ins with the same name the
 * first of these folders counts, a link to /dev/null or an empty file masks; all are read in the order of
 * their names, later settings win, an empty value resets to the default. Every message names file:line. No
 * state: any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"

/* Bytes, or a share of the file system that they are on. */
struct config_amount {
        uint64_t bytes;   /* UINT64_MAX: no limit */
        unsigned percent; /* not 0: this share counts, and not bytes */
};

/* A user or group that a setting names. */
struct config_owner {
        uint32_t id; /* by config_resolve() */
        bool known;  /* likewise; false: there is none, or the number stands for nobody in particular */
        char *name;
        char *file; /* where it is named */
        unsigned line;
};

/* All that a setting names. What is named and not known still counts: a list that is not empty is a rule. */
struct config_owners {
        struct config_owner *owners;
        size_t n_owners;
};

/* Bytes of any kind but NUL. */
struct config_prefix {
        uint8_t *data; /* NULL: not set */
        size_t size;
        char *file; /* where it is set */
        unsigned line;
};

enum config_policy {
        CONFIG_POLICY_S3FIFO,
        CONFIG_POLICY_LRU,
        CONFIG_POLICY_LFU,
};

#define CONFIG_NAMESPACES_MAX       256
#define CONFIG_NAMESPACE_NAME_MAX   32   /* bytes: it stands in the names of counters */
#define CONFIG_NAMESPACE_PREFIX_MAX 256  /* bytes */
#define CONFIG_OWNERS_MAX           1024 /* in one list */

/* [Namespace NAME] */
struct config_namespace {
        char *name;
        char *file; /* where it was begun first */
        unsigned line;

        struct config_prefix prefix; /* Prefix= */
        struct config_owners read_users, read_groups, publish_users, publish_groups;
        uint64_t bytes_max;        /* MaxBytes=; UINT64_MAX: no limit, as below */
        uint64_t objects_max;      /* MaxObjects= */
        uint64_t default_ttl_usec; /* DefaultTTLSec=; UINT64_MAX: none */
        int policy;                /* Policy=: an enum config_policy; -1: the store's */
        int evict;                 /* Evict=: 1 or 0; -1: as the store */
};

/* When a put is answered: when it is on the disk, or as soon as gets find it. */
enum config_durability {
        CONFIG_DURABLE,
        CONFIG_VISIBLE,
};

struct config {
        /* [Store] */
        char *store_directory;          /* StoreDirectory=; NULL: the daemon's default */
        uint64_t object_max;            /* MaxObjectSize=, bytes; UINT64_MAX: no limit */
        uint64_t expired_keep_usec;     /* ExpiredKeepSec=; UINT64_MAX: for ever */
        struct config_amount bytes_max; /* MaxBytes= */
        uint64_t objects_max;           /* MaxObjects=; UINT64_MAX: no limit */
        struct config_amount keep_free; /* KeepFree= */
        int policy;                     /* Policy=: an enum config_policy */
        int evict;                      /* Evict= */
        int durability;                 /* Durability=, of puts that do not say: enum config_durability */
        char *cache_path;               /* CachePath=; NULL: none */
        struct config_amount cache_path_max; /* CachePathSize= */
        uint64_t cache_size;                 /* CacheSize=, bytes of memory */
        int check_on_fill;                   /* CheckOnFill= */

        /* [Server] */
        uint64_t workers;                  /* Workers=; 0: one per processor */
        uint64_t connections_max;          /* MaxConnections= */
        uint64_t connections_per_user_max; /* MaxConnectionsPerUser= */
        uint64_t inline_max;               /* InlineMax=, bytes: what OP_AUTO answers inline */
        uint64_t pipeline_max;             /* MaxPipeline=: requests in flight in a session */
        uint64_t streams_max;              /* MaxStreams=: streamed puts open in a session */
        uint64_t fds_in_flight_max;  /* MaxDescriptorsInFlight=: sent in a session and not yet received */
        uint64_t output_max;         /* MaxOutput=, bytes of answers a session may have waiting */
        uint64_t idle_timeout_usec;  /* IdleTimeoutSec=; UINT64_MAX: never */
        uint64_t write_timeout_usec; /* WriteTimeoutSec=; a client that takes nothing for so long is dropped;
                                        UINT64_MAX: never */
        uint64_t exit_idle_usec;     /* ExitIdleSec=; UINT64_MAX: never */
        int log_level;               /* LogLevel=: syslog's number */

        struct config_namespace *namespaces; /* in the order in which they were begun */
        size_t n_namespaces;

        char **files; /* that config_load() read, in that order */
        size_t n_files;
};

/* Where messages go. text: the whole message, "file:line: ..." or "file: ..." (line is 0), valid UTF-8 where
 * file is. level: LOG_ERR, and the load fails, or LOG_WARNING. */
typedef void (*config_message_fn)(
                int level, const char *file, unsigned line, const char *text, void *userdata);

/* Every setting at its default. */
void config_init(struct config *config);
/* Frees what the struct holds; NULL is fine. */
void config_done(struct config *config);
/* Hands all of it on: config holds nothing afterwards. */
struct config config_take(struct config *config);

/* Calls visit with every setting of config, as it would be written: those of the sections that there are once, and
 * then those of each "Namespace NAME". An empty value: it is not set. Returns 0, -ENOMEM, or what visit returned when
 * that was an errno, which ends it. */
int config_visit_values(
                const struct config *config,
                int (*visit)(const char *section, const char *name, const char *value, void *userdata),
                void *userdata);

/* Every setting there is: its section, its name, and its default as it would be written. */
void config_visit_settings(
                void (*visit)(const char *section, const char *name, const char *initial, void *userdata),
                void *userdata);

/* Calls visit for each setting that is not the same in both: its section, such as "Server" or "Namespace images",
 * and its name; NULL: all of a namespace that only one of them has. needs_restart: a daemon that runs goes on with the
 * old one. Returns 0 or -ENOMEM. */
int config_compare(const struct config *old,
                   const struct config *new,
                   void (*visit)(const char *section, const char *name, bool needs_restart, void *userdata),
                   void *userdata);

/* Where to look. name: "objmapper", so that NAME.conf and NAME.conf.d are read from each folder below; root:
 * "" or a folder that stands for /; user: look in $XDG_CONFIG_HOME/objmapper, $XDG_RUNTIME_DIR/objmapper and
 * ~/.local/share/objmapper instead of the system's. file: NULL, or this file alone and nothing else. */
struct config_source {
        const char *name;
        const char *root;
        bool user;
        const char *file;
};

/* Reads, checks and resolves everything into ret, which is filled only on success. Unknown sections and settings are warnings; a
 * value that can't be understood, a line that is none, a file that can't be read is an error. No file at all
 * is fine, but for source->file. Returns 0; -EINVAL: something in the files is wrong; -ENOMEM; an errno of
 * reading. All that is wrong was told to message, -ENOMEM excepted. message may be NULL. */
int config_load(struct config *ret,
                const struct config_source *source,
                config_message_fn message,
                void *userdata);

/* Calls visit for every file that config_load() would read, in that order; masked ones are left out, those that
 * can't be read are not. Returns 0, -ENOMEM, or what visit returned when that was an errno, which ends it. */
int config_visit_files(const struct config_source *source,
                       int (*visit)(const char *path, void *userdata),
                       void *userdata);

#define CONFIG_FILE_MAX (1U << 20)  /* bytes of a file */
#define CONFIG_LINE_MAX (64U << 10) /* bytes of a line with its continuations */

/* Parses one file's text, any bytes, into config, as config_load() does. Lines that are right are applied
 * even when others are wrong. Returns 0, -EINVAL or -ENOMEM. */
int config_parse(struct config *config,
                 const char *file,
                 const char *text,
                 size_t size,
                 config_message_fn message,
                 void *userdata);

/* What can be judged only when all was parsed: each namespace has a prefix, and no two have the same. Returns 0,
 * -EINVAL or -ENOMEM. */
int config_check(struct config *config, config_message_fn message, void *userdata);

/* Looks up the users and groups that are named. Who is not there is a warning. May block on name services.
 * Returns 0, -EINVAL (a name service failed, which was told) or -ENOMEM. */
int config_resolve(struct config *config, config_message_fn message, void *userdata);
