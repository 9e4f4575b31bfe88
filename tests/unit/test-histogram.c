/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "harness.h"
#include "histogram.h"

static void test_borders(void) {
        uint64_t before = 0;

        g_assert_cmpuint(histogram_bound(0), ==, 2);
        g_assert_cmpuint(histogram_bound(1), ==, 3);
        g_assert_cmpuint(histogram_bound(2), ==, 4);
        g_assert_cmpuint(histogram_bound(3), ==, 6);
        g_assert_cmpuint(histogram_bound(HISTOGRAM_BOUNDS - 1), ==, 1U << 24);

        for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
                g_assert_cmpuint(histogram_bound(i), >, before);
                g_assert_cmpuint(histogram_bucket(histogram_bound(i)), ==, i);
                g_assert_cmpuint(histogram_bucket(before + 1), ==, i);
                before = histogram_bound(i);
        }

        g_assert_cmpuint(histogram_bucket(0), ==, 0);
        g_assert_cmpuint(histogram_bucket(before + 1), ==, HISTOGRAM_BOUNDS);
        g_assert_cmpuint(histogram_bucket(UINT64_MAX), ==, HISTOGRAM_BOUNDS);
}

static void test_merge(void) {
        struct histogram workers[3] = {}, sum = {};

        histogram_add(&workers[0], 5, 1);
        histogram_add(&workers[1], 6, 64);
        histogram_add(&workers[1], 7, 1);
        histogram_add(&workers[2], UINT64_C(1) << 30, 2);
        for (unsigned i = 0; i < 3; i++)
                histogram_merge(&sum, &workers[i]);

        g_assert_cmpuint(histogram_count(&sum), ==, 68);
        g_assert_cmpuint(sum.counts[histogram_bucket(6)], ==, 65);
        g_assert_cmpuint(sum.counts[histogram_bucket(8)], ==, 1);
        g_assert_cmpuint(sum.counts[HISTOGRAM_BOUNDS], ==, 2);
        g_assert_cmpuint(sum.sum_usec, ==, 5 + 6 * 64 + 7 + (UINT64_C(2) << 30));
        g_assert_cmpuint(histogram_count(&workers[0]), ==, 1);
}

static void test_percentiles(void) {
        struct histogram histogram = {};

        g_assert_cmpfloat(histogram_percentile(&histogram, 0.5), ==, 0);

        /* One bucket: spread evenly over it. */
        histogram_add(&histogram, 16, 100);
        g_assert_cmpfloat(histogram_percentile(&histogram, 0), ==, 12);
        g_assert_cmpfloat(histogram_percentile(&histogram, 0.5), ==, 14);
        g_assert_cmpfloat(histogram_percentile(&histogram, 1), ==, 16);

        /* Of 200, the half is at the border, and the last in a bucket far away. */
        histogram_add(&histogram, 1000, 99);
        histogram_add(&histogram, UINT64_MAX / 2, 1);
        g_assert_cmpfloat(histogram_percentile(&histogram, 0.5), ==, 16);
        g_assert_cmpfloat(histogram_percentile(&histogram, 0.51), >, 768);
        g_assert_cmpfloat(histogram_percentile(&histogram, 0.995), ==, 1024);
        g_assert_cmpfloat(histogram_percentile(&histogram, 1), ==, 1 << 24);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);

        harness_add("/histogram/borders", test_borders);
        harness_add("/histogram/merge", test_merge);
        harness_add("/histogram/percentiles", test_percentiles);

        return g_test_run();
}
