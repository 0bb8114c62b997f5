/* Decoding Q2_K .. Q6_K: 256 weights whose sub-blocks have small integer scales under one or two
 * half floats. The order of the float operations is part of the format: scale first, then the code,
 * then the minimum. */
#include "quant/format/codec.h"

#include "quant/format/block.h"
#include "quant/format/format.h"

void q2_k_decode(const void *src, float *dst, size_t n)
{
    const struct block_q2_k *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, dst += SUPER_BLOCK_WEIGHTS) {
        const struct block_q2_k *block = &blocks[k];
        float d = quant_f16_to_f32(block->d);
        float dmin = quant_f16_to_f32(block->dmin);
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            int half = i / 128;
            int shift = 2 * (i % 128 / 32);
            uint8_t scale = block->scales[i / 16];
            float dl = d * (float)(scale & 15);
            float ml = dmin * (float)(scale >> 4);
            int q = block->qs[32 * half + i % 32] >> shift & 3;
            dst[i] = dl * (float)q - ml;
        }
    }
}

void q3_k_decode(const void *src, float *dst, size_t n)
{
    const struct block_q3_k *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, dst += SUPER_BLOCK_WEIGHTS) {
        const struct block_q3_k *block = &blocks[k];
        float d = quant_f16_to_f32(block->d);
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            int half = i / 128;
            int shift = 2 * (i % 128 / 32);
            float dl = d * (float)(block_q3_k_scale(block->scales, i / 16) - 32);
            int q = block->qs[32 * half + i % 32] >> shift & 3;
            int offset = (block->hmask[i % 32] >> i / 32 & 1) != 0 ? 0 : 4;
            dst[i] = dl * (float)(q - offset);
        }
    }
}

void q4_k_decode(const void *src, float *dst, size_t n)
{
    const struct block_q4_k *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++) {
        const struct block_q4_k *block = &blocks[k];
        float d = quant_f16_to_f32(block->d);
        float dmin = quant_f16_to_f32(block->dmin);
        for (int b = 0; b < 8; b++, dst += 32) {
            uint8_t scale;
            uint8_t min;
            block_k_scale_min(block->scales, b, &scale, &min);
            float dl = d * (float)scale;
            float ml = dmin * (float)min;
            const uint8_t *qs = block->qs + 32 * (b / 2);
            for (int i = 0; i < 32; i++) {
                int q = qs[i] >> 4 * (b % 2) & 15;
                dst[i] = dl * (float)q - ml;
            }
        }
    }
}

void q5_k_decode(const void *src, float *dst, size_t n)
{
    const struct block_q5_k *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++) {
        const struct block_q5_k *block = &blocks[k];
        float d = quant_f16_to_f32(block->d);
        float dmin = quant_f16_to_f32(block->dmin);
        for (int b = 0; b < 8; b++, dst += 32) {
            uint8_t scale;
            uint8_t min;
            block_k_scale_min(block->scales, b, &scale, &min);
            float dl = d * (float)scale;
            float ml = dmin * (float)min;
            const uint8_t *qs = block->qs + 32 * (b / 2);
            for (int i = 0; i < 32; i++) {
                int q = (qs[i] >> 4 * (b % 2) & 15) | (block->qh[i] >> b & 1) << 4;
                dst[i] = dl * (float)q - ml;
            }
        }
    }
}

void q6_k_decode(const void *src, float *dst, size_t n)
{
    const struct block_q6_k *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, dst += SUPER_BLOCK_WEIGHTS) {
        const struct block_q6_k *block = &blocks[k];
        float d = quant_f16_to_f32(block->d);
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            int half = i / 128;
            int within = i % 128;
            float dl = d * (float)block->scales[i / 16];
            int low = block->ql[64 * half + within % 64] >> 4 * (within / 64) & 15;
            int high = block->qh[32 * half + within % 32] >> 2 * (within / 32) & 3;
            dst[i] = dl * (float)((low | high << 4) - 32);
        }
    }
}
