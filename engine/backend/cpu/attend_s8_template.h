/* Attention over one page of int8 keys and values, for any instruction set. Included after
 * attend_template.h. */

/* Scores of `queries` queries from `first` with `groups` groups of 16 keys. */
INLINE void score_tile_s8(const struct attention_block *b, size_t first, int queries,
                          const struct attention_page_s8 *page, const char *next, size_t group,
                          int groups)
{
    const size_t pairs = (b->head_dim + 1) / 2;
    const int16_t *q = b->q_codes + first * 2 * pairs;
    const char *ahead = part_of(next, group * pairs * 2 * CPU_LANES);
    v16i sums[VEC_FLOAT_TILE];
    UNROLL for (int i = 0; i < queries * groups; i++)
    {
        sums[i] = i_zero();
    }
    for (size_t d = 0; d < pairs; d++) {
        if (ahead != NULL) {
            ask_for_keys(ahead, d, pairs * 2 * CPU_LANES, groups, 2 * CPU_LANES);
        }
        UNROLL for (int g = 0; g < groups; g++)
        {
            v16i k =
                i_load_s8_pairs(page->keys + ((group + (size_t)g) * pairs + d) * 2 * CPU_LANES);
            UNROLL for (int i = 0; i < queries; i++)
            {
                sums[i * groups + g] =
                    i_dot2(sums[i * groups + g], k, q + ((size_t)i * pairs + d) * 2);
            }
        }
    }
    UNROLL for (int g = 0; g < groups; g++)
    {
        const size_t key = (group + (size_t)g) * CPU_LANES;
        v16f key_scale = f_load(page->key_scale + key);
        UNROLL for (int i = 0; i < queries; i++)
        {
            v16f scale = f_mul(f_set1(b->q_scale[first + (size_t)i]), key_scale);
            f_store(b->scores + (first + (size_t)i) * CPU_PAGE_TOKENS + key,
                    f_mul(f_from_i(sums[i * groups + g]), scale));
        }
    }
}

INLINE void score_queries_s8(const struct attention_block *b, size_t first, int queries,
                             const struct attention_page_s8 *page, const char *next, int from,
                             int to)
{
    size_t group = (size_t)from / CPU_LANES;
    const size_t end = ((size_t)to + CPU_LANES - 1) / CPU_LANES;
    if (VEC_FLOAT_TILE >= 4 * queries) {
        for (; group + 4 <= end; group += 4) {
            score_tile_s8(b, first, queries, page, next, group, 4);
        }
    }
    if (VEC_FLOAT_TILE >= 2 * queries) {
        for (; group + 2 <= end; group += 2) {
            score_tile_s8(b, first, queries, page, next, group, 2);
        }
    }
    for (; group < end; group++) {
        score_tile_s8(b, first, queries, page, next, group, 1);
    }
}

/* What the keys count times their values' scales, as 16-bit codes; 0 for those not seen. */
INLINE void weigh_s8(struct attention_block *b, size_t i, const struct attention_page_s8 *page,
                     int from, int to)
{
    float *scores = b->scores + i * CPU_PAGE_TOKENS;
    int16_t *weights = b->weights + i * CPU_PAGE_TOKENS;
    v16f largest = f_zero();
    for (int key = 0; key < CPU_PAGE_TOKENS; key += CPU_LANES) {
        v16f w = f_zero();
        if (key < to && key + CPU_LANES > from) {
            /* The scales of keys not seen may be anything. */
            w = f_mul(f_load(scores + key), f_load(page->value_scale + key));
            w = f_select_range(w, f_zero(), from - key, to - key);
        }
        f_store(scores + key, w);
        largest = f_max(largest, w);
    }
    const float m = f_largest(largest);
    const bool tiny = m < 0x1p-100f;
    const v16f inverse = f_set1(tiny ? 0.0f : 32767.0f / m);
    b->weight_scale[i] = tiny ? 0.0f : m / 32767.0f;
    for (int key = 0; key < CPU_PAGE_TOKENS; key += CPU_LANES) {
        f_store_s16(weights + key, f_mul(f_load(scores + key), inverse));
    }
}

