/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The directives and variables, and what nginx must know of a module: ngx_http_objmapper_module(8). */

#include "module.h"
#include "store.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>

#define CONNECTIONS_DEFAULT 4
#define KEEP_DEFAULT_MAX    1024
#define TIMEOUT_DEFAULT     2000 /* ms */
#define STREAMS             4    /* puts likewise */
#define CROWD               32   /* gets under way on one connection, before another is used */

/* ---- what is told of a request ---- */

/* A request's is found by this, since its contexts are lost when it goes on to a named location. A subrequest has its
 * context alone. */
static void report_mark(void *data) {
        (void) data;
}

static struct report *report_find(ngx_http_request_t *r) {
        struct report *report = ngx_http_get_module_ctx(r, ngx_http_objmapper_module);

        if (report || r != r->main)
                return report;

        for (ngx_pool_cleanup_t *cleanup = r->pool->cleanup; cleanup; cleanup = cleanup->next)
                if (cleanup->handler == report_mark)
                        return cleanup->data;

        return NULL;
}

static struct report *report_new(ngx_http_request_t *r) {
        ngx_pool_cleanup_t *cleanup;

        if (r != r->main)
                return ngx_pcalloc(r->pool, sizeof(struct report));

        cleanup = ngx_pool_cleanup_add(r->pool, sizeof(struct report));
        if (!cleanup)
                return NULL;

        cleanup->handler = report_mark;
        ngx_memzero(cleanup->data, sizeof(struct report));
        return cleanup->data;
}

struct report *report_get(ngx_http_request_t *r) {
        struct report *report = report_find(r);

        if (!report)
                report = report_new(r);
        if (report)
                ngx_http_set_ctx(r, report, ngx_http_objmapper_module);

        return report;
}

static ngx_int_t set_text(ngx_http_variable_value_t *value, const char *text) {
        value->len = (unsigned) strlen(text) & 0xfffffff;
        value->data = (u_char *) text;
        value->valid = 1;
        value->no_cacheable = 1;
        value->not_found = value->len == 0;
        return NGX_OK;
}

static ngx_int_t variable_status(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data) {
        static const char *const names[] = {
                [PASS_NONE] = "",           [PASS_HIT] = "HIT",         [PASS_STALE] = "STALE",
                [PASS_MISS] = "MISS",       [PASS_EXPIRED] = "EXPIRED", [PASS_BYPASS] = "BYPASS",
                [PASS_TIMEOUT] = "TIMEOUT", [PASS_DOWN] = "DOWN",       [PASS_ERROR] = "ERROR",
        };
        const struct report *report = report_find(r);

        (void) data;
        return set_text(value, report ? names[report->status] : "");
}

static ngx_int_t variable_key(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data) {
        const struct report *report = report_find(r);

        (void) data;
        return set_text(value, report && report->key.len > 0 ? (const char *) report->key.data : "");
}

static ngx_int_t variable_store(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data) {
        const struct report *report = report_find(r);

        (void) data;
        if (!report || report->store == STORE_NONE)
                return set_text(value, "");

        return set_text(value, report->store == STORE_PUT ? "PUT" : "SKIP");
}

static ngx_int_t variable_body(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data) {
        const struct report *report = report_find(r);

        (void) data;
        if (!report || (report->status != PASS_HIT && report->status != PASS_STALE))
                return set_text(value, "");

        return set_text(value, report->from_file ? "file" : "memory");
}

static ngx_int_t variable_time(ngx_http_request_t *r, ngx_http_variable_value_t *value, uintptr_t data) {
        const struct report *report = report_find(r);
        u_char *p;

        (void) data;
        if (!report || !report->timed)
                return set_text(value, "");

        p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 5);
        if (!p)
                return NGX_ERROR;
        *ngx_sprintf(p, "%T.%03M", (time_t) (report->msec / 1000), report->msec % 1000) = 0;
        return set_text(value, (const char *) p);
}

static ngx_int_t add_variables(ngx_conf_t *cf) {
        static const struct {
                ngx_str_t name;
                ngx_http_get_variable_pt get;
        } variables[] = {
                { ngx_string("objmapper_status"), variable_status },
                { ngx_string("objmapper_key"), variable_key },
                { ngx_string("objmapper_body"), variable_body },
                { ngx_string("objmapper_time"), variable_time },
                { ngx_string("objmapper_store"), variable_store },
        };

        for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
                ngx_str_t name = variables[i].name;
                ngx_http_variable_t *variable = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);

                if (!variable)
                        return NGX_ERROR;
                variable->get_handler = variables[i].get;
        }

        return NGX_OK;
}

/* ---- the configuration ---- */

