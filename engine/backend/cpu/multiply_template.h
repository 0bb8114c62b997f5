/* Products of weights and activations for any instruction set, in terms of vec_*.h. Included by one
 * file for each, after its vec header. `kind` and `tokens` are constants wherever a function here
 * is used, so that everything unrolls. */

#include "engine/backend/cpu/dot_template.h"

/* X(KIND, 1) and so on. */
#define UP_TO_4(X, KIND)  X(KIND, 1) X(KIND, 2) X(KIND, 3) X(KIND, 4)
#define UP_TO_6(X, KIND)  UP_TO_4(X, KIND) X(KIND, 5) X(KIND, 6)
#define UP_TO_8(X, KIND)  UP_TO_6(X, KIND) X(KIND, 7) X(KIND, 8)
#define UP_TO_12(X, KIND) UP_TO_8(X, KIND) X(KIND, 9) X(KIND, 10) X(KIND, 11) X(KIND, 12)
#define UP_TO_16(X, KIND) UP_TO_12(X, KIND) X(KIND, 13) X(KIND, 14) X(KIND, 15) X(KIND, 16)
#define UP_TO_(N)         UP_TO_##N
#define UP_TO(N)          UP_TO_(N)

/* Of the rows of a group in a block, or half of one. `shift` takes what sums of products began with
 * away again, see f_scaled. */
struct row_scales {
    v16f scale, shift, bias;
};

/* Some tokens of a tile: `count` from `first` of all its `stride`. */
struct tokens {
    int first, count, stride;
};

/* One term of the sums [groups][count]: a block, or half of one. `block` is its number in x. */
INLINE void add_term(enum r16_kind kind, bool opened, const unsigned char *const *codes, int groups,
                     int half, const struct row_scales *scales, const struct q8_tile *x,
                     size_t block, struct tokens some, v16f *sums)
{
    const bool halves = r16_has_halves(kind);
    const int steps = halves ? R16_STEPS / 2 : R16_STEPS;
    const int tokens = some.count;
    const size_t stride = (size_t)some.stride;
    const size_t at = block * stride + (size_t)some.first;
    const size_t term = halves ? (2 * block + (size_t)half) * stride + (size_t)some.first : at;
    const int32_t *starts = (halves ? x->half_start : x->start) + term;
    const float *codes_sum = (halves ? x->scaled_half_sum : x->scaled_sum) + term;
    const float *x_scale = x->scale + at;
    v16i acc[CPU_PANEL_GROUPS * CPU_TILE_TOKENS_MAX];
    dot_term(kind, opened, codes, groups, half * steps, steps,
             x->codes + block * stride * R16_BLOCK +
                 4 * q8_four(VEC_ROW_CODES, stride, (size_t)some.first, 0),
             starts, some.stride, tokens, acc);
    UNROLL for (int t = 0; t < tokens; t++)
    {
        UNROLL for (int i = 0; i < groups; i++)
        {
            v16f part = f_scaled(acc[i * tokens + t], scales[i].scale, scales[i].shift);
            v16f sum = f_fma(part, f_set1(x_scale[t]), sums[i * tokens + t]);
            if (r16_has_bias(kind)) {
                sum = f_fma(scales[i].bias, f_set1(codes_sum[t]), sum);
            }
            sums[i * tokens + t] = sum;
        }
    }
}

/* Where kind_align makes values larger their scale becomes smaller: by a power of two, which is
 * exact. So is what the kind divides it by. */
INLINE v16f f_aligned(enum r16_kind kind, v16f scale)
{
    const int shift = kind_align(kind) + r16_types[kind].d_shift;
    return shift == 0 ? scale : f_mul(scale, f_set1(1.0f / (float)(1 << shift)));
}

/* What all blocks of a unit share: d, and dmin with its sign turned. */
struct unit_scales {
    v16f d;
    v16f minus_dmin;
};

