/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which files there are, and in which order they count. */

#include "config.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include "macro.h"
#include "namespace.h"
#include "setting.h"

#define N_FOLDERS 4

void config_init(struct config *config) {
        *config = (struct config){};
        setting_apply_defaults(config, false);
}

void config_done(struct config *config) {
        if (!config)
                return;

        for (size_t i = 0; i < config->n_namespaces; i++)
                namespace_done(&config->namespaces[i]);
        free(config->namespaces);
        for (size_t i = 0; i < config->n_files; i++)
                free(config->files[i]);
        free(config->files);
        free(config->store_directory);
        free(config->cache_path);
        config->namespaces = NULL;
        config->n_namespaces = 0;
        config->files = NULL;
        config->n_files = 0;
        config->store_directory = config->cache_path = NULL;
}

struct config config_take(struct config *config) {
        struct config taken = *config;

        config->namespaces = NULL;
        config->n_namespaces = 0;
        config->files = NULL;
        config->n_files = 0;
        config->store_directory = config->cache_path = NULL;
        return taken;
}

void config_visit_settings(
                void (*visit)(const char *section, const char *name, const char *initial, void *userdata),
                void *userdata) {
        for (size_t i = 0; i < n_settings; i++)
                visit(settings[i].section, settings[i].name, settings[i].initial, userdata);
}

struct loader {
        struct config config;
        config_message_fn message;
        void *userdata;
        char *folders[N_FOLDERS]; /* the first counts most; NULL where there is none */
        char **drop_ins;          /* paths, in no order */
        size_t n_drop_ins;
        int result; /* of the first file that was wrong */

        int (*visit)(const char *path, void *userdata);
};

static void loader_done(struct loader *loader) {
        config_done(&loader->config);
        for (size_t i = 0; i < N_FOLDERS; i++)
                free(loader->folders[i]);
        for (size_t i = 0; i < loader->n_drop_ins; i++)
                free(loader->drop_ins[i]);
        free(loader->drop_ins);
}

static void complain(struct loader *loader, const char *path, int error, const char *what) {
        char text[PATH_MAX + 256];

        if (loader->result == 0)
                loader->result = error;
        if (!loader->message)
                return;

        (void) snprintf(text, sizeof(text), "%.*s: %s: %s.", PATH_MAX - 1, path, what,
                        error == -EINVAL ? "not a regular file" : strerror(-error));
        loader->message(LOG_ERR, path, 0, text, loader->userdata);
}

/* Reads all of fd, but stops one byte past what a file may have. */
static int read_all(int fd, char **ret_text, size_t *ret_size) {
        _cleanup_free_ char *text = malloc(CONFIG_FILE_MAX + 1);
        size_t size = 0;

        if (!text)
                return -ENOMEM;

        while (size < CONFIG_FILE_MAX + 1) {
                ssize_t n = read(fd, text + size, CONFIG_FILE_MAX + 1 - size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t) n;
        }

        *ret_text = TAKE_PTR(text);
        *ret_size = size;
        return 0;
}

static int add_file(struct config *config, const char *path) {
        char **files = reallocarray(config->files, config->n_files + 1, sizeof(char *));

        if (!files)
                return -ENOMEM;
        config->files = files;

        files[config->n_files] = strdup(path);
        if (!files[config->n_files])
                return -ENOMEM;

        config->n_files++;
        return 0;
}

/* Returns 1 when it was read (wrong or not: loader->result knows), 0 when there is none, -ENOMEM. */
static int load_file(struct loader *loader, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t size = 0;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT)
                return 0;
        if (fd < 0) {
                complain(loader, path, -errno, "Can't open");
                return 1;
        }

        if (fstat(fd, &st) < 0) {
                complain(loader, path, -errno, "Can't read");
                return 1;
        }
        if (S_ISCHR(st.st_mode)) /* /dev/null: masked */
                return 1;
        if (!S_ISREG(st.st_mode)) {
                complain(loader, path, -EINVAL, "Can't read");
                return 1;
        }

        r = read_all(fd, &text, &size);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                complain(loader, path, r, "Can't read");
                return 1;
        }

        r = add_file(&loader->config, path);
        if (r < 0)
                return r;

        r = config_parse(&loader->config, path, text, size, loader->message, loader->userdata);
        if (r == -ENOMEM)
                return r;
        if (r < 0 && loader->result == 0)
                loader->result = r;

        return 1;
}

static char *join(const char *first, const char *second, const char *third) {
        char *joined;

        return asprintf(&joined, "%s%s%s", first, second, third) < 0 ? NULL : joined;
}

/* $NAME/objmapper, or $HOME/BELOW/objmapper where $NAME is not set; NULL stays where neither is. */
static int user_folder(const char *root, const char *name, const char *below, char **ret) {
        const char *folder = name ? getenv(name) : NULL, *home = getenv("HOME");
        _cleanup_free_ char *path = NULL;

        if (folder && folder[0] == '/')
                path = join(root, folder, "/objmapper");
        else if (below && home && home[0] == '/')
                path = join(home, below, "/objmapper");
        else
                return 0;

        if (!path)
                return -ENOMEM;
        if (!(folder && folder[0] == '/') && *root) {
                *ret = join(root, path, "");
                return *ret ? 0 : -ENOMEM;
        }

        *ret = TAKE_PTR(path);
        return 0;
}

