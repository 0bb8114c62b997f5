/* Quantized activations: the same numbers in both orders of codes, and in spans. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/backend/cpu/q8.h"

enum { TOKENS = 11, COLS = 320, BLOCKS = COLS / R16_BLOCK };

struct held {
    struct q8 q8;
    unsigned char *memory;
    size_t bytes;
};

/* Tiles of 4 rows, of which the last has fewer. */
static void held_init(struct held *h, bool row_codes, size_t terms)
{
    struct cpu_kernels kernels = cpu_kernels_scalar;
    kernels.row_codes = row_codes;
    struct cpu_layout layout = {0};
    q8_place(&h->q8, &layout, terms, Q8_PROMPTS_INT8, TOKENS, COLS);
    h->bytes = layout.used;
    assert_int_equal(posix_memalign((void **)&h->memory, CPU_ALIGN, h->bytes), 0);
    memset(h->memory, 0, h->bytes);
    layout = (struct cpu_layout){.data = h->memory};
    q8_place(&h->q8, &layout, terms, Q8_PROMPTS_INT8, TOKENS, COLS);
    q8_start(&h->q8, &kernels, TOKENS, 0, COLS, Q8_ALL);
    float x[COLS];
    for (size_t token = 0; token < TOKENS; token++) {
        for (size_t i = 0; i < COLS; i++) {
            x[i] = sinf((float)(token * COLS + i) * 1.7f) * (float)(1 + i / R16_BLOCK);
        }
        /* In two parts, the second beyond what is quantized at once. */
        q8_put(&h->q8, &kernels, token, 1, BLOCKS - 1, x + R16_BLOCK);
        q8_put(&h->q8, &kernels, token, 0, 1, x);
    }
}

static void assert_same_tile(const struct q8_tile *fours, const struct q8_tile *rows)
{
    assert_int_equal(rows->tokens, fours->tokens);
    for (size_t token = 0; token < rows->tokens; token++) {
        for (size_t b = 0; b < BLOCKS; b++) {
            const int8_t *row = rows->codes + (b * rows->tokens + token) * R16_BLOCK;
            for (size_t k = 0; k < R16_BLOCK; k++) {
                size_t step = b * R16_STEPS + k / 4;
                int8_t code = fours->codes[(step * fours->tokens + token) * 4 + k % 4];
                assert_int_equal(row[k], code);
            }
        }
    }
}

/* Prompts' rows behind the others, which may have two terms: one scale for each span, the last one
 * shorter. What is held is what was put, to half a step. */
static void holds_spans(size_t terms)
{
    enum { ROWS = 10, SPANS = 3 };
    struct cpu_kernels kernels = cpu_kernels_scalar;
    kernels.w8_quantize = w8_quantize;
    kernels.sum_base = 7;
    kernels.sum_step = 3;
    struct q8 q8;
    struct cpu_layout layout = {0};
    unsigned char *memory = NULL;
    q8_place(&q8, &layout, terms, Q8_PROMPTS_W8, TOKENS + ROWS, COLS);
    assert_int_equal(posix_memalign((void **)&memory, CPU_ALIGN, layout.used), 0);
    layout = (struct cpu_layout){.data = memory};
    q8_place(&q8, &layout, terms, Q8_PROMPTS_W8, TOKENS + ROWS, COLS);
    q8_start(&q8, &kernels, TOKENS + ROWS, ROWS, COLS, Q8_ALL);
    assert_int_equal(q8_put_blocks(&q8), W8_BLOCKS);
    static float x[TOKENS + ROWS][COLS];
    for (size_t token = TOKENS + ROWS; token-- > 0;) { /* the others last: they overwrite nothing */
        for (size_t i = 0; i < COLS; i++) {
            x[token][i] = sinf((float)(token * COLS + i) * 1.7f) * (float)(1 + i / W8_COLS);
        }
        q8_put(&q8, &kernels, token, W8_BLOCKS, BLOCKS - W8_BLOCKS, x[token] + W8_COLS);
        q8_put(&q8, &kernels, token, 0, W8_BLOCKS, x[token]);
    }
    size_t row = TOKENS;
    for (size_t t = 0; t < q8_prompt_tiles(&q8); t++) {
        const struct q8_tile tile = q8_prompt_view(&q8, t);
        for (size_t token = 0; token < tile.tokens; token++, row++) {
            int32_t sums[SPANS] = {0};
            for (size_t i = 0; i < COLS; i++) {
                int8_t code = tile.codes[(i / 4 * tile.tokens + token) * 4 + i % 4];
                float scale = tile.scale[i / W8_COLS * tile.tokens + token];
                assert_float_equal((float)code * scale, x[row][i], 0.51f * scale);
                sums[i / W8_COLS] += code;
            }
            for (size_t span = 0; span < SPANS; span++) {
                assert_int_equal(tile.start[span * tile.tokens + token], 7 - 3 * sums[span]);
            }
        }
    }
    assert_int_equal(row, TOKENS + ROWS);
    free(memory);
}

static void test_q8_holds_spans(void **state)
{
    (void)state;
    holds_spans(1);
    holds_spans(2);
}

static void test_q8_orders_hold_the_same(void **state)
{
    (void)state;
    for (size_t terms = 1; terms <= 2; terms++) {
        struct held fours = {0};
        struct held rows = {0};
        held_init(&fours, false, terms);
        held_init(&rows, true, terms);
        assert_int_equal(rows.q8.rows, TOKENS * terms);
        for (size_t t = 0; t < q8_tiles(&rows.q8); t++) {
            struct q8_tile a = q8_tile_view(&fours.q8, t);
            struct q8_tile b = q8_tile_view(&rows.q8, t);
            assert_false(a.row_codes);
            assert_true(b.row_codes);
            assert_same_tile(&a, &b);
        }
        size_t codes = TOKENS * terms * COLS;
        assert_memory_equal(rows.memory + codes, fours.memory + codes, rows.bytes - codes);
        free(fours.memory);
        free(rows.memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_q8_orders_hold_the_same),
        cmocka_unit_test(test_q8_holds_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
