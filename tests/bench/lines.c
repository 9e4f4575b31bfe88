/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Linked with a daemon that was built with -fsanitize=thread, in place of the sanitizer's library: it looks for no races,
 * but counts which lines of memory each thread reads and writes, the locks that it takes and what it allocates.
 *
 * What the compiler instruments is all that the program does itself. Of what is done for it, this has copies of its own:
 * what copies and compares memory (the program is built with -fno-builtin), and the system calls of a hot path that read
 * or write a buffer. Other libraries count as far as they call one of these.
 *
 * With LINES_NO_OPENAT2= openat2() fails as it does under the unit's RestrictSUIDSGID=.
 *
 * LINES_SOCKET= is a socket that listens. Over a connection to it, 'o' begins to count, from nothing, and 'c' ends it; the
 * answer is "begun", or a line for each thread and each thing that it did, and "end". Without the variable nothing is
 * counted. */

#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "syscall-arguments.h"

#define PUBLIC      __attribute__((visibility("default")))
#define LINE_SIZE   64
#define THREADS_MAX 64
#define PLACES      (1U << 18) /* of a thread */
#define HERE        ((uintptr_t) __builtin_return_address(0))

enum deed {
        NOTHING,
        READ,
        WRITE,
        LOCK,
        WAIT, /* for a lock that another thread had */
        ALLOCATE,
        FREE,
        DEEDS,
};

static const char *const deed_names[DEEDS] = {
        [READ] = "read", [WRITE] = "write",       [LOCK] = "lock",
        [WAIT] = "wait", [ALLOCATE] = "allocate", [FREE] = "free",
};

/* How often a thread did something, where in memory, from which place of the code. */
struct count {
        uintptr_t where, code;
        uint64_t n;
        uint64_t deed; /* NOTHING: free */
};

struct thread {
        struct count counts[PLACES]; /* whole pages */
        uint64_t n_lost;             /* there was no place */
        char name[16];
};

static struct thread *threads[THREADS_MAX]; /* atomic */
static unsigned n_threads;                  /* atomic */
static bool is_counting;                    /* atomic */
static __thread struct thread *own;
static __thread bool is_own_made;

static struct real {
        int (*mutex_lock)(pthread_mutex_t *mutex);
        int (*mutex_trylock)(pthread_mutex_t *mutex);
        int (*mutex_unlock)(pthread_mutex_t *mutex);
        ssize_t (*recv)(int fd, void *buffer, size_t size, int flags);
        ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
        int (*epoll_wait)(int fd, struct epoll_event *events, int n, int timeout);
        long (*syscall)(long number, ...);
        bool no_openat2;
} real_functions;

static void *find(const char *name) {
        void *p = dlsym(RTLD_NEXT, name);

        if (!p)
                errx(1, "there is no %s", name);
        return p;
}

/* The first calls come before any other thread is there, and before prepare(). */
static const struct real *real(void) {
        if (!real_functions.epoll_wait)
                real_functions = (struct real){
                        .mutex_lock = find("pthread_mutex_lock"),
                        .mutex_trylock = find("pthread_mutex_trylock"),
                        .mutex_unlock = find("pthread_mutex_unlock"),
                        .recv = find("recv"),
                        .sendmsg = find("sendmsg"),
                        .epoll_wait = find("epoll_wait"),
                        .syscall = find("syscall"),
                        .no_openat2 = getenv("LINES_NO_OPENAT2"),
                };
        return &real_functions;
}

