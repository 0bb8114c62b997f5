/* Weights rounded once more and their products, for instruction sets with a dot product of four
 * bytes, unsigned by signed; one part of multiply_template.h. What it does: w8.h. */

/* A span of an opened panel: weights, each with 128 added; then scale and shift of the rows. */
#define W8_CODES      (W8_BLOCKS * R16_STEPS * R16_VECTOR)
#define W8_SPAN_BYTES (W8_CODES + 2 * R16_ROWS * sizeof(float))

/* Of the rows of a group in a span: how the codes of a block, or half of one, become weights. Each
 * number of 16 bits twice in a lane. */
struct w8_rounding {
    v16i factor[2 * W8_BLOCKS], added[2 * W8_BLOCKS];
};

/* Signed codes of step g at the top of their bytes. */
INLINE v64 w8_codes(enum r16_kind kind, const unsigned char *block, int g)
{
    const int align = 8 - r16_code_bits(kind);
    if (r16_types[kind].low_bits == 8) {
        return c_load(block + g * R16_VECTOR);
    }
    if (r16_types[kind].levels == R16_LEVELS_NONE) {
        return c_from_signed(packed_codes(kind, block, g, align));
    }
    v64 index = packed_codes(kind, block, g, 0);
    const enum r16_levels levels = (enum r16_levels)r16_types[kind].levels;
    if (align == 0) {
        return c_lookup(r16_levels[R16_LEVELS_VALUES][levels], index);
    }
    v64 codes = c_lookup(r16_levels[R16_LEVELS_OFFSET][levels], index);
    return c_from_signed(c_bits(codes, -align, 0xff << align & 0xff));
}

INLINE void w8_rounding_of(enum r16_kind kind, const unsigned char *unit,
                           const struct unit_scales *u, size_t unit_blocks, size_t first,
                           size_t blocks, struct w8_rounding *ret, float *scales)
{
    const int halves = r16_has_halves(kind) ? 2 : 1;
    const int count = halves * W8_BLOCKS;
    const float range = (float)w8_half(kind);
    v16f scale[2 * W8_BLOCKS], middle[2 * W8_BLOCKS], largest = f_zero(), poison = f_zero();
    UNROLL for (int i = 0; i < count; i++)
    {
        if ((size_t)(i / halves) >= blocks) {
            break;
        }
        struct row_scales s = term_scales(kind, unit, u, unit_blocks, first + (size_t)(i / halves),
                                          (size_t)(i % halves));
        scale[i] = f_mul(s.scale, f_set1((float)(1 << kind_align(kind))));
        middle[i] = f_fma(scale[i], f_set1((float)w8_center(kind)), s.bias);
        poison = f_fma(middle[i], f_zero(), poison); /* 0, or no number */
        largest = f_max(largest, f_abs(f_fma(scale[i], f_set1(-range), middle[i])));
        largest = f_max(largest, f_abs(f_fma(scale[i], f_set1(range - 1), middle[i])));
        largest = f_max(largest, f_abs(f_mul(scale[i], f_set1(range))));
    }
    const v16f coarse = f_coarse(f_div(largest, f_set1(127)));
    const v16f inverse = f_select_below(largest, 0x1p-100f, f_zero(), f_div(f_set1(1), coarse));
    const v16f weights = f_add(f_select_below(largest, 0x1p-100f, f_zero(), coarse), poison);
    f_store(scales, weights);
    f_store(scales + R16_ROWS, f_shift_of(weights));
    UNROLL for (int i = 0; i < count; i++)
    {
        if ((size_t)(i / halves) >= blocks) {
            break;
        }
        ret->factor[i] = i_twice(f_mul(f_mul(scale[i], inverse), f_set1(range * 256)), 0);
        /* 128 rounds, and 2^15 makes the weights unsigned. */
        ret->added[i] = i_twice(f_mul(f_mul(middle[i], inverse), f_set1(256)), 128 + 32768);
    }
}

