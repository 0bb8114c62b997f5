/* IQ4_NL and IQ4_XS: four bits a weight that index 16 uneven levels. */
#include "quant/format/codec.h"

#include <math.h>
#include <string.h>

#include "quant/format/block.h"
#include "quant/format/format.h"
#include "quant/format/search.h"

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

void iq4_nl_decode(const void *src, float *dst, size_t n)
{
    const struct block_iq4_nl *blocks = src;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, dst += BLOCK_WEIGHTS) {
        float d = quant_f16_to_f32(blocks[k].d);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)quant_iq4_values[blocks[k].qs[i] & 15];
            dst[i + 16] = d * (float)quant_iq4_values[blocks[k].qs[i] >> 4];
        }
    }
}

void iq4_xs_decode(const void *src, float *dst, size_t n)
{
    const struct block_iq4_xs *blocks = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++) {
        const struct block_iq4_xs *block = &blocks[k];
        float d = quant_f16_to_f32(block->d);
        for (int b = 0; b < 8; b++, dst += 32) {
            float dl = d * (float)(block_iq4_xs_scale(block, b) - 32);
            for (int i = 0; i < 16; i++) {
                uint8_t q = block->qs[16 * b + i];
                dst[i] = dl * (float)quant_iq4_values[q & 15];
                dst[i + 16] = dl * (float)quant_iq4_values[q >> 4];
            }
        }
    }
}

static float find_scale(const float x[32])
{
    float importance[32];
    for (int i = 0; i < 32; i++) {
        importance[i] = x[i] * x[i];
    }
    return search_codebook(x, importance, 32, quant_iq4_values);
}

/* Codes of 32 weights under the scale they will be read back with. */
static void encode_codes(const float x[32], float d, uint8_t qs[16])
{
    for (int i = 0; i < 16; i++) {
        int low = d != 0.0f ? search_nearest(x[i] / d, quant_iq4_values) : 8;
        int high = d != 0.0f ? search_nearest(x[i + 16] / d, quant_iq4_values) : 8;
        qs[i] = (uint8_t)(low | high << 4);
    }
}

void iq4_nl_encode(const float *src, void *dst, size_t n)
{
    struct block_iq4_nl *blocks = dst;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, src += BLOCK_WEIGHTS) {
        float x[BLOCK_WEIGHTS];
        search_clean(src, x, BLOCK_WEIGHTS);
        blocks[k].d = search_half(find_scale(x));
        encode_codes(x, quant_f16_to_f32(blocks[k].d), blocks[k].qs);
    }
}

void iq4_xs_encode(const float *src, void *dst, size_t n)
{
    struct block_iq4_xs *blocks = dst;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, src += SUPER_BLOCK_WEIGHTS) {
        float x[SUPER_BLOCK_WEIGHTS];
        search_clean(src, x, SUPER_BLOCK_WEIGHTS);
        float scale[8];
        float extreme = 0.0f;
        for (int b = 0; b < 8; b++) {
            scale[b] = find_scale(x + 32 * b);
            if (fabsf(scale[b]) > fabsf(extreme)) {
                extreme = scale[b];
            }
        }
        struct block_iq4_xs *block = &blocks[k];
        memset(block, 0, sizeof *block);
        block->d = search_half(extreme / -32.0f);
        float d = quant_f16_to_f32(block->d);
        for (int b = 0; b < 8; b++) {
            int code = d != 0.0f ? search_code(scale[b] / d, -32, 31) : 0;
            int stored = code + 32;
            block->scales_l[b / 2] =
                (uint8_t)(block->scales_l[b / 2] | (stored & 15) << 4 * (b % 2));
            block->scales_h = (uint16_t)(block->scales_h | (stored >> 4) << 2 * b);
            encode_codes(x + 32 * b, d * (float)code, block->qs + 16 * b);
        }
    }
}
