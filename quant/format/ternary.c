/* TQ1_0 and TQ2_0: three values, minus one, nothing and one, times the scale of 256 weights. */
#include "quant/format/codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/format/block.h"
#include "quant/format/format.h"
#include "quant/format/search.h"

/* A byte of TQ1_0 is five digits of base 3 as a fraction of 256, rounded up: the first digit is the
 * whole part of 3 * byte / 256, the second that of the fraction left over, and so on. Where digits
 * are: qs[0..31] digit j belongs to weight 32 j + i, qs[32..47] to 160 + 16 j + i, and the four
 * digits of qh[i] to 240 + 4 j + i. */
static const struct run {
    uint8_t bytes, digits, first_byte, first_weight;
} runs[] = {{32, 5, 0, 0}, {16, 5, 32, 160}, {4, 4, 48, 240}};

enum { RUNS = sizeof(runs) / sizeof(runs[0]) };

void block_tq1_0_codes(const struct block_tq1_0 *block, uint8_t codes[SUPER_BLOCK_WEIGHTS])
{
    const uint8_t *bytes = (const uint8_t *)block;
    for (int r = 0; r < RUNS; r++) {
        for (int i = 0; i < runs[r].bytes; i++) {
            uint8_t rest = bytes[runs[r].first_byte + i];
            for (int j = 0; j < runs[r].digits; j++) {
                codes[runs[r].first_weight + runs[r].bytes * j + i] = (uint8_t)(3 * rest >> 8);
                rest = (uint8_t)(3 * rest);
            }
        }
    }
}

void block_tq2_0_codes(const struct block_tq2_0 *block, uint8_t codes[SUPER_BLOCK_WEIGHTS])
{
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        codes[i] = block->qs[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32) & 3;
    }
}

static void decode_codes(uint16_t half, const uint8_t codes[SUPER_BLOCK_WEIGHTS], float *dst)
{
    float d = quant_f16_to_f32(half);
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        dst[i] = d * (float)(codes[i] - 1);
    }
}

void tq1_0_decode(const void *src, float *dst, size_t n)
{
    const struct block_tq1_0 *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++) {
        uint8_t codes[SUPER_BLOCK_WEIGHTS];
        block_tq1_0_codes(&blocks[k], codes);
        decode_codes(blocks[k].d, codes, dst + k * SUPER_BLOCK_WEIGHTS);
    }
}

void tq2_0_decode(const void *src, float *dst, size_t n)
{
    const struct block_tq2_0 *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++) {
        uint8_t codes[SUPER_BLOCK_WEIGHTS];
        block_tq2_0_codes(&blocks[k], codes);
        decode_codes(blocks[k].d, codes, dst + k * SUPER_BLOCK_WEIGHTS);
    }
}

static int larger_first(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The best scale: if the k largest weights are not zero it is their mean size m, and the error is
 * smaller the larger k * m^2 is. A block that is ternary already gets its own scale back. */
static float find_scale(const float x[SUPER_BLOCK_WEIGHTS])
{
    float sizes[SUPER_BLOCK_WEIGHTS];
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        sizes[i] = fabsf(x[i]);
    }
    qsort(sizes, SUPER_BLOCK_WEIGHTS, sizeof(sizes[0]), larger_first);
    double sum = 0.0;
    double best = 0.0;
    double scale = 0.0;
    for (int k = 1; k <= SUPER_BLOCK_WEIGHTS; k++) {
        sum += (double)sizes[k - 1];
        if (sum * sum / k > best) {
            best = sum * sum / k;
            scale = sum / k;
        }
    }
    return (float)scale;
}

/* Returns the scale's half. */
static uint16_t encode_codes(const float *src, uint8_t codes[SUPER_BLOCK_WEIGHTS])
{
    float x[SUPER_BLOCK_WEIGHTS];
    search_clean(src, x, SUPER_BLOCK_WEIGHTS);
    uint16_t half = search_half(find_scale(x));
    float d = quant_f16_to_f32(half);
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        codes[i] = (uint8_t)(1 + (x[i] > 0.5f * d) - (x[i] < -0.5f * d));
    }
    return half;
}

void tq1_0_encode(const float *src, void *dst, size_t n)
{
    struct block_tq1_0 *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++) {
        uint8_t codes[SUPER_BLOCK_WEIGHTS];
        blocks[k].d = encode_codes(src + k * SUPER_BLOCK_WEIGHTS, codes);
        uint8_t *bytes = (uint8_t *)&blocks[k];
        for (int r = 0; r < RUNS; r++) {
            for (int i = 0; i < runs[r].bytes; i++) {
                int number = 0;
                for (int j = 0; j < 5; j++) {
                    int at = runs[r].first_weight + runs[r].bytes * j + i;
                    number = 3 * number + (j < runs[r].digits ? codes[at] : 0);
                }
                bytes[runs[r].first_byte + i] = (uint8_t)((number * 256 + 242) / 243);
            }
        }
    }
}

void tq2_0_encode(const float *src, void *dst, size_t n)
{
    struct block_tq2_0 *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++) {
        uint8_t codes[SUPER_BLOCK_WEIGHTS];
        memset(&blocks[k], 0, sizeof(blocks[k]));
        blocks[k].d = encode_codes(src + k * SUPER_BLOCK_WEIGHTS, codes);
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            uint8_t *byte = &blocks[k].qs[32 * (i / 128) + i % 32];
            *byte = (uint8_t)(*byte | codes[i] << 2 * (i % 128 / 32));
        }
    }
}