static void make_own(void) {
        unsigned i = __atomic_fetch_add(&n_threads, 1, __ATOMIC_RELAXED);
        struct thread *thread;

        is_own_made = true;
        if (i >= THREADS_MAX)
                errx(1, "there are more than %u threads", THREADS_MAX);

        thread = mmap(NULL, sizeof(*thread), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (thread == MAP_FAILED)
                err(1, "mmap");
        (void) pthread_getname_np(pthread_self(), thread->name, sizeof(thread->name));
        own = thread;
        __atomic_store_n(&threads[i], thread, __ATOMIC_RELEASE);
}

static void count(enum deed deed, uintptr_t where, uintptr_t code) {
        size_t i;

        if (!__atomic_load_n(&is_counting, __ATOMIC_ACQUIRE))
                return;
        if (!is_own_made)
                make_own();
        if (!own)
                return; /* it is being made */

        i = (size_t) (((where ^ code << 20) + deed) * UINT64_C(0x9e3779b97f4a7c15) >> 32) % PLACES;
        for (size_t n = 0; n < 64; n++, i = (i + 1) % PLACES) {
                struct count *place = &own->counts[i];

                if (place->deed == NOTHING)
                        *place = (struct count){ .where = where, .code = code, .deed = deed };
                if (place->where == where && place->code == code && place->deed == deed) {
                        place->n++;
                        return;
                }
        }
        own->n_lost++;
}

static void touch(enum deed deed, const volatile void *p, size_t size, uintptr_t code) {
        uintptr_t begin = (uintptr_t) p / LINE_SIZE, end = ((uintptr_t) p + size + LINE_SIZE - 1) / LINE_SIZE;

        for (uintptr_t line = begin; size > 0 && line < end; line++)
                count(deed, line * LINE_SIZE, code);
}

/* ---- what the compiler calls ---- */

/* There are no declarations of these: the compiler knows them. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define ACCESS(name, deed, size)             \
        PUBLIC void __tsan_##name(void *p) { \
                touch(deed, p, size, HERE);  \
        }
#define ACCESSES(size)                             \
        ACCESS(read##size, READ, size)             \
        ACCESS(write##size, WRITE, size)           \
        ACCESS(unaligned_read##size, READ, size)   \
        ACCESS(unaligned_write##size, WRITE, size) \
        ACCESS(volatile_read##size, READ, size)    \
        ACCESS(volatile_write##size, WRITE, size)

ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

PUBLIC void __tsan_read_range(void *p, size_t size) {
        touch(READ, p, size, HERE);
}

PUBLIC void __tsan_write_range(void *p, size_t size) {
        touch(WRITE, p, size, HERE);
}

PUBLIC void __tsan_init(void) {
}

PUBLIC void __tsan_func_entry(__attribute__((unused)) void *caller) {
}

PUBLIC void __tsan_func_exit(void) {
}

PUBLIC void __tsan_atomic_thread_fence(__attribute__((unused)) int order) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

PUBLIC void __tsan_atomic_signal_fence(int order) {
        (void) order;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

#define CHANGE(bits, type, name)                                                   \
        PUBLIC type __tsan_atomic##bits##_##name(type *p, type value, int order) { \
                (void) order;                                                      \
                touch(WRITE, p, sizeof(*p), HERE);                                 \
                return __atomic_##name(p, value, __ATOMIC_SEQ_CST);                \
        }

/* One that finds another value has taken the line all the same. */
#define EXCHANGE_IF(bits, type, strength)                                                                 \
        PUBLIC int __tsan_atomic##bits##_compare_exchange_##strength(type *p, type *expected, type value, \
                                                                     int order, int failed_order) {       \
                (void) order;                                                                             \
                (void) failed_order;                                                                      \
                touch(WRITE, p, sizeof(*p), HERE);                                                        \
                return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,           \
                                                   __ATOMIC_SEQ_CST);                                     \
        }

