#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/sample/sampler.h"
#include "sampling_fixture.h"

static void start(struct sampler *s, const struct sampler_params *p, size_t n_vocab)
{
    struct phid_error err = {0};
    if (sampler_init(s, p, n_vocab, &err) != PHID_OK) {
        fail_msg("sampler_init: %s", err.message);
    }
}

static int32_t pick(struct sampler *s, const float *logits)
{
    struct phid_error err = {0};
    int32_t id = -1;
    if (sampler_pick(s, logits, &id, &err) != PHID_OK) {
        fail_msg("sampler_pick: %s", err.message);
    }
    return id;
}

/* Draws many times from fixed logits and compares with the reference distribution by chi-square; a
 * token the reference rules out must never come. */
static void check_distribution(const struct sampler_params *p, size_t n, uint64_t seed)
{
    enum { DRAWS = 15000, MAX = 3000 };
    static float logits[MAX];
    static double expected[MAX];
    static unsigned counts[MAX];
    struct rng rng;
    rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        logits[i] = uniform(&rng, -4, 4);
    }
    memset(counts, 0, sizeof(counts));
    reference_distribution(logits, n, p, expected);
    struct sampler s;
    start(&s, p, n);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = pick(&s, logits);
        assert_in_range(id, 0, n - 1);
        counts[id]++;
        sampler_accept(&s, id, false);
    }
    double chi2 = 0, rest_expected = 0, rest = 0;
    size_t cells = 0;
    for (size_t i = 0; i < n; i++) {
        if (expected[i] == 0) {
            assert_int_equal(counts[i], 0);
        } else if (expected[i] * DRAWS < 10) { /* too rare for a cell of its own */
            rest_expected += expected[i] * DRAWS;
            rest += counts[i];
        } else {
            double difference = counts[i] - expected[i] * DRAWS;
            chi2 += difference * difference / (expected[i] * DRAWS);
            cells++;
        }
    }
    if (rest_expected >= 10) {
        chi2 += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
        cells++;
    }
    double freedom = cells > 1 ? (double)(cells - 1) : 1;
    if (chi2 > freedom + 4 * sqrt(2 * freedom) + 4) {
        fail_msg("chi-square %g with %g degrees of freedom", chi2, freedom);
    }
    sampler_fini(&s);
}

static void test_sampler_distributions(void **state)
{
    (void)state;
    static const struct {
        float temperature, top_p, min_p;
        int32_t top_k;
        size_t n;
    } cases[] = {
        {1, 1, 0, 0, 50},           {0.3f, 1, 0, 0, 50},   {2, 1, 0, 0, 50},
        {1, 1, 0, 5, 50},           {1, 1, 0, 49, 50},     {1, 1, 0, 1000, 50},
        {1, 0.5f, 0, 0, 50},        {1, 0.9f, 0, 0, 50},   {1, 0.999f, 0, 0, 50},
        {1, 1, 0.1f, 0, 50},        {1, 1, 0.9f, 0, 50},   {1, 0.8f, 0.05f, 10, 50},
        {0.7f, 0.95f, 0, 40, 3000}, {1, 0.3f, 0, 0, 3000}, {1.5f, 1, 0.02f, 2000, 3000},
        {1, 1e-6f, 0, 0, 50},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sampler_params p = sampler_params_greedy();
        p.temperature = cases[i].temperature;
        p.top_p = cases[i].top_p;
        p.min_p = cases[i].min_p;
        p.top_k = cases[i].top_k;
        p.seed = 1000 + i;
        check_distribution(&p, cases[i].n, 77 + i);
    }
}

static void test_sampler_greedy_takes_lowest_id_of_ties(void **state)
{
    (void)state;
    const float x[7] = {0, 3, 1, 3, 3, -1, 2};
    struct sampler_params p = sampler_params_greedy();
    struct sampler s;
    start(&s, &p, 7);
    assert_null(s.work);
    assert_int_equal(pick(&s, x), 1);
    sampler_fini(&s);
    p.temperature = 1;
    p.top_k = 1;
    start(&s, &p, 7);
    assert_int_equal(pick(&s, x), 1);
    sampler_fini(&s);
    p.top_k = 0;
    p.top_p = 0;
    start(&s, &p, 7);
    assert_int_equal(pick(&s, x), 1);
    sampler_fini(&s);
    const float zeros[3] = {-0.0f, 0.0f, 0.0f};
    start(&s, &p, 3);
    assert_int_equal(pick(&s, zeros), 0);
    sampler_fini(&s);
}

