#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/sample/softmax.h"
#include "engine/sample/truncate.h"
#include "sampling_fixture.h"

enum { MAX_N = 33000 };

struct scratch {
    float *logits, *weights;
    int32_t *ids;
    struct ranked *ranked;
    bool *wanted;
};

static int setup(void **state)
{
    struct scratch *s = calloc(1, sizeof(*s));
    s->logits = calloc(MAX_N, sizeof(*s->logits));
    s->weights = calloc(MAX_N, sizeof(*s->weights));
    s->ids = calloc(MAX_N, sizeof(*s->ids));
    s->ranked = calloc(MAX_N, sizeof(*s->ranked));
    s->wanted = calloc(MAX_N, sizeof(*s->wanted));
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scratch *s = *state;
    free(s->logits);
    free(s->weights);
    free(s->ids);
    free(s->ranked);
    free(s->wanted);
    free(s);
    return 0;
}

enum shape { SMOOTH, FEW_VALUES, EQUAL, WITH_INFINITIES, ZEROS, SHAPES };

static void fill(float *x, size_t n, enum shape shape, struct rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        switch (shape) {
        case SMOOTH:
            x[i] = uniform(rng, -20, 10);
            break;
        case FEW_VALUES:
            x[i] = (float)(rng_next(rng) % 5);
            break;
        case EQUAL:
            x[i] = -1.5f;
            break;
        case WITH_INFINITIES:
            x[i] = rng_next(rng) % 2 == 0 ? -INFINITY : uniform(rng, -5, 5);
            break;
        default:
            x[i] = rng_next(rng) % 2 == 0 ? 0.0f : -0.0f;
            break;
        }
    }
}

/* Marks the first `count` of the ranking. */
static void mark(struct scratch *s, const float *x, size_t n, size_t count)
{
    for (size_t i = 0; i < n; i++) {
        s->ranked[i] = (struct ranked){.id = (int32_t)i, .logit = (double)x[i]};
        s->wanted[i] = false;
    }
    qsort(s->ranked, n, sizeof(*s->ranked), compare_ranked);
    for (size_t i = 0; i < count; i++) {
        s->wanted[s->ranked[i].id] = true;
    }
}

static void check_kept(const struct scratch *s, const struct candidates *c, const float *x,
                       size_t n, size_t count)
{
    assert_false(c->all);
    assert_int_equal(c->count, count);
    for (size_t i = 0; i < c->count; i++) {
        assert_true(c->ids[i] >= 0 && (size_t)c->ids[i] < n);
        assert_true(i == 0 || c->ids[i] > c->ids[i - 1]);
        assert_true(s->wanted[c->ids[i]]);
        assert_true(c->weights[i] == x[c->ids[i]]);
    }
}

static void test_truncate_top_k_equals_sorting(void **state)
{
    struct scratch *s = *state;
    struct rng rng;
    rng_init(&rng, 11);
    static const size_t sizes[] = {1, 2, 7, 100, 1025, 4097, 32064};
    static const size_t ks[] = {1, 2, 3, 20, 40, 200, 300, 5000};
    for (size_t a = 0; a < sizeof(sizes) / sizeof(sizes[0]); a++) {
        for (enum shape shape = SMOOTH; shape < SHAPES; shape++) {
            size_t n = sizes[a];
            fill(s->logits, n, shape, &rng);
            for (size_t b = 0; b < sizeof(ks) / sizeof(ks[0]); b++) {
                size_t k = ks[b] < n ? ks[b] : n;
                mark(s, s->logits, n, k);
                struct candidates c = {
                    .weights = s->weights, .ids = s->ids, .count = n, .all = true};
                truncate_top_k(&c, s->logits, n, k);
                check_kept(s, &c, s->logits, n, k);
            }
        }
    }
}

static void test_truncate_top_k_in_place(void **state)
{
    struct scratch *s = *state;
    struct rng rng;
    rng_init(&rng, 12);
    fill(s->logits, 5000, SMOOTH, &rng);
    memcpy(s->weights, s->logits, 5000 * sizeof(float));
    mark(s, s->logits, 5000, 50);
    struct candidates c = {.weights = s->weights, .ids = s->ids, .count = 5000, .all = true};
    truncate_top_k(&c, s->weights, 5000, 50);
    check_kept(s, &c, s->logits, 5000, 50);
}

static void test_truncate_top_p_equals_sorting(void **state)
{
    struct scratch *s = *state;
    struct rng rng;
    rng_init(&rng, 13);
    static const size_t sizes[] = {1, 2, 7, 100, 1025, 32064};
    /* Not at sums that the few values could meet exactly, where rounding decides. */
    static const float ps[] = {1e-6f, 0.1234f, 0.5137f, 0.9011f, 0.99123f, 0.9999f};
    for (size_t a = 0; a < sizeof(sizes) / sizeof(sizes[0]); a++) {
        for (enum shape shape = SMOOTH; shape < SHAPES; shape++) {
            for (size_t b = 0; b < sizeof(ps) / sizeof(ps[0]); b++) {
                size_t n = sizes[a];
                fill(s->logits, n, shape, &rng);
                s->logits[n / 2] = 1;
                float max = softmax_scan(s->logits, n).max;
                double total = softmax_weights(s->logits, n, max, 1, s->logits);
                mark(s, s->logits, n, 0);
                double sum = 0;
                size_t count = 0;
                while (count < n && (count == 0 || sum < (double)ps[b] * total)) {
                    sum += s->ranked[count++].logit;
                }
                mark(s, s->logits, n, count);
                memcpy(s->weights, s->logits, n * sizeof(float));
                struct candidates c = {
                    .weights = s->weights, .ids = s->ids, .count = n, .all = true};
                truncate_top_p(&c, total, ps[b]);
                check_kept(s, &c, s->logits, n, count);
            }
        }
    }
}

static void test_truncate_top_p_close_to_one_keeps_what_rounding_leaves(void **state)
{
    struct scratch *s = *state;
    for (size_t i = 0; i < 30000; i++) {
        s->weights[i] = 0.1f;
    }
    struct candidates c = {.weights = s->weights, .ids = s->ids, .count = 30000, .all = true};
    /* A total above what the bins add up to. */
    truncate_top_p(&c, 30000 * (double)0.1f * (1 + 1e-6), nextafterf(1, 0));
    assert_int_equal(c.count, 30000);
}

static void test_truncate_min_p(void **state)
{
    struct scratch *s = *state;
    const float w[6] = {0.05f, 1, 0.1f, 0.0999f, 0, 0.5f};
    memcpy(s->weights, w, sizeof(w));
    struct candidates c = {.weights = s->weights, .ids = s->ids, .count = 6, .all = true};
    truncate_min_p(&c, 0.1f);
    assert_int_equal(c.count, 3);
    assert_int_equal(c.ids[0], 1);
    assert_int_equal(c.ids[1], 2);
    assert_int_equal(c.ids[2], 5);
    truncate_min_p(&c, 1);
    assert_int_equal(c.count, 1);
    assert_int_equal(c.ids[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_truncate_top_k_equals_sorting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncate_top_k_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncate_top_p_equals_sorting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncate_top_p_close_to_one_keeps_what_rounding_leaves,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncate_min_p, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
