/* RMSNorm in parts: quantized column by column or row by row, divided afterwards. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/backend/cpu/input.h"

enum { ROWS = 11, COLS = 160, THREADS = 2, BLOCKS = COLS / R16_BLOCK };

static const float eps = 1e-5f;

struct fixture {
    struct block_model model;
    struct backend b;
    struct cpu_matrix matrix;
    struct cpu_product product;
    unsigned char *memory;
    float x[ROWS * COLS];
    float weight[COLS];
};

static void place(struct fixture *f, struct cpu_layout *layout)
{
    struct cpu_scratch *s = &f->b.scratch;
    q8_place(&s->q8, layout, 1, Q8_PROMPTS_INT8, ROWS, COLS);
    q8_place(&s->mixed, layout, 1, Q8_PROMPTS_INT8, ROWS, COLS);
    s->roots.squares = cpu_layout_part(layout, ROWS, BLOCKS * sizeof(float));
    s->roots.inverse = cpu_layout_part(layout, ROWS, THREADS * sizeof(float));
    s->roots.run = cpu_layout_part(layout, THREADS, ROOTS_STRIDE * sizeof(uint64_t));
}

static void fixture_init(struct fixture *f)
{
    struct phid_error err;
    *f = (struct fixture){0};
    f->model.norm_eps = eps;
    f->b.model = &f->model;
    f->b.kernels = &cpu_kernels_scalar;
    f->b.max_rows = ROWS;
    f->matrix.order = CPU_ORDER_R16;
    f->matrix.r16.kind = R16_Q4_K;
    f->product.matrix = &f->matrix;
    assert_int_equal(pool_new(THREADS, &f->b.pool, &err), PHID_OK);
    struct cpu_layout layout = {0};
    place(f, &layout);
    assert_false(layout.failed);
    assert_int_equal(posix_memalign((void **)&f->memory, CPU_ALIGN, layout.used), 0);
    memset(f->memory, 0, layout.used);
    layout = (struct cpu_layout){.data = f->memory};
    place(f, &layout);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        f->x[i] = sinf((float)i * 1.7f) * (float)(1 + i / COLS);
    }
    for (size_t i = 0; i < COLS; i++) {
        f->weight[i] = 0.5f + (float)(i % 7) * 0.25f;
    }
}

static void fixture_fini(struct fixture *f)
{
    pool_free(f->b.pool);
    free(f->memory);
}

static struct cpu_input input_of(const struct fixture *f, float *normed)
{
    return (struct cpu_input){.x = f->x, .weight = f->weight, .normed = normed, .cols = COLS};
}

/* Row r, column c of what is ready, as the products see it. */
static double element(const struct fixture *f, size_t row, size_t col, const float *roots)
{
    const struct q8 *q8 = f->b.scratch.ready;
    struct q8_tile tile = q8_tile_view(q8, row / q8->tile_tokens);
    size_t token = row % q8->tile_tokens, block = col / R16_BLOCK, k = col % R16_BLOCK;
    size_t four = q8_four(tile.row_codes, tile.tokens, token, k / 4);
    size_t at = block * tile.tokens * R16_BLOCK + four * 4 + k % 4;
    return (double)tile.codes[at] * (double)tile.scale[block * tile.tokens + token] *
           (double)roots[row];
}

static void test_input_norm_is_divided_later(void **state)
{
    struct fixture f;
    fixture_init(&f);
    float normed[ROWS * COLS];
    const struct cpu_input in = input_of(&f, normed);
    cpu_input_prepare(&f.b, &in, ROWS, &f.product, 1);
    assert_ptr_equal(f.b.scratch.ready, &f.b.scratch.q8);
    const float *roots = cpu_input_roots(&f.b, 1);
    for (size_t row = 0; row < ROWS; row++) {
        double squares = 0;
        double largest = 0;
        for (size_t i = 0; i < COLS; i++) {
            double x = (double)f.x[row * COLS + i];
            squares += x * x;
            largest = fmax(largest, fabs(x));
        }
        double root = 1 / sqrt(squares / COLS + (double)eps);
        assert_true(fabs((double)roots[row] / root - 1) < 1e-6);
        for (size_t i = 0; i < COLS; i++) {
            double want = (double)f.x[row * COLS + i] * root * (double)f.weight[i];
            assert_true(fabs(element(&f, row, i, roots) - want) < largest * root * 2 / 127);
        }
    }
    fixture_fini(&f);
}

