/* One tensor type as GGUF stores it: its block layout and the scalar encode and decode that define
 * it.
 *
 * This is the executable specification. Everything faster is tested against it. Stateless, any
 * thread. */
#ifndef PHID_QUANT_FORMAT_FORMAT_H
#define PHID_QUANT_FORMAT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/str.h"

/* ggml type numbers, as in the file. */
enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_IQ2_XXS = 16,
    QUANT_IQ2_XS = 17,
    QUANT_IQ3_XXS = 18,
    QUANT_IQ1_S = 19,
    QUANT_IQ4_NL = 20,
    QUANT_IQ3_S = 21,
    QUANT_IQ2_S = 22,
    QUANT_IQ4_XS = 23,
    QUANT_IQ1_M = 29,
    QUANT_BF16 = 30,
    QUANT_TQ1_0 = 34,
    QUANT_TQ2_0 = 35,
    QUANT_MXFP4 = 39,
};

struct quant_format {
    enum quant_type type;
    const char *name;     /* "Q4_K" */
    size_t block_weights; /* 1, 32 or 256; a row's length must be a multiple */
    size_t block_bytes;

    /* n weights, a multiple of block_weights, from n / block_weights blocks. src needs no
     * alignment. */
    void (*decode)(const void *src, float *dst, size_t n);

    /* The reverse, round to nearest with the usual search for scales. Never fails. In the quantized
     * types NaN and Inf become 0 and scales too large for the type its largest; the float types
     * keep them. */
    void (*encode)(const float *src, void *dst, size_t n);
};

/* By number in the file; NULL for a type this build does not read. */
const struct quant_format *quant_format_find(uint32_t type);

/* By name without regard to case ("q4_k"); NULL when unknown. */
const struct quant_format *quant_format_find_name(struct str name);

/* The published name of any ggml type number, also ones not read ("NVFP4"), or NULL for a number
 * that means nothing. */
const char *quant_type_name(uint32_t type);

/* All formats, in ascending type number, for tests and listings. */
const struct quant_format *quant_format_at(size_t index); /* NULL past the end */

/* Bytes of a row of n weights, 0 when n is not a whole number of blocks or does not fit a size_t.
 */
size_t quant_row_bytes(const struct quant_format *format, size_t n);

/* Whether all n weights decode to finite numbers. Only the floats in the blocks are looked at, so
 * it costs a fraction of decoding. n as for decode. */
bool quant_weights_finite(const struct quant_format *format, const void *src, size_t n);

/* IEEE half <-> float, bfloat16 <-> float; round to nearest even, NaN stays NaN. */
float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float f);
float quant_bf16_to_f32(uint16_t h);
uint16_t quant_f32_to_bf16(float f);

#endif
