#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/sample/logprobs.h"
#include "sampling_fixture.h"

static void test_logprobs_equal_float64_log_softmax(void **state)
{
    (void)state;
    enum { N = 32064 };
    float *x = malloc(N * sizeof(*x));
    struct ranked *r = malloc(N * sizeof(*r));
    struct rng rng;
    rng_init(&rng, 3);
    for (int round = 0; round < 5; round++) {
        double sum = 0;
        for (size_t i = 0; i < N; i++) {
            x[i] = uniform(&rng, -15, 15);
            r[i] = (struct ranked){.id = (int32_t)i, .logit = (double)x[i]};
            sum += exp((double)x[i]);
        }
        qsort(r, N, sizeof(*r), compare_ranked);
        int32_t id = (int32_t)(rng_next(&rng) % N);
        struct logprobs got;
        assert_int_equal(logprobs_compute(x, N, id, 20, &got, NULL), PHID_OK);
        assert_true(fabs((double)got.chosen - ((double)x[id] - log(sum))) < 1e-5);
        assert_int_equal(got.top_count, 20);
        for (size_t i = 0; i < 20; i++) {
            assert_int_equal(got.top[i].id, r[i].id);
            assert_true(fabs((double)got.top[i].logprob - (r[i].logit - log(sum))) < 1e-5);
        }
    }
    free(x);
    free(r);
}

static void test_logprobs_ties_by_id(void **state)
{
    (void)state;
    const float x[6] = {1, 2, 1, 2, 2, 1};
    struct logprobs got;
    assert_int_equal(logprobs_compute(x, 6, 0, 4, &got, NULL), PHID_OK);
    assert_int_equal(got.top_count, 4);
    const int32_t expected[4] = {1, 3, 4, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(got.top[i].id, expected[i]);
    }
    assert_true(got.chosen == got.top[3].logprob);
}

static void test_logprobs_small_vocabulary_and_none_asked(void **state)
{
    (void)state;
    const float x[2] = {0, 0};
    struct logprobs got;
    assert_int_equal(logprobs_compute(x, 2, 1, 20, &got, NULL), PHID_OK);
    assert_int_equal(got.top_count, 2);
    assert_true(fabs((double)got.chosen + log(2)) < 1e-6);
    assert_int_equal(logprobs_compute(x, 2, 1, 0, &got, NULL), PHID_OK);
    assert_int_equal(got.top_count, 0);
    assert_int_equal(logprobs_compute(x, 2, 1, 1000, &got, NULL), PHID_OK);
    assert_int_equal(got.top_count, 2);
    assert_int_equal(logprobs_compute(x, 1, 0, 1, &got, NULL), PHID_OK);
    assert_true(got.chosen == 0);
}

static void test_logprobs_extremes_stay_finite(void **state)
{
    (void)state;
    struct logprobs got;
    const float wide[4] = {3e38f, -3e38f, -INFINITY, 3e38f};
    assert_int_equal(logprobs_compute(wide, 4, 2, 4, &got, NULL), PHID_OK);
    assert_true(got.chosen == LOGPROBS_FLOOR);
    assert_true(fabs((double)got.top[0].logprob + log(2)) < 1e-6);
    assert_true(got.top[2].logprob == LOGPROBS_FLOOR);
    const float inf[3] = {INFINITY, 0, INFINITY};
    assert_int_equal(logprobs_compute(inf, 3, 1, 3, &got, NULL), PHID_OK);
    assert_true(got.chosen == LOGPROBS_FLOOR);
    assert_int_equal(got.top[0].id, 0);
    assert_int_equal(got.top[1].id, 2);
    assert_true(fabs((double)got.top[1].logprob + log(2)) < 1e-6);
}

static void test_logprobs_refuses(void **state)
{
    (void)state;
    struct logprobs got;
    struct phid_error err;
    const float nan[3] = {1, NAN, 2};
    assert_int_equal(logprobs_compute(nan, 3, 0, 1, &got, &err), PHID_ERR_INTERNAL);
    assert_string_equal(err.message, "the model produced NaN");
    const float none[2] = {-INFINITY, -INFINITY};
    assert_int_equal(logprobs_compute(none, 2, 0, 1, &got, &err), PHID_ERR_INTERNAL);
    const float x[2] = {0, 0};
    assert_int_equal(logprobs_compute(x, 2, 2, 1, &got, &err), PHID_ERR_ARGUMENT);
    assert_int_equal(logprobs_compute(x, 2, -1, 1, &got, &err), PHID_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logprobs_equal_float64_log_softmax),
        cmocka_unit_test(test_logprobs_ties_by_id),
        cmocka_unit_test(test_logprobs_small_vocabulary_and_none_asked),
        cmocka_unit_test(test_logprobs_extremes_stay_finite),
        cmocka_unit_test(test_logprobs_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
