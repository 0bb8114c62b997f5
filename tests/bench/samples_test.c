#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/bench/samples.h"
#include "tests/bench/tally.h"

static void test_nothing(void **state)
{
    struct samples s;
    samples_init(&s);
    samples_sort(&s);
    assert_true(samples_mean(&s) == 0 && samples_std(&s) == 0);
    assert_true(samples_percentile(&s, 99) == 0);
    samples_fini(&s);
}

/* The same numbers as numpy's mean, std and percentile give for 1000 .. 1. */
static void test_thousand(void **state)
{
    struct samples s;
    samples_init(&s);
    for (int i = 1000; i > 0; i--) {
        samples_add(&s, i);
    }
    samples_sort(&s);
    assert_false(s.failed);
    assert_float_equal(samples_mean(&s), 500.5, 1e-9);
    assert_float_equal(samples_std(&s), 288.674990, 1e-5);
    assert_float_equal(samples_percentile(&s, 0), 1, 1e-9);
    assert_float_equal(samples_percentile(&s, 50), 500.5, 1e-9);
    assert_float_equal(samples_percentile(&s, 90), 900.1, 1e-9);
    assert_float_equal(samples_percentile(&s, 99), 990.01, 1e-9);
    assert_float_equal(samples_percentile(&s, 100), 1000, 1e-9);
    samples_fini(&s);
}

static void test_append(void **state)
{
    struct samples a, b;
    samples_init(&a);
    samples_init(&b);
    samples_append(&a, &b);
    assert_int_equal(a.count, 0);
    for (int i = 0; i < 200; i++) {
        samples_add(&b, i);
    }
    samples_add(&a, 7);
    samples_append(&a, &b);
    assert_int_equal(a.count, 201);
    assert_float_equal(a.values[200], 199, 0);
    samples_clear(&a);
    assert_int_equal(a.count, 0);
    samples_fini(&a);
    samples_fini(&b);
}

/* -------------------------------------------------------------------- tally */

static struct client_result good(double ttft_ms, double e2el_ms, unsigned tokens)
{
    return (struct client_result){.outcome = OUTCOME_GOOD,
                                  .status = 200,
                                  .ttft_ms = ttft_ms,
                                  .e2el_ms = e2el_ms,
                                  .usage = {10, tokens, 4},
                                  .has_usage = true,
                                  .pieces = tokens};
}

static void test_tally(void **state)
{
    struct tally t;
    struct samples gaps;
    const struct goals goals = {.ttft_ms = 100, .tpot_ms = 20};
    struct client_result fast = good(50, 150, 11), late = good(101, 150, 11),
                         slow = good(50, 260, 11), one = good(60, 61, 1);
    struct client_result full = {.outcome = OUTCOME_REFUSED,
                                 .status = 503,
                                 .e2el_ms = 2,
                                 .well_formed = true,
                                 .has_retry_after = true,
                                 .reason = "503 overloaded"};
    struct client_result odd = {.outcome = OUTCOME_REFUSED, .status = 429, .reason = "429 odd"};
    struct client_result cut = {.outcome = OUTCOME_CUT};
    samples_init(&gaps);
    samples_add(&gaps, 10);
    samples_add(&gaps, 12);
    tally_init(&t, &goals);
    tally_add(&t, &fast, &gaps);
    tally_add(&t, &late, &gaps);
    tally_add(&t, &slow, &gaps);
    samples_clear(&gaps);
    tally_add(&t, &one, &gaps);
    tally_add(&t, &full, &gaps);
    tally_add(&t, &full, &gaps);
    tally_add(&t, &odd, &gaps);
    tally_add(&t, &cut, &gaps);
    assert_int_equal(t.good, 4);
    assert_int_equal(t.within_goals, 2); /* fast and one */
    assert_int_equal(t.refused, 3);
    assert_int_equal(t.cut, 1);
    assert_int_equal(t.malformed, 1);
    assert_int_equal(t.without_retry_after, 1);
    assert_int_equal(t.prompt_tokens, 40);
    assert_int_equal(t.cached_tokens, 16);
    assert_int_equal(t.output_tokens, 34);
    assert_int_equal(t.itl.count, 6);
    assert_int_equal(t.tpot.count, 3); /* one token has none */
    assert_float_equal(t.tpot.values[0], 10, 1e-6);
    assert_int_equal(t.reason_count, 2);
    assert_string_equal(t.reasons[0].text, "503 overloaded");
    assert_int_equal(t.reasons[0].count, 2);
    samples_fini(&gaps);
    tally_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_thousand),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_tally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
