/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Varnish's interface for storage, which its installed headers leave out: only what is used here is declared, at the
 * offsets measured in the versions of the table in meson.build. stevedore_check() compares with the running varnishd.
 * Varnish's headers, in their order, come before this. */

#include <stddef.h>

#define STEVEDORE_MAGIC 0x4baf43db

#ifdef VARNISH_7_7
#define STEVEDORE_IDENT 184
#define STEVEDORE_SIZE  200
#define STATS_N_OBJECT  272
#else
#define STEVEDORE_IDENT 176
#define STEVEDORE_SIZE  192
#define STATS_N_OBJECT  264
#endif

struct lru;
struct obj_methods;

struct stevedore {
        unsigned magic;
        const char *name;
        void *not_used_1[3];
        int (*allocobj)(struct worker *, const struct stevedore *, struct objcore *, unsigned);
        void *not_used_2[8];
        const struct obj_methods *methods;
        struct lru *lru;
        int64_t (*free_space)(const struct stevedore *);
        int64_t (*used_space)(const struct stevedore *);
        unsigned (*happy)(const struct stevedore *);
        void *priv;
        void *not_used_3[(STEVEDORE_IDENT - 160) / sizeof(void *)];
        const char *ident;
        const char *vclname;
};

struct obj_methods {
        void (*objfree)(struct worker *, struct objcore *);
        int (*objiterator)(struct worker *, struct objcore *, void *, objiterate_f *, int);
        int (*objgetspace)(struct worker *, struct objcore *, ssize_t *, uint8_t **);
        void (*objextend)(struct worker *, struct objcore *, ssize_t);
        const void *(*objgetattr)(struct worker *, struct objcore *, enum obj_attr, ssize_t *);
        void *(*objsetattr)(struct worker *, struct objcore *, enum obj_attr, ssize_t, const void *);
        void (*objtrimstore)(struct worker *, struct objcore *);
        void (*objbocdone)(struct worker *, struct objcore *, struct boc *);
        void (*objslim)(struct worker *, struct objcore *);
        void (*objtouch)(struct worker *, struct objcore *, vtim_real);
        void (*objsetstate)(struct worker *, const struct objcore *, enum boc_state_e);
};

_Static_assert(sizeof(void *) == 8, "offsets are known for 64 bits");
_Static_assert(offsetof(struct stevedore, allocobj) == 40, "measured");
_Static_assert(offsetof(struct stevedore, methods) == 112, "measured");
_Static_assert(offsetof(struct stevedore, lru) == 120, "measured");
_Static_assert(offsetof(struct stevedore, happy) == 144, "measured");
_Static_assert(offsetof(struct stevedore, priv) == 152, "measured");
_Static_assert(offsetof(struct stevedore, ident) == STEVEDORE_IDENT, "measured");
_Static_assert(sizeof(struct stevedore) == STEVEDORE_SIZE, "measured");
_Static_assert(offsetof(struct obj_methods, objtouch) == 72, "measured");
_Static_assert(sizeof(struct obj_methods) == 88, "measured");

/* What varnishd exports and its installed headers don't declare. */
extern struct stevedore *stv_transient;
extern const struct obj_methods SML_methods;
struct lru *LRU_Alloc(void);
void LRU_Add(struct objcore *, vtim_real);
void LRU_Remove(struct objcore *);
int LRU_NukeOne(struct worker *, struct lru *);
void LRU_Touch(struct worker *, struct objcore *, vtim_real);
struct boc *HSH_RefBoc(const struct objcore *);
void HSH_DerefBoc(struct worker *, struct objcore *);

/* Varnish counts the objects that it makes of a storage; the storage those that it frees: MAIN.n_object. */
static inline void stevedore_count_freed(struct worker *worker) {
        (*(uint64_t *) ((uint8_t *) worker->stats + STATS_N_OBJECT))--;
}

struct storage;

/* Whether the running varnishd lays its storage out as it is declared here. */
bool stevedore_check(void);
/* Fills in all but the names. */
void stevedore_init(struct stevedore *stevedore, struct storage *storage);
