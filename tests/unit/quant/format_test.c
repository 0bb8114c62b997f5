#include "quant/format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "engine/base/file_map.h"
#include "engine/base/rng.h"

static struct file_map vectors; /* format_vectors.bin; see make_vectors.py */

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Calls check for every record of one kind (0 decode, 1 encode); returns a bit set of the types
 * seen. */
static uint64_t each_vector(uint32_t kind, void (*check)(const struct quant_format *format,
                                                         const unsigned char *blocks, size_t bytes,
                                                         const float *weights, size_t n))
{
    uint64_t seen = 0;
    for (size_t at = 0; at < vectors.size;) {
        uint32_t head[4];
        memcpy(head, vectors.data + at, sizeof head);
        const unsigned char *blocks = vectors.data + at + sizeof head;
        size_t n = head[1];
        float *weights = malloc(n * sizeof(float));
        assert_non_null(weights);
        memcpy(weights, blocks + head[2], n * sizeof(float));
        const struct quant_format *format = quant_format_find(head[0]);
        assert_non_null(format);
        assert_int_equal(quant_row_bytes(format, n), head[2]);
        if (head[3] == kind) {
            check(format, blocks, head[2], weights, n);
            seen |= (uint64_t)1 << head[0];
        }
        free(weights);
        at += sizeof head + head[2] + n * sizeof(float);
    }
    return seen;
}

static void check_decode(const struct quant_format *format, const unsigned char *blocks,
                         size_t bytes, const float *weights, size_t n)
{
    /* At every alignment a row can have in a file. */
    for (size_t shift = 0; shift < 4; shift++) {
        unsigned char *copy = malloc(bytes + shift);
        float *out = malloc(n * sizeof(float));
        assert_true(copy != NULL && out != NULL);
        memcpy(copy + shift, blocks, bytes);
        format->decode(copy + shift, out, n);
        for (size_t i = 0; i < n; i++) {
            if (bits_of(out[i]) != bits_of(weights[i])) {
                fail_msg("%s weight %zu: %a, expected %a", format->name, i, (double)out[i],
                         (double)weights[i]);
            }
        }
        free(copy);
        free(out);
    }
}

static void test_format_decode_equals_reference(void **state)
{
    uint64_t seen = each_vector(0, check_decode);
    for (size_t i = 0; quant_format_at(i) != NULL; i++) {
        assert_true(seen >> quant_format_at(i)->type & 1);
    }
}

static void check_encode(const struct quant_format *format, const unsigned char *blocks,
                         size_t bytes, const float *weights, size_t n)
{
    unsigned char *out = malloc(bytes);
    assert_non_null(out);
    format->encode(weights, out, n);
    assert_memory_equal(out, blocks, bytes);
    free(out);
}

static void test_format_encode_equals_reference(void **state)
{
    uint64_t seen = each_vector(1, check_encode);
    assert_true(seen >> QUANT_Q4_0 & seen >> QUANT_Q5_0 & seen >> QUANT_Q8_0 & seen >> QUANT_F16 &
                1);
}

static void test_format_table(void **state)
{
    size_t count = 0;
    for (; quant_format_at(count) != NULL; count++) {
        const struct quant_format *format = quant_format_at(count);
        assert_ptr_equal(quant_format_find((uint32_t)format->type), format);
        assert_ptr_equal(quant_format_find_name(str_of(format->name)), format);
        assert_string_equal(quant_type_name((uint32_t)format->type), format->name);
        assert_true(count == 0 || quant_format_at(count - 1)->type < format->type);
        assert_int_equal(quant_row_bytes(format, 768),
                         768 / format->block_weights * format->block_bytes);
        assert_int_equal(quant_row_bytes(format, format->block_weights + 1),
                         format->block_weights == 1 ? 2 * format->block_bytes : 0);
        assert_int_equal(quant_row_bytes(format, 0), 0);
    }
    assert_int_equal(count, 25);
    assert_int_equal(quant_row_bytes(quant_format_find(QUANT_F32), SIZE_MAX / 2), 0);
    assert_ptr_equal(quant_format_find_name(STR("q4_k")), quant_format_find(QUANT_Q4_K));
    assert_null(quant_format_find_name(STR("q4_")));
    assert_null(quant_format_find_name(STR("")));
    assert_null(quant_format_find_name(STR("q4_kk")));
}