static int find_folders(struct loader *loader, const struct config_source *source) {
        static const char *const system_folders[N_FOLDERS] = {
                "/etc/objmapper",
                "/run/objmapper",
                "/usr/local/lib/objmapper",
                "/usr/lib/objmapper",
        };
        const char *root = source->root ?: "";
        int r;

        if (source->user) {
                r = user_folder(root, "XDG_CONFIG_HOME", "/.config", &loader->folders[0]);
                if (r < 0)
                        return r;
                r = user_folder(root, "XDG_RUNTIME_DIR", NULL, &loader->folders[1]);
                if (r < 0)
                        return r;
                return user_folder(root, NULL, "/.local/share", &loader->folders[2]);
        }

        for (size_t i = 0; i < N_FOLDERS; i++) {
                loader->folders[i] = join(root, system_folders[i], "");
                if (!loader->folders[i])
                        return -ENOMEM;
        }

        return 0;
}

static const char *base_name(const char *path) {
        return strrchr(path, '/') + 1;
}

static int add_drop_in(struct loader *loader, const char *folder, const char *name) {
        char **drop_ins, *path;

        for (size_t i = 0; i < loader->n_drop_ins; i++)
                if (strcmp(base_name(loader->drop_ins[i]), name) == 0)
                        return 0; /* a folder that counts more has it, or masks it */

        path = join(folder, "/", name);
        if (!path)
                return -ENOMEM;

        drop_ins = reallocarray(loader->drop_ins, loader->n_drop_ins + 1, sizeof(char *));
        if (!drop_ins) {
                free(path);
                return -ENOMEM;
        }

        loader->drop_ins = drop_ins;
        loader->drop_ins[loader->n_drop_ins++] = path;
        return 0;
}

static void close_dir(DIR **dir) {
        if (*dir)
                (void) closedir(*dir);
}

static int find_drop_ins(struct loader *loader, const char *folder) {
        _cleanup_(close_dir) DIR *dir = NULL;

        dir = opendir(folder);
        if (!dir) {
                if (errno == ENOMEM)
                        return -ENOMEM;
                if (errno != ENOENT)
                        complain(loader, folder, -errno, "Can't open");
                return 0;
        }

        for (;;) {
                struct dirent *entry;
                size_t size;
                int r;

                errno = 0;
                entry = readdir(dir);
                if (!entry) {
                        if (errno != 0)
                                complain(loader, folder, -errno, "Can't read");
                        return 0;
                }

                size = strlen(entry->d_name);
                if (entry->d_name[0] == '.' || size < strlen("x.conf") ||
                    strcmp(entry->d_name + size - strlen(".conf"), ".conf") != 0)
                        continue;

                r = add_drop_in(loader, folder, entry->d_name);
                if (r < 0)
                        return r;
        }
}

static int compare_names(const void *a, const void *b) {
        return strcmp(base_name(*(char *const *) a), base_name(*(char *const *) b));
}

/* Calls each for every path that may be a file of the configuration, in the order in which they count. each
 * returns 1 when there is such a file, 0 when there is none, or an errno. */
static int visit_all(struct loader *loader,
                     const struct config_source *source,
                     int (*each)(struct loader *loader, const char *path)) {
        bool found = false;
        int r;

        r = find_folders(loader, source);
        if (r < 0)
                return r;

        for (size_t i = 0; i < N_FOLDERS; i++) {
                _cleanup_free_ char *stem = NULL, *main_file = NULL, *drop_ins = NULL;

                if (!loader->folders[i])
                        continue;

                stem = join(loader->folders[i], "/", source->name);
                if (!stem)
                        return -ENOMEM;
                main_file = join(stem, ".conf", "");
                drop_ins = join(stem, ".conf.d", "");
                if (!main_file || !drop_ins)
                        return -ENOMEM;

                if (!found) {
                        r = each(loader, main_file);
                        if (r < 0)
                                return r;
                        found = r > 0;
                }

                r = find_drop_ins(loader, drop_ins);
                if (r < 0)
                        return r;
        }

        if (loader->n_drop_ins > 0)
                qsort(loader->drop_ins, loader->n_drop_ins, sizeof(char *), compare_names);
        for (size_t i = 0; i < loader->n_drop_ins; i++) {
                r = each(loader, loader->drop_ins[i]);
                if (r < 0)
                        return r;
        }

        return 0;
}

int config_load(struct config *ret,
                const struct config_source *source,
                config_message_fn message,
                void *userdata) {
        _cleanup_(loader_done) struct loader loader = { .message = message, .userdata = userdata };
        int r;

        assert(ret);
        assert(source);
        assert(source->file || source->name);

        config_init(&loader.config);

        if (source->file) {
                r = load_file(&loader, source->file);
                if (r == 0)
                        complain(&loader, source->file, -ENOENT, "Can't open");
        } else
                r = visit_all(&loader, source, load_file);
        if (r < 0)
                return r;

        r = config_check(&loader.config, message, userdata);
        if (r == -ENOMEM)
                return r;
        if (loader.result == 0 && r < 0)
                loader.result = r;
        if (loader.result < 0)
                return loader.result;

        r = config_resolve(&loader.config, message, userdata);
        if (r < 0)
                return r;

        *ret = config_take(&loader.config);
        return 0;
}

static int visit_file(struct loader *loader, const char *path) {
        struct stat st;
        int r;

        if (stat(path, &st) < 0) {
                if (errno == ENOENT)
                        return 0;
        } else if (S_ISCHR(st.st_mode))
                return 1; /* masked */

        r = loader->visit(path, loader->userdata);
        return r < 0 ? r : 1;
}

int config_visit_files(const struct config_source *source,
                       int (*visit)(const char *path, void *userdata),
                       void *userdata) {
        _cleanup_(loader_done) struct loader loader = { .visit = visit, .userdata = userdata };

        assert(source);
        assert(visit);

        return source->file ? visit(source->file, userdata) : visit_all(&loader, source, visit_file);
}