static void test_sampler_choice_depends_on_seed_and_step_only(void **state)
{
    (void)state;
    float x[100];
    struct rng rng;
    rng_init(&rng, 5);
    for (size_t i = 0; i < 100; i++) {
        x[i] = uniform(&rng, 0, 1);
    }
    struct sampler_params p = sampler_params_greedy();
    p.temperature = 1;
    p.seed = 42;
    int32_t first[64];
    struct sampler s, other;
    start(&s, &p, 100);
    for (int i = 0; i < 64; i++) {
        first[i] = pick(&s, x);
        assert_int_equal(pick(&s, x), first[i]); /* picking again is no new draw */
        sampler_accept(&s, 0, false);
    }
    sampler_fini(&s);
    start(&s, &p, 100);
    p.seed = 43;
    start(&other, &p, 100);
    sampler_accept(&s, 3, true);
    int same = 0;
    for (int i = 0; i < 64; i++) {
        same += pick(&other, x) == first[i];
        assert_int_equal(pick(&s, x), first[i]);
        sampler_accept(&s, 99, false);
        sampler_accept(&other, 99, false);
    }
    assert_true(same < 10);
    sampler_fini(&s);
    sampler_fini(&other);
}

static void test_sampler_leaves_logits_alone(void **state)
{
    (void)state;
    float x[300], before[300];
    struct rng rng;
    rng_init(&rng, 6);
    for (size_t i = 0; i < 300; i++) {
        x[i] = uniform(&rng, -9, 9);
    }
    memcpy(before, x, sizeof(x));
    const struct sampler_bias bias[] = {{3, 5}, {4, -100}};
    struct sampler_params p = sampler_params_greedy();
    p.temperature = 0.8f;
    p.top_k = 50;
    p.top_p = 0.9f;
    p.min_p = 0.01f;
    p.repetition_penalty = 1.3f;
    p.bias = bias;
    p.bias_count = 2;
    struct sampler s;
    start(&s, &p, 300);
    for (int i = 0; i < 20; i++) {
        sampler_accept(&s, pick(&s, x), false);
    }
    assert_memory_equal(x, before, sizeof(x));
    sampler_fini(&s);
}

static void test_sampler_penalties_change_the_choice(void **state)
{
    (void)state;
    const float x[3] = {5, 4, 3};
    struct sampler_params p = sampler_params_greedy();
    p.presence_penalty = 1.5f;
    struct sampler s;
    start(&s, &p, 3);
    sampler_accept(&s, 0, true); /* the prompt does not count */
    static const int32_t expected[] = {0, 1, 0, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pick(&s, x), expected[i]);
        sampler_accept(&s, expected[i], false);
    }
    sampler_fini(&s);
    p.presence_penalty = 0;
    p.repetition_penalty = 1.5f;
    start(&s, &p, 3);
    sampler_accept(&s, 0, true); /* here it does: 5 / 1.5 < 4 */
    assert_int_equal(pick(&s, x), 1);
    sampler_fini(&s);
}

static void test_sampler_bias_adds_bans_and_forces(void **state)
{
    (void)state;
    const float x[5] = {5, 4, 3, 2, -INFINITY};
    struct sampler_bias bias[3] = {{0, -100}, {2, 2.5f}, {1, 1}};
    struct sampler_params p = sampler_params_greedy();
    p.bias = bias;
    p.bias_count = 3;
    struct sampler s;
    start(&s, &p, 5);
    assert_int_equal(pick(&s, x), 2);
    sampler_fini(&s);

    bias[1] = (struct sampler_bias){4, 100}; /* forced although the model rules it out */
    p.temperature = 1;
    start(&s, &p, 5);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pick(&s, x), 4);
        sampler_accept(&s, 4, false);
    }
    sampler_fini(&s);

    bias[2] = (struct sampler_bias){3, 100}; /* two forced: only they come, the likelier one here */
    start(&s, &p, 5);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pick(&s, x), 3);
        sampler_accept(&s, 3, false);
    }
    sampler_fini(&s);

    bias[0] = (struct sampler_bias){3, -100}; /* banned and forced: banned */
    start(&s, &p, 5);
    assert_int_equal(pick(&s, x), 4);
    sampler_fini(&s);
}