INLINE struct unit_scales unit_scales_load(enum r16_kind kind, const unsigned char *unit)
{
    struct unit_scales u = {.d = f_zero(), .minus_dmin = f_zero()};
    const int scales = r16_types[kind].scales;
    if (scales != R16_SCALES_D && scales != R16_SCALES_DM && scales != R16_SCALES_E) {
        u.d = f_aligned(kind, f_load_f16(unit));
    }
    if (scales == R16_SCALES_DSM || scales == R16_SCALES_DHM) {
        u.minus_dmin = f_mul(f_set1(-1), f_load_f16(unit + R16_ROWS * 2)); /* zeros too */
    }
    return u;
}

INLINE struct row_scales term_scales(enum r16_kind kind, const unsigned char *unit,
                                     const struct unit_scales *u, size_t blocks, size_t block,
                                     size_t half)
{
    const unsigned char *after_d = unit + R16_ROWS * 2;
    const unsigned char *after_dmin = after_d + R16_ROWS * 2;
    struct row_scales s = {.bias = f_zero()};
    v16f high;
    switch (r16_types[kind].scales) {
    case R16_SCALES_D:
        s.scale = f_aligned(kind, f_load_f16(unit + block * R16_ROWS * 2));
        break;
    case R16_SCALES_DM:
        s.scale = f_load_f16(unit + block * R16_ROWS * 2);
        s.bias = f_load_f16(unit + (blocks + block) * R16_ROWS * 2);
        break;
    case R16_SCALES_DS:
        s.scale = f_mul(u->d, f_load_s8(after_d + block * R16_ROWS));
        break;
    case R16_SCALES_DSM:
        s.scale = f_mul(u->d, f_load_u8(after_dmin + block * R16_ROWS));
        s.bias = f_mul(u->minus_dmin, f_load_u8(after_dmin + (blocks + block) * R16_ROWS));
        break;
    case R16_SCALES_DH:
        s.scale = f_mul(u->d, f_load_s8(after_d + (2 * block + half) * R16_ROWS));
        break;
    case R16_SCALES_DO:
        f_load_nibbles(after_d + block * R16_ROWS, &s.scale, &high);
        s.scale = half == 0 ? s.scale : high;
        s.scale = f_mul(u->d, f_fma(s.scale, f_set1(2), f_set1(1)));
        break;
    case R16_SCALES_DP:
        f_load_nibbles(after_d + block * R16_ROWS, &s.scale, &high);
        s.scale = f_mul(u->d, s.scale);
        s.bias = f_mul(f_mul(s.scale, f_set1(-0.125f)), high);
        break;
    case R16_SCALES_U:
        s.scale = u->d;
        break;
    case R16_SCALES_E:
        s.scale = f_load_e8m0(unit + block * R16_ROWS);
        break;
    default:
        f_load_nibbles(after_dmin + (2 * block + half) * R16_ROWS, &s.scale, &high);
        s.scale = f_mul(u->d, s.scale);
        s.bias = f_mul(u->minus_dmin, high);
        break;
    }
    s.shift = f_shift_of(s.scale);
    return s;
}

/* A block of an opened panel: its codes, then for it, or each half, scale, shift and bias of the 16
 * rows, without those that the kind or the instruction set does not use. */
INLINE size_t opened_scales_bytes(enum r16_kind kind)
{
    const size_t vectors = 1 + (VEC_SUM_BITS ? 1 : 0) + (r16_has_bias(kind) ? 1 : 0);
    return vectors * R16_ROWS * sizeof(float);
}

INLINE size_t opened_bytes(enum r16_kind kind)
{
    return R16_STEPS * R16_VECTOR + (r16_has_halves(kind) ? 2 : 1) * opened_scales_bytes(kind);
}

INLINE void open_scales(enum r16_kind kind, struct row_scales s, unsigned char *opened, size_t half)
{
    float *p =
        (float *)(void *)(opened + R16_STEPS * R16_VECTOR + half * opened_scales_bytes(kind));
    f_store(p, s.scale);
    if (r16_has_bias(kind)) {
        f_store(p + R16_ROWS, s.bias);
    }
    if (VEC_SUM_BITS) {
        f_store(p + (r16_has_bias(kind) ? 2 : 1) * R16_ROWS, s.shift);
    }
}