static void test_format_unknown_types(void **state)
{
    static const uint32_t nothing[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, 99, 999, UINT32_MAX};
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++) {
        assert_null(quant_type_name(nothing[i]));
        assert_null(quant_format_find(nothing[i]));
    }
    assert_string_equal(quant_type_name(16), "IQ2_XXS");
    assert_string_equal(quant_type_name(40), "NVFP4");
    assert_null(quant_format_find(40));
}

static void test_format_f16_every_value_round_trips(void **state)
{
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f = quant_f16_to_f32((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00) {
            assert_true(isnan(f));
            assert_int_equal(quant_f32_to_f16(f), h | 0x200); /* made quiet, payload kept */
            continue;
        }
        assert_int_equal(quant_f32_to_f16(f), h);
        uint32_t exponent = h >> 10 & 31;
        double expected =
            exponent == 0 ? ldexp(h & 0x3ff, -24) : ldexp((h & 0x3ff) | 0x400, (int)exponent - 25);
        if (exponent == 31) {
            expected = INFINITY;
        }
        assert_true((double)f == ((h & 0x8000) != 0 ? -expected : expected));
        assert_int_equal(signbit(f) != 0, h >> 15);
    }
}

static void test_format_f16_rounds_to_even(void **state)
{
    /* Halfway between two neighbours, and a hair to either side, for every pair of finite positive
     * halves. */
    for (uint16_t h = 0; h < 0x7bff; h++) {
        double low = (double)quant_f16_to_f32(h);
        double high = (double)quant_f16_to_f32((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2); /* exact */
        uint16_t even = (h & 1) == 0 ? h : (uint16_t)(h + 1);
        assert_int_equal(quant_f32_to_f16(middle), even);
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(quant_f32_to_f16(-middle), even | 0x8000);
    }
    assert_int_equal(quant_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(quant_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(quant_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(quant_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(quant_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(quant_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(quant_f32_to_f16(1e-45f), 0);
}

static void test_format_bf16_every_value_round_trips(void **state)
{
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f = quant_bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        bool nan = (h & 0x7fff) > 0x7f80;
        assert_int_equal(quant_f32_to_bf16(f), nan ? h | 0x40 : h);
        if ((h & 0x7f80) != 0x7f80) {
            /* Halfway goes to the even one, a hair more upwards, a hair less downwards. */
            assert_int_equal(quant_f32_to_bf16(float_of(h << 16 | 0x8000)),
                             (h & 1) == 0 ? h : h + 1);
            assert_int_equal(quant_f32_to_bf16(float_of(h << 16 | 0x8001)), h + 1);
            assert_int_equal(quant_f32_to_bf16(float_of(h << 16 | 0x7fff)), h);
        }
    }
    assert_true(isnan(quant_bf16_to_f32(
        quant_f32_to_bf16(float_of(0x7f800001))))); /* payload in the lower half */
}

enum { ROW = 3072, ROWS = 16 };

/* Relative root mean square of the error on Gaussian rows. The bounds are 8 % above what the
 * reference quantizer reaches on such rows. */
static void test_format_encode_error(void **state)
{
    static const struct {
        enum quant_type type;
        double reference;
    } bounds[] = {
        {QUANT_F32, 0},
        {QUANT_F16, 0.0002},
        {QUANT_BF16, 0.0017},
        {QUANT_Q8_0, 0.0054},
        {QUANT_Q6_K, 0.017},
        {QUANT_Q5_K, 0.035},
        {QUANT_Q4_K, 0.071},
        {QUANT_Q3_K, 0.144},
        {QUANT_Q2_K, 0.268},
        {QUANT_Q5_1, 0.034},
        {QUANT_Q5_0, 0.040},
        {QUANT_Q4_1, 0.070},
        {QUANT_Q4_0, 0.082},
        {QUANT_IQ4_NL, 0.075},
        {QUANT_IQ4_XS, 0.076},
        /* These as this encoder does them: */
        {QUANT_MXFP4, 0.107},
        {QUANT_IQ3_S, 0.123},
        {QUANT_IQ3_XXS, 0.168},
        {QUANT_IQ2_S, 0.227},
        {QUANT_IQ2_XS, 0.271},
        {QUANT_IQ2_XXS, 0.312},
        {QUANT_IQ1_M, 0.393},
        {QUANT_IQ1_S, 0.425},
        {QUANT_TQ2_0, 0.415},
        {QUANT_TQ1_0, 0.415},
    };
    static float x[ROW];
    static float y[ROW];
    static unsigned char blocks[ROW * sizeof(float)];
    /* The size of the weights must not matter. */
    static const float sizes[] = {1.0f, 0.02f, 30.0f};
    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
        const struct quant_format *format = quant_format_find((uint32_t)bounds[b].type);
        struct rng rng;
        rng_init(&rng, 42);
        for (size_t s = 0; s < 3; s++) {
            double error = 0;
            double square = 0;
            for (int row = 0; row < ROWS; row++) {
                for (int i = 0; i < ROW; i++) {
                    x[i] = sizes[s] * rng_normal(&rng);
                }
                format->encode(x, blocks, ROW);
                format->decode(blocks, y, ROW);
                for (int i = 0; i < ROW; i++) {
                    error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
                    square += (double)x[i] * (double)x[i];
                }
            }
            double relative = sqrt(error / square);
            if (relative > 1.08 * bounds[b].reference) {
                fail_msg("%s: %g at size %g, expected at most 1.08 * %g", format->name, relative,
                         (double)sizes[s], bounds[b].reference);
            }
        }
    }
}

/* Encoding what was decoded must find nearly the same weights again. */
static void test_format_encode_is_stable(void **state)
{
    static float x[ROW];
    static float y[ROW];
    static unsigned char blocks[ROW * sizeof(float)];
    for (size_t f = 0; quant_format_at(f) != NULL; f++) {
        const struct quant_format *format = quant_format_at(f);
        struct rng rng;
        rng_init(&rng, f);
        for (int i = 0; i < ROW; i++) {
            x[i] = rng_normal(&rng);
        }
        format->encode(x, blocks, ROW);
        format->decode(blocks, x, ROW);
        format->encode(x, blocks, ROW);
        format->decode(blocks, y, ROW);
        double error = 0;
        double square = 0;
        for (int i = 0; i < ROW; i++) {
            error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
            square += (double)x[i] * (double)x[i];
        }
        if (sqrt(error / square) > 0.02) {
            fail_msg("%s: %g", format->name, sqrt(error / square));
        }
    }
}

/* Encodes n copies of the pattern and returns the largest magnitude decoded; everything must be
 * finite. */
static float encode_extreme(const struct quant_format *format, const float *pattern, size_t count,
                            float *ret_first)
{
    float x[512];
    float y[512];
    unsigned char blocks[512 * sizeof(float)];
    for (size_t i = 0; i < 512; i++) {
        x[i] = pattern[i % count];
    }
    memset(blocks, 0xaa, sizeof blocks);
    format->encode(x, blocks, 512);
    format->decode(blocks, y, 512);
    float largest = 0;
    for (size_t i = 0; i < 512; i++) {
        if (!isfinite(y[i])) {
            fail_msg("%s: weight %zu is %g", format->name, i, (double)y[i]);
        }
        largest = fmaxf(largest, fabsf(y[i]));
    }
    *ret_first = y[0];
    return largest;
}

static void test_format_encode_extremes_stay_finite(void **state)
{
    static const float zeros[] = {0.0f, -0.0f};
    static const float broken[] = {NAN, 1.0f, INFINITY, -1.0f, -INFINITY, 0.5f, -0.5f, 0.25f};
    static const float large[] = {3e38f, -3e38f, 1.0f, -2e38f};
    static const float tiny[] = {1e-45f, -1e-40f, 1e-38f};
    static const float constant[] = {0.75f};
    static const float negative[] = {-0.75f};
    static const float spike[] = {1e6f, 1e-6f, -1e-6f, 0};
    for (size_t f = 0; quant_format_at(f) != NULL; f++) {
        const struct quant_format *format = quant_format_at(f);
        float first;
        assert_true(encode_extreme(format, zeros, 2, &first) == 0.0f);
        encode_extreme(format, tiny, 3, &first);
        if (format->block_weights == 1) {
            continue; /* float types keep what they are given */
        }
        float largest = encode_extreme(format, broken, 8, &first);
        assert_true(largest > 0.5f && largest < 1.5f);
        assert_true(fabsf(first) < 0.5f); /* NaN became 0, or near it */
        encode_extreme(format, large, 4, &first);
        encode_extreme(format, spike, 4, &first);
        encode_extreme(format, constant, 1, &first);
        assert_true(fabsf(first - 0.75f) < 0.01f);
        encode_extreme(format, negative, 1, &first);
        assert_true(fabsf(first + 0.75f) < 0.01f);
    }
}

static void test_format_floats_keep_nan_and_inf(void **state)
{
    static const uint32_t types[] = {QUANT_F32, QUANT_F16, QUANT_BF16};
    static const float x[4] = {NAN, INFINITY, -INFINITY, -0.0f};
    for (size_t i = 0; i < 3; i++) {
        const struct quant_format *format = quant_format_find(types[i]);
        unsigned char bytes[16];
        float y[4];
        format->encode(x, bytes, 4);
        format->decode(bytes, y, 4);
        assert_true(isnan(y[0]));
        assert_true(y[1] == INFINITY && y[2] == -INFINITY && y[3] == 0 && signbit(y[3]));
    }
}

/* Against decoding: random blocks, of which some have a NaN or infinite scale. */
static void test_format_weights_finite(void **state)
{
    struct rng rng;
    rng_init(&rng, 9);
    for (size_t f = 0; quant_format_at(f) != NULL; f++) {
        const struct quant_format *format = quant_format_at(f);
        size_t found[2] = {0};
        for (int round = 0; round < 20000; round++) {
            unsigned char blocks[2 * 256];
            float weights[2 * 256];
            size_t n = 2 * format->block_weights;
            for (size_t i = 0; i < 2 * format->block_bytes; i++) {
                blocks[i] = (unsigned char)rng_next(&rng);
            }
            format->decode(blocks, weights, n);
            bool finite = true;
            for (size_t i = 0; i < n; i++) {
                finite = finite && isfinite(weights[i]);
            }
            bool said = quant_weights_finite(format, blocks, n);
            /* An infinite scale shows under codes of zero too: zero times infinity is NaN. */
            if (said != finite) {
                fail_msg("%s, round %d: said %d, decoded %d", format->name, round, said, finite);
            }
            found[finite]++;
        }
        assert_true(found[0] > 0 && found[1] > 0);
    }
    assert_true(quant_weights_finite(quant_format_find(QUANT_Q4_K), NULL, 0));
}

int main(int argc, char **argv)
{
    struct phid_error error;
    if (argc != 2 || file_map_open(argv[1], &vectors, &error) != PHID_OK) {
        fprintf(stderr, "usage: %s format_vectors.bin\n", argv[0]);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_decode_equals_reference),
        cmocka_unit_test(test_format_encode_equals_reference),
        cmocka_unit_test(test_format_table),
        cmocka_unit_test(test_format_unknown_types),
        cmocka_unit_test(test_format_f16_every_value_round_trips),
        cmocka_unit_test(test_format_f16_rounds_to_even),
        cmocka_unit_test(test_format_bf16_every_value_round_trips),
        cmocka_unit_test(test_format_encode_error),
        cmocka_unit_test(test_format_encode_is_stable),
        cmocka_unit_test(test_format_encode_extremes_stay_finite),
        cmocka_unit_test(test_format_floats_keep_nan_and_inf),
        cmocka_unit_test(test_format_weights_finite),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    file_map_close(&vectors);
    return failed;
}