INLINE void w8_open_kind(enum r16_kind kind, const struct r16_matrix *m, size_t group,
                         size_t first_block, size_t count, struct r16_panel *panel)
{
    const int halves = r16_has_halves(kind) ? 2 : 1;
    const unsigned char *unit =
        m->data + group * m->group_bytes +
        first_block / R16_UNIT_BLOCKS * r16_unit_bytes(kind, R16_UNIT_BLOCKS);
    unsigned char *out = panel->data;
    for (size_t done = 0; done < count; done += R16_UNIT_BLOCKS) {
        const size_t blocks = count - done < R16_UNIT_BLOCKS ? count - done : R16_UNIT_BLOCKS;
        const unsigned char *codes = unit + r16_header_bytes(kind, blocks);
        struct unit_scales u = unit_scales_load(kind, unit);
        for (size_t b = 0; b < blocks; b += W8_BLOCKS, out += W8_SPAN_BYTES) {
            struct w8_rounding r;
            const size_t here = blocks - b < W8_BLOCKS ? blocks - b : W8_BLOCKS;
            w8_rounding_of(kind, unit, &u, blocks, b, here, &r, (float *)(void *)(out + W8_CODES));
            for (size_t i = 0; i < here; i++) {
                UNROLL for (int g = 0; g < R16_STEPS; g++)
                {
                    const size_t at = i * (size_t)halves + (size_t)(g * halves / R16_STEPS);
                    c_store(out + (i * R16_STEPS + (size_t)g) * R16_VECTOR,
                            c_rounded(w8_codes(kind, codes, g), r.factor[at], r.added[at]));
                }
                codes += r16_block_bytes(kind);
            }
        }
        unit += r16_unit_bytes(kind, blocks);
    }
}

static void quantize_w8(const float *x, size_t n, int8_t *codes, float *scale, int32_t *sums)
{
    for (size_t span = 0; span * W8_COLS < n; span++, x += W8_COLS, codes += W8_COLS) {
        const size_t cols = n - span * W8_COLS < W8_COLS ? n - span * W8_COLS : W8_COLS;
        v16f largest = f_zero();
        for (size_t i = 0; i < cols; i += CPU_LANES) {
            largest = f_max(largest, f_abs(f_load(x + i)));
        }
        const float m = f_largest(largest);
        const v16f inverse = f_set1(m < 0x1p-100f ? 0.0f : 127.0f / m);
        scale[span] = m < 0x1p-100f ? 0.0f : m / 127.0f;
        v16i sum = i_zero();
        for (size_t i = 0; i < cols; i += CPU_LANES) {
            sum = i_add(sum, i_store_s8(codes + i, f_mul(f_load(x + i), inverse)));
        }
        sums[span] = i_sum(sum);
    }
}

/* The span of `here` blocks, a constant where it is a whole one. */
INLINE void w8_add_span(const unsigned char *const *spans, int groups, size_t here,
                        const int8_t *codes, const int8_t *next, const int32_t *starts,
                        const float *x_scale, int tokens, v16f *sums)
{
    const size_t block_bytes = (size_t)tokens * R16_BLOCK;
    v16i acc[CPU_PANEL_GROUPS * CPU_TILE_TOKENS_MAX];
    UNROLL for (int i = 0; i < groups * tokens; i++)
    {
        acc[i] = i_set1(starts[i % tokens]);
    }
    UNROLL for (size_t b = 0; b < here; b++)
    {
        const unsigned char *opened[CPU_PANEL_GROUPS];
        UNROLL for (int i = 0; i < groups; i++)
        {
            opened[i] = spans[i] + b * R16_STEPS * R16_VECTOR;
        }
        for (size_t line = 0; VEC_FETCH_TILE && line < block_bytes; line += 64) {
            __builtin_prefetch(next + b * block_bytes + line);
        }
        dot_steps(R16_Q8_0, true, opened, groups, 0, R16_STEPS, codes + b * block_bytes, tokens,
                  tokens, acc);
    }
    UNROLL for (int i = 0; i < groups * tokens; i++)
    {
        const float *scales = (const float *)(const void *)(spans[i / tokens] + W8_CODES);
        v16f part = f_scaled(acc[i], f_load(scales), f_load(scales + R16_ROWS));
        sums[i] = f_fma(part, f_set1(x_scale[i % tokens]), sums[i]);
    }
}

