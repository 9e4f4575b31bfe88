/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The store where openat2() is denied, as RestrictSUIDSGID= of systemd does where a unit has it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage-harness.h"

#define LARGE ((size_t) 256 << 10)

static void deny_openat2(void) {
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog program = { .len = G_N_ELEMENTS(filter), .filter = filter };

        g_assert_cmpint(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
        g_assert_cmpint(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), ==, 0);
        g_assert_cmpint(syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0), ==, -1);
        g_assert_cmpint(errno, ==, ENOSYS);
}

static int get_now(struct shelf *shelf, const char *uri) {
        struct storage_object object = STORAGE_OBJECT_INIT;
        int r = storage_get(shelf->storage, uri, strlen(uri), STORAGE_GET_OPEN | STORAGE_GET_NOWAIT, NULL,
                            &object);

        g_assert_true(r < 0 || object.fd >= 0);
        storage_object_done(&object);
        return r;
}

/* Not at first: nobody knows then what the disk would have to be asked for. Then each time, whatever else is stored. */
static void test_nowait(void) {
        struct shelf shelf;

        shelf_init(&shelf);
        shelf.config.cache_size = 16 << 20;
        shelf_open(&shelf);
        assert_ok(put_seeded(&shelf, "a", 1, LARGE, NULL));
        assert_ok(put_seeded(&shelf, "b", 2, LARGE, NULL));

        g_assert_cmpint(get_now(&shelf, "a"), ==, -EINPROGRESS);
        assert_object(&shelf, "a", 1, 1, LARGE);
        assert_ok(get_now(&shelf, "a"));
        assert_ok(get_now(&shelf, "a"));
        g_assert_cmpint(get_now(&shelf, "b"), ==, -EINPROGRESS);
        assert_object(&shelf, "b", 1, 2, LARGE);
        assert_ok(get_now(&shelf, "a"));
        assert_ok(get_now(&shelf, "b"));

        /* Another body has another file. */
        assert_ok(put_seeded(&shelf, "a", 3, LARGE, NULL));
        g_assert_cmpint(get_now(&shelf, "a"), ==, -EINPROGRESS);
        assert_object(&shelf, "a", 1, 3, LARGE);
        assert_ok(get_now(&shelf, "a"));
        shelf_destroy(&shelf);
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        deny_openat2();
        harness_add("/storage/no-openat2/nowait", test_nowait);
        return g_test_run();
}
