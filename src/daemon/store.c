/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "clock.h"
#include "log.h"
#include "macro.h"
#include "message-ids.h"
#include "namespaces.h"

/* Makes the folders above path, as the store makes the last one. What is wrong there the store will say. */
static void make_parents(char *path) {
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                (void) mkdir(path, 0700);
                *slash = '/';
        }
}

static int find_user_store(char **ret, const char *instance) {
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        bool has_state = state && state[0] == '/';

        if (!has_state && !(home && home[0] == '/')) {
                log_error("There is no place for the store: neither StoreDirectory= nor $XDG_STATE_HOME nor "
                          "$HOME "
                          "is set.");
                return -ENOENT;
        }

        if (asprintf(ret, "%s%s/objmapper%s%s", has_state ? state : home, has_state ? "" : "/.local/state",
                     instance ? "-" : "", instance ?: "") < 0)
                return -ENOMEM;

        make_parents(*ret);
        return 0;
}

int store_find(char **ret, const struct config *config, bool user, const char *instance) {
        const char *state = getenv("STATE_DIRECTORY");

        if (config->store_directory)
                *ret = strdup(config->store_directory);
        else if (state && state[0] == '/')
                *ret = strndup(state, strcspn(state, ":"));
        else if (user)
                return find_user_store(ret, instance);
        else {
                log_error("There is no place for the store: the unit sets no StateDirectory=, and the "
                          "configuration "
                          "no StoreDirectory=.");
                return -ENOENT;
        }

        return *ret ? 0 : -ENOMEM;
}

static void log_cache_unusable(int error, const struct log_field *fields, size_t n_fields) {
        const char *text = error == -EBUSY       ? "CachePath= is in use by another process"
                           : error == -ENOTEMPTY ? "CachePath= has files of something else in it"
                                                 : "CachePath= can't be used";

        log_write(LOG_ERR, error, MESSAGE_CACHE_FAILED, fields, n_fields,
                  "%s, the store serves all objects: %m", text);
}

/* There may be no end of it. Noisy clients are not to hide that objects are in trouble, and many of these not that the
 * store is. *more: what is to be said of those before. */
static bool may_log(bool is_of_store, char more[static LOG_DROPPED_MAX]) {
        static struct log_ratelimit of_objects = { .interval_usec = 15 * USEC_PER_SEC, .burst = 4 };
        static struct log_ratelimit of_store = { .interval_usec = 10 * USEC_PER_SEC, .burst = 4 };
        unsigned dropped;

        if (!log_ratelimit_pass(is_of_store ? &of_store : &of_objects, &dropped))
                return false;

        (void) log_dropped(dropped, more);
        return true;
}