INLINE struct row_scales opened_scales(enum r16_kind kind, const unsigned char *opened, size_t half)
{
    const float *p = (const float *)(const void *)(opened + R16_STEPS * R16_VECTOR +
                                                   half * opened_scales_bytes(kind));
    return (struct row_scales){
        .scale = f_load(p),
        .bias = r16_has_bias(kind) ? f_load(p + R16_ROWS) : f_zero(),
        .shift = VEC_SUM_BITS ? f_load(p + (r16_has_bias(kind) ? 2 : 1) * R16_ROWS) : f_zero(),
    };
}

#ifndef VEC_HAS_PAIRS

INLINE void c_store_two(unsigned char *p, v64 x, v64 y)
{
    c_store(p, x);
    c_store(p + R16_VECTOR, y);
}

#endif

/* As products of opened codes want them. */
INLINE v64 codes_to_open(enum r16_kind kind, const unsigned char *packed, int g)
{
    v64 codes = raised_codes(kind, false, packed, g);
#if VEC_HAS_TILES
    if (kind_has_offset(kind)) {
        codes = c_from_signed(codes); /* and back: the same bit of each byte is turned */
    }
#endif
    return codes;
}

/* Block b of a unit's `blocks`. */
INLINE void open_block(enum r16_kind kind, const unsigned char *unit, const struct unit_scales *u,
                       size_t blocks, size_t b, const unsigned char *codes, unsigned char *opened)
{
    UNROLL for (int g = 0; g < R16_STEPS; g += 2)
    {
        c_store_two(opened + g * R16_VECTOR, codes_to_open(kind, codes, g),
                    codes_to_open(kind, codes, g + 1));
    }
    for (size_t half = 0; half < (r16_has_halves(kind) ? 2 : 1); half++) {
        open_scales(kind, term_scales(kind, unit, u, blocks, b, half), opened, half);
    }
}

/* Some tokens with an opened block of each of one or two row groups; sums [groups][count]. */
INLINE void add_opened(enum r16_kind kind, const unsigned char *const *opened, int groups,
                       const struct q8_tile *x, size_t block, struct tokens some, v16f *sums)
{
    const int halves = r16_has_halves(kind) ? 2 : 1;
    UNROLL for (int half = 0; half < halves; half++)
    {
        struct row_scales scales[CPU_PANEL_GROUPS];
        UNROLL for (int i = 0; i < groups; i++)
        {
            scales[i] = opened_scales(kind, opened[i], (size_t)half);
        }
        add_term(kind, true, opened, groups, half, scales, x, block, some, sums);
    }
}

/* Neither codes nor sums stay in registers from here on: sums of products need them all. */
INLINE void keep_in_memory(const unsigned char *opened, v16f *sums)
{
    __asm__ volatile("" : : "r"(opened), "r"(sums) : "memory");
}

INLINE void fetch(const void *p, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += 64) {
        __builtin_prefetch((const char *)p + line);
    }
}

#if VEC_HAS_TILES
#include "engine/backend/cpu/tiles_template.h"
#endif
#include "engine/backend/cpu/direct_template.h"

INLINE void open_panel_kind(enum r16_kind kind, const struct r16_matrix *m, size_t group,
                            size_t first_block, size_t count, struct r16_panel *panel)
{
    const unsigned char *unit =
        m->data + group * m->group_bytes +
        first_block / R16_UNIT_BLOCKS * r16_unit_bytes(kind, R16_UNIT_BLOCKS);
    for (size_t done = 0; done < count; done += R16_UNIT_BLOCKS) {
        size_t blocks = count - done < R16_UNIT_BLOCKS ? count - done : R16_UNIT_BLOCKS;
        const unsigned char *codes = unit + r16_header_bytes(kind, blocks);
        struct unit_scales u = unit_scales_load(kind, unit);
        for (size_t b = 0; b < blocks; b++) {
            open_block(kind, unit, &u, blocks, b, codes,
                       panel->data + (done + b) * opened_bytes(kind));
            codes += r16_block_bytes(kind);
        }
        unit += r16_unit_bytes(kind, blocks);
    }
}

#if !VEC_HAS_TILES

