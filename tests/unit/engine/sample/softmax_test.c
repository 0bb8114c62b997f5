#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/sample/softmax.h"
#include "sampling_fixture.h"

static void test_softmax_scan_finds_max_and_nan_anywhere(void **state)
{
    (void)state;
    float x[37];
    for (size_t n = 1; n <= 37; n++) {
        for (size_t at = 0; at < n; at++) {
            for (size_t i = 0; i < n; i++) {
                x[i] = -(float)i - 5;
            }
            x[at] = -1;
            struct softmax_scan scan = softmax_scan(x, n);
            assert_false(scan.nan);
            assert_true(scan.max == -1);
            x[at] = NAN;
            assert_true(softmax_scan(x, n).nan);
            x[at] = INFINITY;
            scan = softmax_scan(x, n);
            assert_true(scan.max == INFINITY && !scan.nan);
        }
    }
    for (size_t i = 0; i < 37; i++) {
        x[i] = -INFINITY;
    }
    struct softmax_scan scan = softmax_scan(x, 37);
    assert_true(scan.max == -INFINITY && !scan.nan);
}

static void test_softmax_weights_accuracy(void **state)
{
    (void)state;
    enum { N = 88001 };
    float *x = malloc(N * sizeof(*x)), *w = malloc(N * sizeof(*w));
    assert_non_null(x);
    assert_non_null(w);
    for (size_t i = 0; i < N; i++) {
        x[i] = 3.0f - (float)i * 1e-3f;
    }
    double sum = softmax_weights(x, N, 3.0f, 1.0f, w);
    double expected_sum = 0;
    for (size_t i = 0; i < N; i++) {
        double expected = exp((double)x[i] - 3.0);
        expected_sum += expected;
        if (x[i] - 3.0f >= -87.0f) {
            assert_true(fabs((double)w[i] - expected) <= 1e-6 * expected);
        } else {
            assert_true(w[i] == 0);
        }
    }
    assert_true(w[0] == 1);
    assert_true(fabs(sum - expected_sum) <= 1e-6 * expected_sum);
    assert_true(softmax_sum(w, N) == sum);
    assert_true(softmax_weights(x, N, 3.0f, 1.0f, NULL) == sum);
    assert_true(softmax_weights(x, N, 3.0f, 1.0f, x) == sum);
    free(x);
    free(w);
}

static void test_softmax_weights_extremes(void **state)
{
    (void)state;
    const float x[5] = {-INFINITY, 3e38f, -3e38f, 3e38f, 0};
    float w[5];
    assert_true(softmax_weights(x, 5, 3e38f, 1.0f, w) == 2);
    assert_true(w[0] == 0 && w[1] == 1 && w[2] == 0 && w[3] == 1 && w[4] == 0);
    assert_true(softmax_weights(x, 5, 3e38f, 3e38f, w) == 2);
    assert_true(w[1] == 1 && w[4] == 0);
    const float inf[3] = {INFINITY, 1, INFINITY};
    assert_true(softmax_weights(inf, 3, INFINITY, 1.0f, w) == 2);
    assert_true(w[0] == 1 && w[1] == 0 && w[2] == 1);
}

static void test_softmax_draw_is_the_inverse_of_the_running_sum(void **state)
{
    (void)state;
    enum { N = 1112 };
    float w[N];
    struct rng rng;
    rng_init(&rng, 7);
    for (size_t i = 0; i < N; i++) {
        w[i] = i % 3 == 0 ? 0 : uniform(&rng, 0, 1);
    }
    double total = softmax_sum(w, N);
    double before = 0;
    for (size_t i = 0; i < N; i++) {
        if (w[i] > 0) {
            assert_int_equal(softmax_draw(w, N, before + 0.5 * (double)w[i]), i);
        }
        before += (double)w[i];
    }
    assert_int_equal(softmax_draw(w, N, 0), 1);
    assert_int_equal(softmax_draw(w, N, total), N - 1); /* rounding: the last positive weight */
}

static void test_softmax_draw_never_gives_a_zero_weight(void **state)
{
    (void)state;
    float w[600] = {0};
    w[300] = 1e-30f;
    assert_int_equal(softmax_draw(w, 600, 0), 300);
    assert_int_equal(softmax_draw(w, 600, 1e-30), 300);
    w[300] = 0;
    w[0] = 1;
    assert_int_equal(softmax_draw(w, 600, nextafter(1, 0)), 0);
    assert_int_equal(softmax_draw(w, 600, 1), 0);
    w[0] = 0;
    w[10] = 1;
    assert_int_equal(softmax_draw(w, 600, 1), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax_scan_finds_max_and_nan_anywhere),
        cmocka_unit_test(test_softmax_weights_accuracy),
        cmocka_unit_test(test_softmax_weights_extremes),
        cmocka_unit_test(test_softmax_draw_is_the_inverse_of_the_running_sum),
        cmocka_unit_test(test_softmax_draw_never_gives_a_zero_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
