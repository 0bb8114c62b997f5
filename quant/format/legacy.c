/* Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: 32 weights with one scale, with or without a minimum. */
#include "quant/format/codec.h"

#include <math.h>

#include "quant/format/block.h"
#include "quant/format/format.h"
#include "quant/format/search.h"

void q4_0_decode(const void *src, float *dst, size_t n)
{
    const struct block_q4_0 *blocks = src;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, dst += BLOCK_WEIGHTS) {
        float d = quant_f16_to_f32(blocks[k].d);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((blocks[k].qs[i] & 15) - 8);
            dst[i + 16] = d * (float)((blocks[k].qs[i] >> 4) - 8);
        }
    }
}

void q4_1_decode(const void *src, float *dst, size_t n)
{
    const struct block_q4_1 *blocks = src;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, dst += BLOCK_WEIGHTS) {
        float d = quant_f16_to_f32(blocks[k].d);
        float m = quant_f16_to_f32(blocks[k].m);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)(blocks[k].qs[i] & 15) + m;
            dst[i + 16] = d * (float)(blocks[k].qs[i] >> 4) + m;
        }
    }
}

/* The fifth bit of weight i, in its place. */
static int fifth_bit(const uint8_t qh[4], int i)
{
    return (qh[i / 8] >> i % 8 & 1) << 4;
}

void q5_0_decode(const void *src, float *dst, size_t n)
{
    const struct block_q5_0 *blocks = src;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, dst += BLOCK_WEIGHTS) {
        float d = quant_f16_to_f32(blocks[k].d);
        for (int i = 0; i < 16; i++) {
            int low = (blocks[k].qs[i] & 15) | fifth_bit(blocks[k].qh, i);
            int high = (blocks[k].qs[i] >> 4) | fifth_bit(blocks[k].qh, i + 16);
            dst[i] = d * (float)(low - 16);
            dst[i + 16] = d * (float)(high - 16);
        }
    }
}

void q5_1_decode(const void *src, float *dst, size_t n)
{
    const struct block_q5_1 *blocks = src;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, dst += BLOCK_WEIGHTS) {
        float d = quant_f16_to_f32(blocks[k].d);
        float m = quant_f16_to_f32(blocks[k].m);
        for (int i = 0; i < 16; i++) {
            int low = (blocks[k].qs[i] & 15) | fifth_bit(blocks[k].qh, i);
            int high = (blocks[k].qs[i] >> 4) | fifth_bit(blocks[k].qh, i + 16);
            dst[i] = d * (float)low + m;
            dst[i + 16] = d * (float)high + m;
        }
    }
}

void q8_0_decode(const void *src, float *dst, size_t n)
{
    const struct block_q8_0 *blocks = src;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, dst += BLOCK_WEIGHTS) {
        float d = quant_f16_to_f32(blocks[k].d);
        for (int i = 0; i < 32; i++) {
            dst[i] = d * (float)blocks[k].qs[i];
        }
    }
}

/* 1 / d, and 0 where that would not be a number: then every code is the one for zero. */
static float inverse_of(float d)
{
    float inverse = 1.0f / d;
    return isfinite(inverse) ? inverse : 0.0f;
}

/* Codes [0, 2 * half - 1] around `half`, the weight of largest magnitude at code 0. Returns the
 * scale. */
static float encode_symmetric(const float *src, int half, uint8_t codes[32])
{
    float x[32];
    search_clean(src, x, 32);
    float extreme = 0.0f;
    for (int i = 0; i < 32; i++) {
        if (fabsf(x[i]) > fabsf(extreme)) {
            extreme = x[i];
        }
    }
    float d = extreme / (float)-half;
    float inverse = inverse_of(d);
    for (int i = 0; i < 32; i++) {
        /* Truncating x + half + 0.5 rounds halves up, the same for both signs. */
        float shifted = truncf(x[i] * inverse + ((float)half + 0.5f));
        codes[i] = (uint8_t)search_code(shifted, 0, 2 * half - 1);
    }
    return d;
}

