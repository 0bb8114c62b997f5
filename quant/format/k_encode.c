/* Encoding Q2_K .. Q6_K: search each sub-block's scale (and minimum), round those to the block's
 * small integers, then round the weights to the scales as they will be read back. */
#include "quant/format/codec.h"

#include <math.h>
#include <string.h>

#include "quant/format/block.h"
#include "quant/format/format.h"
#include "quant/format/search.h"

enum { MAX_SUB_BLOCKS = 16 };

/* Large weights move the result most, so their error counts more: by their square above the mean
 * square. */
static void importance_square(const float *x, float *importance, int n)
{
    float square = 0.0f;
    for (int i = 0; i < n; i++) {
        square += x[i] * x[i];
    }
    for (int i = 0; i < n; i++) {
        importance[i] = square / (float)n + x[i] * x[i];
    }
}

/* Softer, for types with a minimum, where zero is seldom a code: by magnitude above the root mean
 * square. */
static void importance_magnitude(const float *x, float *importance, int n)
{
    float square = 0.0f;
    for (int i = 0; i < n; i++) {
        square += x[i] * x[i];
    }
    float base = sqrtf(square / (float)n);
    for (int i = 0; i < n; i++) {
        importance[i] = base + fabsf(x[i]);
    }
}

/* One super-block of a type with minima: what the search found, and how it is stored. */
struct affine_block {
    float scale[MAX_SUB_BLOCKS];
    float min[MAX_SUB_BLOCKS];
    uint8_t scale_code[MAX_SUB_BLOCKS];
    uint8_t min_code[MAX_SUB_BLOCKS];
    uint16_t d;
    uint16_t dmin;
    uint8_t codes[SUPER_BLOCK_WEIGHTS];
};

/* Rounds the scales or minima of all sub-blocks to [0, max_code] multiples of a half float, which
 * is returned. */
static uint16_t round_scales(const float *scale, int n, int max_code, uint8_t *codes)
{
    float largest = 0.0f;
    for (int b = 0; b < n; b++) {
        largest = fmaxf(largest, scale[b]);
    }
    uint16_t half = search_half(largest / (float)max_code);
    float d = quant_f16_to_f32(half);
    for (int b = 0; b < n; b++) {
        codes[b] = d > 0.0f ? (uint8_t)search_code(scale[b] / d, 0, max_code) : 0;
    }
    return half;
}

static void encode_affine(const float *x, int sub_blocks, struct search_range range,
                          int max_scale_code, struct affine_block *out)
{
    int size = SUPER_BLOCK_WEIGHTS / sub_blocks;
    for (int b = 0; b < sub_blocks; b++) {
        float importance[32];
        importance_magnitude(x + b * size, importance, size);
        out->scale[b] = search_affine(x + b * size, importance, size, range, &out->min[b]);
    }
    out->d = round_scales(out->scale, sub_blocks, max_scale_code, out->scale_code);
    out->dmin = round_scales(out->min, sub_blocks, max_scale_code, out->min_code);
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        float d = quant_f16_to_f32(out->d) * (float)out->scale_code[i / size];
        float m = quant_f16_to_f32(out->dmin) * (float)out->min_code[i / size];
        out->codes[i] = d > 0.0f ? (uint8_t)search_code((x[i] + m) / d, 0, range.max_code) : 0;
    }
}

/* One super-block of a type without minima, 16 sub-blocks of 16 with signed scales. */
struct symmetric_block {
    int scale_code[16];
    uint16_t d;
    int codes[SUPER_BLOCK_WEIGHTS];
};

static void encode_symmetric(const float *x, int levels, int scale_levels,
                             struct symmetric_block *out)
{
    float scale[16];
    float extreme = 0.0f;
    for (int b = 0; b < 16; b++) {
        float importance[16];
        importance_square(x + 16 * b, importance, 16);
        scale[b] = search_symmetric(x + 16 * b, importance, 16, levels);
        if (fabsf(scale[b]) > fabsf(extreme)) {
            extreme = scale[b];
        }
    }
    out->d = search_half(extreme / (float)-scale_levels);
    float d = quant_f16_to_f32(out->d);
    for (int b = 0; b < 16; b++) {
        out->scale_code[b] =
            d != 0.0f ? search_code(scale[b] / d, -scale_levels, scale_levels - 1) : 0;
        float dl = d * (float)out->scale_code[b];
        for (int i = 16 * b; i < 16 * b + 16; i++) {
            out->codes[i] = dl != 0.0f ? search_code(x[i] / dl, -levels, levels - 1) : 0;
        }
    }
}

/* Two bits a weight in the order of Q2_K and Q3_K. */
static void pack_pairs(const uint8_t codes[SUPER_BLOCK_WEIGHTS], uint8_t qs[64])
{
    memset(qs, 0, 64);
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        uint8_t *byte = &qs[32 * (i / 128) + i % 32];
        *byte = (uint8_t)(*byte | (codes[i] & 3) << 2 * (i % 128 / 32));
    }
}

/* Low four bits in the order of Q4_K and Q5_K. */
static void pack_halves(const uint8_t codes[SUPER_BLOCK_WEIGHTS], uint8_t qs[128])
{
    for (int g = 0; g < 4; g++) {
        for (int i = 0; i < 32; i++) {
            qs[32 * g + i] =
                (uint8_t)((codes[64 * g + i] & 15) | (codes[64 * g + 32 + i] & 15) << 4);
        }
    }
}

