/* The inner loops, one table per instruction set, chosen once when the backend opens. Each function
 * is described here once; kernels_scalar.c is the specification in plain C, and the others return
 * the same bits for the same finite input, floats included: sums are taken in the order stated
 * here, and every multiply-add of a sum is fused. That is also why a row's result does not depend
 * on which other rows are in the batch, nor on which of the two ways of multiplying was taken; but
 * rows of prompts may be kept in another form (q8.h).
 * Stateless, any thread. Buffers are 64-byte aligned unless said otherwise. */
#ifndef PHID_BACKEND_CPU_KERNELS_H
#define PHID_BACKEND_CPU_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/cpu/bf16.h"
#include "engine/backend/cpu/r16.h"
#include "engine/backend/cpu/w8.h"

#define CPU_LANES                                                                                  \
    16 /* sums of long vectors: lane i adds elements i, i + 16, ..; then lanes are added pairwise, \
          8, 4, 2 and 1 apart */
#define CPU_TILE_TOKENS_MAX 16
#define CPU_PANEL_GROUPS    2  /* at most */
#define CPU_PANEL_BLOCKS    32 /* at most */
#define CPU_QUERIES_MAX     64 /* of an attention block */
#define CPU_PAGE_TOKENS     64

/* Up to CPU_TILE_TOKENS_MAX rows of activations, int8 with one scale for each block of 32, their
 * elements interleaved so that a kernel walks one pointer. In all arrays the token is the fastest
 * index but one (codes) or the fastest. */
struct q8_tile {
    size_t tokens;
    size_t blocks;       /* of a row: the next tile lies behind so many */
    const int8_t *codes; /* -127..127; [cols / 4][tokens][4], or with row_codes
                            [blocks][tokens][32] */
    bool row_codes;
    const float *scale;   /* [blocks][tokens] */
    const int32_t *start; /* [blocks][tokens]: sum_base - sum_step * sum of the block's codes, or
                             what sum_pairs says */
    const int32_t *half_start; /* [2 * blocks][tokens]: of each half block */
    const float *scaled_sum;   /* scale * (float)sum of codes */
    const float *scaled_half_sum;
    /* Of rows kept as w8.h says: scale and start [spans][tokens], the last three NULL. */
};

/* Which four of a block's codes belong to a token and a step. */
static inline size_t q8_four(bool row_codes, size_t tokens, size_t token, size_t step)
{
    return row_codes ? token * R16_STEPS + step : step * tokens + token;
}

/* Some blocks of one row group, opened for use by many tokens, in the kernel's own form: at most a
 * byte for each code and three f32 for each row and half block. What belongs to a block lies
 * together, so that a panel takes no more of the first-level cache than its size. */
#define CPU_PANEL_BLOCK_BYTES (R16_STEPS * R16_VECTOR + 2 * 3 * R16_ROWS * sizeof(float))
struct r16_panel {
    unsigned char data[CPU_PANEL_BLOCKS * CPU_PANEL_BLOCK_BYTES];
};

/* What RMSNorm multiplies with. Squares that overflowed give NaN, which the sampler reports: a
 * scale of 0 would make any token as likely as any other. */
static inline float cpu_norm_scale(float squares, size_t n, float eps)
{
    return squares < INFINITY ? 1.0f / sqrtf(squares / (float)n + eps) : NAN;
}

/* F32, F16 or BF16 weights, 16 rows side by side: [groups][cols][16], rows padded with zeros. */
enum lanes_kind { LANES_F32, LANES_F16, LANES_BF16 };

struct lanes_matrix {
    enum lanes_kind kind;
    size_t rows, cols;
    size_t group_bytes;
    const unsigned char *data;
};

/* Queries that look at the same keys: heads of a group, consecutive tokens, or both. */
struct attention_block {
    size_t queries; /* 1 .. CPU_QUERIES_MAX */
    size_t head_dim;
    size_t value_stride;    /* head_dim rounded up to CPU_LANES */
    const float *q;         /* [queries][head_dim], already times the attention scale */
    const int16_t *q_codes; /* [queries][head_dim rounded up to 2], for pages of int8: q = code *
                               scale, padded with 0 */
    float q_scale[CPU_QUERIES_MAX];
    int32_t begin[CPU_QUERIES_MAX]; /* query i sees keys begin[i] .. end[i] - 1 */
    int32_t end[CPU_QUERIES_MAX];
    /* The running softmax, see attend_page. */
    float maximum[CPU_QUERIES_MAX];
    float *total;     /* [queries][CPU_LANES] */
    float *sums;      /* [queries][value_stride] */
    float *scores;    /* [queries][CPU_PAGE_TOKENS], scratch */
    int16_t *weights; /* [queries][CPU_PAGE_TOKENS], scratch for pages of int8 */
    float weight_scale[CPU_QUERIES_MAX];
    /* The page after this one, asked for while this one is read; NULL: none. */
    const void *next_keys, *next_values;
};

/* One page of int8 keys and values; see kv.h for the layout. */
struct attention_page_s8 {
    const int8_t *keys, *values;
    const float *key_scale, *value_scale; /* [CPU_PAGE_TOKENS] */
};

