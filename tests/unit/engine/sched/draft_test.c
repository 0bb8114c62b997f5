/* Drafts: the lookup against a naive one, and lengths that follow from hits and costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/rng.h"
#include "engine/sched/draft.h"

#define COUNT_MAX 600

static size_t naive_match(const int32_t *ids, size_t a, size_t b)
{
    size_t length = 0;
    while (length < 16 && length <= a && ids[a - length] == ids[b - length]) {
        length++;
    }
    return length;
}

/* Every place is tried. */
static size_t naive_propose(const int32_t *ids, size_t count, size_t max, int32_t *tokens)
{
    size_t best = 0, best_length = 1;
    for (size_t at = count >= 2 ? count - 2 : 0; at > 0; at--) {
        size_t length = naive_match(ids, at, count - 1);
        if (length > best_length) {
            best = at;
            best_length = length;
        }
    }
    if (best == 0) {
        return 0;
    }
    size_t n = 0;
    for (; n < max && n < best_length; n++) {
        size_t from = best + 1 + n;
        tokens[n] = from < count ? ids[from] : tokens[from - count];
    }
    return n;
}

static void test_draft_propose_as_naive(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 11);
    for (int round = 0; round < 30; round++) {
        struct draft_index d;
        assert_int_equal(draft_index_init(&d, COUNT_MAX, NULL), PHID_OK);
        int32_t ids[COUNT_MAX];
        /* Few enough occurrences of a pair for all of them to be compared. */
        uint64_t vocabulary = 20 + rng_below(&rng, 200);
        for (size_t count = 0; count < COUNT_MAX;) {
            ids[count] = count > 40 && rng_below(&rng, 4) > 0
                             ? ids[count - 37]
                             : (int32_t)rng_below(&rng, vocabulary);
            count++;
            draft_index_extend(&d, ids, count);
            size_t max = rng_below(&rng, DRAFT_MAX + 1);
            int32_t got[DRAFT_MAX], expected[DRAFT_MAX];
            size_t n = naive_propose(ids, count, max, expected);
            assert_int_equal(draft_propose(&d, ids, ids, count, max, got), n);
            assert_memory_equal(got, expected, n * sizeof(*got));
        }
        draft_index_fini(&d);
    }
}

static void test_draft_propose_repeats_a_loop(void **state)
{
    (void)state;
    struct draft_index d;
    assert_int_equal(draft_index_init(&d, 16, NULL), PHID_OK);
    const int32_t ids[] = {9, 5, 6, 5, 6, 5, 6};
    int32_t got[DRAFT_MAX];
    draft_index_extend(&d, ids, 3);
    assert_int_equal(draft_propose(&d, ids, ids, 3, DRAFT_MAX, got), 0); /* 5, 6 is new */
    draft_index_extend(&d, ids, 7);
    assert_int_equal(draft_propose(&d, ids, ids, 7, DRAFT_MAX, got), 4);
    const int32_t expected[] = {5, 6, 5, 6};
    assert_memory_equal(got, expected, sizeof(expected));
    assert_int_equal(draft_propose(&d, ids, ids, 7, 0, got), 0);
    draft_index_fini(&d);
    draft_index_fini(&d);
}

static void test_draft_propose_from_another_text(void **state)
{
    (void)state;
    struct draft_index d;
    static const int32_t text[] = {1, 2, 3, 4, 5, 2, 3, 6};
    assert_int_equal(draft_index_init(&d, 8, NULL), PHID_OK);
    draft_index_extend(&d, text, 8);
    int32_t got[DRAFT_MAX];
    assert_int_equal(draft_propose(&d, text, (const int32_t[]){1, 2, 3}, 3, DRAFT_MAX, got), 3);
    assert_memory_equal(got, text + 3, 3 * sizeof(*got)); /* 1, 2, 3 is longer than 2, 3 */
    assert_int_equal(draft_propose(&d, text, (const int32_t[]){2, 3}, 2, DRAFT_MAX, got), 1);
    assert_int_equal(got[0], 6); /* the newer one, and its end */
    assert_int_equal(draft_propose(&d, text, (const int32_t[]){3, 2}, 2, DRAFT_MAX, got), 0);
    assert_int_equal(draft_propose(&d, text, (const int32_t[]){3, 6}, 2, DRAFT_MAX, got), 0);
    draft_index_fini(&d);
}

static void test_draft_propose_short_texts(void **state)
{
    (void)state;
    struct draft_index d;
    assert_int_equal(draft_index_init(&d, 0, NULL), PHID_OK);
    static const int32_t one[] = {1};
    int32_t got[DRAFT_MAX];
    assert_int_equal(draft_propose(&d, one, one, 1, DRAFT_MAX, got), 0);
    draft_index_fini(&d);
}

static void test_draft_length_follows_cost(void **state)
{
    (void)state;
    struct draft_record r;
    draft_record_init(&r);
    assert_int_equal(draft_length(&r, 1.0, DRAFT_MAX), 0); /* rows as dear as steps never pay */
    assert_int_equal(draft_length(&r, 0, DRAFT_MAX) > 2, 1);
    for (int i = 0; i < 50; i++) {
        draft_record_step(&r, 4, 4);
    }
    assert_int_equal(draft_length(&r, 0.1, DRAFT_MAX), DRAFT_MAX);
    assert_int_equal(draft_length(&r, 0.1, 3), 3);
    assert_int_equal(draft_length(&r, 1.0, DRAFT_MAX), 0);
    for (int i = 0; i < 50; i++) {
        draft_record_step(&r, 4, 0);
    }
    assert_int_equal(draft_length(&r, 0.1, DRAFT_MAX), 0);
    for (int i = 0; i < 500; i++) { /* forgotten in time */
        draft_record_step(&r, 0, 0);
    }
    assert_int_equal(draft_length(&r, 0.1, DRAFT_MAX) > 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draft_propose_as_naive),
        cmocka_unit_test(test_draft_propose_repeats_a_loop),
        cmocka_unit_test(test_draft_propose_from_another_text),
        cmocka_unit_test(test_draft_propose_short_texts),
        cmocka_unit_test(test_draft_length_follows_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
