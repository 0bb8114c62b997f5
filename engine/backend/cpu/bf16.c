#include "engine/backend/cpu/bf16.h"

#include <float.h>
#include <math.h>

void bf16_open(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
               uint16_t *weights)
{
    const size_t all = m->cols / R16_BLOCK;
    const unsigned char *unit = m->data + group * m->group_bytes;
    for (size_t i = 0; i < blocks; i++) {
        const size_t block = first_block + i;
        const size_t in_unit = block % R16_UNIT_BLOCKS;
        const size_t left = all - (block - in_unit);
        const size_t unit_blocks = left < R16_UNIT_BLOCKS ? left : R16_UNIT_BLOCKS;
        const unsigned char *at =
            unit + block / R16_UNIT_BLOCKS * r16_unit_bytes(m->kind, R16_UNIT_BLOCKS);
        for (size_t k = 0; k < R16_BLOCK; k++) {
            const size_t half = k / (R16_BLOCK / 2);
            for (size_t lane = 0; lane < R16_ROWS; lane++) {
                float value = (float)r16_value(m->kind, at, unit_blocks, in_unit, lane, k);
                float scale = r16_scale(m->kind, at, unit_blocks, in_unit, lane, half);
                float bias = r16_has_bias(m->kind)
                                 ? r16_bias(m->kind, at, unit_blocks, in_unit, lane, half)
                                 : 0.0f;
                weights[i * BF16_TILE + (k / 2 * R16_ROWS + lane) * 2 + k % 2] =
                    bf16_round(fmaf(value, scale, bias));
            }
        }
    }
}

void bf16_of(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = bf16_round(x[i]);
    }
}

static float normal(float x)
{
    return fabsf(x) < FLT_MIN ? 0.0f : x;
}

static float add_pairs(const uint16_t *x, const uint16_t *weights, float sum)
{
    float parts[2] = {0};
    for (size_t k = 0; k < R16_BLOCK / 2; k++) {
        for (size_t i = 0; i < 2; i++) {
            parts[i] = normal(fmaf(normal(bf16_float(x[2 * k + i])),
                                   normal(bf16_float(weights[2 * k * R16_ROWS + i])), parts[i]));
        }
    }
    return normal(sum + normal(parts[0] + parts[1]));
}

void bf16_multiply(const struct bf16_product *p)
{
    for (size_t token = 0; token < p->tiles * BF16_TOKENS; token++) {
        const uint16_t *x =
            p->x + token / BF16_TOKENS * p->x_stride + token % BF16_TOKENS * R16_BLOCK;
        for (size_t row = 0; row < p->groups * R16_ROWS; row++) {
            const uint16_t *weights =
                p->weights + row / R16_ROWS * p->group_stride + row % R16_ROWS * 2;
            float *sum = p->sums + token * p->sums_stride + row;
            float total = p->start ? 0.0f : *sum;
            for (size_t b = 0; b < p->blocks; b++) {
                total = add_pairs(x + b * BF16_TILE, weights + b * BF16_TILE, total);
            }
            *sum = total;
        }
    }
}