/* sums += weights * values for `queries` queries and `parts` vectors of dimensions. */
INLINE void value_tile_s8(struct attention_block *b, size_t first, int queries,
                          const int8_t *values, const char *next, size_t dim, int parts, int from,
                          int to)
{
    const size_t stride = b->value_stride;
    const int16_t *weights = b->weights + first * CPU_PAGE_TOKENS;
    float *out = b->sums + first * stride + dim;
    const char *ahead = part_of(next, dim * 2);
    v16i sums[VEC_FLOAT_TILE];
    UNROLL for (int i = 0; i < queries * parts; i++)
    {
        sums[i] = i_zero();
    }
    for (size_t key = (size_t)(from & ~1); key < (size_t)to; key += 2) {
        if (ahead != NULL) {
            ask_for(ahead + turn_of(key / 2, CPU_PAGE_TOKENS / 2) * 2 * stride, (parts + 1) / 2);
        }
        UNROLL for (int j = 0; j < parts; j++)
        {
            v16i v = i_load_s8_pairs(values + key * stride + (dim + (size_t)j * CPU_LANES) * 2);
            UNROLL for (int i = 0; i < queries; i++)
            {
                sums[i * parts + j] =
                    i_dot2(sums[i * parts + j], v, weights + (size_t)i * CPU_PAGE_TOKENS + key);
            }
        }
    }
    UNROLL for (int i = 0; i < queries; i++)
    {
        v16f scale = f_set1(b->weight_scale[first + (size_t)i]);
        UNROLL for (int j = 0; j < parts; j++)
        {
            float *at = out + (size_t)i * stride + (size_t)j * CPU_LANES;
            f_store(at, f_fma(f_from_i(sums[i * parts + j]), scale, f_load(at)));
        }
    }
}

INLINE void value_queries_s8(struct attention_block *b, size_t first, int queries,
                             const int8_t *values, const char *next, int from, int to)
{
    size_t dim = 0;
    if (VEC_FLOAT_TILE >= 4 * queries) {
        for (; dim + 4 * CPU_LANES <= b->value_stride; dim += 4 * CPU_LANES) {
            value_tile_s8(b, first, queries, values, next, dim, 4, from, to);
        }
    }
    if (VEC_FLOAT_TILE >= 2 * queries) {
        for (; dim + 2 * CPU_LANES <= b->value_stride; dim += 2 * CPU_LANES) {
            value_tile_s8(b, first, queries, values, next, dim, 2, from, to);
        }
    }
    for (; dim < b->value_stride; dim += CPU_LANES) {
        value_tile_s8(b, first, queries, values, next, dim, 1, from, to);
    }
}

INLINE void attend_queries_s8(struct attention_block *b, size_t first, int queries, bool ahead,
                              const struct attention_page_s8 *page, int32_t first_key)
{
    int from;
    int to;
    if (!seen_by_any(b, first, queries, first_key, &from, &to)) {
        return;
    }
    score_queries_s8(b, first, queries, page, ahead ? b->next_keys : NULL, from, to);
    for (size_t i = first; i < first + (size_t)queries; i++) {
        int low = seen_from(b, i, first_key);
        int high = seen_to(b, i, first_key);
        soften(b, i, low, high);
        weigh_s8(b, i, page, low, high);
    }
    value_queries_s8(b, first, queries, page->values, ahead ? b->next_values : NULL, from, to);
}

INLINE size_t attend_some_s8(struct attention_block *b, size_t i, bool ahead,
                             const struct attention_page_s8 *page, int32_t first_key)
{
    const size_t some = tile_queries(b->queries - i);
    switch (some) {
#define ATTEND_S8(N)                                                                               \
    case N:                                                                                        \
        attend_queries_s8(b, i, N, ahead, page, first_key);                                        \
        break;
        EACH_TILE(ATTEND_S8)
    }
    return some;
}

static void attend_page_s8(struct attention_block *b, const struct attention_page_s8 *page,
                           int32_t first_key)
{
    size_t i = attend_some_s8(b, 0, true, page, first_key);
    while (i < b->queries) {
        i += attend_some_s8(b, i, false, page, first_key);
    }
}
