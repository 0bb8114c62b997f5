#include "quant/format/format.h"

#include <string.h>

#include "quant/format/codec.h"

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float quant_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 0x1f;
    uint32_t fraction = h & 0x3ff;
    if (exponent == 0x1f) {
        uint32_t quiet = fraction != 0 ? 0x400000u : 0;
        return float_of(sign | 0x7f800000u | quiet | fraction << 13);
    }
    if (exponent == 0) {
        /* Zero or subnormal: fraction * 2^-24, exact in a float. */
        float magnitude = (float)fraction * 0x1p-24f;
        return float_of(sign | bits_of(magnitude));
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t quant_f32_to_f16(float f)
{
    uint32_t bits = bits_of(f);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff)); /* NaN, made quiet */
    }
    if (magnitude >= 0x47800000u) { /* 65536 and above */
        return sign | 0x7c00;
    }
    if (magnitude < 0x38800000u) {
        /* Below 2^-14 the result is subnormal: a multiple of 2^-24. Adding 0.5 lines the bits up
         * with those of a float in [0.5, 1), whose unit in the last place is 2^-24; the addition
         * rounds to even. */
        return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
    }
    /* Round to nearest even: half a unit less one, plus the last bit that stays. A carry may reach
     * the exponent, and from 65520 on infinity, as it should. */
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xfff + odd) >> 13));
}

float quant_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t quant_f32_to_bf16(float f)
{
    uint32_t bits = bits_of(f);
    if ((bits & 0x7fffffff) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 |
                          0x40); /* NaN, made quiet: its payload may be all in the lower half */
    }
    uint32_t odd = bits >> 16 & 1;
    return (uint16_t)((bits + 0x7fff + odd) >> 16);
}

void f32_decode(const void *src, float *dst, size_t n)
{
    memcpy(dst, src, n * sizeof *dst);
}

void f32_encode(const float *src, void *dst, size_t n)
{
    memcpy(dst, src, n * sizeof *src);
}

void f16_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *bytes = src;
    for (size_t i = 0; i < n; i++) {
        dst[i] = quant_f16_to_f32((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
    }
}

void f16_encode(const float *src, void *dst, size_t n)
{
    unsigned char *bytes = dst;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_f32_to_f16(src[i]);
        bytes[2 * i] = (unsigned char)(h & 0xff);
        bytes[2 * i + 1] = (unsigned char)(h >> 8);
    }
}

void bf16_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *bytes = src;
    for (size_t i = 0; i < n; i++) {
        dst[i] = quant_bf16_to_f32((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
    }
}

void bf16_encode(const float *src, void *dst, size_t n)
{
    unsigned char *bytes = dst;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_f32_to_bf16(src[i]);
        bytes[2 * i] = (unsigned char)(h & 0xff);
        bytes[2 * i + 1] = (unsigned char)(h >> 8);
    }
}
