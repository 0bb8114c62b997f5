/* Weights of prompts rounded once more, to int8 with one scale for each row and span of 128
 * columns, and activations likewise (W8A8): then a span's products are one integer sum. How it is
 * done, in plain C; this is the specification of the functions of struct cpu_kernels with these
 * names. Stateless, any thread. */
#ifndef PHID_BACKEND_CPU_W8_H
#define PHID_BACKEND_CPU_W8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/cpu/r16.h"

#define W8_BLOCKS 4 /* of a span; the last one of a row may have fewer */
#define W8_COLS   (W8_BLOCKS * R16_BLOCK)

struct q8_tile;
struct r16_panel;

static inline size_t w8_spans(size_t blocks)
{
    return (blocks + W8_BLOCKS - 1) / W8_BLOCKS;
}

/* Half the range of codes. A code less that is the signed code. */
static inline int w8_half(enum r16_kind kind)
{
    return 1 << (r16_code_bits(kind) - 1);
}

/* What a value is above its signed code. */
static inline int w8_center(enum r16_kind kind)
{
    return r16_is_signed(kind) ? 0 : w8_half(kind) - r16_types[kind].offset;
}

/* Weights of `blocks` blocks of a row group, from first_block (a multiple of R16_UNIT_BLOCKS) on.
 * For a row and span, over its blocks or halves of blocks (scale and bias as r16.h gives them):
 *   middle = fma(scale, center, bias)
 *   largest = max |fma(scale, -half, middle)|, |fma(scale, half - 1, middle)|, |scale * half|
 *   the weights' scale = largest / 127, of whose mantissa the last 8 bits are cleared, so that
 *   kernels can multiply it by CPU_FLOAT_BASE; inverse = 1 / that; both 0 when largest < 2^-100
 *   factor = scale * inverse * (half * 256), added = middle * inverse * 256, to nearest even
 *   product = (signed code * (2^15 / half) * factor + 2^14) >> 15
 *   weight = (product + added + 128) >> 8
 * which is the code times the scale, plus the bias, as a multiple of the weights' scale, first with
 * 8 more bits and then rounded. 16 bits hold it: factor and added are at most 127 * 256 and 2 more,
 * for the cleared bits, and so is their sum, because no weight is above `largest`; with 128 more it
 * is still below 2^15. Weights are -127..127, and a span's sum of products is below 2^22. Where a
 * scale or bias is no number, the weights' scale is none. panel: in the kernel's own form. */
void w8_open(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
             struct r16_panel *panel);

/* n (a multiple of 32) activations: for each span m = max |x|, scale = m / 127 and code = x * (127
 * / m) rounded to nearest even; all 0 when m < 2^-100. sums: of a span's codes. x: unaligned. */
void w8_quantize(const float *x, size_t n, int8_t *codes, float *scale, int32_t *sums);

/* Continues the sums of `groups` opened panels, like multiply_panels in kernels.h; x has one scale
 * and one start for each span. Spans in ascending order:
 *   sum = fma((float)(sum of weight * code) * weights' scale, activations' scale, sum) */
void w8_multiply(const struct r16_panel *panels, size_t groups, size_t blocks,
                 const struct q8_tile *x, size_t first_block, float *sums, bool start);

#endif