/* The largest code of a query: sums of head_dim products of it with key codes stay below 2^31. */
static inline float attention_q_limit(size_t head_dim)
{
    size_t limit = (size_t)INT32_MAX / (127 * (head_dim == 0 ? 1 : head_dim));
    return limit < 32767 ? (float)limit : 32767.0f;
}

struct cpu_kernels {
    const char *name;
    size_t tile_tokens;   /* rows of activations in a tile for multiply_panels, at most */
    size_t direct_tokens; /* and for multiply */
    size_t direct_tiles;  /* up to so many tiles multiply is faster, above it panels */
    size_t panel_groups;  /* row groups that multiply_panels takes at once; a power of two */
    size_t panel_blocks;  /* blocks in a panel, except the last of a row; a multiple of
                             R16_UNIT_BLOCKS */
    bool row_codes;       /* how it wants a tile's codes */
    int32_t sum_base;     /* of q8_tile's start: what it likes to begin sums with for kinds whose */
    int32_t sum_step;     /* codes are above the values */
    bool sum_pairs;       /* it sums in 16 bits: start holds minus the sums of the block's first and
                             second pairs of every four codes, in its low and high half */

    /* Quantizes n (a multiple of 32) elements: for each block m = max |x|, scale = m / 127 and
     * code = x * (127 / m) rounded to nearest even; all 0 when m < 2^-100. half_sums: sums of 16
     * codes. left, unless NULL: x - scale * code, each rounded. x and left unaligned. */
    void (*quantize)(const float *x, size_t n, int8_t *codes, float *scale, int32_t *half_sums,
                     float *left);

    /* y[token * y_stride + row] for the rows of `groups` row groups from `first` and all tokens of
     * x; y unaligned. Per row and token, for blocks (or halves, for kinds that have them) in
     * ascending order, from sum = 0:
     *   sum = fma((float)(sum of value * code) * weight scale, activation scale, sum)
     *   sum = fma(weight bias, scaled sum of codes, sum)     only for kinds with a bias */
    void (*multiply)(const struct r16_matrix *m, size_t first, size_t groups,
                     const struct q8_tile *x, float *y, size_t y_stride);

    /* The same sums in two parts. open_panel opens `blocks` blocks from `first_block` (a multiple
     * of R16_UNIT_BLOCKS) of one row group, in the kernel's own form. multiply_panels continues the
     * sums of `groups` panels of the same columns, x taken from the same first_block: sums
     * [tokens][groups][R16_ROWS]; from zero when `start`. */
    void (*open_panel)(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                       struct r16_panel *panel);
    void (*multiply_panels)(enum r16_kind kind, const struct r16_panel *panels, size_t groups,
                            size_t blocks, const struct q8_tile *x, size_t first_block, float *sums,
                            bool start);

    /* See bf16.h. NULL: prompts are multiplied as int8, like everything. */
    void (*bf16_open)(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                      uint16_t *weights);
    void (*bf16_of)(const float *x, uint16_t *y, size_t n);
    void (*bf16_multiply)(const struct bf16_product *p);

    /* See w8.h. NULL: int8 or bf16. With fewer rows of prompts in a step than w8_rows it does not pay:
     * every step that has some opens all weights. */
    size_t w8_rows;
    void (*w8_open)(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                    struct r16_panel *panel);
    void (*w8_quantize)(const float *x, size_t n, int8_t *codes, float *scale, int32_t *sums);
    void (*w8_multiply)(const struct r16_panel *panels, size_t groups, size_t blocks,
                        const struct q8_tile *x, size_t first_block, float *sums, bool start);

    /* After the last of a thread's calls of these: gives back what they keep of the
     * processor. NULL: they keep nothing. */
    void (*release)(void);

    /* y[token * y_stride + row] for f32 activations x[token * x_stride + col], unaligned; from sum
     * = 0, columns in ascending order: sum = fma(weight, x, sum). */
    void (*multiply_lanes)(const struct lanes_matrix *m, size_t first, size_t groups,
                           const float *x, size_t x_stride, size_t tokens, float *y,
                           size_t y_stride);

    /* One page of keys and values (layouts: kv.h), whose first key has number first_key. For each
     * query that sees any, with the exp below and keys ascending:
     *   score = fma over d ascending of q[d] * key[d], from 0
     *   m = max(maximum, scores of visible keys)
     *   f = exp(maximum - m); total and sums *= f when m > maximum
     *   p = exp(score - m), 0 for keys not seen
     *   total[key % 16] += p; sums[d] = fma(p, value[d], sums[d])
     * Keys from the largest end on may hold anything. */
    void (*attend_page_f16)(struct attention_block *b, const void *keys, const void *values,
                            int32_t first_key);
    void (*attend_page_f32)(struct attention_block *b, const void *keys, const void *values,
                            int32_t first_key);

