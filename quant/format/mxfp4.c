/* MXFP4 of the OCP Microscaling Formats specification 1.0: floats of 4 bits (E2M1) under a power of
 * two that 32 of them share. */
#include "quant/format/codec.h"

#include <math.h>

#include "quant/format/block.h"
#include "quant/format/search.h"

const int8_t quant_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void mxfp4_decode(const void *src, float *dst, size_t n)
{
    const struct block_mxfp4 *blocks = src;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, dst += BLOCK_WEIGHTS) {
        float d = block_mxfp4_scale(blocks[k].e);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)quant_mxfp4_values[blocks[k].qs[i] & 15];
            dst[i + 16] = d * (float)quant_mxfp4_values[blocks[k].qs[i] >> 4];
        }
    }
}

/* The nearest value, the one of smaller magnitude when two are. x: in units of the values. */
static int nearest(float x)
{
    float size = fabsf(x);
    int code = 0;
    while (code < 7 &&
           size > 0.5f * (float)(quant_mxfp4_values[code] + quant_mxfp4_values[code + 1])) {
        code++;
    }
    return x < 0.0f && code > 0 ? code + 8 : code;
}

/* Codes under the scale 2^(e - 128); returns the sum of squared errors in that unit, times its
 * square. */
static double encode_codes(const float x[32], int e, uint8_t codes[32])
{
    double error = 0.0;
    for (int i = 0; i < BLOCK_WEIGHTS; i++) {
        float scaled = ldexpf(x[i], 128 - e);
        codes[i] = (uint8_t)nearest(scaled);
        double left = (double)scaled - quant_mxfp4_values[codes[i]];
        error += left * left;
    }
    return ldexp(error, 2 * (e - 128));
}

static uint8_t encode_block(const float x[32], uint8_t codes[32])
{
    float largest = 0.0f;
    for (int i = 0; i < BLOCK_WEIGHTS; i++) {
        largest = fmaxf(largest, fabsf(x[i]));
    }
    if (largest == 0.0f) {
        encode_codes(x, 0, codes);
        return 0;
    }
    /* Under the obvious exponent (the largest value is 6 times it) the largest weight may be cut
     * off by a quarter; the next one cuts nothing and is coarser. 252 is the last whose values all
     * fit a float. */
    int obvious = 0;
    frexpf(largest, &obvious);
    obvious += 127 - 3;
    obvious = obvious < 0 ? 0 : obvious > 252 ? 252 : obvious;
    uint8_t other[32];
    double error = encode_codes(x, obvious, codes);
    if (obvious < 252 && encode_codes(x, obvious + 1, other) < error) {
        encode_codes(x, obvious + 1, codes);
        obvious++;
    }
    return (uint8_t)obvious;
}

void mxfp4_encode(const float *src, void *dst, size_t n)
{
    struct block_mxfp4 *blocks = dst;
    for (size_t k = 0; k < n / BLOCK_WEIGHTS; k++, src += BLOCK_WEIGHTS) {
        float x[BLOCK_WEIGHTS];
        uint8_t codes[BLOCK_WEIGHTS];
        search_clean(src, x, BLOCK_WEIGHTS);
        blocks[k].e = encode_block(x, codes);
        for (int i = 0; i < 16; i++) {
            blocks[k].qs[i] = (uint8_t)(codes[i] | codes[i + 16] << 4);
        }
    }
}
