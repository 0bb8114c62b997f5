/* Activations of a batch as int8 with one scale for each block of 32, cut into the tiles that
 * kernels take (struct q8_tile in kernels.h); of the last rows, those of prompts, perhaps in
 * another form. Part of the scratch memory; tasks of the pool fill it.
 *
 * With two terms, x = first + second: what int8 leaves over of a row is a row of its own, `tokens`
 * rows behind the first, and the products of both are added. The kernels do not know. */
#ifndef PHID_BACKEND_CPU_Q8_H
#define PHID_BACKEND_CPU_Q8_H

#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/memory.h"

/* What a kind of weights needs of activations. */
enum q8_parts {
    Q8_CODES = 1,  /* and scales */
    Q8_STARTS = 2, /* of blocks */
    Q8_HALF_STARTS = 4,
    Q8_SCALED_SUMS = 8,
    Q8_SCALED_HALF_SUMS = 16,
    Q8_ALL = 31,
};

static inline unsigned q8_parts_of(enum r16_kind kind)
{
    unsigned parts = Q8_CODES;
    if (r16_is_signed(kind) || r16_types[kind].offset != 0) {
        parts |= r16_has_halves(kind) ? Q8_HALF_STARTS : Q8_STARTS;
    }
    if (r16_has_bias(kind)) {
        parts |= r16_has_halves(kind) ? Q8_SCALED_HALF_SUMS : Q8_SCALED_SUMS;
    }
    return parts;
}

/* What rows of prompts are kept as. */
enum q8_prompts {
    Q8_PROMPTS_INT8, /* like all rows */
    Q8_PROMPTS_BF16, /* see bf16.h */
    Q8_PROMPTS_W8,   /* int8 with one scale for each span, see w8.h; one term of them */
};

struct q8 {
    unsigned parts; /* enum q8_parts, or-ed: what is there */
    size_t tile_tokens;
    bool row_codes;
    int32_t sum_base, sum_step;
    bool sum_pairs;
    size_t terms;       /* 1 or 2 */
    size_t tokens;      /* of the batch now held */
    size_t rows;        /* tokens * terms */
    size_t blocks;      /* of a row now held */
    size_t prompt_rows; /* behind `tokens`, which do not count them: in the other form */
    enum q8_prompts prompts;
    size_t prompt_tokens; /* of a tile of them */
    uint16_t *bf16;       /* [prompt_rows / BF16_TOKENS, rounded up][blocks][BF16_TOKENS][32] */
    int8_t *codes;
    float *scale, *scaled_sum, *scaled_half_sum;
    int32_t *start, *half_start;
};

/* Takes its memory for up to max_tokens tokens of up to max_cols columns from the layout; any of
 * them may be of prompts, in that form. */
void q8_place(struct q8 *q8, struct cpu_layout *layout, size_t terms, enum q8_prompts prompts,
              size_t max_tokens, size_t max_cols);

/* Prepares for `rows` tokens of cols (a multiple of 32) columns, the last prompt_rows of them in
 * the form for prompts. */
void q8_start(struct q8 *q8, const struct cpu_kernels *kernels, size_t rows, size_t prompt_rows,
              size_t cols, unsigned parts);

/* Blocks that must be put at once, from a multiple of that on; but for a row's last ones. */
static inline size_t q8_put_blocks(const struct q8 *q8)
{
    return q8->prompt_rows > 0 && q8->prompts == Q8_PROMPTS_W8 ? W8_BLOCKS : 1;
}

/* Quantizes x: `blocks` blocks of the activations of `token`, from first_block on. Different parts
 * may be put by different threads at once; neighbouring tokens share cache lines, so a thread had
 * better put all tokens of a tile. */
void q8_put(struct q8 *q8, const struct cpu_kernels *kernels, size_t token, size_t first_block,
            size_t blocks, const float *x);

static inline size_t q8_tiles(const struct q8 *q8)
{
    return (q8->rows + q8->tile_tokens - 1) / q8->tile_tokens;
}

struct q8_tile q8_tile_view(const struct q8 *q8, size_t tile);

static inline size_t q8_prompt_tiles(const struct q8 *q8)
{
    return (q8->prompt_rows + q8->prompt_tokens - 1) / q8->prompt_tokens;
}

/* Of rows of prompts kept as Q8_PROMPTS_W8. */
struct q8_tile q8_prompt_view(const struct q8 *q8, size_t tile);

#endif
