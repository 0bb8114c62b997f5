#include "engine/backend/cpu/q8.h"

#include <string.h>

void q8_place(struct q8 *q8, struct cpu_layout *layout, size_t terms, size_t max_tokens,
              size_t max_cols)
{
    size_t rows = max_tokens * terms;
    size_t blocks = max_cols / R16_BLOCK;
    q8->terms = terms;
    q8->codes = cpu_layout_part(layout, rows, max_cols);
    q8->scale = cpu_layout_part(layout, rows, blocks * sizeof(float));
    q8->start = cpu_layout_part(layout, rows, blocks * sizeof(int32_t));
    q8->half_start = cpu_layout_part(layout, rows, 2 * blocks * sizeof(int32_t));
    q8->scaled_sum = cpu_layout_part(layout, rows, blocks * sizeof(float));
    q8->scaled_half_sum = cpu_layout_part(layout, rows, 2 * blocks * sizeof(float));
}

/* A row before it is interleaved: codes, scales, half sums; and what it leaves over. */
size_t q8_put_bytes(size_t max_cols)
{
    size_t blocks = max_cols / R16_BLOCK;
    return cpu_round_up(max_cols, CPU_ALIGN) + cpu_round_up(blocks * sizeof(float), CPU_ALIGN) +
           cpu_round_up(2 * blocks * sizeof(int32_t), CPU_ALIGN) + max_cols * sizeof(float);
}

void q8_start(struct q8 *q8, const struct cpu_kernels *kernels, size_t tokens, size_t cols)
{
    q8->tile_tokens = kernels->tile_tokens;
    q8->sum_base = kernels->sum_base;
    q8->sum_step = kernels->sum_step;
    q8->tokens = tokens;
    q8->rows = tokens * q8->terms;
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
        .start = q8->start + before * q8->blocks,
        .half_start = q8->half_start + before * q8->blocks * 2,
        .scaled_sum = q8->scaled_sum + before * q8->blocks,
        .scaled_half_sum = q8->scaled_half_sum + before * q8->blocks * 2,
    };
}

/* A quantized row as the kernels' quantize gives it. */
struct q8_row {
    int8_t *codes;
    float *scale;    /* of each block */
    int32_t *halves; /* sums of the codes of each half block */
};

/* Among the rows of its tile. */
static void interleave(struct q8 *q8, size_t row, const struct q8_row *from)
{
    size_t blocks = q8->blocks;
    size_t cols = blocks * R16_BLOCK;
    struct q8_tile tile = q8_tile_view(q8, row / q8->tile_tokens);
    size_t token = row % q8->tile_tokens;
    size_t before = (row - token) * blocks;
    size_t stride = tile.tokens;
    int8_t *out = q8->codes + before * R16_BLOCK + token * 4;
    if (stride == 1) {
        memcpy(out, from->codes, cols);
    } else {
        for (size_t i = 0; i < cols / 4; i++) {
            memcpy(out + i * stride * 4, from->codes + i * 4, 4);
        }
    }
    for (size_t b = 0; b < blocks; b++) {
        size_t at = before + b * stride + token;
        size_t first = 2 * before + 2 * b * stride + token;
        int32_t sum = from->halves[2 * b] + from->halves[2 * b + 1];
        q8->scale[at] = from->scale[b];
        q8->start[at] = q8->sum_base - q8->sum_step * sum;
        q8->scaled_sum[at] = from->scale[b] * (float)sum;
        for (size_t half = 0; half < 2; half++) {
            q8->half_start[first + half * stride] =
                q8->sum_base - q8->sum_step * from->halves[2 * b + half];
            q8->scaled_half_sum[first + half * stride] =
                from->scale[b] * (float)from->halves[2 * b + half];
        }
    }
}

void q8_put(struct q8 *q8, const struct cpu_kernels *kernels, size_t token, const float *x,
            void *scratch)
{
    size_t blocks = q8->blocks;
    size_t cols = blocks * R16_BLOCK;
    struct q8_row row = {.codes = scratch};
    row.scale = (float *)(void *)(row.codes + cpu_round_up(cols, CPU_ALIGN));
    row.halves = (int32_t *)(void *)((unsigned char *)row.scale +
                                     cpu_round_up(blocks * sizeof(float), CPU_ALIGN));
    kernels->quantize(x, cols, row.codes, row.scale, row.halves);
    interleave(q8, token, &row);
    if (q8->terms == 1) {
        return;
    }
    float *left = (float *)(void *)((unsigned char *)row.halves +
                                    cpu_round_up(2 * blocks * sizeof(int32_t), CPU_ALIGN));
    for (size_t i = 0; i < cols; i++) {
        left[i] = x[i] - row.scale[i / R16_BLOCK] * (float)row.codes[i];
    }
    kernels->quantize(left, cols, row.codes, row.scale, row.halves);
    interleave(q8, q8->tokens + token, &row);
}