static void *create_main_conf(ngx_conf_t *cf) {
        struct main_conf *conf = ngx_pcalloc(cf->pool, sizeof(*conf));

        if (!conf || ngx_array_init(&conf->pools, cf->pool, 2, sizeof(struct pool *)) != NGX_OK)
                return NULL;

        conf->connections = NGX_CONF_UNSET_UINT;
        conf->keep = NGX_CONF_UNSET_UINT;
        return conf;
}

/* What is kept may need a descriptor each: some of those that a worker may have, which by default are not many. */
static ngx_uint_t keep_default(ngx_cycle_t *cycle) {
        const ngx_core_conf_t *core = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
        struct rlimit limit = { .rlim_cur = 0 };

        if (core->rlimit_nofile != NGX_CONF_UNSET)
                limit.rlim_cur = (rlim_t) core->rlimit_nofile;
        else
                (void) getrlimit(RLIMIT_NOFILE, &limit);

        return (ngx_uint_t) ngx_min(limit.rlim_cur / 8, (rlim_t) KEEP_DEFAULT_MAX);
}

static char *init_main_conf(ngx_conf_t *cf, void *main_conf) {
        struct main_conf *conf = main_conf;
        struct pool **pools = conf->pools.elts;

        ngx_conf_init_uint_value(conf->connections, CONNECTIONS_DEFAULT);
        ngx_conf_init_uint_value(conf->keep, keep_default(cf->cycle));
        for (ngx_uint_t i = 0; i < conf->pools.nelts; i++) {
                pools[i]->n_clients = conf->connections;
                pools[i]->keep.max = conf->keep;
        }

        return NGX_CONF_OK;
}

static void *create_location_conf(ngx_conf_t *cf) {
        struct location_conf *conf = ngx_pcalloc(cf->pool, sizeof(*conf));

        if (!conf)
                return NULL;

        conf->timeout = NGX_CONF_UNSET_MSEC;
        conf->store = NGX_CONF_UNSET_PTR;
        conf->store_valid = NGX_CONF_UNSET;
        conf->stale = NGX_CONF_UNSET;
        return conf;
}

static char *merge_location_conf(ngx_conf_t *cf, void *parent, void *child) {
        struct location_conf *prev = parent, *conf = child;
        ngx_http_core_loc_conf_t *core = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

        ngx_conf_merge_msec_value(conf->timeout, prev->timeout, TIMEOUT_DEFAULT);
        ngx_conf_merge_value(conf->stale, prev->stale, 0);
        ngx_conf_merge_ptr_value(conf->store, prev->store, NULL);
        ngx_conf_merge_value(conf->store_valid, prev->store_valid, -1);
        if (!conf->key)
                conf->key = prev->key;

        /* An "if" or "limit_except" inside a location is still that location. */
        if ((core->noname || core->lmt_excpt) && !core->handler && !conf->pass && prev->pass) {
                conf->pass = prev->pass;
                core->handler = pass_handler;
        }

        if (conf->pass)
                conf->pass->timeout = ngx_max(conf->pass->timeout, conf->timeout);
        if (conf->store)
                conf->store->timeout = ngx_max(conf->store->timeout, conf->timeout);

        return NGX_CONF_OK;
}

/* The pool for a socket, which a configuration has once for each use. */
static struct pool *find_pool(ngx_conf_t *cf, const char *path, bool publisher) {
        struct main_conf *conf = ngx_http_conf_get_module_main_conf(cf, ngx_http_objmapper_module);
        struct pool **pools = conf->pools.elts, **place, *pool;

        for (ngx_uint_t i = 0; i < conf->pools.nelts; i++)
                if (strcmp(pools[i]->path, path) == 0 && pools[i]->publisher == publisher)
                        return pools[i];

        pool = ngx_pcalloc(cf->pool, sizeof(*pool));
        place = ngx_array_push(&conf->pools);
        if (!pool || !place)
                return NULL;

        pool->path = path;
        pool->publisher = publisher;
        pool->crowd = publisher ? STREAMS : CROWD;
        keep_init(&pool->keep);
        *place = pool;
        return pool;
}

static char *read_socket(ngx_conf_t *cf, bool publisher, struct pool **ret) {
        static const char scheme[] = "unix:";
        const ngx_str_t *value = cf->args->elts;
        const char *path = (const char *) value[1].data;

        if (*ret)
                return (char *) "is duplicate";
        if (strncmp(path, scheme, sizeof(scheme) - 1) != 0 || path[sizeof(scheme) - 1] != '/')
                return (char *) "needs a socket as unix:/path";

        path += sizeof(scheme) - 1;
        if (strlen(path) >= sizeof(((struct sockaddr_un *) NULL)->sun_path))
                return (char *) "has a path that is too long for a socket";

        *ret = find_pool(cf, path, publisher);
        return *ret ? NGX_CONF_OK : NGX_CONF_ERROR;
}