/* The reverse of block_k_scale_min. */
static void pack_scale_min(const uint8_t scale[8], const uint8_t min[8], uint8_t scales[12])
{
    for (int b = 0; b < 4; b++) {
        scales[b] = (uint8_t)(scale[b] | scale[b + 4] >> 4 << 6);
        scales[b + 4] = (uint8_t)(min[b] | min[b + 4] >> 4 << 6);
        scales[b + 8] = (uint8_t)((scale[b + 4] & 15) | (min[b + 4] & 15) << 4);
    }
}

void q2_k_encode(const float *src, void *dst, size_t n)
{
    struct block_q2_k *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, src += SUPER_BLOCK_WEIGHTS) {
        float x[SUPER_BLOCK_WEIGHTS];
        search_clean(src, x, SUPER_BLOCK_WEIGHTS);
        struct affine_block a;
        encode_affine(x, 16, (struct search_range){.max_code = 3, .steps = 8, .reaches_zero = true},
                      15, &a);
        for (int b = 0; b < 16; b++) {
            blocks[k].scales[b] = (uint8_t)(a.scale_code[b] | a.min_code[b] << 4);
        }
        blocks[k].d = a.d;
        blocks[k].dmin = a.dmin;
        pack_pairs(a.codes, blocks[k].qs);
    }
}

void q3_k_encode(const float *src, void *dst, size_t n)
{
    struct block_q3_k *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, src += SUPER_BLOCK_WEIGHTS) {
        float x[SUPER_BLOCK_WEIGHTS];
        search_clean(src, x, SUPER_BLOCK_WEIGHTS);
        struct symmetric_block s;
        encode_symmetric(x, 4, 32, &s);
        struct block_q3_k *block = &blocks[k];
        memset(block, 0, sizeof *block);
        uint8_t codes[SUPER_BLOCK_WEIGHTS]; /* the two low bits of q + 4; hmask has the third */
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            int q = s.codes[i] + 4;
            codes[i] = (uint8_t)(q & 3);
            block->hmask[i % 32] = (uint8_t)(block->hmask[i % 32] | (q >> 2) << i / 32);
        }
        pack_pairs(codes, block->qs);
        for (int b = 0; b < 16; b++) {
            int scale = s.scale_code[b] + 32;
            uint8_t *low = &block->scales[b % 8];
            uint8_t *high = &block->scales[8 + b % 4];
            *low = (uint8_t)(*low | (scale & 15) << 4 * (b / 8));
            *high = (uint8_t)(*high | (scale >> 4) << 2 * (b / 4));
        }
        block->d = s.d;
    }
}

void q4_k_encode(const float *src, void *dst, size_t n)
{
    struct block_q4_k *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, src += SUPER_BLOCK_WEIGHTS) {
        float x[SUPER_BLOCK_WEIGHTS];
        search_clean(src, x, SUPER_BLOCK_WEIGHTS);
        struct affine_block a;
        encode_affine(
            x, 8, (struct search_range){.max_code = 15, .steps = 10, .reaches_zero = true}, 63, &a);
        blocks[k].d = a.d;
        blocks[k].dmin = a.dmin;
        pack_scale_min(a.scale_code, a.min_code, blocks[k].scales);
        pack_halves(a.codes, blocks[k].qs);
    }
}

void q5_k_encode(const float *src, void *dst, size_t n)
{
    struct block_q5_k *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, src += SUPER_BLOCK_WEIGHTS) {
        float x[SUPER_BLOCK_WEIGHTS];
        search_clean(src, x, SUPER_BLOCK_WEIGHTS);
        struct affine_block a;
        encode_affine(
            x, 8, (struct search_range){.max_code = 31, .steps = 10, .reaches_zero = true}, 63, &a);
        blocks[k].d = a.d;
        blocks[k].dmin = a.dmin;
        pack_scale_min(a.scale_code, a.min_code, blocks[k].scales);
        pack_halves(a.codes, blocks[k].qs);
        memset(blocks[k].qh, 0, sizeof blocks[k].qh);
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            uint8_t *byte = &blocks[k].qh[i % 32];
            *byte = (uint8_t)(*byte | (a.codes[i] >> 4) << i / 32);
        }
    }
}

void q6_k_encode(const float *src, void *dst, size_t n)
{
    struct block_q6_k *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, src += SUPER_BLOCK_WEIGHTS) {
        float x[SUPER_BLOCK_WEIGHTS];
        search_clean(src, x, SUPER_BLOCK_WEIGHTS);
        struct symmetric_block s;
        encode_symmetric(x, 32, 128, &s);
        struct block_q6_k *block = &blocks[k];
        memset(block, 0, sizeof *block);
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            int q = s.codes[i] + 32;
            int half = i / 128;
            int within = i % 128;
            uint8_t *low = &block->ql[64 * half + within % 64];
            uint8_t *high = &block->qh[32 * half + within % 32];
            *low = (uint8_t)(*low | (q & 15) << 4 * (within / 64));
            *high = (uint8_t)(*high | (q >> 4) << 2 * (within / 32));
        }
        for (int b = 0; b < 16; b++) {
            block->scales[b] = (int8_t)s.scale_code[b];
        }
        block->d = s.d;
    }
}
