#include "engine/backend/cpu/q8.h"

#include <string.h>

void q8_place(struct q8 *q8, struct cpu_layout *layout, size_t terms, enum q8_prompts prompts,
              size_t max_tokens, size_t max_cols)
{
    size_t rows = max_tokens * terms;
    size_t blocks = max_cols / R16_BLOCK;
    q8->terms = terms;
    q8->prompts = prompts;
    q8->codes = cpu_layout_part(layout, rows, max_cols);
    q8->scale = cpu_layout_part(layout, rows, blocks * sizeof(float));
    q8->start = cpu_layout_part(layout, rows, blocks * sizeof(int32_t));
    q8->half_start = cpu_layout_part(layout, rows, 2 * blocks * sizeof(int32_t));
    q8->scaled_sum = cpu_layout_part(layout, rows, blocks * sizeof(float));
    q8->scaled_half_sum = cpu_layout_part(layout, rows, 2 * blocks * sizeof(float));
    size_t bf16_rows = prompts == Q8_PROMPTS_BF16 ? cpu_round_up(max_tokens, BF16_TOKENS) : 0;
    q8->bf16 = cpu_layout_part(layout, bf16_rows, max_cols * sizeof(*q8->bf16));
}

/* As few tiles as possible, of equal size. */
static size_t tile_tokens(size_t most, size_t rows)
{
    size_t tiles = (rows + most - 1) / most;
    return tiles == 0 ? most : (rows + tiles - 1) / tiles;
}

void q8_start(struct q8 *q8, const struct cpu_kernels *kernels, size_t rows, size_t prompt_rows,
              size_t cols, unsigned parts)
{
    size_t tokens = rows - prompt_rows;
    size_t direct = kernels->direct_tokens * kernels->direct_tiles;
    q8->parts = parts;
    q8->tile_tokens =
        tile_tokens(tokens * q8->terms <= direct ? kernels->direct_tokens : kernels->tile_tokens,
                    tokens * q8->terms);
    q8->row_codes = kernels->row_codes;
    q8->sum_base = kernels->sum_base;
    q8->sum_step = kernels->sum_step;
    q8->sum_pairs = kernels->sum_pairs;
    q8->tokens = tokens;
    q8->prompt_rows = prompt_rows;
    q8->prompt_tokens = q8->prompts == Q8_PROMPTS_BF16
                            ? BF16_TOKENS
                            : tile_tokens(kernels->tile_tokens, prompt_rows);
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
        .blocks = q8->blocks,
        .codes = q8->codes + before * q8->blocks * R16_BLOCK,
        .row_codes = q8->row_codes,
        .scale = q8->scale + before * q8->blocks,
        .start = q8->start + before * q8->blocks,
        .half_start = q8->half_start + before * q8->blocks * 2,
        .scaled_sum = q8->scaled_sum + before * q8->blocks,
        .scaled_half_sum = q8->scaled_half_sum + before * q8->blocks * 2,
    };
}

/* Rows of prompts lie behind all others: their codes, and scales and starts, of which spans need
 * fewer. */
struct q8_tile q8_prompt_view(const struct q8 *q8, size_t tile)
{
    size_t before = tile * q8->prompt_tokens;
    size_t left = q8->prompt_rows - before;
    size_t spans = q8->rows * q8->blocks + before * w8_spans(q8->blocks);
    return (struct q8_tile){
        .tokens = left < q8->prompt_tokens ? left : q8->prompt_tokens,
        .blocks = q8->blocks,
        .codes = q8->codes + (q8->rows + before) * q8->blocks * R16_BLOCK,
        .scale = q8->scale + spans,
        .start = q8->start + spans,
    };
}

/* Blocks quantized at once. */
#define PART_BLOCKS 8

/* Some blocks of a row as the kernels' quantize gives them. */
struct part {
    _Alignas(CPU_ALIGN) int8_t codes[PART_BLOCKS * R16_BLOCK];
    float scale[PART_BLOCKS];
    int32_t halves[2 * PART_BLOCKS]; /* sums of the codes of each half block */
    size_t first, blocks;            /* where in the row */
};

/* Two sums of 16 bits in one number; no block's leave 16 bits. */
static int32_t pair_of(int32_t low, int32_t high)
{
    return (int32_t)((uint32_t)high << 16 | ((uint32_t)low & 0xffff));
}

/* start of a half block, as sum_pairs has it. */
static int32_t half_pairs(const int8_t *codes)
{
    int32_t sums[4] = {0};
    for (size_t i = 0; i < R16_BLOCK / 2; i += 4) {
        for (size_t j = 0; j < 4; j++) {
            sums[j] -= codes[i + j];
        }
    }
    return pair_of(sums[0] + sums[1], sums[2] + sums[3]);
}

static int32_t add_pairs(int32_t a, int32_t b)
{
    return pair_of((int16_t)(a & 0xffff) + (int16_t)(b & 0xffff), (a >> 16) + (b >> 16));
}

static int32_t half_start(const struct q8 *q8, const struct part *from, size_t half)
{
    return q8->sum_pairs ? half_pairs(from->codes + half * (R16_BLOCK / 2))
                         : q8->sum_base - q8->sum_step * from->halves[half];
}

static int32_t block_start(const struct q8 *q8, const struct part *from, size_t b)
{
    if (q8->sum_pairs) {
        return add_pairs(half_start(q8, from, 2 * b), half_start(q8, from, 2 * b + 1));
    }
    return q8->sum_base - q8->sum_step * (from->halves[2 * b] + from->halves[2 * b + 1]);
}