static void on_event(enum storage_event event,
                     const void *uri,
                     size_t uri_size,
                     int error,
                     uint64_t count,
                     void *userdata) {
        const struct store_events *events = userdata;
        const char *directory = events->directory;
        const struct log_field fields[] = {
                LOG_FIELD_STRING("OBJMAPPER_STORE", directory),
                LOG_FIELD("OBJMAPPER_URI", uri, uri_size),
        };
        size_t n_fields = uri ? 2 : 1;
        char more[LOG_DROPPED_MAX];

        switch (event) {
        case STORAGE_EVENT_DAMAGED:
                if (may_log(false, more))
                        log_write(LOG_ERR, error, MESSAGE_STORE_DAMAGED, fields, n_fields,
                                  "Object %.*s is damaged and absent from now on: %m%s",
                                  (int) MIN(uri_size, (size_t) 256), (const char *) uri, more);
                break;
        case STORAGE_EVENT_WRITE_FAILED:
                if (may_log(true, more))
                        log_write(LOG_ERR, error, MESSAGE_STORE_WRITE_FAILED, fields, n_fields,
                                  "The store %s can't be written, changes are refused: %m%s", directory,
                                  more);
                break;
        case STORAGE_EVENT_WRITE_RECOVERED:
                if (may_log(true, more))
                        log_write(LOG_NOTICE, 0, MESSAGE_STORE_RECOVERED, fields, n_fields,
                                  "The store %s can be written again.%s", directory, more);
                break;
        case STORAGE_EVENT_BODY_WRITE_FAILED:
                if (may_log(true, more))
                        log_write(LOG_ERR, error, MESSAGE_STORE_WRITE_FAILED, fields, n_fields,
                                  "Bodies can't be written to the store %s, puts of them are refused: %m%s",
                                  directory, more);
                break;
        case STORAGE_EVENT_BODY_WRITE_RECOVERED:
                if (may_log(true, more))
                        log_write(LOG_NOTICE, 0, MESSAGE_STORE_RECOVERED, fields, n_fields,
                                  "Bodies can be written to the store %s again.%s", directory, more);
                break;
        case STORAGE_EVENT_READ_FAILED:
                if (may_log(false, more))
                        log_write(LOG_ERR, error, MESSAGE_BODY_UNREADABLE, fields, n_fields,
                                  "Object %.*s can't be read from the disk: %m%s",
                                  (int) MIN(uri_size, (size_t) 256), (const char *) uri, more);
                break;
        case STORAGE_EVENT_READ_RECOVERED:
                if (may_log(false, more))
                        log_write(LOG_NOTICE, 0, MESSAGE_BODY_READABLE, fields, n_fields,
                                  "Object %.*s can be read from the disk again.%s",
                                  (int) MIN(uri_size, (size_t) 256), (const char *) uri, more);
                break;
        case STORAGE_EVENT_VIEW_UNUSABLE:
                log_write(LOG_WARNING, error, MESSAGE_VIEW_UNUSABLE, fields, n_fields,
                          "$OBJMAPPER_BLOB_VIEW is no read-only view of %s/blobs, objects are opened "
                          "directly: %m",
                          directory);
                break;
        case STORAGE_EVENT_UPGRADED:
                log_write(LOG_NOTICE, 0, NULL, fields, n_fields,
                          "The store %s was upgraded to a newer format; its dictionary as it was is kept in "
                          "dictionary/data.mdb.%" PRIu64 ".",
                          directory, count);
                break;
        case STORAGE_EVENT_CACHE_UNUSABLE:
                log_cache_unusable(error, fields, n_fields);
                break;
        case STORAGE_EVENT_CACHE_VIEW_UNUSABLE:
                log_write(LOG_WARNING, error, MESSAGE_VIEW_UNUSABLE, fields, n_fields,
                          "$OBJMAPPER_CACHE_VIEW is no read-only view of CachePath=, copies are opened "
                          "directly: "
                          "%m");
                break;
        case STORAGE_EVENT_CACHE_FAILED:
                log_write(LOG_WARNING, error, MESSAGE_CACHE_FAILED, fields, n_fields,
                          "Objects can't be copied to CachePath=, the store serves them: %m");
                break;
        case STORAGE_EVENT_CACHE_RECOVERED:
                log_write(LOG_NOTICE, 0, MESSAGE_CACHE_RECOVERED, fields, n_fields,
                          "Objects can be copied to CachePath= again.");
                break;
        case STORAGE_EVENT_SWEPT:
                if (count > 0)
                        log_write(LOG_NOTICE, 0, MESSAGE_STORE_SWEPT, fields, n_fields,
                                  "The store %s was not closed properly: %" PRIu64
                                  " files that belong to no object were removed.",
                                  directory, count);
                if (error < 0)
                        log_write(LOG_WARNING, error, NULL, fields, n_fields,
                                  "Files in the store %s that belong to no object can't be removed, the next "
                                  "start tries again: %m",
                                  directory);
                break;
        }
}

static void log_open_failure(const char *directory, int error) {
        switch (error) {
        case -EBUSY:
                log_error("The store %s is in use by another process.", directory);
                break;
        case -EPROTONOSUPPORT:
                log_error("The store %s has a newer format than this version knows; nothing was touched. "
                          "Install the newer version again.",
                          directory);
                break;
        case -EUCLEAN:
                log_error("The store %s is damaged: one of its files is missing, or says something else than "
                          "it "
                          "should.",
                          directory);
                break;
        case -EACCES:
        case -EPERM:
                (void) log_errno(LOG_ERR, error,
                                 "The store %s can't be opened: %m. It has to belong to the user that runs "
                                 "the "
                                 "daemon.",
                                 directory);
                break;
        default:
                (void) log_errno(LOG_ERR, error, "The store %s can't be opened: %m", directory);
        }
}

static struct storage_amount amount_from(const struct config_amount *amount) {
        return (struct storage_amount){ amount->bytes, amount->percent };
}

static uint64_t object_max_from(const struct config *config) {
        return config->object_max == UINT64_MAX ? 0 : config->object_max;
}

/* The file system that a folder is on, or will be on when it was made. */
static int find_file_system(const char *directory, struct statvfs *ret) {
        _cleanup_free_ char *path = strdup(directory);

        if (!path)
                return -ENOMEM;

        while (statvfs(path, ret) < 0) {
                char *slash = strrchr(path, '/');

                if (errno != ENOENT || !slash)
                        return -errno;
                slash[slash == path] = '\0';
        }

        return 0;
}