static void test_input_parts_same_bits(void **state)
{
    struct fixture f;
    fixture_init(&f);
    struct cpu_scratch *s = &f.b.scratch;
    int8_t codes[ROWS * COLS];
    float scale[ROWS * BLOCKS], sums[ROWS * BLOCKS], roots[ROWS];
    float normed[ROWS * COLS];
    const struct cpu_input in = input_of(&f, normed);
    cpu_input_prepare(&f.b, &in, ROWS, &f.product, 1);
    memcpy(codes, s->q8.codes, sizeof(codes));
    memcpy(scale, s->q8.scale, sizeof(scale));
    memcpy(sums, s->q8.scaled_sum, sizeof(sums));
    memcpy(roots, cpu_input_roots(&f.b, 0), sizeof(roots));
    memset(s->q8.codes, 0, sizeof(codes));
    memset(s->q8.scale, 0, sizeof(scale));
    memset(s->q8.scaled_sum, 0, sizeof(sums));
    memset(s->roots.squares, 0, ROWS * BLOCKS * sizeof(float));
    struct cpu_norm norm;
    assert_true(cpu_norm_begin(&f.b, &in, ROWS, &f.product, 1, &norm));
    cpu_norm_then(&norm, 2 * R16_BLOCK, 3 * R16_BLOCK, 1);
    cpu_norm_then(&norm, 0, R16_BLOCK, 0);
    cpu_norm_then(&norm, R16_BLOCK, R16_BLOCK, 1);
    cpu_norm_end(&f.b);
    assert_memory_equal(codes, s->q8.codes, sizeof(codes));
    assert_memory_equal(scale, s->q8.scale, sizeof(scale));
    assert_memory_equal(sums, s->q8.scaled_sum, sizeof(sums));
    assert_memory_equal(roots, cpu_input_roots(&f.b, 0), sizeof(roots)); /* not the old ones */
    assert_memory_equal(roots, cpu_input_roots(&f.b, 1), sizeof(roots));
    cpu_input_take(&f.b, &s->mixed);
    assert_null(cpu_input_roots(&f.b, 0));
    fixture_fini(&f);
}

/* Zero times something would be an answer that looks right. */
static void test_input_of_rows_that_are_not_finite(void **state)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN, 3e38f};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fixture f;
        fixture_init(&f);
        float normed[ROWS * COLS];
        const struct cpu_input in = input_of(&f, normed);
        f.x[3 * COLS + 70] = bad[i];
        cpu_input_prepare(&f.b, &in, ROWS, &f.product, 1);
        const float *roots = cpu_input_roots(&f.b, 0);
        for (size_t row = 0; row < ROWS; row++) {
            assert_true(row == 3 ? isnan(roots[row]) : isfinite(roots[row]) && roots[row] > 0);
        }
        fixture_fini(&f);
    }
}

static void test_input_for_floats_is_whole(void **state)
{
    struct fixture f;
    fixture_init(&f);
    float normed[ROWS * COLS] = {0};
    const struct cpu_input in = input_of(&f, normed);
    struct cpu_norm norm;
    f.matrix.order = CPU_ORDER_LANES;
    assert_false(cpu_norm_begin(&f.b, &in, ROWS, &f.product, 1, &norm));
    cpu_input_prepare(&f.b, &in, ROWS, &f.product, 1);
    assert_null(f.b.scratch.ready);
    assert_null(cpu_input_roots(&f.b, 0));
    double squares = 0;
    for (size_t i = 0; i < COLS; i++) {
        squares += (double)normed[4 * COLS + i] / (double)f.weight[i] *
                   (double)normed[4 * COLS + i] / (double)f.weight[i];
    }
    assert_true(fabs(squares / COLS - 1) < 1e-4);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_input_norm_is_divided_later),
        cmocka_unit_test(test_input_parts_same_bits),
        cmocka_unit_test(test_input_of_rows_that_are_not_finite),
        cmocka_unit_test(test_input_for_floats_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