#define ATOMIC(bits, type)                                                         \
        PUBLIC type __tsan_atomic##bits##_load(const type *p, int order) {         \
                (void) order;                                                      \
                touch(READ, p, sizeof(*p), HERE);                                  \
                return __atomic_load_n(p, __ATOMIC_SEQ_CST);                       \
        }                                                                          \
        PUBLIC void __tsan_atomic##bits##_store(type *p, type value, int order) {  \
                (void) order;                                                      \
                touch(WRITE, p, sizeof(*p), HERE);                                 \
                __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                      \
        }                                                                          \
        CHANGE(bits, type, exchange_n)                                             \
        CHANGE(bits, type, fetch_add)                                              \
        CHANGE(bits, type, fetch_sub)                                              \
        CHANGE(bits, type, fetch_and)                                              \
        CHANGE(bits, type, fetch_or)                                               \
        CHANGE(bits, type, fetch_xor)                                              \
        EXCHANGE_IF(bits, type, strong)                                            \
        EXCHANGE_IF(bits, type, weak)                                              \
        PUBLIC type __tsan_atomic##bits##_exchange(type *p, type value, int order) \
                        __attribute__((alias("__tsan_atomic" #bits "_exchange_n")));

ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

/* ---- what the program calls; volatile: no compiler is to make calls of the same of it ---- */

PUBLIC void *memcpy(void *restrict to, const void *restrict from, size_t size) {
        volatile uint8_t *p = to;
        const uint8_t *q = from;

        touch(READ, from, size, HERE);
        touch(WRITE, to, size, HERE);
        for (size_t i = 0; i < size; i++)
                p[i] = q[i];
        return to;
}

PUBLIC void *memmove(void *to, const void *from, size_t size) {
        volatile uint8_t *p = to;
        const uint8_t *q = from;

        touch(READ, from, size, HERE);
        touch(WRITE, to, size, HERE);
        if ((uintptr_t) to < (uintptr_t) from)
                for (size_t i = 0; i < size; i++)
                        p[i] = q[i];
        else
                for (size_t i = size; i-- > 0;)
                        p[i] = q[i];
        return to;
}

PUBLIC void *memset(void *to, int byte, size_t size) {
        volatile uint8_t *p = to;

        touch(WRITE, to, size, HERE);
        for (size_t i = 0; i < size; i++)
                p[i] = (uint8_t) byte;
        return to;
}

PUBLIC int memcmp(const void *a, const void *b, size_t size) {
        const volatile uint8_t *p = a, *q = b;

        touch(READ, a, size, HERE);
        touch(READ, b, size, HERE);
        for (size_t i = 0; i < size; i++)
                if (p[i] != q[i])
                        return p[i] < q[i] ? -1 : 1;
        return 0;
}

PUBLIC ssize_t recv(int fd, void *buffer, size_t size, int flags) {
        ssize_t n = real()->recv(fd, buffer, size, flags);

        touch(WRITE, buffer, n > 0 ? (size_t) n : 0, HERE);
        return n;
}

PUBLIC ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
        for (size_t i = 0; i < message->msg_iovlen; i++)
                touch(READ, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len, HERE);
        touch(READ, message->msg_control, message->msg_controllen, HERE);
        return real()->sendmsg(fd, message, flags);
}

PUBLIC int epoll_wait(int fd, struct epoll_event *events, int n_max, int timeout) {
        int n = real()->epoll_wait(fd, events, n_max, timeout);

        touch(WRITE, events, n > 0 ? (size_t) n * sizeof(*events) : 0, HERE);
        return n;
}

PUBLIC long syscall(long number, ...) {
        long a[SYSCALL_ARGUMENTS];
        va_list list;

        va_start(list, number);
        take_arguments(a, list);
        va_end(list);

        if (number == SYS_openat2 && real()->no_openat2) {
                errno = EPERM;
                return -1;
        }
        return real()->syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

PUBLIC int pthread_mutex_lock(pthread_mutex_t *mutex) {
        count(LOCK, (uintptr_t) mutex, HERE);
        touch(WRITE, mutex, sizeof(*mutex), HERE);
        if (real()->mutex_trylock(mutex) == 0)
                return 0;

        count(WAIT, (uintptr_t) mutex, HERE);
        return real()->mutex_lock(mutex);
}

PUBLIC int pthread_mutex_trylock(pthread_mutex_t *mutex) {
        count(LOCK, (uintptr_t) mutex, HERE);
        touch(WRITE, mutex, sizeof(*mutex), HERE);
        return real()->mutex_trylock(mutex);
}

PUBLIC int pthread_mutex_unlock(pthread_mutex_t *mutex) {
        touch(WRITE, mutex, sizeof(*mutex), HERE);
        return real()->mutex_unlock(mutex);
}

/* The C library's allocator, by the names that it has for who replaces it. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

PUBLIC void *malloc(size_t size) {
        count(ALLOCATE, 0, HERE);
        return __libc_malloc(size);
}

PUBLIC void *calloc(size_t n, size_t size) {
        count(ALLOCATE, 0, HERE);
        return __libc_calloc(n, size);
}

PUBLIC void *realloc(void *p, size_t size) {
        count(ALLOCATE, 0, HERE);
        return __libc_realloc(p, size);
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size) {
        count(ALLOCATE, 0, HERE);
        return __libc_memalign(alignment, size);
}

PUBLIC void free(void *p) {
        if (p)
                count(FREE, 0, HERE);
        __libc_free(p);
}

/* ---- who asks ---- */

static void begin(FILE *f) {
        for (size_t i = 0; i < THREADS_MAX; i++) {
                struct thread *thread = __atomic_load_n(&threads[i], __ATOMIC_ACQUIRE);

                if (thread) {
                        if (madvise(thread->counts, sizeof(thread->counts), MADV_DONTNEED) < 0)
                                err(1, "madvise");
                        thread->n_lost = 0;
                }
        }
        __atomic_store_n(&is_counting, true, __ATOMIC_RELEASE);
        fprintf(f, "begun\n");
}

static void end(FILE *f) {
        __atomic_store_n(&is_counting, false, __ATOMIC_RELEASE);
        for (size_t i = 0; i < THREADS_MAX; i++) {
                const struct thread *thread = __atomic_load_n(&threads[i], __ATOMIC_ACQUIRE);

                if (!thread)
                        continue;
                fprintf(f, "thread %s %" PRIu64 "\n", thread->name, thread->n_lost);
                for (size_t j = 0; j < PLACES; j++) {
                        const struct count *place = &thread->counts[j];

                        if (place->deed != NOTHING)
                                fprintf(f, "%s %" PRIxPTR " %" PRIxPTR " %" PRIu64 "\n",
                                        deed_names[place->deed], place->where, place->code, place->n);
                }
        }
        fprintf(f, "end\n");
}

static void *serve(void *userdata) {
        FILE *f = userdata;

        is_own_made = true; /* what it does itself is not counted */
        for (int c; (c = fgetc(f)) != EOF;) {
                if (c == 'o')
                        begin(f);
                else if (c == 'c')
                        end(f);
                (void) fflush(f);
        }
        (void) fclose(f);
        return NULL;
}

__attribute__((constructor)) static void prepare(void) {
        const char *path = getenv("LINES_SOCKET");
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        sigset_t all, before;
        pthread_t thread;
        FILE *f;
        int fd;

        if (!path)
                return;

        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                err(1, "%s", path);
        f = fdopen(fd, "r+");
        if (!f)
                err(1, "fdopen");

        /* Signals are the program's own. */
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        if (pthread_create(&thread, NULL, serve, f) != 0)
                errx(1, "there can be no thread");
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
}
