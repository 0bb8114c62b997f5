#include "engine/backend/cpu/q8.h"

#include <string.h>

void q8_place(struct q8 *q8, struct cpu_layout *layout, size_t max_rows, size_t max_cols)
{
    size_t blocks = max_cols / R16_BLOCK;
    q8->codes = cpu_layout_part(layout, max_rows, max_cols);
    q8->scale = cpu_layout_part(layout, max_rows, blocks * sizeof(float));
    q8->minus_sum = cpu_layout_part(layout, max_rows, blocks * sizeof(int32_t));
    q8->minus_half_sum = cpu_layout_part(layout, max_rows, 2 * blocks * sizeof(int32_t));
    q8->scaled_sum = cpu_layout_part(layout, max_rows, blocks * sizeof(float));
    q8->scaled_half_sum = cpu_layout_part(layout, max_rows, 2 * blocks * sizeof(float));
}

/* A row before it is interleaved: codes, scales, half sums. */
size_t q8_put_bytes(size_t max_cols)
{
    size_t blocks = max_cols / R16_BLOCK;
    return cpu_round_up(max_cols, CPU_ALIGN) + cpu_round_up(blocks * sizeof(float), CPU_ALIGN) +
           cpu_round_up(2 * blocks * sizeof(int32_t), CPU_ALIGN);
}

void q8_start(struct q8 *q8, const struct cpu_kernels *kernels, size_t rows, size_t cols)
{
    q8->tile_tokens = kernels->tile_tokens;
    q8->rows = rows;
    q8->blocks = cols / R16_BLOCK;
}

/* All tiles before the last are full, so those before row r hold a multiple of tile_tokens rows. */
struct q8_tile q8_tile_view(const struct q8 *q8, size_t tile)
{
    size_t before = tile * q8->tile_tokens;
    size_t left = q8->rows - before;
    return (struct q8_tile){
        .tokens = left < q8->tile_tokens ? left : q8->tile_tokens,
        .codes = q8->codes + before * q8->blocks * R16_BLOCK,
        .scale = q8->scale + before * q8->blocks,
        .minus_sum = q8->minus_sum + before * q8->blocks,
        .minus_half_sum = q8->minus_half_sum + before * q8->blocks * 2,
        .scaled_sum = q8->scaled_sum + before * q8->blocks,
        .scaled_half_sum = q8->scaled_half_sum + before * q8->blocks * 2,
    };
}

void q8_put(struct q8 *q8, const struct cpu_kernels *kernels, size_t row, const float *x, void *scratch)
{
    size_t blocks = q8->blocks;
    size_t cols = blocks * R16_BLOCK;
    int8_t *codes = scratch;
    float *scale = (float *)(void *)(codes + cpu_round_up(cols, CPU_ALIGN));
    int32_t *halves = (int32_t *)(void *)((unsigned char *)scale + cpu_round_up(blocks * sizeof(float), CPU_ALIGN));
    kernels->quantize(x, cols, codes, scale, halves);

    struct q8_tile tile = q8_tile_view(q8, row / q8->tile_tokens);
    size_t token = row % q8->tile_tokens;
    size_t before = (row - token) * blocks;
    size_t stride = tile.tokens;
    int8_t *out = q8->codes + before * R16_BLOCK + token * 4;
    if (stride == 1) {
        memcpy(out, codes, cols);
    } else {
        for (size_t i = 0; i < cols / 4; i++) {
            memcpy(out + i * stride * 4, codes + i * 4, 4);
        }
    }
    for (size_t b = 0; b < blocks; b++) {
        size_t at = before + b * stride + token;
        size_t first = 2 * before + 2 * b * stride + token;
        int32_t sum = halves[2 * b] + halves[2 * b + 1];
        q8->scale[at] = scale[b];
        q8->minus_sum[at] = -sum;
        q8->scaled_sum[at] = scale[b] * (float)sum;
        for (size_t half = 0; half < 2; half++) {
            q8->minus_half_sum[first + half * stride] = -halves[2 * b + half];
            q8->scaled_half_sum[first + half * stride] = scale[b] * (float)halves[2 * b + half];
        }
    }
}
