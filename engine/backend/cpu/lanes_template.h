/* Products of F32, F16 and BF16 weights with f32 activations, for any instruction set. See
 * multiply_template.h. */

INLINE v16f lanes_load(enum lanes_kind kind, const unsigned char *p)
{
    return kind == LANES_F32   ? f_load((const float *)(const void *)p)
           : kind == LANES_F16 ? f_load_f16(p)
                               : f_load_bf16(p);
}

#define LANES_TOKENS (VEC_FLOAT_TILE >= 16 ? 8 : 4) /* at once, at most */
#define LANES_GROUPS 4

/* `groups` row groups by `tokens` tokens at once, so many sums that their latency does not show. */
INLINE void lanes_tile(enum lanes_kind kind, const struct lanes_matrix *m, size_t first, int groups,
                       const float *x, size_t x_stride, int tokens, float *y, size_t y_stride)
{
    const size_t step = kind == LANES_F32 ? R16_ROWS * 4 : R16_ROWS * 2;
    const unsigned char *weights = m->data + first * m->group_bytes;
    v16f sums[LANES_GROUPS * LANES_TOKENS];
    UNROLL for (int i = 0; i < groups * tokens; i++)
    {
        sums[i] = f_zero();
    }
    for (size_t col = 0; col < m->cols; col++, weights += step) {
        UNROLL for (int g = 0; g < groups; g++)
        {
            v16f w = lanes_load(kind, weights + (size_t)g * m->group_bytes);
            UNROLL for (int t = 0; t < tokens; t++)
            {
                sums[g * tokens + t] =
                    f_fma(w, f_set1(x[(size_t)t * x_stride + col]), sums[g * tokens + t]);
            }
        }
    }
    UNROLL for (int g = 0; g < groups; g++)
    {
        size_t row = (first + (size_t)g) * R16_ROWS;
        UNROLL for (int t = 0; t < tokens; t++)
        {
            store_rows(sums[g * tokens + t], y + (size_t)t * y_stride + row, m->rows - row);
        }
    }
}

/* Row groups that so many tokens take at once; a constant wherever tokens is. */
INLINE int lanes_groups(size_t tokens)
{
    return tokens * 4 <= VEC_FLOAT_TILE ? 4 : tokens * 2 <= VEC_FLOAT_TILE ? 2 : 1;
}

/* The last few tokens. */
INLINE void lanes_rest(enum lanes_kind kind, const struct lanes_matrix *m, size_t group, int groups,
                       const float *x, size_t x_stride, size_t tokens, float *y, size_t y_stride)
{
    UNROLL for (int some = 1; some < LANES_TOKENS; some++)
    {
        if (some * groups <= VEC_FLOAT_TILE && tokens == (size_t)some) {
            lanes_tile(kind, m, group, groups, x, x_stride, some, y, y_stride);
        }
    }
}

/* All tokens with some row groups, whose weights the first tile brings near. */
INLINE void lanes_tokens(enum lanes_kind kind, const struct lanes_matrix *m, size_t group,
                         int groups, const float *x, size_t x_stride, size_t tokens, float *y,
                         size_t y_stride)
{
    size_t t = 0;
    if (LANES_TOKENS * groups <= VEC_FLOAT_TILE) {
        for (; t + LANES_TOKENS <= tokens; t += LANES_TOKENS) {
            lanes_tile(kind, m, group, groups, x + t * x_stride, x_stride, LANES_TOKENS,
                       y + t * y_stride, y_stride);
        }
    }
    lanes_rest(kind, m, group, groups, x + t * x_stride, x_stride, tokens - t, y + t * y_stride,
               y_stride);
}

INLINE void multiply_lanes_kind(enum lanes_kind kind, const struct lanes_matrix *m, size_t first,
                                size_t groups, const float *x, size_t x_stride, size_t tokens,
                                float *y, size_t y_stride)
{
    size_t group = first;
    size_t end = first + groups;
    UNROLL for (int some = LANES_GROUPS; some > 1; some /= 2)
    {
        size_t most = tokens < LANES_TOKENS ? tokens : LANES_TOKENS;
        while (lanes_groups(most) >= some && group + (size_t)some <= end) {
            lanes_tokens(kind, m, group, some, x, x_stride, tokens, y, y_stride);
            group += (size_t)some;
        }
    }
    for (; group < end; group++) {
        lanes_tokens(kind, m, group, 1, x, x_stride, tokens, y, y_stride);
    }
}

static void multiply_lanes(const struct lanes_matrix *m, size_t first, size_t groups,
                           const float *x, size_t x_stride, size_t tokens, float *y,
                           size_t y_stride)
{
    switch (m->kind) {
    case LANES_F32:
        multiply_lanes_kind(LANES_F32, m, first, groups, x, x_stride, tokens, y, y_stride);
        break;
    case LANES_F16:
        multiply_lanes_kind(LANES_F16, m, first, groups, x, x_stride, tokens, y, y_stride);
        break;
    case LANES_BF16:
        multiply_lanes_kind(LANES_BF16, m, first, groups, x, x_stride, tokens, y, y_stride);
        break;
    }
}
