/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "access.h"
#include "harness.h"

static void test_session(void) {
        static const struct {
                int reader, publisher;
        } wanted[ACCESS_VERB_MAX] = {
                [ACCESS_GET] = { 0, 0 },
                [ACCESS_STAT] = { 0, 0 },
                [ACCESS_LIST] = { 0, 0 },
                [ACCESS_STATS] = { 0, 0 },
                [ACCESS_PUT] = { -EPERM, 0 },
                [ACCESS_SET_METADATA] = { -EPERM, 0 },
                [ACCESS_REMOVE] = { -EPERM, 0 },
                [ACCESS_PURGE] = { -EPERM, 0 },
                [ACCESS_RELOAD] = { -EPERM, -EPERM },
        };

        for (unsigned verb = 0; verb < ACCESS_VERB_MAX; verb++) {
                assert_errno(access_check_session(ACCESS_READER, verb), wanted[verb].reader);
                assert_errno(access_check_session(ACCESS_PUBLISHER, verb), wanted[verb].publisher);
        }
}

static void test_bus(void) {
        enum { OWN = 990, OTHER = 1000, OVERFLOW = 65534 };
        static const struct {
                int own, own_user_bus, other;
        } wanted[ACCESS_VERB_MAX] = {
                [ACCESS_GET] = { -EPERM, 0, -EPERM },    [ACCESS_STAT] = { 0, 0, 0 },
                [ACCESS_LIST] = { -EPERM, 0, -EPERM },   [ACCESS_STATS] = { 0, 0, 0 },
                [ACCESS_PUT] = { -EPERM, 0, -EPERM },    [ACCESS_SET_METADATA] = { -EPERM, 0, -EPERM },
                [ACCESS_REMOVE] = { -EPERM, 0, -EPERM }, [ACCESS_PURGE] = { -EPERM, 0, -EPERM },
                [ACCESS_RELOAD] = { 0, 0, -EPERM },
        };

        for (unsigned verb = 0; verb < ACCESS_VERB_MAX; verb++) {
                assert_errno(access_check_bus(0, OWN, false, verb), 0);
                assert_errno(access_check_bus(0, OWN, true, verb), 0);
                assert_errno(access_check_bus(OWN, OWN, false, verb), wanted[verb].own);
                assert_errno(access_check_bus(OWN, OWN, true, verb), wanted[verb].own_user_bus);
                assert_errno(access_check_bus(OTHER, OWN, false, verb), wanted[verb].other);
                assert_errno(access_check_bus(OTHER, OWN, true, verb), wanted[verb].other);
                assert_errno(access_check_bus(OVERFLOW, OWN, false, verb), wanted[verb].other);
        }
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/access/session", test_session);
        harness_add("/access/bus", test_bus);
        return g_test_run();
}