/* Codes [0, max_code] above a minimum. Both ends of the range are outliers, so it pays to search;
 * the codes follow the scale and minimum as they will be read back. Returns the scale's half. */
static uint16_t encode_affine(const float *src, int max_code, uint8_t codes[32], uint16_t *ret_min)
{
    static const float alike[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    float x[32];
    search_clean(src, x, 32);
    float min;
    struct search_range range = {.max_code = max_code, .steps = 6};
    uint16_t half = search_half(search_affine(x, alike, 32, range, &min));
    *ret_min = search_half(-min);
    float d = quant_f16_to_f32(half);
    float m = quant_f16_to_f32(*ret_min);
    float inverse = inverse_of(d);
    for (int i = 0; i < 32; i++) {
        codes[i] = (uint8_t)search_code((x[i] - m) * inverse, 0, max_code);
    }
    return half;
}

static void pack_halves(const uint8_t codes[32], uint8_t qs[16])
{
    for (int i = 0; i < 16; i++) {
        qs[i] = (uint8_t)((codes[i] & 15) | (codes[i + 16] & 15) << 4);
    }
}

static void pack_fifth_bits(const uint8_t codes[32], uint8_t qh[4])
{
    for (int i = 0; i < 4; i++) {
        qh[i] = 0;
    }
    for (int i = 0; i < 32; i++) {
        qh[i / 8] = (uint8_t)(qh[i / 8] | (codes[i] >> 4) << i % 8);
    }
}

void q4_0_encode(const float *src, void *dst, size_t n)
{
    struct block_q4_0 *blocks = dst;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, src += BLOCK_WEIGHTS) {
        uint8_t codes[32];
        blocks[k].d = search_half(encode_symmetric(src, 8, codes));
        pack_halves(codes, blocks[k].qs);
    }
}

void q4_1_encode(const float *src, void *dst, size_t n)
{
    struct block_q4_1 *blocks = dst;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, src += BLOCK_WEIGHTS) {
        uint8_t codes[32];
        uint16_t min;
        blocks[k].d = encode_affine(src, 15, codes, &min);
        blocks[k].m = min;
        pack_halves(codes, blocks[k].qs);
    }
}

void q5_0_encode(const float *src, void *dst, size_t n)
{
    struct block_q5_0 *blocks = dst;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, src += BLOCK_WEIGHTS) {
        uint8_t codes[32];
        blocks[k].d = search_half(encode_symmetric(src, 16, codes));
        pack_halves(codes, blocks[k].qs);
        pack_fifth_bits(codes, blocks[k].qh);
    }
}

void q5_1_encode(const float *src, void *dst, size_t n)
{
    struct block_q5_1 *blocks = dst;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, src += BLOCK_WEIGHTS) {
        uint8_t codes[32];
        uint16_t min;
        blocks[k].d = encode_affine(src, 31, codes, &min);
        blocks[k].m = min;
        pack_halves(codes, blocks[k].qs);
        pack_fifth_bits(codes, blocks[k].qh);
    }
}

void q8_0_encode(const float *src, void *dst, size_t n)
{
    struct block_q8_0 *blocks = dst;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, src += BLOCK_WEIGHTS) {
        float x[32];
        search_clean(src, x, 32);
        float largest = 0.0f;
        for (int i = 0; i < 32; i++) {
            largest = fmaxf(largest, fabsf(x[i]));
        }
        float d = largest / 127.0f;
        float inverse = inverse_of(d);
        blocks[k].d = search_half(d);
        for (int i = 0; i < 32; i++) {
            /* Halves away from zero; |x * inverse| is at most 127 but for the last bit. */
            blocks[k].qs[i] = (int8_t)search_code(roundf(x[i] * inverse), -127, 127);
        }
    }
}