static char *set_pass(ngx_conf_t *cf, ngx_command_t *command, void *location_conf) {
        struct location_conf *conf = location_conf;
        ngx_http_core_loc_conf_t *core = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
        char *r;

        (void) command;
        r = read_socket(cf, false, &conf->pass);
        if (r != NGX_CONF_OK)
                return r;

        core->handler = pass_handler;
        if (core->name.len > 0 && core->name.data[core->name.len - 1] == '/')
                core->auto_redirect = 1;
        return NGX_CONF_OK;
}

static char *set_store(ngx_conf_t *cf, ngx_command_t *command, void *location_conf) {
        struct location_conf *conf = location_conf;
        const ngx_str_t *value = cf->args->elts;
        struct pool *pool = NULL;
        char *r;

        (void) command;
        if (conf->store != NGX_CONF_UNSET_PTR)
                return (char *) "is duplicate";

        if (ngx_strcmp(value[1].data, "off") != 0) {
                r = read_socket(cf, true, &pool);
                if (r != NGX_CONF_OK)
                        return r;
        }

        conf->store = pool;
        return NGX_CONF_OK;
}

static ngx_conf_num_bounds_t keep_bounds = { ngx_conf_check_num_bounds, 0, 1000000 };
static ngx_conf_num_bounds_t connection_bounds = { ngx_conf_check_num_bounds, 1, POOL_CLIENTS_MAX };

static ngx_command_t commands[] = {
        {
                        ngx_string("objmapper_pass"),
                        NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF | NGX_CONF_TAKE1,
                        set_pass,
                        NGX_HTTP_LOC_CONF_OFFSET,
                        0,
                        NULL,
        },
        {
                        ngx_string("objmapper_key"),
                        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
                        ngx_http_set_complex_value_slot,
                        NGX_HTTP_LOC_CONF_OFFSET,
                        offsetof(struct location_conf, key),
                        NULL,
        },
        {
                        ngx_string("objmapper_timeout"),
                        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
                        ngx_conf_set_msec_slot,
                        NGX_HTTP_LOC_CONF_OFFSET,
                        offsetof(struct location_conf, timeout),
                        NULL,
        },
        {
                        ngx_string("objmapper_stale"),
                        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_FLAG,
                        ngx_conf_set_flag_slot,
                        NGX_HTTP_LOC_CONF_OFFSET,
                        offsetof(struct location_conf, stale),
                        NULL,
        },
        {
                        ngx_string("objmapper_store"),
                        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
                        set_store,
                        NGX_HTTP_LOC_CONF_OFFSET,
                        0,
                        NULL,
        },
        {
                        ngx_string("objmapper_store_valid"),
                        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
                        ngx_conf_set_sec_slot,
                        NGX_HTTP_LOC_CONF_OFFSET,
                        offsetof(struct location_conf, store_valid),
                        NULL,
        },
        {
                        ngx_string("objmapper_keep"),
                        NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
                        ngx_conf_set_num_slot,
                        NGX_HTTP_MAIN_CONF_OFFSET,
                        offsetof(struct main_conf, keep),
                        &keep_bounds,
        },
        {
                        ngx_string("objmapper_connections"),
                        NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
                        ngx_conf_set_num_slot,
                        NGX_HTTP_MAIN_CONF_OFFSET,
                        offsetof(struct main_conf, connections),
                        &connection_bounds,
        },
        ngx_null_command,
};

/* ---- the module ---- */

/* The descriptors of clients are in nginx's loop: they leave it before it looks for what was forgotten. */
static void exit_process(ngx_cycle_t *cycle) {
        struct main_conf *conf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_objmapper_module);
        struct pool **pools;

        if (!conf)
                return;

        pools = conf->pools.elts;
        for (ngx_uint_t i = 0; i < conf->pools.nelts; i++)
                pool_close(pools[i]);
}

static ngx_http_module_t context = {
        .preconfiguration = add_variables,
        .postconfiguration = store_init,
        .create_main_conf = create_main_conf,
        .init_main_conf = init_main_conf,
        .create_loc_conf = create_location_conf,
        .merge_loc_conf = merge_location_conf,
};

__attribute__((visibility("default"))) ngx_module_t ngx_http_objmapper_module = {
        NGX_MODULE_V1,
        .ctx = &context,
        .commands = commands,
        .type = NGX_HTTP_MODULE,
        .exit_process = exit_process,
        NGX_MODULE_V1_PADDING,
};

/* What nginx looks for in a dynamic module. */
extern ngx_module_t *ngx_modules[];
extern char *ngx_module_names[];
extern char *ngx_module_order[];

__attribute__((visibility("default"))) ngx_module_t *ngx_modules[] = { &ngx_http_objmapper_module, NULL };
__attribute__((visibility("default"))) char *ngx_module_names[] = { (char *) "ngx_http_objmapper_module",
                                                                    NULL };
__attribute__((visibility("default"))) char *ngx_module_order[] = { NULL };