    /* The same over int8, with all products summed as integers. key_scale and value_scale:
     * [CPU_PAGE_TOKENS].
     *   score = (float)(sum of q code * key code) * (q scale * key scale)
     *   m, f and p as above
     *   w = p * value scale; n = the largest w of the page, 0 when that is below 2^-100
     *   weight code = w * (32767 / n) rounded to nearest even
     *   sums[d] = fma((float)(sum of weight code * value code), n / 32767, sums[d]), once a page */
    void (*attend_page_s8)(struct attention_block *b, const struct attention_page_s8 *page,
                           int32_t first_key);

    /* Adds the softmax over later keys, of one query, to that over earlier ones; both [CPU_LANES]
     * totals and [stride] sums as a block has them. Nothing happens when the later keys were all
     * unseen (their maximum is -infinity); when the earlier ones were, a copy. Else m =
     * max(maximum, next maximum), f = exp(maximum - m), g = exp(next maximum - m), x = fma(next x,
     * g, x * f) for totals and sums, maximum = m. */
    void (*attend_merge)(float *maximum, float *total, float *sums, float next_maximum,
                         const float *next_total, const float *next_sums, size_t stride);

    /* Codes of n numbers and the scale that they are to be multiplied by: x limited to +-65504, m =
     * max |x|, scale = m / limit, code = x * (limit / m) rounded to nearest even; all 0 when m <
     * 2^-100. limit: at most 127, 32767. Unaligned. */
    float (*to_s8)(const float *x, int8_t *codes, size_t n, float limit);
    float (*to_s16)(const float *x, int16_t *codes, size_t n, float limit);

    /* y = (x * (1 / sqrt(sum of squares / n + eps))) * weight, the sum by lanes with fma.
     * Unaligned. */
    void (*norm)(const float *x, const float *weight, size_t n, float eps, float *y);

    /* gate = (gate / (1 + exp(-gate))) * up. Unaligned. */
    void (*silu_mul)(float *gate, const float *up, size_t n);

    /* x += y. Unaligned. */
    void (*add)(float *x, const float *y, size_t n);

    /* To half precision, nearest even, limited to +-65504. Unaligned. */
    void (*to_f16)(const float *x, uint16_t *y, size_t n);

    /* For calibration: `rounds` rounds of independent multiply-adds between registers; returns how
     * many that were. */
    double (*spin_int8)(size_t rounds);
    double (*spin_f32)(size_t rounds);

    /* For calibration: reads all of it, a multiple of `streams` lines of 64 bytes, in as many parts
     * side by side; how, is up to the kernel. */
    void (*read_all)(const unsigned char *data, size_t bytes, size_t streams);
};

/* The functions of a table whose file has them under these names. */
#define CPU_KERNELS_FUNCTIONS                                                                      \
    .quantize = quantize, .multiply = multiply, .open_panel = open_panel,                          \
    .multiply_panels = multiply_panels, .multiply_lanes = multiply_lanes,                          \
    .attend_page_f16 = attend_page_f16, .attend_page_f32 = attend_page_f32,                        \
    .attend_page_s8 = attend_page_s8, .attend_merge = attend_merge, .to_s8 = to_s8,                \
    .to_s16 = to_s16, .norm = norm, .silu_mul = silu_mul, .add = add, .to_f16 = to_f16,            \
    .spin_int8 = spin_int8, .spin_f32 = spin_f32, .read_all = read_all

extern const unsigned char cpu_peak_bytes[64]; /* something to multiply */

/* 1.5 * 2^23 and its bits: from there whole numbers of up to 22 bits are added to the bits of a
 * float and to its value alike. */
#define CPU_FLOAT_BASE 12582912.0f
#define CPU_FLOAT_BITS 0x4b400000

extern const struct cpu_kernels cpu_kernels_scalar;
extern const struct cpu_kernels cpu_kernels_avx2;
extern const struct cpu_kernels cpu_kernels_avxvnni;
extern const struct cpu_kernels cpu_kernels_avx512;
extern const struct cpu_kernels cpu_kernels_avx512vnni;
extern const struct cpu_kernels cpu_kernels_amx;
extern const struct cpu_kernels cpu_kernels_neon;
extern const struct cpu_kernels cpu_kernels_dotprod;
extern const struct cpu_kernels cpu_kernels_i8mm;

/* exp(x) of the kernels, relative error below 2e-7: 0 below -87, the value at 88 above it.
 *   n = x * log2(e) rounded to even
 *   r = x - n * ln 2, subtracted in two parts by fma
 *   the Taylor polynomial of degree 7 by Horner's rule in fma
 *   times 2^n by adding to the exponent bits */
#define CPU_EXP_LOG2E  1.44269504f
#define CPU_EXP_LN2_HI 0.693145752f   /* ln 2 with few enough bits that n times it is exact */
#define CPU_EXP_LN2_LO 1.42860677e-6f /* the rest */
#define CPU_EXP_MIN    (-87.0f)
#define CPU_EXP_MAX    88.0f
#define CPU_EXP_TERMS  8
static const float cpu_exp_terms[CPU_EXP_TERMS] = {
    1.0f / 5040.0f, 1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f,
};

#endif