static void test_sampler_end_tokens_banned_until_min_tokens(void **state)
{
    (void)state;
    const float x[4] = {1, 9, 8, 2};
    const int32_t ends[2] = {1, 2};
    struct sampler_params p = sampler_params_greedy();
    p.end_ids = ends;
    p.end_count = 2;
    p.min_tokens = 3;
    struct sampler s;
    start(&s, &p, 4);
    sampler_accept(&s, 0, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pick(&s, x), 3);
        sampler_accept(&s, 3, false);
    }
    assert_int_equal(pick(&s, x), 1);
    sampler_fini(&s);

    p.ignore_end = true;
    start(&s, &p, 4);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pick(&s, x), 3);
        sampler_accept(&s, 3, false);
    }
    sampler_fini(&s);

    /* A forced end token has to wait as well. */
    const struct sampler_bias bias[1] = {{2, 100}};
    p.ignore_end = false;
    p.min_tokens = 1;
    p.bias = bias;
    p.bias_count = 1;
    start(&s, &p, 4);
    assert_int_equal(pick(&s, x), 3);
    sampler_accept(&s, 3, false);
    assert_int_equal(pick(&s, x), 2);
    sampler_fini(&s);
}

static void test_sampler_extreme_logits(void **state)
{
    (void)state;
    struct sampler_params p = sampler_params_greedy();
    p.temperature = 1;
    struct sampler s;
    const float inf[4] = {1, INFINITY, 3e38f, -INFINITY};
    start(&s, &p, 4);
    assert_int_equal(pick(&s, inf), 1);
    const float lone[4] = {-INFINITY, -INFINITY, -3e38f, -INFINITY};
    assert_int_equal(pick(&s, lone), 2);
    sampler_fini(&s);

    p.top_k = 2;
    p.top_p = 0.5f;
    p.min_p = 0.5f;
    start(&s, &p, 4);
    assert_int_equal(pick(&s, inf), 1);
    assert_int_equal(pick(&s, lone), 2);
    sampler_fini(&s);

    /* Temperatures at the ends of the range. */
    p = sampler_params_greedy();
    const float x[4] = {1, 2, 3, 2.99f};
    p.temperature = 1e-45f;
    start(&s, &p, 4);
    assert_int_equal(pick(&s, x), 2);
    sampler_fini(&s);
    p.temperature = 3e38f;
    start(&s, &p, 4);
    bool seen[4] = {false};
    for (int i = 0; i < 200; i++) {
        int32_t id = pick(&s, x);
        seen[id] = true;
        sampler_accept(&s, id, false);
    }
    assert_true(seen[0] && seen[1] && seen[2] && seen[3]);
    sampler_fini(&s);
}

static void test_sampler_pick_fails_on_nan_and_nothing_left(void **state)
{
    (void)state;
    struct sampler_params p = sampler_params_greedy();
    struct phid_error err;
    struct sampler s;
    int32_t id = 77;
    const float nan[3] = {1, NAN, 2};
    const float none[3] = {-INFINITY, -INFINITY, -INFINITY};
    start(&s, &p, 3);
    assert_int_equal(sampler_pick(&s, nan, &id, &err), PHID_ERR_INTERNAL);
    assert_string_equal(err.message, "the model produced NaN");
    assert_int_equal(sampler_pick(&s, none, &id, &err), PHID_ERR_INTERNAL);
    sampler_fini(&s);
    /* Two are banned, and the model rules the third out. */
    const struct sampler_bias bias[2] = {{0, -100}, {1, -101}};
    p.bias = bias;
    p.bias_count = 2;
    p.temperature = 1;
    start(&s, &p, 3);
    const float x[3] = {1, 2, -INFINITY};
    assert_int_equal(sampler_pick(&s, x, &id, &err), PHID_ERR_ARGUMENT);
    assert_int_equal(id, 77);
    sampler_fini(&s);
}