/* What shares of the file system come to; none: without one to be asked. What is wrong there the store will say. */
static uint64_t bytes_from(const struct config_amount *amount, const char *directory, uint64_t none) {
        struct statvfs fs;

        if (amount->percent == 0)
                return amount->bytes;
        if (find_file_system(directory, &fs) < 0)
                return none;

        return (uint64_t) fs.f_blocks * fs.f_frsize / 100 * amount->percent;
}

/* What the store may hold. ret->namespaces is to be freed. */
static int limits_from_config(struct storage_limits *ret,
                              const struct config *config,
                              const char *directory) {
        struct storage_namespace *namespaces;
        struct storage_limits limits = {
                .bytes_max = bytes_from(&config->bytes_max, directory, UINT64_MAX),
                .objects_max = config->objects_max,
                .keep_free = bytes_from(&config->keep_free, directory, 0),
                .policy = policy_from(config->policy),
                .evict = config->evict,
        };
        int r;

        if (limits.bytes_max == 0)
                limits.bytes_max = 1; /* none fits, but for empty ones; 0 would be no limit */

        r = namespaces_limit(&namespaces, config, &limits);
        if (r < 0)
                return r;

        limits.namespaces = namespaces;
        limits.n_namespaces = config->n_namespaces;
        *ret = limits;
        return 0;
}

static void limits_done(struct storage_limits *limits) {
        free((struct storage_namespace *) limits->namespaces);
}

int store_reconfigure(struct storage *storage,
                      const char *directory,
                      const struct config *old,
                      const struct config *new,
                      const char **ret_setting) {
        struct storage_amount cache_path_max = amount_from(&new->cache_path_max);
        _cleanup_(limits_done) struct storage_limits limits = {};
        int r;

        r = limits_from_config(&limits, new, directory);
        if (r < 0)
                return r;
        r = storage_set_cache_size(storage, new->cache_size);
        if (r < 0) {
                *ret_setting = "CacheSize=";
                return r;
        }
        r = storage_set_limits(storage, &limits);
        if (r < 0) {
                (void) storage_set_cache_size(storage, old->cache_size);
                return r;
        }

        storage_set_object_max(storage, object_max_from(new));
        storage_set_expired_keep(storage, new->expired_keep_usec);
        storage_set_check_on_fill(storage, new->check_on_fill);
        storage_set_cache_path_max(storage, &cache_path_max);
        return 0;
}

static void on_progress(void *userdata) {
        struct store_events *events = userdata;

        extension_note_progress(&events->extension);
}

int store_open(struct storage **ret, struct store_events *events, const struct config *config) {
        const char *directory = events->directory;
        _cleanup_(limits_done) struct storage_limits limits = {};
        struct storage_config storage_config = {
                .directory = directory,
                .view = getenv("OBJMAPPER_BLOB_VIEW"),
                .inline_max = SIZE_MAX,
                .object_max = object_max_from(config),
                .expired_keep_usec = config->expired_keep_usec,
                .cache_path = config->cache_path,
                .cache_view = getenv("OBJMAPPER_CACHE_VIEW"),
                .cache_path_max = amount_from(&config->cache_path_max),
                .cache_size = config->cache_size,
                .check_on_fill = config->check_on_fill,
                .on_event = on_event,
                .on_progress = on_progress,
                .userdata = events,
        };
        const struct log_field store = LOG_FIELD_STRING("OBJMAPPER_STORE", directory);
        int r;

        r = limits_from_config(&limits, config, directory);
        if (r >= 0) {
                storage_config.limits = limits;
                r = storage_init(ret, &storage_config);
        }
        if (r < 0) {
                log_open_failure(directory, r);
                return r;
        }

        if (!storage_config.view)
                log_write(LOG_NOTICE, 0, MESSAGE_VIEW_UNUSABLE, &store, 1,
                          "There is no read-only view of %s/blobs: clients of the daemon's own user could "
                          "re-open "
                          "what they get for writing.",
                          directory);
        if (storage_config.cache_path && !storage_config.cache_view)
                log_write(LOG_NOTICE, 0, MESSAGE_VIEW_UNUSABLE, &store, 1,
                          "There is no read-only view of CachePath=: clients of the daemon's own user could "
                          "re-open "
                          "what they get for writing.");

        return 0;
}
