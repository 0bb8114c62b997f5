/* Products of bf16 with bf16, summed as f32, for processors whose tiles multiply them (AMX-BF16):
 * how weights and activations lie, and the arithmetic in plain C, which is the specification of the
 * functions of struct cpu_kernels with these names. Stateless, any thread. */
#ifndef PHID_BACKEND_CPU_BF16_H
#define PHID_BACKEND_CPU_BF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/backend/cpu/r16.h"

#define BF16_TOKENS 16                        /* rows of activations in a tile */
#define BF16_TILE   (BF16_TOKENS * R16_BLOCK) /* numbers of a tile: 16 rows of a block's columns */

/* To the nearest, of two equally near ones the even one. Too small for a normal number: 0. */
static inline uint16_t bf16_round(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    if (x != x) {
        return (uint16_t)(bits >> 16 | 0x40); /* stays no number */
    }
    if ((bits & 0x7f800000u) == 0) {
        return (uint16_t)(bits >> 16 & 0x8000u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static inline float bf16_float(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float ret;
    memcpy(&ret, &bits, sizeof(ret));
    return ret;
}

/* Weights of `blocks` blocks of a row group, from first_block (a multiple of R16_UNIT_BLOCKS) on:
 * [blocks][16 pairs of columns][16 rows][2]. Each is fma(value, scale, bias), rounded. */
void bf16_open(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
               uint16_t *weights);

/* n (a multiple of 32) numbers, rounded. x: unaligned. */
void bf16_of(const float *x, uint16_t *y, size_t n);

/* Continues sums of one or two row groups with one or two tiles of activations; from zero when
 * `start`. weights: opened, a group's `blocks` blocks every group_stride numbers; x: [blocks] tiles
 * [16 tokens][32 columns], the second tokens' x_stride numbers behind the first. sums: [16 tokens
 * of each tile][sums_stride], of which 16 are a row group's. In multiples of a block, for each:
 *   even, odd = 0; for the 16 pairs of columns: even = fma(x, weight, even) with the first, odd
 *   the same with the second; sum = sum + (even + odd)
 * where numbers too small for a normal f32 count as 0, before and after each operation. */
struct bf16_product {
    const uint16_t *weights;
    size_t groups, group_stride, blocks;
    const uint16_t *x;
    size_t tiles, x_stride;
    float *sums;
    size_t sums_stride;
    bool start;
};

void bf16_multiply(const struct bf16_product *p);

#endif
