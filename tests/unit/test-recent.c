/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What was sent whole a moment ago, and what was not. */

#include "harness.h"
#include "recent.h"
#include "worker.h"

#define SIZE   UINT64_C(1000)
#define SECOND UINT64_C(1000000)

static bool has(const struct worker *worker,
                uint64_t generation,
                uint64_t copy,
                uint64_t offset,
                uint64_t size) {
        return recent_has(worker, &(struct output_file){
                                                  .fd = -EBADF,
                                                  .offset = offset,
                                                  .size = size,
                                                  .copy = copy,
                                                  .generation = generation,
                                  });
}

/* The end of the body has just been sent; what came before it was sent earlier. */
static void note(struct worker *worker, uint64_t generation, uint64_t copy, bool is_whole) {
        recent_note(worker, &(struct output_item){
                                            .kind = OUTPUT_FILE,
                                            .fd = -EBADF,
                                            .offset = SIZE - 10,
                                            .size = 10,
                                            .copy = copy,
                                            .generation = generation,
                                            .is_whole = is_whole,
                            });
}

static void test_recent(void) {
        g_autofree struct worker *worker = g_new0(struct worker, 1);

        worker->now_usec = 5 * SECOND;
        g_assert_false(has(worker, 7, 0, 0, SIZE));
        g_assert_false(has(worker, 0, 0, 0, 0));

        note(worker, 7, 0, true);
        g_assert_true(has(worker, 7, 0, 0, SIZE));
        g_assert_true(has(worker, 7, 0, SIZE - 1, 1));
        g_assert_false(has(worker, 7, 0, 1, SIZE)); /* more than was sent */
        g_assert_false(has(worker, 7, 3, 0, SIZE)); /* another file */
        g_assert_false(has(worker, 8, 0, 0, SIZE));
        g_assert_false(has(worker, 7 + RECENT_MAX, 0, 0, SIZE)); /* in the same place */

        worker->now_usec += SECOND - 1;
        g_assert_true(has(worker, 7, 0, 0, SIZE));
        worker->now_usec++;
        g_assert_false(has(worker, 7, 0, 0, SIZE));

        note(worker, 8, 0, false); /* not from its beginning on */
        g_assert_false(has(worker, 8, 0, 0, SIZE));
        note(worker, 0, 0, true); /* of whatever */
        g_assert_false(has(worker, 0, 0, 0, SIZE));

        note(worker, 7 + RECENT_MAX, 0, true);
        g_assert_true(has(worker, 7 + RECENT_MAX, 0, 0, SIZE));
        g_assert_false(has(worker, 7, 0, 0, SIZE));
}

int main(int argc, char *argv[]) {
        g_test_init(&argc, &argv, NULL);
        harness_add("/recent/recent", test_recent);
        return g_test_run();
}