/* What multiply_panels will read of the next tile beside codes. */
INLINE void fetch_tile(enum r16_kind kind, const struct q8_tile *x, size_t first_block,
                       size_t blocks, int tokens)
{
    const size_t at = (x->blocks + first_block) * (size_t)tokens;
    const size_t bytes = blocks * (size_t)tokens * sizeof(float);
    fetch(x->scale + at, bytes);
    if (r16_has_halves(kind)) {
        fetch(r16_has_bias(kind) ? (const void *)(x->scaled_half_sum + 2 * at)
                                 : (const void *)(x->half_start + 2 * at),
              2 * bytes);
    } else {
        fetch(r16_has_bias(kind) ? (const void *)(x->scaled_sum + at)
                                 : (const void *)(x->start + at),
              bytes);
    }
}

/* sums: [groups][tokens] */
INLINE void continue_panels(enum r16_kind kind, const struct r16_panel *panels, int groups,
                            size_t blocks, const struct q8_tile *x, size_t first_block, int tokens,
                            v16f *sums)
{
    const size_t block_bytes = (size_t)tokens * R16_BLOCK;
    const int8_t *next = x->codes + (x->blocks + first_block) * block_bytes;
    if (VEC_FETCH_TILE) {
        fetch_tile(kind, x, first_block, blocks, tokens);
    }
    for (size_t b = 0; b < blocks; b++) {
        for (size_t line = 0; VEC_FETCH_TILE && line < block_bytes; line += 64) {
            __builtin_prefetch(next + b * block_bytes + line);
        }
        const unsigned char *opened[CPU_PANEL_GROUPS];
        UNROLL for (int i = 0; i < groups; i++)
        {
            opened[i] = panels[i].data + b * opened_bytes(kind);
        }
        add_opened(kind, opened, groups, x, first_block + b, (struct tokens){0, tokens, tokens},
                   sums);
    }
}

#endif

/* Row groups of `all` whose sums registers hold; `groups` is a constant here. out: the first one's
 * of [tokens][all][R16_ROWS]. */
INLINE void multiply_panels_groups(enum r16_kind kind, const struct r16_panel *panels, int groups,
                                   size_t all, size_t blocks, const struct q8_tile *x,
                                   size_t first_block, int tokens, float *out, bool start)
{
    v16f sums[CPU_PANEL_GROUPS * CPU_TILE_TOKENS_MAX];
    UNROLL for (int i = 0; i < groups; i++)
    {
        UNROLL for (int t = 0; t < tokens; t++)
        {
            sums[i * tokens + t] =
                start ? f_zero() : f_load(out + ((size_t)t * all + (size_t)i) * R16_ROWS);
        }
    }
    continue_panels(kind, panels, groups, blocks, x, first_block, tokens, sums);
    UNROLL for (int i = 0; i < groups; i++)
    {
        UNROLL for (int t = 0; t < tokens; t++)
        {
            f_store(out + ((size_t)t * all + (size_t)i) * R16_ROWS, sums[i * tokens + t]);
        }
    }
}

INLINE void multiply_panels_tokens(enum r16_kind kind, const struct r16_panel *panels,
                                   size_t groups, size_t blocks, const struct q8_tile *x,
                                   size_t first_block, int tokens, float *out, bool start)
{
    if (VEC_SUM_GROUPS == 2 && groups == 2) {
        multiply_panels_groups(kind, panels, 2, 2, blocks, x, first_block, tokens, out, start);
        return;
    }
    for (size_t i = 0; i < groups; i++) {
        multiply_panels_groups(kind, panels + i, 1, groups, blocks, x, first_block, tokens,
                               out + i * R16_ROWS, start);
    }
}

/* Every kind with every number of tokens of a tile, as functions of its own; then tables of them.
 */
#define EACH_KIND(X)                                                                               \
    X(Q4_0)                                                                                        \
    X(Q4_1)                                                                                        \
    X(Q5_0)                                                                                        \
    X(Q5_1)                                                                                        \
    X(Q8_0)                                                                                        \
    X(Q2_K)                                                                                        \
    X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) X(TQ2_0) X(IQ1_S) X(IQ1_M) X(IQ2_XXS)      \
        X(IQ2_S) X(IQ3_XXS) X(IQ3_S) X(MXFP4)