INLINE void w8_multiply_groups(const struct r16_panel *panels, int groups, size_t all,
                               size_t blocks, const struct q8_tile *x, size_t first_block,
                               int tokens, float *out, bool start)
{
    const size_t span_bytes = (size_t)tokens * W8_COLS;
    const int8_t *codes = x->codes + first_block * (size_t)tokens * R16_BLOCK;
    const int8_t *next = codes + x->blocks * (size_t)tokens * R16_BLOCK;
    const int32_t *starts = x->start + first_block / W8_BLOCKS * (size_t)tokens;
    const float *scale = x->scale + first_block / W8_BLOCKS * (size_t)tokens;
    const unsigned char *spans[CPU_PANEL_GROUPS];
    v16f sums[CPU_PANEL_GROUPS * CPU_TILE_TOKENS_MAX];
    UNROLL for (int i = 0; i < groups; i++)
    {
        spans[i] = panels[i].data;
    }
    UNROLL for (int i = 0; i < groups * tokens; i++)
    {
        const size_t at = (size_t)(i % tokens) * all + (size_t)(i / tokens);
        sums[i] = start ? f_zero() : f_load(out + at * R16_ROWS);
    }
    for (; blocks >= W8_BLOCKS; blocks -= W8_BLOCKS) {
        w8_add_span(spans, groups, W8_BLOCKS, codes, next, starts, scale, tokens, sums);
        UNROLL for (int i = 0; i < groups; i++)
        {
            spans[i] += W8_SPAN_BYTES;
        }
        codes += span_bytes;
        next += span_bytes;
        starts += tokens;
        scale += tokens;
    }
    if (blocks > 0) {
        w8_add_span(spans, groups, blocks, codes, next, starts, scale, tokens, sums);
    }
    UNROLL for (int i = 0; i < groups * tokens; i++)
    {
        const size_t at = (size_t)(i % tokens) * all + (size_t)(i / tokens);
        f_store(out + at * R16_ROWS, sums[i]);
    }
}

INLINE void w8_multiply_tokens(const struct r16_panel *panels, size_t groups, size_t blocks,
                               const struct q8_tile *x, size_t first_block, int tokens, float *out,
                               bool start)
{
    if (VEC_SUM_GROUPS == 2 && groups == 2) {
        w8_multiply_groups(panels, 2, 2, blocks, x, first_block, tokens, out, start);
        return;
    }
    for (size_t i = 0; i < groups; i++) {
        w8_multiply_groups(panels + i, 1, groups, blocks, x, first_block, tokens,
                           out + i * R16_ROWS, start);
    }
}

#define DEFINE_W8_OPEN(KIND)                                                                       \
    static void w8_open_##KIND(const struct r16_matrix *m, size_t group, size_t first_block,       \
                               size_t blocks, struct r16_panel *panel)                             \
    {                                                                                              \
        w8_open_kind(R16_##KIND, m, group, first_block, blocks, panel);                            \
    }

#define DEFINE_W8_MULTIPLY(KIND, N)                                                                \
    static void w8_multiply_##N(const struct r16_panel *panels, size_t groups, size_t blocks,      \
                                const struct q8_tile *x, size_t first_block, float *sums,          \
                                bool start)                                                        \
    {                                                                                              \
        w8_multiply_tokens(panels, groups, blocks, x, first_block, N, sums, start);                \
    }

#define DEFINE_W8_MULTIPLIES UP_TO(VEC_TILE_TOKENS)(DEFINE_W8_MULTIPLY, )

EACH_KIND(DEFINE_W8_OPEN)
DEFINE_W8_MULTIPLIES

#define W8_OPEN_ENTRY(KIND)       [R16_##KIND] = w8_open_##KIND,
#define W8_MULTIPLY_NAME(KIND, N) w8_multiply_##N,

static void open_w8(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                    struct r16_panel *panel)
{
    static const open_fn table[R16_KINDS] = {EACH_KIND(W8_OPEN_ENTRY)};
    table[m->kind](m, group, first_block, blocks, panel);
}

static void multiply_w8(const struct r16_panel *panels, size_t groups, size_t blocks,
                        const struct q8_tile *x, size_t first_block, float *sums, bool start)
{
    static const panels_fn table[VEC_TILE_TOKENS] = {UP_TO(VEC_TILE_TOKENS)(W8_MULTIPLY_NAME, )};
    table[x->tokens - 1](panels, groups, blocks, x, first_block, sums, start);
}
