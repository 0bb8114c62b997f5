#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/sample/penalty.h"

static void test_penalty_off_costs_nothing(void **state)
{
    (void)state;
    struct penalty p;
    assert_int_equal(penalty_init(&p, 1, 0, 0, 4, NULL), PHID_OK);
    assert_false(penalty_active(&p));
    assert_null(p.counts);
    penalty_accept(&p, 2, false);
    float x[4] = {1, 2, 3, 4};
    penalty_apply(&p, x);
    assert_true(x[2] == 3);
    penalty_fini(&p);
}

static void test_penalty_repetition_covers_prompt_and_answer(void **state)
{
    (void)state;
    struct penalty p;
    assert_int_equal(penalty_init(&p, 2, 0, 0, 5, NULL), PHID_OK);
    penalty_accept(&p, 0, true);
    penalty_accept(&p, 1, false);
    penalty_accept(&p, 1, false);
    penalty_accept(&p, 4, true);
    float x[5] = {8, -8, 8, -8, -INFINITY};
    penalty_apply(&p, x);
    assert_true(x[0] == 4);
    assert_true(x[1] == -16);
    assert_true(x[2] == 8);
    assert_true(x[3] == -8);
    assert_true(x[4] == -INFINITY);
    penalty_fini(&p);
}

static void test_penalty_frequency_and_presence_cover_the_answer(void **state)
{
    (void)state;
    struct penalty p;
    assert_int_equal(penalty_init(&p, 1, 0.5f, 0.25f, 4, NULL), PHID_OK);
    penalty_accept(&p, 0, true);
    penalty_accept(&p, 0, true);
    penalty_accept(&p, 1, false);
    penalty_accept(&p, 2, true);
    for (int i = 0; i < 3; i++) {
        penalty_accept(&p, 2, false);
    }
    float x[4] = {1, 1, 1, 1};
    penalty_apply(&p, x);
    assert_true(x[0] == 1);
    assert_true(x[1] == 1 - 0.5f - 0.25f);
    assert_true(x[2] == 1 - 1.5f - 0.25f);
    assert_true(x[3] == 1);
    penalty_fini(&p);
}

static void test_penalty_all_three_in_order(void **state)
{
    (void)state;
    struct penalty p;
    assert_int_equal(penalty_init(&p, 2, 1, 10, 2, NULL), PHID_OK);
    penalty_accept(&p, 0, false);
    penalty_accept(&p, 1, false);
    float x[2] = {4, -4};
    penalty_apply(&p, x);
    assert_true(x[0] == 4.0f / 2 - 1 - 10);
    assert_true(x[1] == -4.0f * 2 - 1 - 10);
    penalty_fini(&p);
}

static void test_penalty_negative_ones_reward(void **state)
{
    (void)state;
    struct penalty p;
    assert_int_equal(penalty_init(&p, 1, -2, -1, 2, NULL), PHID_OK);
    penalty_accept(&p, 1, false);
    float x[2] = {0, 0};
    penalty_apply(&p, x);
    assert_true(x[0] == 0 && x[1] == 3);
    penalty_fini(&p);
}

static void test_penalty_extremes_give_no_nan(void **state)
{
    (void)state;
    struct penalty p;
    assert_int_equal(penalty_init(&p, 1e-38f, 3e38f, 3e38f, 4, NULL), PHID_OK);
    for (int32_t id = -1; id < 5; id++) {
        for (int i = 0; i < 10; i++) {
            penalty_accept(&p, id, false);
        }
    }
    float x[4] = {INFINITY, -INFINITY, 3e38f, 0};
    penalty_apply(&p, x);
    for (size_t i = 0; i < 4; i++) {
        assert_true(x[i] == x[i]);
    }
    penalty_fini(&p);
    penalty_fini(&p);
}

static void test_penalty_init_refuses(void **state)
{
    (void)state;
    struct penalty p;
    struct phid_error err;
    const float bad[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(penalty_init(&p, bad[i], 0, 0, 4, &err), PHID_ERR_ARGUMENT);
        assert_string_equal(err.where, "repetition_penalty");
    }
    assert_int_equal(penalty_init(&p, 1, NAN, 0, 4, &err), PHID_ERR_ARGUMENT);
    assert_string_equal(err.where, "frequency_penalty");
    assert_int_equal(penalty_init(&p, 1, 0, -INFINITY, 4, &err), PHID_ERR_ARGUMENT);
    assert_string_equal(err.where, "presence_penalty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_penalty_off_costs_nothing),
        cmocka_unit_test(test_penalty_repetition_covers_prompt_and_answer),
        cmocka_unit_test(test_penalty_frequency_and_presence_cover_the_answer),
        cmocka_unit_test(test_penalty_all_three_in_order),
        cmocka_unit_test(test_penalty_negative_ones_reward),
        cmocka_unit_test(test_penalty_extremes_give_no_nan),
        cmocka_unit_test(test_penalty_init_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