/* Where a row's numbers lie: of block b at `first + b * stride`, of its halves at twice that. */
static void put_sums(struct q8 *q8, size_t first, size_t stride, size_t token,
                     const struct part *from)
{
    for (size_t b = 0; b < from->blocks; b++) {
        size_t at = first + b * stride;
        size_t half_at = 2 * at + token;
        const int32_t *halves = from->halves + 2 * b;
        at += token;
        q8->scale[at] = from->scale[b];
        if ((q8->parts & Q8_STARTS) != 0) {
            q8->start[at] = block_start(q8, from, b);
        }
        if ((q8->parts & Q8_HALF_STARTS) != 0) {
            q8->half_start[half_at] = half_start(q8, from, 2 * b);
            q8->half_start[half_at + stride] = half_start(q8, from, 2 * b + 1);
        }
        if ((q8->parts & Q8_SCALED_SUMS) != 0) {
            q8->scaled_sum[at] = from->scale[b] * (float)(halves[0] + halves[1]);
        }
        if ((q8->parts & Q8_SCALED_HALF_SUMS) != 0) {
            q8->scaled_half_sum[half_at] = from->scale[b] * (float)halves[0];
            q8->scaled_half_sum[half_at + stride] = from->scale[b] * (float)halves[1];
        }
    }
}

/* A row's codes among those of `stride` rows. */
static void interleave_codes(const int8_t *codes, size_t cols, size_t stride, int8_t *out)
{
    if (stride == 1) {
        memcpy(out, codes, cols);
        return;
    }
    for (size_t i = 0; i < cols / 4; i++) {
        memcpy(out + i * stride * 4, codes + i * 4, 4);
    }
}

/* Among the rows of its tile. */
static void interleave(struct q8 *q8, size_t row, const struct part *from)
{
    size_t token = row % q8->tile_tokens;
    size_t left = q8->rows - (row - token);
    size_t stride = left < q8->tile_tokens ? left : q8->tile_tokens;
    size_t first = (row - token) * q8->blocks + from->first * stride;
    size_t cols = from->blocks * R16_BLOCK;
    if (q8->row_codes) {
        int8_t *out = q8->codes + (first + token) * R16_BLOCK;
        for (size_t i = 0; i < cols; i += R16_BLOCK) {
            memcpy(out + i * stride, from->codes + i, R16_BLOCK);
        }
    } else {
        interleave_codes(from->codes, cols, stride, q8->codes + first * R16_BLOCK + token * 4);
    }
    put_sums(q8, first, stride, token, from);
}

static void put_bf16(struct q8 *q8, const struct cpu_kernels *kernels, size_t row,
                     size_t first_block, size_t blocks, const float *x)
{
    size_t tile = row / BF16_TOKENS * q8->blocks + first_block;
    uint16_t *out = q8->bf16 + tile * BF16_TILE + row % BF16_TOKENS * R16_BLOCK;
    for (size_t b = 0; b < blocks; b++) {
        kernels->bf16_of(x + b * R16_BLOCK, out + b * BF16_TILE, R16_BLOCK);
    }
}

/* Spans quantized at once. */
#define PART_SPANS (PART_BLOCKS / W8_BLOCKS)

static void put_w8(struct q8 *q8, const struct cpu_kernels *kernels, size_t row, size_t first_block,
                   size_t blocks, const float *x)
{
    const struct q8_tile tile = q8_prompt_view(q8, row / q8->prompt_tokens);
    const size_t token = row % q8->prompt_tokens;
    int8_t *to = (int8_t *)tile.codes + first_block * tile.tokens * R16_BLOCK + token * 4;
    size_t at = first_block / W8_BLOCKS * tile.tokens + token;
    for (size_t done = 0; done < blocks; done += PART_BLOCKS) {
        _Alignas(CPU_ALIGN) int8_t codes[PART_BLOCKS * R16_BLOCK];
        float scale[PART_SPANS];
        int32_t sums[PART_SPANS];
        const size_t here = blocks - done < PART_BLOCKS ? blocks - done : PART_BLOCKS;
        kernels->w8_quantize(x + done * R16_BLOCK, here * R16_BLOCK, codes, scale, sums);
        interleave_codes(codes, here * R16_BLOCK, tile.tokens, to + done * tile.tokens * R16_BLOCK);
        for (size_t span = 0; span < w8_spans(here); span++, at += tile.tokens) {
            q8->scale[at + (size_t)(tile.scale - q8->scale)] = scale[span];
            q8->start[at + (size_t)(tile.start - q8->start)] =
                q8->sum_base - q8->sum_step * sums[span];
        }
    }
}

void q8_put(struct q8 *q8, const struct cpu_kernels *kernels, size_t token, size_t first_block,
            size_t blocks, const float *x)
{
    if (token >= q8->tokens) {
        (q8->prompts == Q8_PROMPTS_BF16 ? put_bf16 : put_w8)(q8, kernels, token - q8->tokens,
                                                             first_block, blocks, x);
        return;
    }
    struct part part;
    float left[PART_BLOCKS * R16_BLOCK];
    for (size_t done = 0; done < blocks; done += part.blocks) {
        part.first = first_block + done;
        part.blocks = blocks - done < PART_BLOCKS ? blocks - done : PART_BLOCKS;
        const float *from = x + done * R16_BLOCK;
        size_t cols = part.blocks * R16_BLOCK;
        kernels->quantize(from, cols, part.codes, part.scale, part.halves,
                          q8->terms == 1 ? NULL : left);
        interleave(q8, token, &part);
        if (q8->terms > 1) {
            kernels->quantize(left, cols, part.codes, part.scale, part.halves, NULL);
            interleave(q8, q8->tokens + token, &part);
        }
    }
}