typedef void (*multiply_fn)(const struct r16_matrix *m, size_t first, size_t groups,
                            const struct q8_tile *x, float *y, size_t y_stride);
typedef void (*panels_fn)(const struct r16_panel *panels, size_t groups, size_t blocks,
                          const struct q8_tile *x, size_t first_block, float *out, bool start);
typedef void (*open_fn)(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                        struct r16_panel *panel);

#define DEFINE_MULTIPLY(KIND, N)                                                                   \
    static void multiply_##KIND##_##N(const struct r16_matrix *m, size_t first, size_t groups,     \
                                      const struct q8_tile *x, float *y, size_t y_stride)          \
    {                                                                                              \
        multiply_tokens(R16_##KIND, m, first, groups, x, N, y, y_stride);                          \
    }

#define DEFINE_PANELS(KIND, N)                                                                     \
    static void panels_##KIND##_##N(const struct r16_panel *panels, size_t groups, size_t blocks,  \
                                    const struct q8_tile *x, size_t first_block, float *out,       \
                                    bool start)                                                    \
    {                                                                                              \
        multiply_panels_tokens(R16_##KIND, panels, groups, blocks, x, first_block, N, out, start); \
    }

#define DEFINE_OPEN(KIND)                                                                          \
    static void open_##KIND(const struct r16_matrix *m, size_t group, size_t first_block,          \
                            size_t blocks, struct r16_panel *panel)                                \
    {                                                                                              \
        open_panel_kind(R16_##KIND, m, group, first_block, blocks, panel);                         \
    }

#define DEFINE_KIND(KIND)                                                                          \
    DEFINE_OPEN(KIND)                                                                              \
    UP_TO(VEC_DIRECT_TOKENS)(DEFINE_MULTIPLY, KIND) UP_TO(VEC_TILE_TOKENS)(DEFINE_PANELS, KIND)

EACH_KIND(DEFINE_KIND)

#define MULTIPLY_NAME(KIND, N) multiply_##KIND##_##N,
#define PANELS_NAME(KIND, N)   panels_##KIND##_##N,
#define MULTIPLY_ENTRY(KIND)   [R16_##KIND] = {UP_TO(VEC_DIRECT_TOKENS)(MULTIPLY_NAME, KIND)},
#define PANELS_ENTRY(KIND)     [R16_##KIND] = {UP_TO(VEC_TILE_TOKENS)(PANELS_NAME, KIND)},
#define OPEN_ENTRY(KIND)       [R16_##KIND] = open_##KIND,

static void multiply(const struct r16_matrix *m, size_t first, size_t groups,
                     const struct q8_tile *x, float *y, size_t y_stride)
{
    static const multiply_fn table[R16_KINDS][VEC_DIRECT_TOKENS] = {EACH_KIND(MULTIPLY_ENTRY)};
#if VEC_HAS_TILES
    if (x->tokens >= VEC_TILES_FROM) {
        shape_for_terms(m->kind, x->tokens);
    }
#endif
    table[m->kind][x->tokens - 1](m, first, groups, x, y, y_stride);
}

static void open_panel(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                       struct r16_panel *panel)
{
    static const open_fn table[R16_KINDS] = {EACH_KIND(OPEN_ENTRY)};
    table[m->kind](m, group, first_block, blocks, panel);
}

static void multiply_panels(enum r16_kind kind, const struct r16_panel *panels, size_t groups,
                            size_t blocks, const struct q8_tile *x, size_t first_block, float *sums,
                            bool start)
{
    static const panels_fn table[R16_KINDS][VEC_TILE_TOKENS] = {EACH_KIND(PANELS_ENTRY)};
#if VEC_HAS_TILES
    shape_for_terms(kind, x->tokens);
#endif
    table[kind][x->tokens - 1](panels, groups, blocks, x, first_block, sums, start);
}

#if VEC_HAS_TILES
#include "engine/backend/cpu/bf16_template.h"
#elif VEC_SUM_BITS
#include "engine/backend/cpu/w8_template.h"
#endif