static void test_sampler_init_refuses_bans_of_everything(void **state)
{
    (void)state;
    const struct sampler_bias all[4] = {{2, -100}, {0, -100}, {1, -100}, {2, -100}};
    const struct sampler_bias but_one[3] = {{2, -100}, {0, -100}, {2, -100}};
    const struct sampler_bias forced[3] = {{0, -100}, {1, -100}, {2, 100}};
    const int32_t end = 1, other_end = 2;
    struct {
        const struct sampler_bias *bias;
        size_t count;
        const int32_t *end;
        size_t min_tokens;
        enum phid_status expected;
    } cases[] = {
        {all, 4, NULL, 0, PHID_ERR_ARGUMENT},
        {but_one, 3, NULL, 0, PHID_OK},
        {but_one, 3, &end, 0, PHID_OK},
        {but_one, 3, &end, 1, PHID_ERR_ARGUMENT}, /* the one left ends the text */
        {forced, 3, &end, 1, PHID_OK},
        {forced, 3, &other_end, 0, PHID_OK},
        {forced, 3, &other_end, 1, PHID_ERR_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sampler_params p = sampler_params_greedy();
        struct phid_error err = {0};
        struct sampler s;
        p.bias = cases[i].bias;
        p.bias_count = cases[i].count;
        p.end_ids = cases[i].end;
        p.end_count = cases[i].end != NULL ? 1 : 0;
        p.min_tokens = cases[i].min_tokens;
        assert_int_equal(sampler_init(&s, &p, 3, &err), cases[i].expected);
        if (cases[i].expected != PHID_OK) {
            assert_string_equal(err.where, "logit_bias");
        }
        sampler_fini(&s);
    }
}

static void test_sampler_init_refuses(void **state)
{
    (void)state;
    const struct sampler_params greedy = sampler_params_greedy();
    const struct sampler_bias outside = {10, 1}, negative = {-1, 1}, nan = {0, NAN};
    const int32_t end = 10;
    struct {
        struct sampler_params p;
        const char *where;
    } cases[] = {
        {greedy, "temperature"},
        {greedy, "temperature"},
        {greedy, "temperature"},
        {greedy, "top_p"},
        {greedy, "top_p"},
        {greedy, "top_p"},
        {greedy, "top_k"},
        {greedy, "min_p"},
        {greedy, "min_p"},
        {greedy, "repetition_penalty"},
        {greedy, "frequency_penalty"},
        {greedy, "presence_penalty"},
        {greedy, "logit_bias"},
        {greedy, "logit_bias"},
        {greedy, "logit_bias"},
        {greedy, ""},
    };
    cases[0].p.temperature = -1;
    cases[1].p.temperature = NAN;
    cases[2].p.temperature = INFINITY;
    cases[3].p.top_p = -0.1f;
    cases[4].p.top_p = 1.1f;
    cases[5].p.top_p = NAN;
    cases[6].p.top_k = -1;
    cases[7].p.min_p = 1.5f;
    cases[8].p.min_p = NAN;
    cases[9].p.repetition_penalty = 0;
    cases[10].p.frequency_penalty = NAN;
    cases[11].p.presence_penalty = INFINITY;
    cases[12].p.bias = &outside;
    cases[13].p.bias = &negative;
    cases[14].p.bias = &nan;
    cases[12].p.bias_count = cases[13].p.bias_count = cases[14].p.bias_count = 1;
    cases[15].p.end_ids = &end;
    cases[15].p.end_count = 1;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sampler s;
        struct phid_error err = {0};
        assert_int_equal(sampler_init(&s, &cases[i].p, 10, &err), PHID_ERR_ARGUMENT);
        assert_string_equal(err.where, cases[i].where);
        sampler_fini(&s);
    }
    struct sampler s;
    assert_int_equal(sampler_init(&s, &greedy, 0, NULL), PHID_ERR_ARGUMENT);
    assert_int_equal(sampler_init(&s, &greedy, (size_t)INT32_MAX + 1, NULL), PHID_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sampler_distributions),
        cmocka_unit_test(test_sampler_greedy_takes_lowest_id_of_ties),
        cmocka_unit_test(test_sampler_choice_depends_on_seed_and_step_only),
        cmocka_unit_test(test_sampler_leaves_logits_alone),
        cmocka_unit_test(test_sampler_penalties_change_the_choice),
        cmocka_unit_test(test_sampler_bias_adds_bans_and_forces),
        cmocka_unit_test(test_sampler_end_tokens_banned_until_min_tokens),
        cmocka_unit_test(test_sampler_extreme_logits),
        cmocka_unit_test(test_sampler_pick_fails_on_nan_and_nothing_left),
        cmocka_unit_test(test_sampler_init_refuses),
        cmocka_unit_test(test_sampler_init_refuses_bans_of_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
